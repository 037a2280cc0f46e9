//! How an object would change, line by line.

use cocoon_protocol::initdata::InitData;
use cocoon_workload::{INITDATA, to_yaml};
use serde_json::Value;

/// Unchanged lines around a change.
const CONTEXT: usize = 3;
/// Most cells of the table by which lines are compared.
const MAX_TABLE: usize = 4_000_000;

/// An object as people read it: without what only the server is concerned with, and initdata by its digest.
pub fn readable(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"]
        {
            metadata.remove(name);
        }
    }
    shorten(&mut value);
    sort(&mut value);
    to_yaml(&[value]).unwrap_or_default()
}

fn shorten(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(shorten),
        Value::Object(map) => {
            for (name, value) in map {
                if name == INITDATA {
                    let digest = value.as_str().and_then(|text| InitData::from_annotation(text).ok());
                    if let Some(initdata) = digest {
                        *value = format!("(plan {})", hex::encode(initdata.digest())).into();
                    }
                } else {
                    shorten(value);
                }
            }
        }
        _ => {}
    }
}

fn sort(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(sort),
        Value::Object(map) => {
            map.sort_keys();
            map.values_mut().for_each(sort);
        }
        _ => {}
    }
}

/// The lines that differ, as `diff -u` writes them; empty where none do.
pub fn unified(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let steps = steps(&before, &after);
    let changed: Vec<usize> =
        steps.iter().enumerate().filter(|(_, (sign, _))| *sign != ' ').map(|(i, _)| i).collect();
    let mut text = String::new();
    let mut shown = 0;
    for at in changed {
        let (from, to) = (at.saturating_sub(CONTEXT).max(shown), (at + CONTEXT + 1).min(steps.len()));
        if from > shown || text.is_empty() {
            text.push_str("@@\n");
        }
        for (sign, line) in steps.get(from..to).unwrap_or_default() {
            text.push_str(&format!("{sign}{line}\n"));
        }
        shown = to.max(shown);
    }
    text
}

/// Lines with what becomes of them: kept, taken away, or added.
fn steps<'t>(before: &[&'t str], after: &[&'t str]) -> Vec<(char, &'t str)> {
    let same = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (head, before) = before.split_at(same);
    let after = after.get(same..).unwrap_or_default();
    let end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let (before, tail) = before.split_at(before.len() - end);
    let after = after.get(..after.len() - end).unwrap_or_default();
    let mut steps: Vec<(char, &str)> = head.iter().map(|line| (' ', *line)).collect();
    middle(before, after, &mut steps);
    steps.extend(tail.iter().map(|line| (' ', *line)));
    steps
}

fn middle<'t>(before: &[&'t str], after: &[&'t str], steps: &mut Vec<(char, &'t str)>) {
    let width = after.len() + 1;
    let cells = (before.len() + 1).saturating_mul(width);
    if cells > MAX_TABLE {
        steps.extend(before.iter().map(|line| ('-', *line)));
        steps.extend(after.iter().map(|line| ('+', *line)));
        return;
    }
    // By how many lines the rest of both can be the same.
    let mut table = vec![0_u32; cells];
    let at = |table: &[u32], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or_default();
    for (i, a) in before.iter().enumerate().rev() {
        for (j, b) in after.iter().enumerate().rev() {
            let best = match a == b {
                true => at(&table, i + 1, j + 1) + 1,
                false => at(&table, i + 1, j).max(at(&table, i, j + 1)),
            };
            if let Some(cell) = table.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    loop {
        match (before.get(i), after.get(j)) {
            (Some(a), Some(b)) if a == b => {
                steps.push((' ', a));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), Some(_)) if at(&table, i + 1, j) >= at(&table, i, j + 1) => {
                steps.push(('-', a));
                i += 1;
            }
            (_, Some(b)) => {
                steps.push(('+', b));
                j += 1;
            }
            (Some(a), None) => {
                steps.push(('-', a));
                i += 1;
            }
            (None, None) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        assert_eq!(unified("a\nb\n", "a\nb\n"), "");
        assert_eq!(unified("", "a\n"), "@@\n+a\n");
        assert_eq!(unified("a\nb\nc\n", "a\nx\nc\n"), "@@\n a\n-b\n+x\n c\n");
        let long: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let mut other = long.clone();
        other[3] = "x".into();
        other.remove(20);
        let text = unified(&long.join("\n"), &other.join("\n"));
        assert_eq!(text, "@@\n 0\n 1\n 2\n-3\n+x\n 4\n 5\n 6\n@@\n 17\n 18\n 19\n-20\n 21\n 22\n 23\n");
    }

    #[test]
    fn what_concerns_the_server_alone_is_left_out() {
        let text = readable(
            &json!({"status": {}, "metadata": {"uid": "u", "name": "x", "managedFields": []}, "a": {"c": 1, "b": 2}}),
        );
        assert_eq!(text, "---\na:\n  b: 2\n  c: 1\nmetadata:\n  name: x\n");
    }
}

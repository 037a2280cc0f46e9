//! `cocoon layers`: the node's cache of shared layers.

mod fetch;

use cocoon_layers::{Cache, Entry};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::admin::{say, usage};
use crate::args::{LayersCommand, LayersPlace};
use crate::dirs;
use crate::moments::shown;

pub async fn main(command: LayersCommand) -> Result<(), Failure> {
    match command {
        LayersCommand::List { place } => list(&place).await,
        LayersCommand::Fetch(args) => fetch::main(&args).await,
        LayersCommand::Verify { roots, place } => verify(&roots, &place).await,
        LayersCommand::Prune { to, place } => {
            let removed = open(&place)?.prune(to).await?;
            tell_removed(&removed, &place);
            Ok(())
        }
        LayersCommand::Remove { roots, place } => {
            let cache = open(&place)?;
            let mut removed = Vec::new();
            for root in named(&cache, &roots).await? {
                cache.remove(root).await?;
                removed.push(hex::encode(root));
            }
            tell_removed(&removed, &place);
            Ok(())
        }
    }
}

/// The node's cache: in the folder given, else in `layers` of the data folder.
pub fn open(place: &LayersPlace) -> Result<Cache, Failure> {
    let folder = match &place.dir {
        Some(dir) => dir.clone(),
        None => dirs::data_dir()?.join("layers"),
    };
    Ok(Cache::open(&folder, place.limit)?)
}

async fn list(place: &LayersPlace) -> Result<(), Failure> {
    let cache = open(place)?;
    let (entries, usage) = (cache.list().await?, cache.usage().await?);
    if place.json {
        let one = |e: &Entry| {
            json!({
                "root": e.root,
                "bytes": e.bytes,
                "blocks": e.blocks,
                "used_unix": e.used_unix,
                "in_use": e.in_use,
                "diff_ids": e.diff_ids,
            })
        };
        let layers = Value::from_iter(entries.iter().map(one));
        say(&json!({"layers": layers, "bytes": usage.bytes, "limit": usage.limit}).to_string());
        return Ok(());
    }
    for entry in &entries {
        let state = match (entry.blocks, entry.in_use) {
            (None, _) => "DAMAGED",
            (_, true) => "in use",
            (_, false) => "free",
        };
        let diff_ids = entry.diff_ids.join(" ");
        say(&format!(
            "{} {:>9} {state:<7} {:<20} {diff_ids}",
            entry.root,
            size(entry.bytes),
            shown(entry.used_unix)
        ));
    }
    let (in_use, limit) = (size(usage.in_use), size(usage.limit));
    eprintln!("cocoon: {} layers have {} of {limit}, {in_use} in use", usage.layers, size(usage.bytes));
    Ok(())
}

async fn verify(roots: &[String], place: &LayersPlace) -> Result<(), Failure> {
    let cache = open(place)?;
    let roots = named(&cache, roots).await?;
    let verdicts = cache.verify(&roots).await?;
    if place.json {
        let shown = verdicts
            .iter()
            .map(|v| json!({"root": v.root, "good": v.problem.is_none(), "problem": v.problem, "removed": v.removed}));
        say(&Value::from_iter(shown).to_string());
    } else {
        for verdict in &verdicts {
            match &verdict.problem {
                None => say(&format!("ok      {}", verdict.root)),
                Some(problem) => {
                    let then = if verdict.removed { "removed" } else { "not removed" };
                    say(&format!("DAMAGED {}: {problem}; {then}", verdict.root));
                }
            }
        }
    }
    match verdicts.iter().filter(|v| v.problem.is_some()).count() {
        0 => Ok(()),
        count => Err(Failure::new(
            Code::ImageLayerTampered,
            format!("{count} of {} layers are damaged", verdicts.len()),
        )),
    }
}

/// The roots that are meant by beginnings of them; none for none.
async fn named(cache: &Cache, beginnings: &[String]) -> Result<Vec<[u8; 32]>, Failure> {
    if beginnings.is_empty() {
        return Ok(Vec::new());
    }
    let entries = cache.list().await?;
    let mut roots = Vec::new();
    for beginning in beginnings {
        let mut found =
            entries.iter().filter(|e| !beginning.is_empty() && e.root.starts_with(beginning.as_str()));
        let root = match (found.next(), found.next()) {
            (Some(entry), None) => &entry.root,
            (Some(_), Some(_)) => return Err(usage(format!("several layers begin with {beginning}"))),
            (None, _) => return Err(usage(format!("the layer cache has no layer {beginning}"))),
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(root, &mut bytes).map_err(|e| usage(format!("{root}: {e}")))?;
        roots.push(bytes);
    }
    Ok(roots)
}

fn tell_removed(removed: &[String], place: &LayersPlace) {
    if place.json {
        say(&json!({ "removed": removed }).to_string());
        return;
    }
    for root in removed {
        say(root);
    }
    eprintln!("cocoon: {} layers removed", removed.len());
}

/// For people: three digits or so.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut shift, mut unit) = (0_u32, units.iter());
    let mut name = unit.next().copied().unwrap_or_default();
    while bytes.checked_shr(shift).unwrap_or(0) >= 10 << 10 {
        let Some(larger) = unit.next() else { break };
        (shift, name) = (shift + 10, larger);
    }
    format!("{} {name}", bytes.checked_shr(shift).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (9000, "9000 B"),
            (12 << 10, "12 KiB"),
            (20 << 30, "20 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}

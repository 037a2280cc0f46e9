//! The engine's functions that make large things, each behind an estimate of what it would make.
//!
//! An extension of the engine takes precedence over its own function of the same name. Ours estimates the result
//! from the arguments, takes that from the evaluation's budget, and only then asks a second engine without extensions
//! for the real function's answer. So the meaning stays the engine's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::anyhow;
use regorus::{Engine, Value};

use crate::Error;
use crate::weigh::weight;

/// What all functions together may make in one evaluation, in bytes.
const BUDGET: usize = 64 * 1024 * 1024;
/// What one call may make, in bytes.
const CALL: usize = 8 * 1024 * 1024;
/// What one element of a list costs beside its content.
const ELEMENT: usize = 32;

/// The guarded functions with the number of their arguments.
const GUARDED: [(&str, u8); 42] = [
    ("numbers.range", 2),
    ("numbers.range_step", 3),
    ("sort", 1),
    ("array.concat", 2),
    ("array.reverse", 1),
    ("array.slice", 3),
    ("intersection", 1),
    ("union", 1),
    ("json.filter", 2),
    ("json.remove", 2),
    ("object.filter", 2),
    ("object.keys", 1),
    ("object.remove", 2),
    ("object.union", 2),
    ("object.union_n", 1),
    ("concat", 2),
    ("format_int", 2),
    ("indexof_n", 2),
    ("lower", 1),
    ("replace", 3),
    ("split", 2),
    ("sprintf", 2),
    ("strings.replace_n", 2),
    ("strings.reverse", 1),
    ("substring", 3),
    ("trim", 2),
    ("trim_left", 2),
    ("trim_prefix", 2),
    ("trim_right", 2),
    ("trim_space", 1),
    ("trim_suffix", 2),
    ("upper", 1),
    ("regex.find_all_string_submatch_n", 3),
    ("regex.find_n", 3),
    ("regex.replace", 3),
    ("regex.split", 2),
    ("bits.lsh", 2),
    ("base64.decode", 1),
    ("base64.encode", 1),
    ("json.marshal", 1),
    ("json.marshal_with_options", 2),
    ("json.unmarshal", 1),
];

/// The budget of one evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    left: Arc<AtomicUsize>,
}

impl Budget {
    /// A full one.
    pub fn new() -> Self {
        Budget { left: Arc::new(AtomicUsize::new(BUDGET)) }
    }

    /// Puts the guarded functions into an engine that is about to evaluate.
    pub fn guard(&self, engine: &mut Engine) -> Result<(), Error> {
        for (name, arguments) in GUARDED {
            let budget = self.clone();
            let function = move |values: Vec<Value>| budget.call(name, values);
            let added = engine.add_extension(name.to_owned(), arguments, Box::new(function));
            added.map_err(|error| Error::Failed(error.to_string()))?;
        }
        Ok(())
    }

    /// Whether a call was refused.
    pub fn exhausted(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn call(&self, name: &'static str, values: Vec<Value>) -> anyhow::Result<Value> {
        let cost = estimate(name, &values).filter(|cost| *cost <= CALL);
        let paid = cost.and_then(|cost| {
            let take = |left: usize| left.checked_sub(cost).filter(|left| *left > 0);
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()
        });
        if paid.is_none() {
            self.left.store(0, Ordering::Relaxed);
            return Err(anyhow!("{name} would make too much"));
        }
        let mut engine = PLAIN.as_ref().map_err(|error| anyhow!("{error}"))?.clone();
        engine.set_input(Value::from(values));
        engine.eval_rule(format!("data.plain.{}", rule_name(name)))
    }
}

/// An engine with one rule per guarded function, which applies it to its input.
static PLAIN: LazyLock<Result<Engine, String>> = LazyLock::new(|| {
    let mut text = String::from("package plain\n");
    for (name, arguments) in GUARDED {
        let inputs: Vec<String> = (0..arguments).map(|at| format!("input[{at}]")).collect();
        text += &format!("{} := {name}({})\n", rule_name(name), inputs.join(", "));
    }
    let mut engine = Engine::new();
    engine.add_policy("plain.rego".into(), text).map_err(|error| error.to_string())?;
    engine.compile_with_entrypoint(&"data.plain.r_concat".into()).map_err(|error| error.to_string())?;
    Ok(engine)
});

fn rule_name(name: &str) -> String {
    format!("r_{}", name.replace('.', "_"))
}

/// Upper bound of what a call makes, in bytes; `None` if that is beyond all limits.
fn estimate(name: &str, values: &[Value]) -> Option<usize> {
    let all = values.iter().try_fold(0_usize, |sum, value| sum.checked_add(weight(value, CALL)?))?;
    let text = |at: usize| values.get(at).and_then(|v| v.as_string().ok()).map_or("", |text| text);
    let length = |at: usize| text(at).len();
    match name {
        "numbers.range" => range(values, 1),
        "numbers.range_step" => range(values, integer(values.get(2))?.unsigned_abs().max(1)),
        "lower" | "upper" => all.checked_mul(3),
        "base64.encode" | "format_int" => all.checked_mul(4),
        "json.marshal" => all.checked_mul(6),
        "json.marshal_with_options" => {
            all.checked_mul(weight(values.get(1)?, CALL)?.checked_add(8)?)?.checked_mul(8)
        }
        "json.unmarshal" | "split" | "regex.split" | "regex.find_n" | "indexof_n" => {
            all.checked_mul(ELEMENT + 8)
        }
        "regex.find_all_string_submatch_n" => {
            let groups = text(0).matches('(').count() + 2;
            all.checked_mul(ELEMENT + 8)?.checked_mul(groups)
        }
        "concat" => {
            let items = match values.get(1)? {
                Value::Array(items) => items.len(),
                Value::Set(items) => items.len(),
                _ => 0,
            };
            all.checked_add(items.checked_mul(length(0))?)
        }
        "replace" => replaced(length(0), length(1), length(2)),
        "strings.replace_n" => {
            let Some(Value::Object(pairs)) = values.first() else { return Some(all) };
            pairs.iter().try_fold(length(1), |size, (old, new)| {
                let size_of = |value: &Value| value.as_string().map_or(0, |text| text.len());
                replaced(size, size_of(old), size_of(new))
            })
        }
        "regex.replace" => {
            let (subject, value) = (length(0), text(2));
            let groups = value.matches('$').count().checked_mul(subject)?;
            subject.checked_add(1)?.checked_mul(value.len())?.checked_add(subject)?.checked_add(groups)
        }
        "sprintf" => formatted(text(0), all),
        "bits.lsh" => all.checked_add(usize::try_from(integer(values.get(1))?).ok()? / 8),
        _ => Some(all),
    }
}

fn replaced(subject: usize, old: usize, new: usize) -> Option<usize> {
    let times = subject.checked_div(old).or_else(|| subject.checked_add(1))?;
    times.checked_mul(new)?.checked_add(subject)
}

fn range(values: &[Value], step: u64) -> Option<usize> {
    let (first, last) = (integer(values.first())?, integer(values.get(1))?);
    let elements = first.abs_diff(last) / step;
    usize::try_from(elements).ok()?.checked_add(1)?.checked_mul(ELEMENT)
}

fn integer(value: Option<&Value>) -> Option<i64> {
    value?.as_i64().ok()
}

/// A format may name an argument, and a width, as often as it likes.
fn formatted(format: &str, all: usize) -> Option<usize> {
    let mut widths = 0_usize;
    for run in format.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()) {
        widths = widths.checked_add(run.parse::<usize>().ok()?)?;
    }
    let verbs = format.matches('%').count();
    if format.contains('*') && verbs > 0 {
        // The width is an argument.
        return None;
    }
    verbs.checked_mul(all.checked_mul(4)?)?.checked_add(widths)?.checked_add(format.len())
}

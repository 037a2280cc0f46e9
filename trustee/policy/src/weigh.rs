//! How large an engine value is when written out. Values share their parts, so a small one can be huge as text.

use regorus::Value;

/// Bytes of a value's texts and a fixed price per node; `None` if that is more than `limit`.
pub(crate) fn weight(value: &Value, limit: usize) -> Option<usize> {
    let mut left = limit;
    spend(value, &mut left, 0)?;
    Some(limit - left)
}

/// Price of any node.
const NODE: usize = 32;
/// Deepest value that is looked at.
const DEPTH: usize = 512;

fn spend(value: &Value, left: &mut usize, depth: usize) -> Option<()> {
    if depth > DEPTH {
        return None;
    }
    let own = match value {
        Value::String(text) => text.len(),
        Value::Number(number) if number.as_i64().is_some() || number.as_u64().is_some() => 20,
        // Decimal digits, roughly; floats are at most a few hundred.
        Value::Number(number) => match number.as_big() {
            Some(big) => usize::try_from(big.bits() / 3).unwrap_or(usize::MAX).saturating_add(1),
            None => 400,
        },
        _ => 0,
    };
    *left = left.checked_sub(own.saturating_add(NODE))?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| spend(item, left, depth + 1)),
        Value::Set(items) => items.iter().try_for_each(|item| spend(item, left, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(key, item)| {
            spend(key, left, depth + 1)?;
            spend(item, left, depth + 1)
        }),
        _ => Some(()),
    }
}

//! JSON of strangers: bounded in what it becomes in memory, not only in its bytes.

use serde::de::DeserializeOwned;

/// Most values, members and elements. A value takes many times its text (`[],` becomes some 70 bytes).
const MAX_PARTS: usize = 1 << 18;

/// Parses JSON; `None` if it is none, nests deeper than 128 or has more than about 260 000 parts.
///
/// Signs inside strings are counted too: too much is refused rather than too little.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let parts = text.iter().filter(|b| matches!(b, b',' | b'[' | b'{')).take(MAX_PARTS + 1).count();
    if parts > MAX_PARTS {
        return None;
    }
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn many_small_parts_are_refused() {
        assert_eq!(parse::<Value>(br#"{"a":[1,2]}"#), Some(json!({"a": [1, 2]})));
        let many = format!("[{}0]", "0,".repeat(MAX_PARTS));
        assert!(parse::<Value>(many.as_bytes()).is_none());
        let fewer = format!("[{}0]", "0,".repeat(MAX_PARTS - 1));
        assert!(parse::<Value>(fewer.as_bytes()).is_some());
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert!(parse::<Value>(deep.as_bytes()).is_none());
        assert!(parse::<Value>(b"{} x").is_none());
    }
}

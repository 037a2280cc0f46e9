//! Evidence of additional devices: a JSON text of an object from kind to evidence.

use std::str::FromStr;

use cocoon_protocol::Tee;
use cocoon_stage::{Code, Failure};
use serde_json::{Map, Value};

/// Most kinds of devices in one message.
const MAX_DEVICES: usize = 16;

/// The devices' evidence; none for an empty text.
pub(crate) fn parse(text: &str) -> Result<Vec<(Tee, Value)>, Failure> {
    let bad = |reason: String| Failure::new(Code::AttestProtocol, format!("additional evidence: {reason}"));
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let members: Map<String, Value> = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
    if members.len() > MAX_DEVICES {
        return Err(bad(format!("{} kinds of devices", members.len())));
    }
    members
        .into_iter()
        .map(|(name, evidence)| Ok((Tee::from_str(&name).map_err(|e| bad(e.to_string()))?, evidence)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices_are_named_once_each_and_known() {
        assert!(parse("").unwrap().is_empty() && parse("{}").unwrap().is_empty());
        assert_eq!(parse(r#"{"nvidia":{"a":1}}"#).unwrap()[0].0, Tee::Nvidia);
        let many: String = (0..20).map(|i| format!("\"x{i}\":1,")).collect();
        for bad in ["x", "[]", "1", r#"{"gpu":1}"#, &format!("{{{}\"y\":1}}", many)] {
            assert_eq!(parse(bad).unwrap_err().code, Code::AttestProtocol, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,60}|[\\[{]{0,400}") {
            let _ = parse(&text);
        }
    }
}

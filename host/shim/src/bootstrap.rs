//! How `start` hears what is wanted, and how it answers: three forms, by containerd's age.
//!
//! | containerd | standard input | MAX_SHIM_VERSION | answer |
//! |---|---|---|---|
//! | 1.6 | the runtime's options, an Any | – | the address |
//! | 1.7 to 2.2 | the same | 2 or 3 | JSON: version, address, protocol |
//! | 2.3 on | a BootstrapParams | 3 | a BootstrapResult |
//!
//! An Any reads as a BootstrapParams too, so a BootstrapParams is one only where it names the same container as the
//! command line (containerd pull request 13764).

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, LogLevel};
use protobuf::well_known_types::any::Any;
use protobuf::{EnumOrUnknown, Message};

/// Most bytes of standard input that are read.
pub const MAX_INPUT: u64 = 1 << 20;
/// The newest version of the task service that is served here.
const NEWEST: u32 = 3;

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The address alone.
    Address,
    /// JSON with this version of the task service.
    Json(u32),
    /// A BootstrapResult.
    Protobuf,
}

/// What `start` was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// The form of the answer.
    pub reply: Reply,
    /// The runtime's options.
    pub options: Option<Any>,
    /// Where events go, where the environment does not say.
    pub events: Option<String>,
    /// Whether to log more.
    pub debug: bool,
}

impl Bootstrap {
    /// Reads standard input and the variable MAX_SHIM_VERSION. What cannot be read is as good as absent.
    pub fn read(input: &[u8], id: &str, namespace: &str, max_version: Option<&str>) -> Bootstrap {
        let params = BootstrapParams::parse_from_bytes(input);
        if let Ok(params) = params.as_ref()
            && params.instance_id == id
            && params.namespace == namespace
        {
            let mut extensions = params.extensions.iter().filter_map(|e| e.value.as_ref());
            let options = extensions.find(|any| crate::options::is_options(any)).cloned();
            let events = Some(params.containerd_ttrpc_address.clone()).filter(|a| !a.is_empty());
            let verbose = [LogLevel::LOG_LEVEL_DEBUG, LogLevel::LOG_LEVEL_TRACE].map(EnumOrUnknown::new);
            let debug = verbose.contains(&params.log_level);
            return Bootstrap { reply: Reply::Protobuf, options, events, debug };
        }
        let reply = match max_version.map(|v| v.trim().parse::<u32>()) {
            Some(Ok(version)) if version >= 2 => Reply::Json(version.min(NEWEST)),
            Some(_) | None => Reply::Address,
        };
        let options = Any::parse_from_bytes(input).ok().filter(|any| !any.type_url.is_empty());
        Bootstrap { reply, options, events: None, debug: false }
    }
}

/// The answer's bytes.
pub fn answer(reply: Reply, address: &str) -> Vec<u8> {
    match reply {
        Reply::Address => address.as_bytes().to_vec(),
        Reply::Json(version) => {
            serde_json::json!({ "version": version, "address": address, "protocol": "ttrpc" })
                .to_string()
                .into_bytes()
        }
        Reply::Protobuf => {
            let result = BootstrapResult {
                version: 3,
                address: address.into(),
                protocol: "ttrpc".into(),
                ..BootstrapResult::default()
            };
            result.write_to_bytes().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::Extension;

    fn options() -> Any {
        Any { type_url: "runtimeoptions.v1.Options".into(), value: vec![0x12, 1, b'/'], ..Any::default() }
    }

    #[test]
    fn each_containerd_gets_its_own_form() {
        let any = options().write_to_bytes().unwrap();
        let read = |max| Bootstrap::read(&any, "i", "n", max);
        assert_eq!(read(None).reply, Reply::Address);
        assert_eq!(read(Some("1")).reply, Reply::Address);
        assert_eq!(read(Some("x")).reply, Reply::Address);
        assert_eq!(read(Some("2")).reply, Reply::Json(2));
        assert_eq!(read(Some("3")).reply, Reply::Json(3));
        assert_eq!(read(Some("9")).reply, Reply::Json(3));
        assert_eq!(read(Some("3")).options, Some(options()));
        assert_eq!(Bootstrap::read(&[], "i", "n", None).options, None);
        assert_eq!(Bootstrap::read(&[0xff; 9], "i", "n", None).reply, Reply::Address);
    }

    #[test]
    fn the_newest_form_is_known_by_the_container_that_it_names() {
        let value = Some(options()).into();
        let params = BootstrapParams {
            instance_id: "i".into(),
            namespace: "n".into(),
            log_level: LogLevel::LOG_LEVEL_DEBUG.into(),
            containerd_ttrpc_address: "/run/c.ttrpc".into(),
            extensions: vec![Extension { value, ..Extension::default() }],
            ..BootstrapParams::default()
        };
        let bytes = params.write_to_bytes().unwrap();
        let read = Bootstrap::read(&bytes, "i", "n", Some("3"));
        assert_eq!((read.reply, read.debug), (Reply::Protobuf, true));
        assert_eq!((read.options, read.events.as_deref()), (Some(options()), Some("/run/c.ttrpc")));
        assert_eq!(Bootstrap::read(&bytes, "other", "n", Some("3")).reply, Reply::Json(3));
    }

    #[test]
    fn answers_are_what_containerd_parses() {
        assert_eq!(answer(Reply::Address, "unix:///s"), b"unix:///s");
        let json: serde_json::Value = serde_json::from_slice(&answer(Reply::Json(3), "unix:///s")).unwrap();
        assert_eq!(json, serde_json::json!({"version": 3, "address": "unix:///s", "protocol": "ttrpc"}));
        let result = BootstrapResult::parse_from_bytes(&answer(Reply::Protobuf, "unix:///s")).unwrap();
        assert_eq!(
            (result.version, result.address.as_str(), result.protocol.as_str()),
            (3, "unix:///s", "ttrpc")
        );
    }
}

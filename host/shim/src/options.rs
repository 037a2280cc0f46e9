//! Which runtime configuration holds: containerd's options name its file or hold its text.

use std::path::{Path, PathBuf};

use cocoon_runtime::{DEFAULT_CLASS, FOLDER, RuntimeConfig};
use cocoon_stage::{Code, Failure, Stage};
use protobuf::CodedInputStream;
use protobuf::well_known_types::any::Any;

/// Names the file where containerd's options do not.
pub const VARIABLE: &str = "COCOON_RUNTIME_CONFIG";

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// Here, as text.
    Text(String),
    /// Nowhere: every setting has its default.
    Default,
}

/// Whether these are the options that containerd passes to runtimes it does not know
/// (containerd, `api/types/runtimeoptions/v1`).
pub fn is_options(any: &Any) -> bool {
    any.type_url.rsplit('/').next().is_some_and(|name| name.ends_with("runtimeoptions.v1.Options"))
}

impl Source {
    /// What the options say, else the environment, else the node's file, else nothing.
    pub fn find(options: Option<&Any>) -> Source {
        if let Some(source) = options.filter(|any| is_options(any)).and_then(|any| named(&any.value)) {
            return source;
        }
        if let Some(path) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
            return Source::File(path.into());
        }
        let usual = Path::new(FOLDER).join(format!("{DEFAULT_CLASS}.toml"));
        if usual.exists() { Source::File(usual) } else { Source::Default }
    }

    /// Reads it.
    ///
    /// # Errors
    /// `HOST-UNSUPPORTED` with the file and what is wrong in it.
    pub fn read(&self) -> Result<RuntimeConfig, Failure> {
        let read = match self {
            Source::File(path) => RuntimeConfig::read(path),
            Source::Text(text) => RuntimeConfig::parse(text, Path::new("the runtime's options")),
            Source::Default => Ok(RuntimeConfig::default()),
        };
        read.map_err(|e| Failure::new(Code::HostUnsupported, e.to_string()).at(Stage::Boot))
    }
}

/// Fields 2, `config_path`, and 3, `config_body`, of the options.
fn named(value: &[u8]) -> Option<Source> {
    let (mut path, mut body) = (String::new(), Vec::new());
    let mut input = CodedInputStream::from_bytes(value);
    while let Ok(Some(tag)) = input.read_raw_tag_or_eof() {
        match tag {
            // Wire type 2: a length and so many bytes.
            0x12 => path = input.read_string().ok()?,
            0x1a => body = input.read_bytes().ok()?,
            _ => input.skip_field(wire_type(tag)?).ok()?,
        }
    }
    if !path.is_empty() {
        return Some(Source::File(path.into()));
    }
    String::from_utf8(body).ok().filter(|text| !text.trim().is_empty()).map(Source::Text)
}

fn wire_type(tag: u32) -> Option<protobuf::rt::WireType> {
    protobuf::rt::WireType::new(tag & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(value: &[u8]) -> Any {
        let type_url = "types.containerd.io/runtimeoptions.v1.Options".into();
        Any { type_url, value: value.into(), ..Any::default() }
    }

    #[test]
    fn options_name_a_file_or_hold_the_text() {
        let source = |value: &[u8]| Source::find(Some(&any(value)));
        // type_url = "x", config_path = "/a"
        assert_eq!(source(b"\x0a\x01x\x12\x02/a"), Source::File("/a".into()));
        assert_eq!(source(b"\x1a\x0econsole = true"), Source::Text("console = true".into()));
        assert!(Source::Text("console = true".into()).read().unwrap().console);
        let wrong = Source::Text("console = 1".into()).read().unwrap_err();
        assert_eq!(wrong.code, Code::HostUnsupported);
    }

    #[test]
    fn what_is_not_understood_is_no_configuration() {
        for value in [b"\x12\xff\xff".as_slice(), b"\x12\x01", b"\xff\xff\xff\xff\xff", b""] {
            assert_eq!(named(value), None, "{value:?}");
        }
        assert!(!is_options(&Any { type_url: "containerd.runc.v1.Options".into(), ..Any::default() }));
    }
}

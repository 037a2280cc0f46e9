//! The owner's commands, all through the admin API of one Trustee: here, or at a URL.

mod audit;
mod audit_remote;
mod explain;
mod follow;
mod policy;
mod reference;
mod seal;
mod secret;
mod tenant;
mod workload;

use std::io::{Read, Write};
use std::path::Path;

use cocoon_stage::{Code, Failure};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::args::Common;

pub use audit::audit;
pub use explain::explain;
pub use policy::policy;
pub use reference::reference;
pub use secret::secret;
pub use tenant::tenant;
pub use workload::workload;

/// Largest file that a command sends.
const MAX_FILE: u64 = 4 << 20;

/// A line on standard output. A reader that has seen enough and closed the pipe is no failure.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// JSON on standard output: over several lines for people, in one for programs.
pub fn print(value: &Value, common: &Common) -> Result<(), Failure> {
    if common.json {
        say(&value.to_string());
        return Ok(());
    }
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    say(&text);
    Ok(())
}

/// What was done: a line on standard error, so that standard output holds answers only.
pub fn note(common: &Common, text: &str) {
    if !common.json {
        eprintln!("cocoon: {text}");
    }
}

pub fn usage(reason: impl Into<String>) -> Failure {
    Failure::new(Code::UsageInvalid, reason)
}

/// A member's text.
pub fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A member's number.
pub fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_u64)
}

/// The content of a file, or of standard input where it is named `-`.
pub fn content(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |e: std::io::Error| usage(format!("{}: {e}", file.display()));
    let mut bytes = Zeroizing::new(Vec::new());
    if file == Path::new("-") {
        std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(file)
            .and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
    }
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MAX_FILE => Ok(bytes),
        _ => Err(usage(format!("{}: it is over {MAX_FILE} bytes", file.display()))),
    }
}

/// [`content`] as text.
pub fn text_of(file: &Path) -> Result<String, Failure> {
    String::from_utf8(content(file)?.to_vec())
        .map_err(|_| usage(format!("{}: it is not UTF-8 text", file.display())))
}

/// A secret from an argument: `@FILE`, `-` for standard input, or the value itself.
pub fn secret_value(value: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let read = |file: &Path| content(file).map_err(|f| Failure::new(Code::PlanSecretInvalid, f.reason));
    match value.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None if value == "-" => read(Path::new("-")),
        None => Ok(Zeroizing::new(value.as_bytes().to_vec())),
    }
}

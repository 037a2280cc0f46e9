//! An operator's own command as protector of the store's key: a cloud KMS, a smart card tool, a script.
//!
//! Protocol: `ARGV… wrap` reads the key as one line of base64 on standard input and prints an opaque blob, 1 byte to
//! 64 KiB. `ARGV… unwrap` reads exactly that blob and prints the key as base64 or hex. Status 0 means success.

mod run;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::Error;
use crate::protector::{KeyProtector, MAX_BLOB, check_blob, fresh_key, key_of};
use run::{Finished, Program};

/// Most bytes that `unwrap` may print: a key in hex with blanks around it.
const MAX_KEY_OUTPUT: usize = 256;

/// Longest time limit of one run.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// Settings of a [`CommandKey`].
#[derive(Clone, Debug)]
pub struct CommandKeyConfig {
    /// Program and arguments, passed as they are, without a shell; the program is an absolute path.
    pub argv: Vec<String>,
    /// Limit for one run, up to an hour; then the command and all it started in its process group are killed.
    pub timeout: Duration,
    /// Names of environment variables it gets besides `PATH` and `HOME`.
    pub environment: Vec<String>,
}

/// Protects the store's data key with an operator's command.
#[derive(Debug)]
pub struct CommandKey {
    program: Program,
}

impl CommandKey {
    /// A protector with this command; it is not run yet.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(config: CommandKeyConfig) -> Result<Self, Error> {
        let bad = |why: &str| Error::Config(format!("key command: {why}"));
        let mut argv = config.argv.into_iter();
        let path = PathBuf::from(argv.next().ok_or_else(|| bad("no program"))?);
        if !path.is_absolute() {
            return Err(bad("the program must be an absolute path"));
        }
        if config.timeout.is_zero() || config.timeout > MAX_TIMEOUT {
            return Err(bad("the time limit is zero or over an hour"));
        }
        if config.environment.iter().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(bad("an environment variable's name is empty or holds `=`"));
        }
        let arguments: Vec<String> = argv.collect();
        if arguments.iter().any(|a| a.contains('\0')) {
            return Err(bad("an argument holds NUL"));
        }
        let program = Program { path, arguments, timeout: config.timeout, environment: config.environment };
        Ok(CommandKey { program })
    }

    fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>, Error> {
        let mut line = Zeroizing::new(String::with_capacity(48));
        STANDARD.encode_string(key, &mut line);
        line.push('\n');
        let done = self.program.run("wrap", line.as_bytes(), MAX_BLOB)?;
        let spellings = spellings(key);
        let shows_key =
            |text: &[u8]| spellings.iter().any(|s| text.windows(s.len()).any(|w| w == s.as_slice()));
        let said = if shows_key(done.errors.as_bytes()) { "" } else { &done.errors };
        self.succeeded(&done, "wrap", said)?;
        if done.output.is_empty() {
            return Err(self.fault("wrap", "it printed nothing".into()));
        }
        if shows_key(&done.output) {
            return Err(self.fault("wrap", "what it printed holds the key itself".into()));
        }
        Ok(done.output.to_vec())
    }

    fn unwrap(&self, blob: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
        let done = self.program.run("unwrap", blob, MAX_KEY_OUTPUT)?;
        self.succeeded(&done, "unwrap", &done.errors)?;
        parse_key(&done.output)
            .ok_or_else(|| self.fault("unwrap", "it did not print 32 bytes as base64 or hex".into()))
    }

    fn succeeded(&self, done: &Finished, step: &'static str, said: &str) -> Result<(), Error> {
        if done.status.success() {
            return Ok(());
        }
        let colon = if said.is_empty() { "" } else { ": " };
        Err(self.fault(step, format!("{}{colon}{said}", done.status)))
    }

    fn fault(&self, step: &'static str, problem: String) -> Error {
        self.program.fault(step, problem)
    }
}

impl KeyProtector for CommandKey {
    /// A new blob is unwrapped once before it is given out, so that a store is never sealed with a key that cannot be
    /// had again.
    fn seal_key(&self, blob: Option<&[u8]>) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), Error> {
        if let Some(blob) = blob {
            check_blob(blob)?;
            return Ok((self.unwrap(blob)?, blob.to_vec()));
        }
        let key = fresh_key()?;
        let blob = self.wrap(&key)?;
        if aws_lc_rs::constant_time::verify_slices_are_equal(&*self.unwrap(&blob)?, &*key).is_err() {
            return Err(self.fault("unwrap", "it gave another key than the one just wrapped".into()));
        }
        Ok((key, blob))
    }
}

/// 64 hex digits or base64 (either alphabet, with or without padding) of 32 bytes, blanks around it allowed.
fn parse_key(output: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let text = output.trim_ascii();
    let mut bytes = Zeroizing::new([0u8; 48]);
    if text.len() == 64 {
        let bytes = bytes.get_mut(..32)?;
        hex::decode_to_slice(text, bytes).ok()?;
        return key_of(bytes);
    }
    for engine in [&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        if let Ok(length) = engine.decode_slice(text, bytes.as_mut()) {
            return key_of(bytes.get(..length)?);
        }
    }
    None
}

/// The key as it must not appear in what a command prints.
fn spellings(key: &[u8; 32]) -> [Zeroizing<Vec<u8>>; 5] {
    let upper = Zeroizing::new(hex::encode_upper(key));
    let lower = Zeroizing::new(hex::encode(key));
    [
        Zeroizing::new(key.to_vec()),
        Zeroizing::new(upper.as_bytes().to_vec()),
        Zeroizing::new(lower.as_bytes().to_vec()),
        Zeroizing::new(STANDARD_NO_PAD.encode(key).into_bytes()),
        Zeroizing::new(URL_SAFE_NO_PAD.encode(key).into_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_read_in_every_spelling(key in any::<[u8; 32]>()) {
            for text in spellings(&key).iter().skip(1) {
                prop_assert_eq!(*parse_key(text).unwrap(), key);
                let padded = [b" \n", text.as_slice(), b"\r\n"].concat();
                prop_assert_eq!(*parse_key(&padded).unwrap(), key);
            }
            prop_assert_eq!(*parse_key(STANDARD.encode(key).as_bytes()).unwrap(), key);
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_key(&text);
        }
    }

    #[test]
    fn other_lengths_are_no_keys() {
        for text in [
            String::new(),
            "aa".repeat(31),
            "zz".repeat(32),
            STANDARD.encode([1; 31]),
            STANDARD.encode([1; 33]),
        ] {
            assert!(parse_key(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn settings_that_cannot_work() {
        let with = |argv: &[&str], seconds, names: &[&str]| {
            CommandKey::new(CommandKeyConfig {
                argv: argv.iter().map(|s| (*s).to_owned()).collect(),
                timeout: Duration::from_secs(seconds),
                environment: names.iter().map(|s| (*s).to_owned()).collect(),
            })
        };
        assert!(with(&["/bin/true", "a"], 1, &["X"]).is_ok());
        for bad in [
            with(&[], 1, &[]),
            with(&["true"], 1, &[]),
            with(&["/bin/true", "a\0b"], 1, &[]),
            with(&["/bin/true"], 0, &[]),
            with(&["/bin/true"], 1, &["A=B"]),
            with(&["/bin/true"], 1, &[""]),
        ] {
            assert!(matches!(bad, Err(Error::Config(_))));
        }
    }
}

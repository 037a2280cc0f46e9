//! Release rules: which workload may have which shared secrets, with which appraisal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::workload::host_data_hex;
use crate::{Error, MinStatus, ResourcePath};

/// Most characters of an id, a name and a note.
const MAX_ID: usize = 64;
const MAX_NAME: usize = 128;
const MAX_NOTE: usize = 512;

/// Whom a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selector {
    /// `digest:HEX`: the plan with this initdata digest, registered or not; kept as the 32 bytes a TEE binds.
    Digest(String),
    /// `name:TEXT`: a registered, unexpired workload of this name.
    Name(String),
    /// `any`: every guest whose appraisal suffices, whatever plan it runs.
    Any,
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "any" => Ok(Selector::Any),
            Some(("digest", hex)) => host_data_hex(hex).map(Selector::Digest),
            Some(("name", name)) if valid_name(name) => Ok(Selector::Name(name.to_owned())),
            _ => Err(Error::Rule("a workload is any, name:NAME or digest:HEX".into())),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Digest(hex) => write!(f, "digest:{hex}"),
            Selector::Name(name) => write!(f, "name:{name}"),
            Selector::Any => f.write_str("any"),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.to_string()
    }
}

fn valid_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control)
}

/// `repository/type/tag` in which each part may end in `*`, which stands for any further characters of that part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);

impl PathPattern {
    /// Whether a path is meant.
    pub fn matches(&self, path: &ResourcePath) -> bool {
        let mut parts = path.as_str().split('/');
        let all = self.0.split('/').all(|pattern| match (parts.next(), pattern.strip_suffix('*')) {
            (Some(part), Some(start)) => part.starts_with(start),
            (Some(part), None) => part == pattern,
            (None, _) => false,
        });
        all && parts.next().is_none()
    }
}

impl FromStr for PathPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // With an ordinary letter in place of each final star it must be a path; so nothing else can hide in it.
        let filled: Vec<String> = text
            .split('/')
            .map(|part| part.strip_suffix('*').map_or_else(|| part.to_owned(), |start| format!("{start}x")))
            .collect();
        match filled.join("/").parse::<ResourcePath>() {
            Ok(_) => Ok(PathPattern(text.to_owned())),
            Err(_) => Err(Error::Rule(
                "a path pattern is repository/type/tag, each part of letters, digits, `_`, `-`, `.` and at its end perhaps `*`"
                    .into(),
            )),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PathPattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> String {
        pattern.0
    }
}

/// One rule. Rules only ever allow; what none allows is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// 1–64 characters of `a-z`, `0-9`, `-`.
    pub id: String,
    /// Which guests.
    pub workload: Selector,
    /// Which shared secrets.
    pub path: PathPattern,
    /// The least status of every submodule.
    #[serde(default)]
    pub min_status: MinStatus,
    /// Whether a simulated TEE is good enough.
    #[serde(default)]
    pub accept_simulated: bool,
    /// When the rule ends, in seconds since 1970; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix: Option<u64>,
    /// For people, up to 512 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Rule {
    /// Checks what the types of the fields do not.
    pub fn check(&self) -> Result<(), Error> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.id.is_empty() || self.id.len() > MAX_ID || !self.id.bytes().all(word) {
            return Err(Error::Rule("an id is 1 to 64 characters of a-z, 0-9 and -".into()));
        }
        if self.note.chars().count() > MAX_NOTE || self.note.chars().any(char::is_control) {
            return Err(Error::Rule("a note has at most 512 printable characters".into()));
        }
        Ok(())
    }

    /// Whether its time is over.
    pub fn expired(&self, now_unix: u64) -> bool {
        self.expires_unix.is_some_and(|end| now_unix >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_whole_parts() {
        let matches = |pattern: &str, path: &str| {
            pattern.parse::<PathPattern>().unwrap().matches(&path.parse().unwrap())
        };
        assert!(matches("default/key/1", "default/key/1"));
        assert!(matches("default/*/*", "default/key/1"));
        assert!(matches("default/key/db-*", "default/key/db-1"));
        assert!(!matches("default/key/db-*", "default/key/d"));
        assert!(!matches("default/*/1", "default/key/2"));
        assert!(!matches("defaul/key/1", "default/key/1"));
        for bad in ["*", "a/b", "a/b/c/d", "a/b/**", "a/*b/c", "a//c", "a/b/?", "a/b/../*", ""] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn selectors_are_read_strictly() {
        let digest = "ab".repeat(48);
        let kept: Selector = format!("digest:{digest}").parse().unwrap();
        assert_eq!(kept, Selector::Digest("ab".repeat(32)), "as bound");
        assert_eq!("name:web".parse::<Selector>().unwrap(), Selector::Name("web".into()));
        for bad in ["", "*", "Any", "digest:", "digest:00", "name:", "name:a\nb", "plan:x"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_means_exactly_itself(a in "[a-z_]{1,8}", b in "[a-z_]{1,8}", c in "[a-z.]{0,8}") {
            let text = format!("{a}/{b}/x{c}");
            let pattern: PathPattern = text.parse().unwrap();
            prop_assert!(pattern.matches(&text.parse().unwrap()));
            let longer = format!("{text}y").parse().unwrap();
            prop_assert!(!pattern.matches(&longer));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}|[a-z*/.]{0,16}") {
            let _ = text.parse::<PathPattern>();
            let _ = text.parse::<Selector>();
        }
    }
}

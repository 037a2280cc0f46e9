//! The path of a resource: the one form that reaches storage.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// `repository/type/tag`, each part `[A-Za-z0-9_-][A-Za-z0-9_.-]*` (trustee.md §1.2), at most 255 bytes in all.
///
/// The form leaves nothing to interpret: no empty part, no `.` or `..`, no escapes, no further slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourcePath(String);

impl ResourcePath {
    /// The text, as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ResourcePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = 0;
        let valid = text.len() <= 255
            && text.split('/').all(|part| {
                parts += 1;
                let mut bytes = part.bytes();
                let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.')
            })
            && parts == 3;
        if valid {
            Ok(ResourcePath(text.to_owned()))
        } else {
            Err(Error::Path(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for ResourcePath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<ResourcePath> for String {
    fn from(path: ResourcePath) -> String {
        path.0
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_upstreams_form_and_nothing_else() {
        for good in ["default/key/1", "a/b/c", "my_repo/some-type/tag.v1..x", "-/_/0"] {
            assert_eq!(good.parse::<ResourcePath>().unwrap().as_str(), good);
        }
        let long = format!("{}/b/c", "a".repeat(300));
        for bad in [
            "",
            "a",
            "a/b",
            "a/b/c/d",
            "a//c",
            "/a/b/c",
            "a/b/c/",
            "../b/c",
            "a/../c",
            "a/b/..",
            "./b/c",
            ".a/b/c",
            "a/b/%2e%2e",
            "a/b/c d",
            "a/b/c\0",
            "a\\b/c/d",
            "ä/b/c",
            "a/b/c?x=1",
            "a/b/c\n",
            long.as_str(),
        ] {
            assert!(bad.parse::<ResourcePath>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_the_text(text in "\\PC{0,40}|[a-z./]{0,12}") {
            if let Ok(path) = text.parse::<ResourcePath>() {
                prop_assert_eq!(path.as_str(), text.as_str());
                prop_assert!(!text.contains("/.") && text.split('/').count() == 3);
            }
        }
    }
}

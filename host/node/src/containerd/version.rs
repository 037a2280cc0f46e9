//! containerd's version, and what of its configuration depends on it.

use std::fmt;

/// A version as the program says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    text: String,
}

/// How a line of containerd's versions treats its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// 1.6 and 1.7: an imported file *replaces* whole plugin sections of the file that imports it, and a table of runtimes
    /// replaces the built-in `runc`. What is added has to stand in the main file.
    One,
    /// 2.x: imported files are merged key by key.
    Two,
}

impl Version {
    /// Reads `containerd github.com/containerd/containerd/v2 2.1.9 …`; `v1.7.24`, `1.6.20~ds1` are versions too.
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let number = word.strip_prefix('v').unwrap_or(word);
            let mut parts = number.split(|c: char| !c.is_ascii_digit());
            let major = parts.next()?.parse().ok()?;
            let minor = parts.next()?.parse().ok()?;
            Some(Version { major, minor, text: number.to_owned() })
        })
    }

    /// The dialect; none for versions that are not known.
    pub fn dialect(&self) -> Option<Dialect> {
        match (self.major, self.minor) {
            (1, 6 | 7) => Some(Dialect::One),
            (2, _) => Some(Dialect::Two),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_and_of_upstream_are_read() {
        for (text, major, minor, dialect) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
                1,
                6,
                Some(Dialect::One),
            ),
            (
                "containerd github.com/containerd/containerd v1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182",
                1,
                7,
                Some(Dialect::One),
            ),
            ("containerd github.com/containerd/containerd/v2 2.1.9+unknown ", 2, 1, Some(Dialect::Two)),
            ("containerd x 1.5.0", 1, 5, None),
            ("containerd x 3.0", 3, 0, None),
        ] {
            let version = Version::parse(text).unwrap();
            assert_eq!((version.major, version.minor, version.dialect()), (major, minor, dialect), "{text}");
        }
        for none in
            ["", "containerd", "containerd github.com/containerd/containerd/v2 unknown", "1", "99999999999.1"]
        {
            assert_eq!(Version::parse(none), None, "{none}");
        }
    }
}

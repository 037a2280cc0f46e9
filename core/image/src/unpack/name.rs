//! Entry names: cleaned, re-rooted, and read for whiteout marks (image-spec, layer.md "Whiteouts").

use crate::Error;
use crate::error::printable;

/// Where an entry goes. Paths are relative, cleaned, without empty, `.` or `..` components; an empty parent is the
/// root.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// The root itself.
    Root,
    /// A name in a directory.
    Name {
        /// The directory.
        parent: Vec<u8>,
        /// The last component.
        name: Vec<u8>,
    },
    /// `.wh.NAME`: lower layers' NAME goes.
    Whiteout {
        /// The directory.
        parent: Vec<u8>,
        /// NAME.
        name: Vec<u8>,
    },
    /// `.wh..wh..opq`: everything that lower layers left in the directory goes.
    Opaque {
        /// The directory.
        parent: Vec<u8>,
    },
    /// `.wh..wh.…`: bookkeeping of the AUFS driver, without meaning.
    AufsMetadata,
}

/// Longest file name on Linux.
pub const MAX_COMPONENT: usize = 255;

/// Parent and last component.
pub type Split = (Vec<u8>, Vec<u8>);

/// Cleans a name as Go's `filepath.Clean("/" + name)` would, but refuses to climb above the root instead of
/// stopping there. `None` is the root; else parent and last component. `limit` is the longest name, in bytes.
///
/// # Errors
/// [`Error::Unsafe`].
pub fn clean(path: &[u8], limit: usize) -> Result<Option<Split>, Error> {
    let refuse = |reason| Error::Unsafe { path: printable(path), reason };
    if path.is_empty() || path.contains(&0) {
        return Err(refuse("its name is empty or holds a NUL"));
    }
    if path.len() > limit {
        return Err(refuse("its name is too long"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(|| refuse("its name leads out of the root"))?;
            }
            part if part.len() > MAX_COMPONENT => return Err(refuse("a part of its name is too long")),
            part => parts.push(part),
        }
    }
    let Some(name) = parts.pop() else { return Ok(None) };
    Ok(Some((parts.join(&b'/'), name.to_vec())))
}

/// Where the entry of this name goes. `limit` is the longest name, in bytes.
///
/// # Errors
/// [`Error::Unsafe`].
pub fn target(path: &[u8], limit: usize) -> Result<Target, Error> {
    let Some((parent, name)) = clean(path, limit)? else { return Ok(Target::Root) };
    if name == b".wh..wh..opq" {
        return Ok(Target::Opaque { parent });
    }
    if name.starts_with(b".wh..wh.") {
        return Ok(Target::AufsMetadata);
    }
    match name.strip_prefix(b".wh.") {
        Some(b"" | b"." | b"..") => {
            Err(Error::Unsafe { path: printable(path), reason: "it is a whiteout of no file" })
        }
        Some(lower) => Ok(Target::Whiteout { parent, name: lower.to_vec() }),
        None => Ok(Target::Name { parent, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(parent: &str, name: &str) -> Target {
        Target::Name { parent: parent.into(), name: name.into() }
    }

    #[test]
    fn names_are_cleaned_and_re_rooted() {
        for (given, expected) in [
            ("./", Target::Root),
            ("/", Target::Root),
            ("a/..", Target::Root),
            ("a", name("", "a")),
            ("/etc/passwd", name("etc", "passwd")),
            ("./a//b/./c/", name("a/b", "c")),
            ("a/../b", name("", "b")),
            ("...", name("", "...")),
            ("x/.wh..wh..opq", Target::Opaque { parent: b"x".to_vec() }),
            (".wh..wh.plnk", Target::AufsMetadata),
            ("x/.wh.y", Target::Whiteout { parent: b"x".to_vec(), name: b"y".to_vec() }),
        ] {
            assert_eq!(target(given.as_bytes(), 4096).unwrap(), expected, "{given}");
        }
    }

    #[test]
    fn names_that_climb_are_refused() {
        let long = "a/".repeat(3000);
        let wide = "a".repeat(256);
        for bad in ["", "..", "../x", "/..", "a/../../x", "x\0y", ".wh.", ".wh..", "a/.wh...", &long, &wide] {
            assert!(matches!(target(bad.as_bytes(), 4096), Err(Error::Unsafe { .. })), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_target_holds_a_climbing_component(path in "[a./w-]{0,60}") {
            if let Ok(Some((parent, name))) = clean(path.as_bytes(), 4096) {
                for part in parent.split(|b| *b == b'/').chain([&name[..]]) {
                    proptest::prop_assert!(part != b".." && part != b"." && (!part.is_empty() || parent.is_empty()));
                }
            }
        }
    }
}

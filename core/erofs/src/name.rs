//! Entry names: cleaned, re-rooted, and read for whiteout marks (image-spec, layer.md "Whiteouts"). The rules are
//! those of `cocoon_image::unpack`; a property test holds the two together.

use crate::Error;

/// Where an entry goes. Paths are relative, cleaned, without empty, `.` or `..` components; an empty parent is the
/// root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The root itself.
    Root,
    /// A name in a directory.
    Name { parent: Vec<u8>, name: Vec<u8> },
    /// `.wh.NAME`: lower layers' NAME goes.
    Whiteout { parent: Vec<u8>, name: Vec<u8> },
    /// `.wh..wh..opq`: everything that lower layers left in the directory goes.
    Opaque { parent: Vec<u8> },
    /// `.wh..wh.…`: bookkeeping of the AUFS driver, without meaning.
    AufsMetadata,
}

/// Longest file name on Linux.
pub(crate) const MAX_COMPONENT: usize = 255;

/// Parent and last component.
type Split = (Vec<u8>, Vec<u8>);

/// Parent and last component of a name; `None` is the root. A name that climbs out of the root is refused.
pub(crate) fn clean(path: &[u8], limit: usize) -> Result<Option<Split>, Error> {
    let refuse = |reason| Error::unsafe_name(path, reason);
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

/// Where the entry of this name goes.
pub(crate) fn target(path: &[u8], limit: usize) -> Result<Target, Error> {
    let Some((parent, name)) = clean(path, limit)? else { return Ok(Target::Root) };
    if name == b".wh..wh..opq" {
        return Ok(Target::Opaque { parent });
    }
    if name.starts_with(b".wh..wh.") {
        return Ok(Target::AufsMetadata);
    }
    match name.strip_prefix(b".wh.") {
        Some(b"" | b"." | b"..") => Err(Error::unsafe_name(path, "it is a whiteout of no file")),
        Some(lower) => Ok(Target::Whiteout { parent, name: lower.to_vec() }),
        None => Ok(Target::Name { parent, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_read_for_marks() {
        let name = |parent: &[u8], name: &[u8]| Target::Name { parent: parent.into(), name: name.into() };
        for (given, expected) in [
            (&b"./"[..], Target::Root),
            (b"a/..", Target::Root),
            (b"/etc//./x/../passwd", name(b"etc", b"passwd")),
            (b"...", name(b"", b"...")),
            (b"x/.wh..wh..opq", Target::Opaque { parent: b"x".to_vec() }),
            (b".wh..wh.plnk", Target::AufsMetadata),
            (b"x/.wh.y", Target::Whiteout { parent: b"x".to_vec(), name: b"y".to_vec() }),
        ] {
            assert_eq!(target(given, 4096).unwrap(), expected);
        }
        for bad in ["", "..", "../x", "a/../../x", "x\0y", ".wh.", ".wh..", "a/.wh...", &"a".repeat(256)] {
            assert!(target(bad.as_bytes(), 4096).is_err(), "{bad:?}");
        }
        assert!(target(b"abcde", 4).is_err());
    }
}

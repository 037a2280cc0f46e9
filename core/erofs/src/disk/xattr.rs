//! Extended attributes behind an inode (`struct erofs_xattr_ibody_header`, `struct erofs_xattr_entry`).

use cocoon_image::Error;
use cocoon_image::unpack::{implied, is_layers_own};

use crate::error::printable;

/// The most bytes of attributes that one inode may have.
const MAX_AREA: usize = 64 * 1024;
/// `XATTR_NAME_MAX`.
const MAX_NAME: usize = 255;
const HEADER: usize = 12;
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Name prefixes that the kernel knows by number (`EROFS_XATTR_INDEX_…`).
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// Attributes by full name, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Xattrs(std::collections::BTreeMap<Box<[u8]>, Box<[u8]>>);

impl Xattrs {
    /// Adds a tar entry's attributes, as far as they are a layer's to set: `user.…` and `security.capability`.
    /// One of the same name is replaced. Gives the bytes kept.
    ///
    /// # Errors
    /// What the kernel would say of such an attribute.
    pub(crate) fn add(&mut self, path: &[u8], given: &[(Vec<u8>, Vec<u8>)]) -> Result<usize, Error> {
        let mut kept = 0;
        for (name, value) in given {
            if !is_layers_own(name) {
                continue;
            }
            if name.len() > MAX_NAME || name == b"user." || (name.starts_with(b"s") && !is_capability(value))
            {
                let source = std::io::ErrorKind::InvalidInput.into();
                return Err(Error::Filesystem { path: printable(path), source });
            }
            kept += name.len() + value.len();
            self.0.insert(name.as_slice().into(), value.as_slice().into());
        }
        if kept > 0 && self.encode(false, None).len() > MAX_AREA {
            return Err(Error::TooLarge(format!(
                "entry {} has more than {MAX_AREA} bytes of extended attributes",
                printable(path)
            )));
        }
        Ok(kept)
    }

    /// The area behind an inode, a multiple of 4 bytes; empty without attributes. `opaque` adds overlayfs' mark of a
    /// directory that hides what lower layers have there, `mark` the value of [`implied::MARK`].
    pub(crate) fn encode(&self, opaque: bool, mark: Option<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let opaque = opaque.then_some((OPAQUE, &b"y"[..]));
        let value = mark.map(|m| [m]);
        let mark = value.as_ref().map(|v| (implied::MARK.as_bytes(), &v[..]));
        for (name, value) in self.0.iter().map(|(n, v)| (&n[..], &v[..])).chain(opaque).chain(mark) {
            let Some((rest, index)) =
                PREFIXES.iter().find_map(|(p, index)| Some((name.strip_prefix(*p)?, *index)))
            else {
                continue;
            };
            if out.is_empty() {
                out.resize(HEADER, 0); // no shared attributes, no name filter
            }
            // Both were bounded in `add`: names to 255 bytes, all of an inode to 64 KiB.
            out.push(u8::try_from(rest.len()).unwrap_or(u8::MAX));
            out.push(index);
            out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(rest);
            out.extend_from_slice(value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }
}

/// A `security.capability` value that the kernel takes: `VFS_CAP_REVISION_2` or `_3`, of the right length.
fn is_capability(value: &[u8]) -> bool {
    let revision = value.first_chunk::<4>().map(|v| u32::from_le_bytes(*v) & 0xff00_0000);
    matches!((revision, value.len()), (Some(0x0200_0000), 20) | (Some(0x0300_0000), 24))
}

/// An inode's `i_xattr_icount` for an area of so many bytes.
pub(crate) fn count(area: usize) -> u16 {
    if area == 0 { 0 } else { u16::try_from(area.saturating_sub(HEADER) / 4 + 1).unwrap_or(u16::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(given: &[(&[u8], &[u8])]) -> Result<Xattrs, Error> {
        let given: Vec<_> = given.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let mut x = Xattrs::default();
        x.add(b"f", &given).map(|_| x)
    }

    #[test]
    fn only_a_layers_own_attributes_pass() {
        let x = add(&[(b"trusted.overlay.opaque", b"y"), (b"security.selinux", b"x"), (b"system.a", b"")]);
        assert!(x.unwrap().encode(false, None).is_empty());
        let x = add(&[(b"user.b", b"2"), (b"user.a", b"1"), (b"user.b", b"3")]).unwrap().encode(true, None);
        assert_eq!(&x[12..18], [1, 1, 1, 0, b'a', b'1']);
        assert_eq!(&x[20..26], [1, 1, 1, 0, b'b', b'3']);
        assert_eq!(&x[28..32], [14, 4, 1, 0]);
        assert_eq!(usize::from(count(x.len()) - 1) * 4 + 12, x.len());
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        for bad in [&b"user."[..], &[b"user.", &[b'a'; 251][..]].concat(), b"security.capability"] {
            assert!(matches!(add(&[(bad, b"x")]), Err(Error::Filesystem { .. })), "{bad:?}");
        }
        assert!(matches!(add(&[(b"user.a", &[0; 65_536])]), Err(Error::TooLarge(_))));
        let mut v2 = [0_u8; 20];
        v2[3] = 2;
        assert!(add(&[(b"security.capability", &v2)]).is_ok());
    }
}

//! Inodes: compact (32 bytes, `struct erofs_inode_compact`) where they say everything, else extended (64 bytes,
//! `struct erofs_inode_extended`).

use cocoon_image::tar::Time;

use super::FileType;

/// Owner, mode and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Permission bits, `0o7777` at most.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
}

/// Where content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// All of it from this block on (`EROFS_INODE_FLAT_PLAIN`).
    Plain(u32),
    /// Whole blocks from this one on, the rest right behind the inode and its attributes, in the same block
    /// (`EROFS_INODE_FLAT_INLINE`).
    Inline(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode<'a> {
    pub(crate) kind: FileType,
    pub(crate) meta: &'a Meta,
    /// Length of the content in bytes.
    pub(crate) size: u64,
    pub(crate) data: Data,
    pub(crate) links: u32,
    /// As [`super::xattr::Area`] encodes them.
    pub(crate) xattrs: &'a [u8],
}

/// Whether a compact inode can say it. It has no time of its own (the image's build time counts, which is 0), and 16
/// bits for owners.
pub(crate) fn is_compact(meta: &Meta, size: u64, links: u32) -> bool {
    meta.mtime == Time::default()
        && meta.uid <= u32::from(u16::MAX)
        && meta.gid <= u32::from(u16::MAX)
        && size <= u64::from(u32::MAX)
        && links <= u32::from(u16::MAX)
}

/// Bytes of the inode alone.
pub(crate) fn len(compact: bool) -> usize {
    if compact { 32 } else { 64 }
}

/// Where the number of links lies in an inode, and its bytes; `None` where it does not fit.
pub(crate) fn links_field(compact: bool, links: u32) -> Option<(u64, Vec<u8>)> {
    if compact {
        Some((6, u16::try_from(links).ok()?.to_le_bytes().to_vec()))
    } else {
        Some((44, links.to_le_bytes().to_vec()))
    }
}

impl Inode<'_> {
    /// The inode and its attributes. Its own number for 32-bit systems (`i_ino`) stays 0: Linux does not read it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let compact = is_compact(self.meta, self.size, self.links);
        let (layout, block) = match self.data {
            Data::Plain(block) => (0_u16, block),
            Data::Inline(block) => (2, block),
        };
        let mut out = Vec::with_capacity(len(compact) + self.xattrs.len());
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        put(&(layout << 1 | u16::from(!compact)).to_le_bytes());
        put(&super::xattr::count(self.xattrs.len()).to_le_bytes());
        put(&(self.kind.mode() | self.meta.mode & 0o7777).to_le_bytes());
        let low = |n: u32| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
        if compact {
            put(&low(self.links));
            put(&u32::try_from(self.size).unwrap_or(u32::MAX).to_le_bytes());
            put(&[0; 4]);
            put(&block.to_le_bytes());
            put(&[0; 4]);
            put(&low(self.meta.uid));
            put(&low(self.meta.gid));
            put(&[0; 4]);
        } else {
            put(&[0; 2]);
            put(&self.size.to_le_bytes());
            put(&block.to_le_bytes());
            put(&[0; 4]);
            put(&self.meta.uid.to_le_bytes());
            put(&self.meta.gid.to_le_bytes());
            put(&self.meta.mtime.seconds.to_le_bytes());
            put(&self.meta.mtime.nanoseconds.to_le_bytes());
            put(&self.links.to_le_bytes());
            put(&[0; 16]);
        }
        put(self.xattrs);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(meta: &Meta, size: u64) -> Inode<'_> {
        let (kind, data) = (FileType::Regular, Data::Plain(7));
        Inode { kind, meta, size, data, links: 1, xattrs: &[] }
    }

    #[test]
    fn the_form_follows_from_what_there_is_to_say() {
        let meta = Meta { mode: 0o644, uid: 65_535, ..Meta::default() };
        assert_eq!(inode(&meta, 5).encode().len(), 32);
        assert_eq!(inode(&meta, 1 << 32).encode().len(), 64);
        let timed = Meta { mtime: Time { seconds: 0, nanoseconds: 1 }, ..meta };
        assert_eq!(inode(&timed, 5).encode().len(), 64);
        assert_eq!(inode(&Meta { gid: 65_536, ..meta }, 5).encode().len(), 64);
    }

    #[test]
    fn links_are_patched_where_they_were_written() {
        assert!(links_field(true, 65_536).is_none());
        for (seconds, links) in [(0, 0x0102_u32), (1, 0x0102_0304)] {
            let meta = Meta { mtime: Time { seconds, nanoseconds: 0 }, ..Meta::default() };
            let (at, bytes) = links_field(seconds == 0, links).unwrap();
            let at = usize::try_from(at).unwrap();
            let mut patched = inode(&meta, 5).encode();
            patched[at..at + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(Inode { links, ..inode(&meta, 5) }.encode(), patched);
        }
    }
}

//! The 512-byte header block (POSIX.1-1988 ustar, GNU tar manual "Basic Tar Format").

use crate::Error;

/// Length of a block.
pub(super) const BLOCK: usize = 512;

/// One header block whose checksum was found right.
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

fn corrupt(what: &str) -> Error {
    Error::Corrupt(format!("tar: {what}"))
}

impl<'a> Header<'a> {
    /// Checks the block's sum; `None` for a block of zeros (end of archive).
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Option<Self>, Error> {
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header(block);
        let stated =
            octal(header.field(148, 8)).ok_or_else(|| corrupt("a header's checksum is not a number"))?;
        // The sum field counts as spaces. Old tars summed signed bytes.
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (i, b) in block.iter().enumerate() {
            let b = if (148..156).contains(&i) { b' ' } else { *b };
            unsigned += i64::from(b);
            signed += i64::from(b.cast_signed());
        }
        let stated = i64::try_from(stated).unwrap_or(-1);
        if stated != unsigned && stated != signed {
            return Err(corrupt("a header's checksum does not hold: this is not tar data"));
        }
        Ok(Some(header))
    }

    pub(super) fn field(&self, at: usize, len: usize) -> &'a [u8] {
        self.0.get(at..at.saturating_add(len)).unwrap_or_default()
    }

    fn text(&self, at: usize, len: usize) -> &'a [u8] {
        let field = self.field(at, len);
        field.split(|b| *b == 0).next().unwrap_or_default()
    }

    fn number(&self, at: usize, len: usize, what: &str) -> Result<u64, Error> {
        number(self.field(at, len)).ok_or_else(|| corrupt(&format!("a header's {what} is not a number")))
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or(0)
    }

    /// Name, with ustar's prefix before it. GNU headers keep times where ustar keeps the prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.field(257, 6) == b"ustar\0" { self.text(345, 155) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, Error> {
        // Some tools put the file type's bits here too; only permissions count.
        Ok(u32::try_from(self.number(100, 8, "mode")? & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<u64, Error> {
        self.number(108, 8, "uid")
    }

    pub(super) fn gid(&self) -> Result<u64, Error> {
        self.number(116, 8, "gid")
    }

    pub(super) fn size(&self) -> Result<u64, Error> {
        self.number(124, 12, "size")
    }

    /// Modification time in seconds; one before 1970 (GNU negative base-256) counts as 0.
    pub(super) fn mtime(&self) -> Result<u64, Error> {
        let field = self.field(136, 12);
        if field.first() == Some(&0xff) {
            return Ok(0);
        }
        self.number(136, 12, "mtime")
    }
}

/// A numeric field: octal text, or GNU's base-256 with the top bit set.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    if first & 0x40 != 0 {
        return None; // negative
    }
    rest.iter().try_fold(u64::from(first & 0x3f), |n, b| Some(n.checked_mul(256)? | u64::from(*b)))
}

/// Octal text padded with spaces or NULs; an empty field is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let text = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0_u64, |n, b| match b {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_forms() {
        assert_eq!(octal(b"0000644\0"), Some(0o644));
        assert_eq!(octal(b"   17 \0"), Some(15));
        assert_eq!(octal(b"\0\0"), Some(0));
        assert_eq!(octal(b"8"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(2 << 32));
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(&[0xbf; 12]), None, "overflow is refused, not wrapped");
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
    }

    #[test]
    fn zeros_end_and_junk_is_refused() {
        assert!(Header::parse(&[0; BLOCK]).unwrap().is_none());
        assert!(Header::parse(&[b'7'; BLOCK]).is_err());
        assert!(Header::parse(&[0xff; BLOCK]).is_err());
    }
}

//! DER, one element at a time: for structures that must be taken apart byte for byte.

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tlv<'a> {
    /// The identifier octet; tags above 30 are not read.
    pub tag: u8,
    /// The content.
    pub content: &'a [u8],
    /// The whole element.
    pub whole: &'a [u8],
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8: u8 = 0x0c;
pub(super) const TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The first element and what follows it; `None` where there is none or its length is not DER.
pub(super) fn split(input: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (tag, after) = input.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (first, after) = after.split_first()?;
    let (length, header) = match *first {
        short @ 0..=0x7f => (usize::from(short), 2),
        long @ 0x81..=0x84 => {
            let count = usize::from(long & 0x7f);
            let bytes = after.get(..count)?;
            let length = bytes.iter().fold(0usize, |sum, b| (sum << 8) | usize::from(*b));
            // The shortest form is the only one.
            if bytes.first() == Some(&0) || length < 0x80 {
                return None;
            }
            (length, 2 + count)
        }
        _ => return None,
    };
    let (whole, rest) = input.split_at_checked(header.checked_add(length)?)?;
    Some((Tlv { tag: *tag, content: whole.get(header..)?, whole }, rest))
}

/// The only element of the input, with this tag.
pub(super) fn only(input: &[u8], tag: u8) -> Option<&[u8]> {
    match split(input)? {
        (element, []) if element.tag == tag => Some(element.content),
        _ => None,
    }
}

/// All elements of a content, at most `limit`.
pub(super) fn all(mut content: &[u8], limit: usize) -> Option<Vec<Tlv<'_>>> {
    let mut out = Vec::new();
    while !content.is_empty() {
        let (element, rest) = split(content)?;
        if out.len() == limit {
            return None;
        }
        out.push(element);
        content = rest;
    }
    Some(out)
}

/// An element.
pub(super) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let zeros = bytes.iter().take_while(|b| **b == 0).count();
            let bytes = bytes.get(zeros..).unwrap_or_default();
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(0x7f));
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 70_000] {
            let content = vec![7; length];
            assert_eq!(only(&write(SEQUENCE, &content), SEQUENCE), Some(&content[..]), "{length}");
        }
    }

    #[test]
    fn lengths_are_der() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 1, 0],
            &[0x30, 0x82, 0, 0x80],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 1, 0],
        ] {
            assert_eq!(split(bad), None, "{bad:02x?}");
        }
        assert_eq!(only(&[4, 1, 0, 0], OCTETS), None);
        assert_eq!(all(&[4, 0, 4, 0], 1), None);
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(0u8.., 0..64)) {
            let _ = all(&bytes, 16);
        }
    }
}

//! Packet framing (RFC 9580, section 4.2): both header formats, partial lengths for data packets.

use std::borrow::Cow;

use super::Fields;

pub(super) const SIGNATURE: u8 = 2;
pub(super) const ONE_PASS: u8 = 4;
pub(super) const SECRET_KEY: u8 = 5;
pub(super) const PUBLIC_KEY: u8 = 6;
pub(super) const SECRET_SUBKEY: u8 = 7;
pub(super) const COMPRESSED: u8 = 8;
pub(super) const MARKER: u8 = 10;
pub(super) const LITERAL: u8 = 11;
pub(super) const TRUST: u8 = 12;
pub(super) const USER_ID: u8 = 13;
pub(super) const PUBLIC_SUBKEY: u8 = 14;
pub(super) const USER_ATTRIBUTE: u8 = 17;

/// A packet with its whole body.
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: Cow<'a, [u8]>,
}

/// The packet at the front of `input`, and what follows it; `None` where the framing is malformed.
pub(super) fn next(input: &[u8]) -> Option<(Packet<'_>, &[u8])> {
    let mut fields = Fields(input);
    let first = fields.byte()?;
    if first & 0x80 == 0 {
        return None;
    }
    if first & 0x40 == 0 {
        let tag = (first >> 2) & 0x0f;
        let length = match first & 3 {
            0 => usize::from(fields.byte()?),
            1 => fields.short()?,
            2 => usize::try_from(fields.word()?).ok()?,
            // Of indeterminate length: up to the end, and only where that makes sense.
            _ if tag == COMPRESSED || tag == LITERAL => fields.0.len(),
            _ => return None,
        };
        let body = fields.take(length)?.into();
        return Some((Packet { tag, body }, fields.0));
    }
    let tag = first & 0x3f;
    let mut parts: Vec<u8> = Vec::new();
    loop {
        let length = match fields.byte()? {
            n @ 0..=191 => usize::from(n),
            n @ 192..=223 => ((usize::from(n) - 192) << 8) + usize::from(fields.byte()?) + 192,
            255 => usize::try_from(fields.word()?).ok()?,
            n => {
                if tag != COMPRESSED && tag != LITERAL {
                    return None;
                }
                parts.extend_from_slice(fields.take(1_usize.checked_shl(u32::from(n & 0x1f))?)?);
                continue;
            }
        };
        let last = fields.take(length)?;
        let body = if parts.is_empty() {
            last.into()
        } else {
            parts.extend_from_slice(last);
            parts.into()
        };
        return Some((Packet { tag, body }, fields.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(input: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
        next(input).map(|(p, rest)| (p.tag, p.body.into_owned(), rest.len()))
    }

    #[test]
    fn both_formats_are_read() {
        assert_eq!(body(&[0xcb, 2, 1, 2, 9]), Some((LITERAL, vec![1, 2], 1)));
        assert_eq!(body(&[0x90, 1, 7]), Some((ONE_PASS, vec![7], 0)));
        assert_eq!(body(&[0xa3, 1, 2, 3]), Some((COMPRESSED, vec![1, 2, 3], 0)));
        assert_eq!(body(&[0xcb, 0xe1, 1, 2, 1, 3]), Some((LITERAL, vec![1, 2, 3], 0)));
        let mut long = vec![0xc2, 192, 0];
        long.extend([5; 192]);
        assert_eq!(body(&long), Some((SIGNATURE, vec![5; 192], 0)));
    }

    #[test]
    fn malformed_framing_is_refused() {
        for bad in [
            &[][..],
            &[0x00],
            &[0xcb],
            &[0xcb, 3, 1, 2],
            &[0xcb, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xc2, 0xe1, 1, 2, 0],
            &[0x8b, 1],
            &[0xcb, 0xfe, 1],
        ] {
            assert!(next(bad).is_none(), "{bad:?}");
        }
    }
}

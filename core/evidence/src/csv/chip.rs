//! Serial numbers of chips.

use crate::Error;

/// A chip's serial number: 1 to 64 of `A`–`Z`, `a`–`z`, `0`–`9`, `-` and `_`. Nothing else, because it comes from hostile
/// evidence and providers put it into file names and URLs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChipId(String);

impl ChipId {
    /// Checks a serial number.
    ///
    /// # Errors
    /// [`Error::Field`] for any other character or length.
    pub fn new(text: &str) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(ChipId(text.to_owned())),
            false => Err(Error::Field {
                field: "chip id",
                reason: "not 1 to 64 letters, digits, hyphens and underscores",
            }),
        }
    }

    /// Reads a field that holds it, filled up with zeros.
    ///
    /// # Errors
    /// [`Error::Field`].
    pub fn from_field(bytes: &[u8]) -> Result<Self, Error> {
        let length = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let text = bytes.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        ChipId::new(text.unwrap_or_default())
    }

    /// The serial number.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a field of 64 bytes, filled up with zeros.
    pub fn to_field(&self) -> [u8; 64] {
        let mut field = [0; 64];
        field.iter_mut().zip(self.0.bytes()).for_each(|(to, from)| *to = from);
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_nothing_but_a_plain_word() {
        for good in ["A", "KPA64911240507", "a-b_C", &"9".repeat(64)] {
            let id = ChipId::new(good).unwrap();
            assert_eq!(ChipId::from_field(&id.to_field()).unwrap(), id);
        }
        for bad in ["", "../x", "a/b", "a b", "a&b=c", "a\0b", "%2e", "ä", &"9".repeat(65), "a\n"] {
            assert!(ChipId::new(bad).is_err(), "{bad:?}");
            assert!(ChipId::from_field(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(ChipId::from_field(&[0; 64]).is_err());
        assert!(ChipId::from_field(b"\0A").is_err());
        assert!(ChipId::from_field(&[0xff, 0]).is_err());
    }
}

//! PAX extended header records: `LENGTH KEYWORD=VALUE\n` (POSIX pax, "pax Extended Header File Format").

use crate::Error;
use crate::tar::Time;
use crate::tar::sparse::Records;

/// What the extended headers before an entry said of it. An empty value takes a record back.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Records,
}

/// The most extended attributes of one entry.
const MAX_XATTRS: usize = 256;
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

fn corrupt(what: &str) -> Error {
    Error::Corrupt(format!("tar: {what}"))
}

impl Extended {
    /// Takes in one extended header's records.
    pub(super) fn read(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or_else(|| corrupt("a PAX record is malformed"))?;
            data = rest;
            self.apply(key, value)?;
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let bad = || corrupt("a PAX number is malformed");
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = if given { Some(decimal(value).ok_or_else(bad)?) } else { None },
            b"uid" => self.uid = if given { Some(decimal(value).ok_or_else(bad)?) } else { None },
            b"gid" => self.gid = if given { Some(decimal(value).ok_or_else(bad)?) } else { None },
            b"mtime" => self.mtime = if given { Some(time(value).ok_or_else(bad)?) } else { None },
            _ => {
                if let Some(key) = key.strip_prefix(SPARSE_PREFIX) {
                    return self.sparse.apply(key, value);
                }
                if let Some(name) = key.strip_prefix(XATTR_PREFIX)
                    && !name.is_empty()
                {
                    self.xattrs.retain(|(n, _)| n != name);
                    if self.xattrs.len() >= MAX_XATTRS {
                        return Err(corrupt("an entry has too many extended attributes"));
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(21).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(data.get(..space)?)?).ok()?;
    let (whole, rest) = data.split_at_checked(length)?;
    let body = whole.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    let (key, value) = body.split_at_checked(equals)?;
    let value = value.get(1..)?;
    // A NUL in a name would end it early for the kernel and nobody else.
    let is_name = matches!(key, b"path" | b"linkpath") || key.starts_with(XATTR_PREFIX);
    let cut = key.contains(&0) || (is_name && !key.starts_with(XATTR_PREFIX) && value.contains(&0));
    (!key.is_empty() && !cut).then_some((key, value, rest))
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |n, b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// `SECONDS[.FRACTION]`; a negative time counts as 0.
fn time(text: &[u8]) -> Option<Time> {
    if let Some(positive) = text.strip_prefix(b"-") {
        return time(positive).map(|_| Time::default());
    }
    let mut parts = text.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanoseconds = 0_u32;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for i in 0..9 {
        let digit = fraction.get(i).map_or(0, |b| u32::from(b - b'0'));
        nanoseconds = nanoseconds * 10 + digit;
    }
    Some(Time { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8]) -> Result<Extended, Error> {
        let mut e = Extended::default();
        e.read(data)?;
        Ok(e)
    }

    #[test]
    fn records_are_read_and_taken_back() {
        let e = read(b"17 path=some/way\n30 mtime=1700000000.123456789\n").unwrap();
        assert_eq!(e.path.as_deref(), Some(&b"some/way"[..]));
        assert_eq!(e.mtime.unwrap(), Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 });
        assert!(read(b"17 path=some/way\n8 path=\n").unwrap().path.is_none());
        let x = read(b"29 SCHILY.xattr.user.a=b=\nc\n\n").unwrap().xattrs;
        assert_eq!(x, [(b"user.a".to_vec(), b"b=\nc\n".to_vec())]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"999 path=a\n",
            b"3 a\n",
            b"8 path=\0",
            b"11 path=a\0\n",
            b"10 size=-1\n",
            b"11 size=1x\n",
            b"99999999999999999999999 a=b\n",
            b"24 GNU.sparse.unknown=1\n",
            b"5 =a\n",
            b"10 mtime=x\n",
            b"0 a=b\n",
        ] {
            assert!(read(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read(&data);
        }
    }
}

//! The records inside a backup and the digest at their end.

use std::io::{Read, Write};

use aws_lc_rs::digest::{Context, SHA256};

use super::{unreadable, unwritable};
use crate::{Error, MAX_VALUE, Record, check_value, storage_key};

const RECORD: u8 = 1;
const END: u8 = 0;

type Each<'a> = dyn FnMut(Record) -> Result<(), Error> + 'a;

/// Writes what `records` gives, and the end; how many records.
pub(super) fn write(
    header: &[u8],
    out: &mut dyn Write,
    records: impl FnOnce(&mut Each<'_>) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut hash = Context::new(&SHA256);
    hash.update(header);
    let mut count = 0u64;
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        out.write_all(bytes).map_err(unwritable)
    };
    records(&mut |record| {
        let mut head = vec![RECORD];
        for text in [&record.ns, &record.key] {
            let length = u16::try_from(text.len()).map_err(|_| damaged("a stored key is too long"))?;
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(text.as_bytes());
        }
        let length =
            u32::try_from(record.value.len()).map_err(|_| Error::ValueTooLarge(record.value.len()))?;
        head.extend_from_slice(&length.to_be_bytes());
        put(&head)?;
        put(&record.value)?;
        count += 1;
        Ok(())
    })?;
    put(&[END])?;
    put(&count.to_be_bytes())?;
    let digest = hash.finish();
    out.write_all(digest.as_ref()).map_err(unwritable)?;
    Ok(count)
}

/// Reads records up to the end, checks it and that nothing follows; how many records. Allocates no more than one
/// record's worth, and that only as its bytes arrive.
pub(super) fn read(header: &[u8], input: &mut dyn Read, each: &mut Each<'_>) -> Result<u64, Error> {
    let mut input = Hashed { input, hash: Context::new(&SHA256) };
    input.hash.update(header);
    let mut count = 0u64;
    let mut previous: Option<(String, String)> = None;
    loop {
        match input.array::<1>()? {
            [RECORD] => {}
            [END] => break,
            _ => return Err(damaged("a record has an unknown kind")),
        }
        let record = Record { ns: input.text()?, key: input.text()?, value: input.value()? };
        storage_key(&record.ns, &record.key).map_err(|_| damaged("a record has an invalid key"))?;
        check_value(&record.value)?;
        let place = (record.ns.clone(), record.key.clone());
        if previous.as_ref().is_some_and(|previous| *previous >= place) {
            return Err(damaged("its records are out of order"));
        }
        previous = Some(place);
        each(record)?;
        count += 1;
    }
    if u64::from_be_bytes(input.array()?) != count {
        return Err(damaged("records are missing"));
    }
    let Hashed { input, hash } = input;
    let mut stored = [0; 32];
    input.read_exact(&mut stored).map_err(unreadable)?;
    if hash.finish().as_ref() != stored {
        return Err(damaged("its digest is another: it was altered"));
    }
    match input.read(&mut [0]).map_err(unreadable)? {
        0 => Ok(count),
        _ => Err(damaged("something follows its end")),
    }
}

fn damaged(reason: &str) -> Error {
    Error::Backup(reason.to_owned())
}

struct Hashed<'a> {
    input: &'a mut dyn Read,
    hash: Context,
}

impl Hashed<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(unreadable)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        (&mut *self.input).take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() != length {
            return Err(damaged("it ends early"));
        }
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.array()?);
        String::from_utf8(self.bytes(length.into())?).map_err(|_| damaged("a record has an invalid key"))
    }

    fn value(&mut self) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
        if length > MAX_VALUE {
            return Err(damaged("a value is too large"));
        }
        self.bytes(length)
    }
}

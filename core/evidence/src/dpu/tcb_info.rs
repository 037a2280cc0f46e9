//! What a DICE certificate says of the firmware below its key: `DiceTcbInfo` (TCG DICE Attestation Architecture 1.1, 6.1.1).

use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

use crate::Error;
use crate::x509::Certificate;

const TCB_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1");
/// Most digests of one certificate.
const MAX_FWIDS: usize = 32;
/// Longest digest, name or vendor's information in bytes.
const MAX_FIELD: usize = 256;

/// One certificate's `DiceTcbInfo`. Its issuer vouches for all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcbInfo {
    /// Vendor.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Version of the firmware.
    pub version: Option<String>,
    /// Security version.
    pub svn: Option<u64>,
    /// DICE layer.
    pub layer: Option<u64>,
    /// Number among several of a layer.
    pub index: Option<u64>,
    /// Digests of firmware.
    pub fwids: Vec<Fwid>,
    /// Operational flags, bit 0 of the bit string in bit 0.
    pub flags: u32,
    /// The vendor's own.
    pub vendor_info: Option<Vec<u8>>,
    /// The vendor's type of environment.
    pub kind: Option<Vec<u8>>,
}

/// Digest of firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fwid {
    /// Algorithm, an OID, e.g. `2.16.840.1.101.3.4.2.2`.
    pub algorithm: String,
    /// The digest.
    pub digest: Vec<u8>,
}

impl TcbInfo {
    /// Operational flags and their names: every one of them means that the device is not in its normal state.
    pub(super) const FLAGS: [(u32, &'static str); 4] =
        [(0, "not_configured"), (1, "not_secure"), (2, "recovery"), (3, "debug")];

    /// That of a certificate, where it has one.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is none.
    pub fn of(certificate: &Certificate) -> Result<Option<Self>, Error> {
        certificate.extension(TCB_INFO).map(TcbInfo::parse).transpose()
    }

    /// Reads the extension's content: fields in their order, each at most once, none that is not known but the mask of
    /// flags, which could only hide some.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let sequence = AnyRef::from_der(der).map_err(|_| malformed("no DER"))?;
        let mut info = TcbInfo::default();
        let mut next = 0;
        for field in items(sequence, Tag::Sequence)? {
            let Tag::ContextSpecific { constructed, number } = field.tag() else {
                return Err(malformed("a field without number"));
            };
            let number = number.value();
            if number < next || constructed != (number == 6) {
                return Err(malformed("fields out of order, or of the wrong form"));
            }
            next = number + 1;
            let value = field.value();
            match number {
                0 => info.vendor = Some(text(value)?),
                1 => info.model = Some(text(value)?),
                2 => info.version = Some(text(value)?),
                3 => info.svn = Some(unsigned(value)?),
                4 => info.layer = Some(unsigned(value)?),
                5 => info.index = Some(unsigned(value)?),
                6 => {
                    info.fwids = items(field, field.tag())?.into_iter().map(fwid).collect::<Result<_, _>>()?
                }
                7 => info.flags = flags(value)?,
                8 => info.vendor_info = Some(bounded(value)?),
                9 => info.kind = Some(bounded(value)?),
                10 => flags(value).map(|_| ())?,
                _ => return Err(malformed("an unknown field")),
            }
        }
        Ok(info)
    }

    /// Names of the flags that are set; one without a name is `unknown`.
    pub(super) fn flag_names(&self) -> Vec<&'static str> {
        let set = |bit: u32| self.flags.checked_shr(bit).is_some_and(|flags| flags & 1 == 1);
        let known = TcbInfo::FLAGS.iter().filter(|(bit, _)| set(*bit)).map(|(_, name)| *name);
        // Bit 31 only fixes the width.
        let unknown = (4..31).any(set).then_some("unknown");
        known.chain(unknown).collect()
    }
}

fn malformed(reason: &str) -> Error {
    Error::Malformed { what: "DiceTcbInfo", reason: reason.to_owned() }
}

/// What a constructed value is made of, at most [`MAX_FWIDS`] items.
fn items(value: AnyRef<'_>, tag: Tag) -> Result<Vec<AnyRef<'_>>, Error> {
    if value.tag() != tag {
        return Err(malformed("no sequence"));
    }
    let mut reader = SliceReader::new(value.value()).map_err(|_| malformed("too long"))?;
    let mut items = Vec::new();
    while !reader.is_finished() {
        if items.len() == MAX_FWIDS {
            return Err(malformed("too many items"));
        }
        items.push(AnyRef::decode(&mut reader).map_err(|_| malformed("no DER"))?);
    }
    Ok(items)
}

fn fwid(value: AnyRef<'_>) -> Result<Fwid, Error> {
    let items = items(value, Tag::Sequence)?;
    let [algorithm, digest] = items.as_slice() else { return Err(malformed("no FWID")) };
    let algorithm: ObjectIdentifier = algorithm.decode_as().map_err(|_| malformed("an FWID without OID"))?;
    if digest.tag() != Tag::OctetString || digest.value().is_empty() {
        return Err(malformed("an FWID without digest"));
    }
    Ok(Fwid { algorithm: algorithm.to_string(), digest: bounded(digest.value())? })
}

fn text(value: &[u8]) -> Result<String, Error> {
    let value = bounded(value)?;
    match value.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        true => String::from_utf8(value).map_err(|_| malformed("text that is not UTF-8")),
        false => Err(malformed("text that is not printable")),
    }
}

fn bounded(value: &[u8]) -> Result<Vec<u8>, Error> {
    match value.len() {
        0..=MAX_FIELD => Ok(value.to_vec()),
        _ => Err(malformed("a field too long")),
    }
}

/// An INTEGER's content, not negative and as short as can be.
fn unsigned(value: &[u8]) -> Result<u64, Error> {
    let short = match value {
        [] | [0x80..=0xff, ..] | [0, 0..0x80, ..] => return Err(malformed("not a number that counts")),
        [0, rest @ ..] => rest,
        all => all,
    };
    match short.len() {
        0..=8 => Ok(short.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))),
        _ => Err(malformed("a number of more than 64 bits")),
    }
}

/// A BIT STRING's content of at most 32 bits.
fn flags(value: &[u8]) -> Result<u32, Error> {
    let [unused @ 0..8, bytes @ ..] = value else { return Err(malformed("no bit string")) };
    let tail = bytes.last().copied().unwrap_or_default();
    if bytes.len() > 4 || (bytes.is_empty() && *unused != 0) || tail.trailing_zeros() < u32::from(*unused) {
        return Err(malformed("no bit string of at most 32 bits"));
    }
    let reversed = bytes.iter().rev().fold(0, |bits, byte| (bits << 8) | u32::from(byte.reverse_bits()));
    Ok(reversed)
}

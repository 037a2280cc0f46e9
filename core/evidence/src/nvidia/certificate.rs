//! A device's certificates: leaf (the key that signs reports, issued for one measured firmware), boot ROM, provisioner,
//! architecture, root.
//!
//! The leaf's TCG extension (2.23.133.5.4.1) tells the firmware (FWID). It has one of two forms (TCG DICE Attestation
//! Architecture): CompositeDeviceID `{version, deviceID SubjectPublicKeyInfo, fwid}`, which Hopper and LS10 use, or
//! DiceTcbInfo `{[0] vendor … [6] fwids, [7] flags …}`, which Blackwell uses.

use cocoon_stage::Code;
use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Decode, Encode, Reader as _, SliceReader, Tag, TagNumber, Tagged};

use super::collateral::Trust;
use super::evidence::{Architecture, DeviceEvidence};
use crate::Check;
use crate::x509::{Certificate, Path, path};

const TCB_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1");
/// The same content under the arc's own member, as some firmware writes it.
const TCB_INFO_MEMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const RFC5280: &str = "RFC 5280, section 6; NVIDIA's device root";
const DICE: &str = "TCG DICE Attestation Architecture 1.1, section 6.1";
/// Most members of a structure; DiceTcbInfo has ten.
const MAX_MEMBERS: usize = 16;

/// What the leaf says of the firmware it was issued for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Firmware {
    /// SHA-384 of the measured firmware.
    pub fwid: [u8; 48],
    /// The device's identity key, SubjectPublicKeyInfo, in the composite form.
    device_key: Option<Vec<u8>>,
    /// Whether DiceTcbInfo's flags tell a debug mode.
    debug: bool,
}

impl Firmware {
    /// The extension of a certificate; `None` where it is absent, there twice, or of another form.
    pub(super) fn of(certificate: &Certificate) -> Option<Self> {
        match (certificate.extension(TCB_INFO), certificate.extension(TCB_INFO_MEMBER)) {
            (Some(content), None) | (None, Some(content)) => Firmware::parse(content),
            _ => None,
        }
    }

    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let outer = AnyRef::from_der(der).ok().filter(|any| any.tag() == Tag::Sequence)?;
        let members = members(outer.value())?;
        match members.as_slice() {
            [version, key, fwid] if version.tag() == Tag::Integer => {
                let known = version.value() == [1] && key.tag() == Tag::Sequence;
                let device_key = Some(key.to_der().ok().filter(|_| known)?);
                Some(Firmware { fwid: digest(fwid)?, device_key, debug: false })
            }
            tagged => tcb_info(tagged),
        }
    }
}

fn tcb_info(tagged: &[AnyRef<'_>]) -> Option<Firmware> {
    let numbers: Option<Vec<u32>> = tagged
        .iter()
        .map(|member| match member.tag() {
            Tag::ContextSpecific { number, .. } => Some(number.value()),
            _ => None,
        })
        .collect();
    if !numbers?.is_sorted_by(|a, b| a < b) {
        return None;
    }
    let member = |wanted: u32, constructed: bool| {
        let tag = Tag::ContextSpecific { number: TagNumber(wanted), constructed };
        tagged.iter().find(|member| member.tag() == tag)
    };
    let fwids = members(member(6, true)?.value())?;
    // The first is the firmware that the report's key belongs to.
    let fwid = digest(fwids.first()?)?;
    // A bit string: unused bits, then bits from the highest; the fourth is debug.
    let debug = member(7, false).is_some_and(|flags| flags.value().get(1).is_some_and(|b| b & 0x10 != 0));
    Some(Firmware { fwid, device_key: None, debug })
}

/// FWID: `{hashAlg OBJECT IDENTIFIER, digest OCTET STRING}`.
fn digest(fwid: &AnyRef<'_>) -> Option<[u8; 48]> {
    let parts = members(fwid.value()).filter(|_| fwid.tag() == Tag::Sequence)?;
    let [algorithm, digest] = parts.as_slice() else { return None };
    let sha384 = algorithm.decode_as::<ObjectIdentifier>().is_ok_and(|oid| oid == SHA384);
    digest.value().try_into().ok().filter(|_| sha384 && digest.tag() == Tag::OctetString)
}

fn members(content: &[u8]) -> Option<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(content).ok()?;
    let mut members = Vec::new();
    while !reader.is_finished() {
        if members.len() >= MAX_MEMBERS {
            return None;
        }
        members.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(members)
}

/// Checks the certificates of a device; gives the leaf's firmware.
pub(super) fn check(
    device: &DeviceEvidence,
    trust: &Trust,
    now_unix: u64,
    checks: &mut Vec<Check>,
) -> Option<Firmware> {
    let (leaf, others) = device.certificates.split_first()?;
    let found = path(leaf, others, &trust.device_roots);
    let complete = found.as_ref().is_ok_and(|path| is_as_sent(path, &device.certificates));
    checks.push(Check::new(
        "certificates.chain",
        complete && !leaf.is_authority(),
        Code::AttestChainUntrusted,
        "leaf, issuers in order, to a trusted device root",
        match &found {
            Ok(_) if complete => "a chain to a trusted root".to_owned(),
            Ok(_) => "certificates in another order, or some that do not belong to the chain".to_owned(),
            Err(error) => error.to_string(),
        },
        RFC5280,
    ));
    let all = match &found {
        Ok(path) => path.certificates.clone(),
        Err(_) => device.certificates.iter().collect(),
    };
    let outside = all.iter().find(|c| !c.validity().contains(now_unix));
    checks.push(Check::new(
        "certificates.dates",
        outside.is_none(),
        Code::AttestCertificateExpired,
        "all valid now",
        outside.map_or("all valid now".to_owned(), |c| format!("{} is not", c.subject())),
        RFC5280,
    ));
    let provisioner = device.certificates.get(2).map(Certificate::subject).unwrap_or_default();
    checks.push(Check::new(
        "certificates.architecture",
        names(device.architecture, &provisioner),
        Code::AttestChainUntrusted,
        format!("issued for a {}", device.architecture.wire_name()),
        provisioner,
        "NVIDIA's device certificates: the provisioner's name tells the chip",
    ));
    let firmware = Firmware::of(leaf);
    let issuer = others.first();
    let bound = firmware.as_ref().is_some_and(|firmware| match (&firmware.device_key, issuer) {
        (Some(key), Some(issuer)) => *key == issuer.spki(),
        (None, _) => true,
        (Some(_), None) => false,
    });
    checks.push(Check::new(
        "certificates.firmware",
        bound,
        Code::AttestChainUntrusted,
        "the leaf names its firmware and its device's key",
        match (&firmware, bound) {
            (None, _) => "no firmware is named",
            (Some(_), false) => "another device's key",
            (Some(_), true) => "both",
        },
        DICE,
    ));
    if let Some(firmware) = firmware.as_ref().filter(|firmware| firmware.device_key.is_none()) {
        checks.push(Check::new(
            "certificates.debug",
            !firmware.debug,
            Code::AttestDebugEnabled,
            "off",
            if firmware.debug { "on" } else { "off" },
            DICE,
        ));
    }
    firmware
}

/// Whether the sender's certificates are the path, with or without its root, and enough of them to be a device's.
fn is_as_sent(path: &Path<'_>, sent: &[Certificate]) -> bool {
    let (sent, needed) = (sent.iter().map(Certificate::der), path.certificates.len());
    let same = sent.clone().zip(&path.certificates).all(|(sent, needed)| sent == needed.der());
    same && needed >= 4 && (needed == sent.len() || needed == sent.len() + 1)
}

/// Whether a provisioner's name is that of the architecture, e.g. `NVIDIA GH100 Provisioner ICA 1`.
fn names(architecture: Architecture, provisioner: &str) -> bool {
    let mut words = provisioner.split(' ');
    let (vendor, chip, role) = (words.next(), words.next().unwrap_or_default(), words.next());
    vendor == Some("NVIDIA")
        && role == Some("Provisioner")
        && match architecture {
            Architecture::Hopper => chip == "GH100",
            Architecture::Blackwell => chip.starts_with("GB1") || chip.starts_with("GB2"),
            Architecture::Ls10 => chip == "LS_10",
        }
}

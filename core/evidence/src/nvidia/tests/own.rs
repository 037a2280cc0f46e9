//! Own devices: each way in which a genuine-looking device is none.

use super::devices::*;
use super::*;

const CHALLENGE: [u8; 32] = [0x42; 32];

fn run(device: DeviceEvidence, trust: &Trust) -> Verdict {
    let evidence = Evidence { devices: vec![device] };
    only(verify(&evidence, trust, &Collateral::none(), &expecting(Some(&CHALLENGE))))
}

#[test]
fn own_devices_of_each_architecture_verify_below_own_roots_only() {
    let vendor = Vendor::new();
    for architecture in [Architecture::Hopper, Architecture::Blackwell, Architecture::Ls10] {
        let device = vendor.device(architecture);
        let verdict = run(device.evidence(&CHALLENGE), &vendor.trust());
        assert_eq!(failed(&verdict), [], "{architecture:?}");
        assert!(verdict.simulated);
        assert_eq!(verdict.claims["fwid"], hex::encode(FWID));
        let verdict = run(device.evidence(&CHALLENGE), &Trust::default());
        assert_eq!(names(&verdict), ["certificates.chain"], "{architecture:?}");
        assert!(verdict.simulated);
    }
}

#[test]
fn the_chain_is_exactly_the_devices() {
    let vendor = Vendor::new();
    let device = vendor.device(Architecture::Hopper);
    let [leaf, rom, provisioner, identity] = [0, 1, 2, 3].map(|n| device.chain[n].as_slice());
    let root = vendor.root.der.as_slice();
    let other = Vendor::new();
    let foreign = other.root.der.as_slice();
    for (what, chain, expected) in [
        ("with root", &[leaf, rom, provisioner, identity, root][..], &[][..]),
        (
            "other order",
            &[leaf, provisioner, rom, identity],
            &["certificates.chain", "certificates.architecture", "certificates.firmware"],
        ),
        ("a second leaf", &[leaf, rom, provisioner, identity, root, leaf], &["certificates.chain"]),
        ("another root", &[leaf, rom, provisioner, identity, foreign], &["certificates.chain"]),
        ("no identity", &[leaf, rom, provisioner], &["certificates.chain"]),
        (
            "an authority as leaf",
            &[rom, provisioner, identity, root],
            &[
                "certificates.chain",
                "certificates.architecture",
                "certificates.firmware",
                "report.signature",
                "report.fwid",
            ],
        ),
    ] {
        let verdict = run(device.evidence_with(&CHALLENGE, chain), &vendor.trust());
        assert_eq!(names(&verdict), expected, "{what}");
    }
}

#[test]
fn the_leaf_binds_firmware_and_device() {
    let vendor = Vendor::new();
    let other = vendor.root.below("another device").certificate();
    let device = vendor.device_with(Architecture::Hopper, |_| composite(&other, &FWID));
    assert_eq!(names(&run(device.evidence(&CHALLENGE), &vendor.trust())), ["certificates.firmware"]);
    let device = vendor.device_with(Architecture::Hopper, |own| composite(own, &[1; 48]));
    assert_eq!(names(&run(device.evidence(&CHALLENGE), &vendor.trust())), ["report.fwid"]);
    let device = vendor.device_with(Architecture::Blackwell, |_| tcb_info(&FWID, 0x10));
    let verdict = run(device.evidence(&CHALLENGE), &vendor.trust());
    assert_eq!(failed(&verdict), [("certificates.debug", Code::AttestDebugEnabled)]);
    for malformed in [
        Vec::new(),
        vec![0x30, 0],
        tlv(0x30, &fwid_der(&FWID)),
        fwid_der(&FWID),
        vec![0x30, 0x84, 255, 255, 255, 255],
    ] {
        let device = vendor.device_with(Architecture::Hopper, |_| malformed);
        let verdict = run(device.evidence(&CHALLENGE), &vendor.trust());
        assert_eq!(names(&verdict), ["certificates.firmware", "report.fwid"]);
    }
}

#[test]
fn another_key_or_challenge_is_refused() {
    let vendor = Vendor::new();
    let mut device = vendor.device(Architecture::Hopper);
    assert_eq!(names(&run(device.evidence(&[1; 32]), &vendor.trust())), ["report.nonce"]);
    device.key = vendor.device(Architecture::Hopper).key;
    let verdict = run(device.evidence(&CHALLENGE), &vendor.trust());
    assert_eq!(failed(&verdict), [("report.signature", Code::AttestSignatureInvalid)]);
}

#[test]
fn one_device_does_not_count_as_two() {
    let vendor = Vendor::new();
    let (one, two) = (vendor.device(Architecture::Hopper), vendor.device(Architecture::Hopper));
    let evidence = |devices: [&OwnDevice; 4]| Evidence {
        devices: devices.iter().map(|device| device.evidence(&CHALLENGE)).collect(),
    };
    let three = vendor.device(Architecture::Ls10);
    let evidence = evidence([&one, &two, &one, &three]);
    let verdicts = verify(&evidence, &vendor.trust(), &Collateral::none(), &expecting(Some(&CHALLENGE)));
    let found: Vec<_> = verdicts.iter().map(|d| (d.index, names(&d.verdict))).collect();
    let unique = || vec!["device.unique"];
    assert_eq!(found, [(Some(0), unique()), (Some(1), vec![]), (Some(2), unique()), (Some(3), vec![])]);
}

//! Real quotes against Intel's root, and hostile bytes against the parsers.

use proptest::prelude::*;

use super::signed::Signed;
use super::simulator::{FMSPC, part, tlv};
use super::tcb_info::TcbInfo;
use super::testing::{JUNE_2025, failed, vector};
use super::*;
use crate::collateral::{IntelTee, Need, PckCa};

const QUOTES: [(&str, u16, usize, &str); 6] = [
    ("tdx/tdx_quote", 4, 70, "b0c06f000000"),
    ("tdx/tdx_quote_4.dat", 4, 0, "50806f000000"),
    ("tdx/tdx_quote_5.dat", 5, 0, "90c06f000000"),
    ("sgx/sgx_quote", 3, 0, "00a067110000"),
    ("sgx/occlum_quote.dat", 3, 0, "00606a000000"),
    ("az-tdx-vtpm/td-quote.bin", 4, 70, "00806f050000"),
];

#[test]
fn real_quotes_are_genuine_and_name_their_collateral() {
    for (name, version, zeros, fmspc) in QUOTES {
        let Some(bytes) = vector(name) else { return };
        let quote = Quote::parse(&bytes).unwrap();
        assert_eq!(quote.header.version, version, "{name}");
        assert_eq!(quote.bytes(), bytes);
        let checks = verify_offline(&quote, &Trust::default(), JUNE_2025);
        assert_eq!(failed(&checks), [""; 0], "{name}: {checks:#?}");
        let tee = if version == 3 { IntelTee::Sgx } else { IntelTee::Tdx };
        let ca = if name == "sgx/sgx_quote" { PckCa::Processor } else { PckCa::Platform };
        let expected = [
            Need::IntelQeIdentity { tee },
            Need::IntelRootCrl,
            Need::IntelTcbInfo { tee, fmspc: fmspc.to_owned() },
            Need::IntelPckCrl { ca },
        ];
        assert_eq!(needs(&quote), expected, "{name}");
        // Every length but the quote's own and those of its padding is refused.
        for length in 0..bytes.len() - zeros {
            assert!(Quote::parse(&bytes[..length]).is_err(), "{name} of {length} bytes");
        }
        assert!(Quote::parse(&bytes[..bytes.len() - zeros]).is_ok());
        let longer = Quote::parse(&[&bytes[..], &[0; 10]].concat());
        assert_eq!(longer.is_ok(), tee == IntelTee::Tdx, "{name}");
        assert!(Quote::parse(&[&bytes[..], &[1]].concat()).is_err());
    }
}

/// Flips a bit of every byte of one quote and of every fifth byte of the others. Nothing may go unnoticed but the kind of white space between PEM lines.
#[test]
fn every_altered_byte_is_noticed() {
    for (name, ..) in QUOTES {
        let Some(bytes) = vector(name) else { return };
        let trust = Trust::default();
        let mut unnoticed = Vec::new();
        let step = if name == "tdx/tdx_quote_5.dat" { 1 } else { 5 };
        for (n, byte) in bytes.iter().enumerate().step_by(step) {
            let mut altered = bytes.clone();
            altered[n] ^= 1 << (n % 8);
            let Ok(quote) = Quote::parse(&altered) else { continue };
            if failed(&verify_offline(&quote, &trust, JUNE_2025)).is_empty() {
                unnoticed.push((n, *byte, altered[n]));
            }
        }
        let white = |b: u8| b.is_ascii_whitespace() || b == 0;
        assert!(unnoticed.iter().all(|(_, was, is)| white(*was) && white(*is)), "{name}: {unnoticed:?}");
        assert!(unnoticed.len() <= 1, "{name}: {unnoticed:?}");
        assert_eq!(trust.cache.len(), (1 + unnoticed.len(), 0), "only good chains are remembered");
    }
}

#[test]
fn only_known_kinds_are_read() {
    let Some(bytes) = vector("tdx/tdx_quote_5.dat") else { return };
    let with = |at: usize, value: &[u8]| {
        let mut altered = bytes.clone();
        altered[at..at + value.len()].copy_from_slice(value);
        Quote::parse(&altered).unwrap_err()
    };
    for (at, value) in [
        (0, &[2, 0][..]),
        (0, &[6, 0]),
        (2, &[3, 0]),
        (4, &[0, 0, 0, 0]),
        (4, &[0x82, 0, 0, 0]),
        (12, &[0; 16]),
        (48, &[1, 0, 0x80, 1, 0, 0]),
        (48, &[2, 0, 0x88, 2, 0, 0]),
        (48, &[4, 0]),
    ] {
        assert!(matches!(with(at, value), crate::Error::Unsupported { .. }), "{at} {value:?}");
    }
    assert!(matches!(with(8, &[0, 0, 1, 0]), crate::Error::Malformed { .. }), "reserved");
    let data = 54 + 648;
    assert!(matches!(with(data, &[0xff; 4]), crate::Error::Malformed { .. }), "length");
    assert!(matches!(with(data + 4 + 128, &[5, 0]), crate::Error::Unsupported { .. }), "certification data");
    assert!(matches!(with(data + 4 + 130, &[0xff; 4]), crate::Error::Malformed { .. }), "its length");
    assert!(
        matches!(with(data + 4 + 134 + 448, &[0xff, 0xff]), crate::Error::Malformed { .. }),
        "authentication"
    );
    assert!(Quote::parse(&vec![0; MAX_QUOTE + 1]).is_err());
}

#[test]
fn other_roots_do_not_vouch_for_real_quotes() {
    let Some(bytes) = vector("tdx/tdx_quote") else { return };
    let quote = Quote::parse(&bytes).unwrap();
    let roots = Roots { intel: false, extra: Vec::new() };
    let trust = Trust { roots, ..Trust::default() };
    let checks = verify_offline(&quote, &trust, JUNE_2025);
    assert_eq!(failed(&checks), ["pck.chain", "qe.report-signature"]);
    let before = verify_offline(&quote, &Trust::default(), 1_700_000_000);
    assert_eq!(failed(&before), ["pck.validity"]);
    let after = verify_offline(&quote, &Trust::default(), 2_600_000_000);
    assert_eq!(failed(&after), ["pck.validity", "pck-ca.validity", "pck-root.validity"]);
}

#[test]
fn a_pck_certificate_tells_its_platform() {
    let Some(bytes) = vector("sgx/occlum_quote.dat") else { return };
    let quote = Quote::parse(&bytes).unwrap();
    let pck = super::testing::pck(&quote);
    assert_eq!(hex::encode(pck.fmspc), "00606a000000");
    assert_eq!(pck.platform_instance_text().unwrap(), "7a3a6941065cd5060bd93d3db2cfc0c8");
    assert_eq!(pck.sgx_type, SgxType::Scalable);
    assert!(pck.configuration.dynamic_platform.is_some());
}

#[test]
fn trust_can_be_shared() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Trust::default());
}

/// The extension's content with parts left out, twice, of another type, or unknown.
#[test]
fn an_extension_must_be_exact() {
    let tcb = |count: u8, extra: &[u8]| {
        let components = (1..=count).flat_map(|n| part(&[2, n], &tlv(2, &[n])));
        let tcb: Vec<u8> = components
            .chain(part(&[2, 17], &tlv(2, &[7])))
            .chain(part(&[2, 18], &tlv(4, &[3; 16])))
            .chain(extra.iter().copied())
            .collect();
        part(&[2], &tlv(0x30, &tcb))
    };
    let good = vec![
        part(&[1], &tlv(4, &[1; 16])),
        tcb(16, &[]),
        part(&[3], &tlv(4, &[0, 0])),
        part(&[4], &tlv(4, &FMSPC)),
        part(&[5], &tlv(10, &[0])),
    ];
    let parse = |parts: &[Vec<u8>]| Pck::parse(&tlv(0x30, &parts.concat()));
    let pck = parse(&good).unwrap();
    assert_eq!((pck.components[15], pck.pce_svn, pck.sgx_type), (16, 7, SgxType::Standard));
    assert_eq!((pck.platform_instance_id, pck.configuration), (None, Configuration::default()));
    for n in 0..good.len() {
        let mut parts = good.clone();
        let part = parts.remove(n);
        assert!(parse(&parts).is_none(), "without part {n}");
        parts.extend([part.clone(), part]);
        assert!(parse(&parts).is_none(), "part {n} twice");
    }
    let with = |n: usize, part: Vec<u8>| {
        let mut parts = good.clone();
        parts[n] = part;
        parse(&parts)
    };
    assert!(with(1, tcb(15, &[])).is_none());
    assert!(with(1, tcb(15, &part(&[2, 19], &tlv(2, &[1])))).is_none());
    assert!(with(1, tcb(16, &part(&[2, 19], &tlv(2, &[1])))).is_none());
    assert!(with(3, part(&[4], &tlv(4, &[1; 5]))).is_none());
    assert!(with(3, part(&[4], &tlv(12, &FMSPC))).is_none());
    assert!(with(4, part(&[5], &tlv(10, &[3]))).is_none());
    assert!(with(4, part(&[5], &tlv(2, &[0]))).is_none());
    assert!(parse(&[good.concat(), part(&[8], &tlv(2, &[0]))]).is_none(), "an unknown part");
    assert!(parse(&[good.concat(), part(&[6], &tlv(4, &[0; 15]))]).is_none());
    assert!(parse(&[good.concat(), part(&[7], &tlv(0x30, &part(&[7, 4], &tlv(1, &[0]))))]).is_none());
    assert!(Pck::parse(&[tlv(0x30, &good.concat()), vec![0]].concat()).is_none(), "something behind");
}

proptest! {
    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Quote::parse(&bytes);
        let _ = Pck::parse(&bytes);
        let _ = Signed::split("a test", "tcbInfo", &bytes);
    }

    #[test]
    fn altered_quotes_never_panic(at in 0..5006_usize, value in any::<[u8; 4]>()) {
        if let Some(mut bytes) = vector("tdx/tdx_quote_5.dat") {
            bytes.iter_mut().skip(at).zip(value).for_each(|(b, v)| *b = v);
            if let Ok(quote) = Quote::parse(&bytes) {
                let _ = needs(&quote);
                let _ = verify_offline(&quote, &Trust::default(), JUNE_2025);
            }
        }
    }

    #[test]
    fn altered_tcb_information_never_panics(at in 0..2836_usize, value in any::<[u8; 3]>()) {
        if let Some(mut bytes) = vector("tdx/tcbInfo.json") {
            bytes.iter_mut().skip(at).zip(value).for_each(|(b, v)| *b = v);
            let _ = Signed::split("a test", "tcbInfo", &bytes).and_then(|signed| TcbInfo::read(&signed));
        }
    }
}

/// Not a test of correctness: what a verification costs. Run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "measures time"]
fn a_verification_takes_so_long() {
    let (Some(bytes), Some(collateral)) = (vector("tdx/tdx_quote"), super::testing::tdx_collateral()) else {
        return;
    };
    let expectation = crate::Expectation { report_data: None, init_data_digest: None, now_unix: JUNE_2025 };
    for (what, cache) in [("cold", Cache::new(0, 0)), ("warm", Cache::default())] {
        let trust = Trust { cache, ..Trust::default() };
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            let evidence = crate::tdx::Evidence::new(&bytes, None).unwrap();
            assert!(crate::tdx::verify(&evidence, &trust, &collateral, &expectation).ok());
        }
        println!("{what}: {:?} per TDX quote", start.elapsed() / 1000);
    }
}

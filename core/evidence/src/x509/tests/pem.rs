//! PEM as senders write it, and as they should not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn block(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn certificate(subject: &str) -> Certificate {
    own(&leaf(subject), &key())
}

#[test]
fn line_endings_and_lengths_do_not_matter() {
    let certificate = certificate("a");
    let pem = block("CERTIFICATE", certificate.der());
    let one_line =
        format!("-----BEGIN CERTIFICATE-----{}-----END CERTIFICATE-----", STANDARD.encode(certificate.der()));
    let spaced = pem.replace('\n', " \r\n\r\n\t");
    for text in [
        pem.clone(),
        pem.replace('\n', "\r\n"),
        one_line,
        spaced,
        format!("{pem}\n\n"),
        pem.trim().to_owned(),
    ] {
        assert_eq!(Certificate::parse(text.as_bytes()).unwrap().der(), certificate.der(), "{text}");
        assert_eq!(Certificate::parse_chain(text.as_bytes()).unwrap().len(), 1);
    }
    let commented = format!("subject=/CN=a\n{pem}Bag attributes\n");
    assert_eq!(Certificate::parse_chain(commented.as_bytes()).unwrap().len(), 1);
}

#[test]
fn chains_keep_their_order_and_have_a_limit() {
    let all: Vec<Certificate> = ["a", "b", "c"].map(certificate).into();
    let pem: String = all.iter().map(|c| block("CERTIFICATE", c.der())).collect();
    let chain = Certificate::parse_chain(pem.as_bytes()).unwrap();
    assert_eq!(chain.iter().map(Certificate::subject).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(Certificate::parse(pem.as_bytes()).unwrap().subject(), "a");
    let one = block("CERTIFICATE", all[0].der());
    assert_eq!(Certificate::parse_chain(one.repeat(16).as_bytes()).unwrap().len(), 16);
    assert!(Certificate::parse_chain(one.repeat(17).as_bytes()).is_err());
    let other = block("PRIVATE KEY", all[0].der());
    assert_eq!(Certificate::parse_chain((other.clone() + &one).as_bytes()).unwrap().len(), 1);
    assert!(Certificate::parse_chain(other.as_bytes()).is_err());
    assert!(Certificate::parse(other.as_bytes()).is_err());
    assert!(Certificate::parse_chain(b"").is_err());
}

#[test]
fn malformed_text_is_refused() {
    let good = block("CERTIFICATE", certificate("a").der());
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let bad = [
        begin.to_owned(),
        format!("{begin}AAAA"),
        format!("{begin}-----END CERTIFICATE-----"),
        format!("{begin}AAA\u{e9}AAAA\n-----END CERTIFICATE-----"),
        format!("{begin}%%%%\n-----END CERTIFICATE-----"),
        format!("{begin}MIIA\n-----END CERTIFICATE-----"),
        good.replace("-----END CERTIFICATE-----", "-----END X509 CRL-----"),
        good.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n", 1),
        format!("{begin}{good}"),
    ];
    for text in &bad {
        assert!(Certificate::parse(text.as_bytes()).is_err(), "{text}");
        assert!(Certificate::parse_chain(text.as_bytes()).is_err(), "{text}");
        assert!(Certificate::parse_chain(format!("{good}{text}").as_bytes()).is_err(), "{text}");
    }
    assert!(Certificate::parse_chain(&[good.as_bytes(), &[0xff]].concat()).is_err(), "not UTF-8");
    for length in 0..good.len() - 2 {
        assert!(Certificate::parse(&good.as_bytes()[..length]).is_err(), "{length} characters");
    }
}

#[test]
fn long_texts_end() {
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let endless = format!("{begin}{}", "A".repeat(1 << 20));
    assert!(Certificate::parse(endless.as_bytes()).is_err());
    let beginnings = begin.repeat(40_000);
    assert!(Certificate::parse_chain(beginnings.as_bytes()).is_err());
    let dashes = "-".repeat(1 << 20);
    assert!(Certificate::parse_chain(dashes.as_bytes()).is_err());
    let huge = format!("{begin}{}\n-----END CERTIFICATE-----", "A".repeat(9 << 20));
    assert!(Certificate::parse(huge.as_bytes()).is_err());
    let lines = format!("{begin}{}\n-----END CERTIFICATE-----", "A\n".repeat(1 << 19));
    assert!(Certificate::parse(lines.as_bytes()).is_err());
}

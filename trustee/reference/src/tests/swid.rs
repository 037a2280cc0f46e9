//! Reference integrity manifests: names, values, signatures made by xmlsec1.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::signatures::{Chain, chain};
use super::*;

fn hash(byte: &str) -> String {
    byte.repeat(48)
}

/// A manifest with the namespaces and attributes of NVIDIA's; `signature` stands at its end.
fn rim(signature: &str) -> String {
    format!(
        r#"<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" corpus="false" name="GH100" tagId="53" version="1.0" tagVersion="2">
    <ns0:Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"/>
    <ns0:Meta xmlns:ns1="https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/" colloquialVersion="96.00" edition="GPU" ns1:PlatformManufacturerStr="NVIDIA Corporation"/>
    <ns0:Payload>
        <ns0:Resource type="Measurement" index="0" ns2:Hash0="{zero}" size="48"/>
        <ns0:Resource type="Measurement" index="12" ns2:Hash2="{b}" ns2:Hash0="{zero}" ns2:Hash1="{a}" size="48"/>
        <ns0:Resource type="Other" index="13" ns2:Hash0="{a}"/>
    </ns0:Payload>
{signature}</SoftwareIdentity>
"#,
        zero = hash("00"),
        a = hash("AB"),
        b = hash("75")
    )
}

fn template(c14n: &str, transform: &str) -> String {
    format!(
        r#"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{c14n}"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>{transform}</ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/><ds:DigestValue/></ds:Reference></ds:SignedInfo><ds:SignatureValue/><ds:KeyInfo><ds:X509Data><ds:X509Certificate/></ds:X509Data></ds:KeyInfo></ds:Signature>"#
    )
}

/// `None` where xmlsec1 is not installed.
fn sign(document: &str, chain: &Chain) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pem = |label: &str, der: &[u8]| {
        let body = STANDARD.encode(der);
        let lines: Vec<&str> = body.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    std::fs::write(at("key.pem"), pem("PRIVATE KEY", &chain.key)).unwrap();
    std::fs::write(at("leaf.pem"), pem("CERTIFICATE", &chain.leaf)).unwrap();
    std::fs::write(at("in.xml"), document).unwrap();
    let key = format!("{},{}", at("key.pem").display(), at("leaf.pem").display());
    let run = Command::new("xmlsec1")
        .args(["--sign", "--privkey-pem", &key, "--output"])
        .args([at("out.xml"), at("in.xml")])
        .output();
    let run = match run {
        Ok(run) => run,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: xmlsec1 is not installed");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(std::fs::read_to_string(at("out.xml")).unwrap())
}

fn anchored(chain: &Chain) -> TrustAnchors {
    TrustAnchors { keys: Vec::new(), certificates: vec![chain.authority.clone()] }
}

fn import(document: &str, trust: &TrustAnchors, options: &ImportOptions) -> Result<crate::Set, Error> {
    fresh().import(&message(Format::Swid, document), trust, options)
}

#[test]
fn measurements_have_the_names_of_the_field() {
    let references = fresh();
    let document = message(Format::Swid, rim(""));
    assert_eq!(kind(&references.import(&document, &TrustAnchors::default(), &options())), "unsigned");
    let set = references.import(&document, &TrustAnchors::default(), &waived()).unwrap();
    assert_eq!((set.name.as_str(), set.version, set.count, set.signed_by), ("GH100 96.00", 2, 1, None));
    let found = references.lookup("NVIDIA_Corporation.GPU.measurement_12", NOW).unwrap();
    assert_eq!(found, Some(json!([hash("ab"), hash("75")])));
    for (what, bad) in [
        ("short hash", rim("").replace(&hash("75"), "75")),
        ("bad index", rim("").replace("index=\"12\"", "index=\"x\"")),
        ("no edition", rim("").replace("edition", "addition")),
        ("no manufacturer", rim("").replace("PlatformManufacturerStr", "Somebody")),
        ("other root", rim("").replace("SoftwareIdentity", "Software")),
        ("two payloads", rim("<ns0:Payload/>")),
        ("bad version", rim("").replace("tagVersion=\"2\"", "tagVersion=\"-2\"")),
    ] {
        assert_eq!(kind(&import(&bad, &TrustAnchors::default(), &waived())), "document", "{what}");
    }
}

const C14N: &str = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315";
const C14N_11: &str = "http://www.w3.org/2006/12/xml-c14n11";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

#[test]
fn signatures_of_another_implementation_are_verified() {
    let chain = chain(|_, _| {});
    for (c14n, transform) in
        [(C14N, None), (C14N_11, Some(C14N_11)), (EXCLUSIVE, Some(EXCLUSIVE)), (EXCLUSIVE, Some(C14N))]
    {
        let transform = transform.map(|t| format!("<ds:Transform Algorithm=\"{t}\"/>")).unwrap_or_default();
        let unsigned =
            rim(&template(c14n, &transform)).replace("corpus=", "xml:lang='en-us'\n\tz='&lt;&#9;ä' corpus=");
        let Some(signed) = sign(&unsigned, &chain) else { return };
        let stored = import(&signed, &anchored(&chain), &options()).unwrap();
        assert!(stored.signed_by.unwrap().starts_with("sha256:"), "{c14n}");
    }
}

#[test]
fn each_alteration_of_a_signed_manifest_is_refused() {
    let good = chain(|_, _| {});
    let transform = format!("<ds:Transform Algorithm=\"{C14N_11}\"/>");
    let Some(signed) = sign(&rim(&template(C14N_11, &transform)), &good) else { return };
    let trust = anchored(&good);
    assert_eq!(kind(&import(&signed, &trust, &options())), "ok");
    let tail = signed.find("<ds:Signature ").unwrap();
    let signature = &signed[tail..signed.find("</SoftwareIdentity>").unwrap()];
    for (what, bad, wanted) in [
        ("hash", signed.replace(&hash("75"), &hash("76")), "signature"),
        ("blank", signed.replace("<ns0:Payload>", "<ns0:Payload> "), "signature"),
        ("added value", signed.replace("</ns0:Payload>", "<ns0:Resource/></ns0:Payload>"), "signature"),
        ("version", signed.replace("tagVersion=\"2\"", "tagVersion=\"3\""), "signature"),
        (
            "after the signature",
            signed.replace("</SoftwareIdentity>", "<ns0:X/></SoftwareIdentity>"),
            "signature",
        ),
        ("digest method", signed.replace("xmldsig-more#sha384", "xmldsig-more#md5"), "untrusted"),
        ("reference to a part", signed.replace("URI=\"\"", "URI=\"#a\""), "untrusted"),
        ("no reference", signed.replace("URI=\"\"", ""), "untrusted"),
        (
            "second signature",
            signed.replace("</SoftwareIdentity>", &format!("{signature}</SoftwareIdentity>")),
            "untrusted",
        ),
        (
            "signature elsewhere",
            signed
                .replace(signature, "")
                .replace("<ns0:Entity", &format!("<ns0:E>{signature}</ns0:E><ns0:Entity")),
            "untrusted",
        ),
        ("no signature", signed.replace(signature, ""), "unsigned"),
        ("other transform", signed.replace("#enveloped-signature", "#base64"), "untrusted"),
        ("object", signed.replace("</ds:Signature>", "<ds:Object/></ds:Signature>"), "untrusted"),
    ] {
        assert_ne!(bad, signed, "{what}");
        assert_eq!(kind(&import(&bad, &trust, &options())), wanted, "{what}");
    }
    let other = chain(|_, _| {});
    assert_eq!(kind(&import(&signed, &anchored(&other), &options())), "untrusted");
    assert_eq!(import(&signed, &anchored(&other), &waived()).unwrap().signed_by, None);
    let exchanged = signed.replace(
        &signed[signed.find("<ds:X509Certificate>").unwrap()..signed.find("</ds:X509Certificate>").unwrap()],
        &format!("<ds:X509Certificate>{}", STANDARD.encode(&other.leaf)),
    );
    assert_eq!(kind(&import(&exchanged, &anchored(&other), &options())), "signature");
    let late = ImportOptions { now_unix: 2_100_000_000, ..options() };
    assert_eq!(kind(&import(&signed, &trust, &late)), "untrusted");
}

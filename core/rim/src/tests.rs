//! Hostile documents: bombs, depth, size, noise. Signatures of another implementation are tested where they are judged,
//! in the crates that have the X.509 for it.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::xml::Tree;
use crate::{Document, Error};

#[test]
fn xml_bombs_are_refused() {
    let refusal = |xml: &str| Tree::parse(xml.as_bytes()).err();
    let laughs = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]><l>&b;</l>";
    assert_eq!(refusal(laughs), Some("a document type"));
    assert_eq!(refusal("<!DOCTYPE l SYSTEM \"file:///etc/passwd\"><l/>"), Some("a document type"));
    assert_eq!(refusal("<l>&b;</l>"), Some("an entity that is not one of XML's own"));
    assert_eq!(refusal("<l a='&b;'/>"), Some("an entity that is not one of XML's own"));
    assert_eq!(refusal("<l><![CDATA[x]]></l>"), Some("a CDATA section"));
    assert_eq!(refusal("<?p x?><l/>"), Some("a processing instruction"));
    assert_eq!(refusal("<l>&#0;</l>"), Some("a character that XML does not allow"));
    assert_eq!(refusal("<?xml version='1.0' encoding='utf-16'?><l/>"), Some("an encoding other than UTF-8"));
    assert_eq!(
        refusal(&format!("<l>{}</l>", "<a/>".repeat(30_000))),
        Some("more than 20000 elements and texts")
    );
    let attributes: String = (0..100_000).map(|i| format!(" a{i}=''")).collect();
    let begun = Instant::now();
    assert_eq!(refusal(&format!("<l{attributes}/>")), Some("more than 128 attributes"));
    let namespaces: String = (0..65).map(|i| format!(" xmlns:a{i}='u:{i}'")).collect();
    assert_eq!(refusal(&format!("<l{namespaces}/>")), Some("more than 64 namespace declarations"));
    assert!(begun.elapsed() < Duration::from_secs(2));
    for bad in [
        "",
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "x<a/>",
        "<a/>x",
        "<a b='1' b='2'/>",
        "<p:a/>",
        "<a xmlns:b=''/>",
        "<a xmlns:xml='u:x'/>",
        "<a xmlns='rel'/>",
        "<a b='<'/>",
        "<a b=1/>",
        "<a>&</a>",
        "<a>\u{1}</a>",
        "<a xmlns:p='u:x' xmlns:q='u:x' p:b='' q:b=''/>",
    ] {
        assert!(refusal(bad).is_some(), "{bad}");
    }
}

const HEAD: &str = r#"<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384" name="GH100" tagVersion="2"><Meta edition="GPU" product="GH100" colloquialVersion="1.2"/>"#;

fn tag(payload: &str) -> String {
    format!("{HEAD}<Payload>{payload}</Payload></SoftwareIdentity>")
}

fn manifest(payload: &str) -> Result<crate::Manifest, Error> {
    Document::parse(tag(payload).as_bytes())?.manifest()
}

#[test]
fn a_manifest_is_read() {
    let (a, b) = ("AB".repeat(48), "00".repeat(48));
    let read = manifest(&format!(
        "<Resource type='Measurement' index='3' active='True' alternatives='2' size='48' h:Hash1='{b}' h:Hash0='{a}'/>\
         <Resource type='Measurement' index='4' active='False' h:Hash0='{b}'/><Resource type='Other' index='x'/>"
    ))
    .unwrap();
    assert_eq!((read.name.as_deref(), read.tag_version), (Some("GH100"), Some(2)));
    assert_eq!((read.product.as_deref(), read.colloquial_version.as_deref()), (Some("GH100"), Some("1.2")));
    let [first, second] = read.measurements.as_slice() else { panic!("{read:?}") };
    assert_eq!(
        (first.index, first.active, first.alternatives, first.size),
        (3, Some(true), Some(2), Some(48))
    );
    assert_eq!(first.hashes[0].hex, a.to_lowercase());
    assert!(!first.hashes[0].is_zero() && first.hashes[1].is_zero());
    assert_eq!((second.active, second.size), (Some(false), None));
}

#[test]
fn what_cannot_be_read_is_refused() {
    for bad in [
        "<Resource type='Measurement'/>",
        "<Resource type='Measurement' index='-1'/>",
        "<Resource type='Measurement' index='12345'/>",
        "<Resource type='Measurement' index='1' active='maybe'/>",
        "<Resource type='Measurement' index='1' size='big'/>",
        "<Resource type='Measurement' index='1' h:Hash0='00'/>",
    ] {
        assert!(matches!(manifest(bad), Err(Error::Malformed(_))), "{bad}");
    }
    assert!(Document::parse(b"<SoftwareIdentity/>").is_err());
    assert!(Document::parse(&vec![b' '; crate::MAX_DOCUMENT + 1]).is_err());
    assert_eq!(Document::parse(tag("").as_bytes()).unwrap().signature(), Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_never_a_document(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Document::parse(&bytes).is_err());
    }

    #[test]
    fn altered_documents_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut altered = tag("<Resource type='Measurement' index='4' active='False'/>").into_bytes();
        let at = at.index(altered.len());
        altered[at] = byte;
        if let Ok(document) = Document::parse(&altered) {
            let _ = document.signature();
            let _ = document.manifest();
        }
    }

    #[test]
    fn xml_that_parses_has_one_stable_form(xml in "(<(a|p:b)( xmlns(:p)?=\"u:[xy]\")?( p:c=\"&#?[0-9a-z]{1,3};\")?/?>|</(a|p:b)>|[ x&;]|<!-- -->){0,12}") {
        use crate::c14n::{Method, canonical};
        for xml in [xml.clone(), format!("<p:r xmlns:p=\"u:p\">{xml}</p:r>")] {
            let Ok(tree) = Tree::parse(xml.as_bytes()) else { continue };
            for method in [Method::Inclusive, Method::Exclusive] {
                let once = canonical(&tree, 0, method, None).unwrap();
                let again = Tree::parse(once.as_bytes()).unwrap();
                prop_assert_eq!(canonical(&again, 0, method, None).unwrap(), once);
            }
        }
    }
}

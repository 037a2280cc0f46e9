//! Reference manifests: a real one against a real report, and own ones signed with test keys.

use aws_lc_rs::digest::{SHA384, digest};

use super::devices::*;
use super::*;

const CHALLENGE: [u8; 32] = [0x42; 32];
const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const HASHES: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const DS: &str = "http://www.w3.org/2000/09/xmldsig#";

/// A manifest's document; all of it is written in canonical form, so that it can be signed without an XML library.
#[derive(Clone)]
struct Rim {
    version: &'static str,
    product: &'static str,
    /// Index, active, alternatives as counted, values.
    measurements: Vec<(u16, bool, usize, Vec<[u8; 48]>)>,
}

impl Rim {
    fn text(&self) -> (String, &'static str) {
        let resource = |(index, active, count, values): &(u16, bool, usize, Vec<[u8; 48]>)| {
            let active = if *active { "True" } else { "False" };
            let hash = |(n, value): (usize, &[u8; 48])| format!(" h:Hash{n}=\"{}\"", hex::encode(value));
            let hashes: String = values.iter().enumerate().map(hash).collect();
            format!(
                "<Resource active=\"{active}\" alternatives=\"{count}\" index=\"{index}\" size=\"48\" \
                 type=\"Measurement\"{hashes}></Resource>"
            )
        };
        let resources: String = self.measurements.iter().map(resource).collect();
        let head = format!(
            "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:h=\"{HASHES}\" name=\"x\"><Meta colloquialVersion=\"{}\" \
             product=\"{}\"></Meta><Payload>{resources}</Payload>",
            self.version, self.product
        );
        (head, "</SoftwareIdentity>")
    }

    fn signed(&self, leaf: &[u8], key: &[u8]) -> String {
        let (head, tail) = self.text();
        let digest = STANDARD.encode(digest(&SHA384, format!("{head}{tail}").as_bytes()));
        let info = |namespaces: &str| {
            format!(
                "<ds:SignedInfo{namespaces}><ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\">\
                 </ds:CanonicalizationMethod><ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\">\
                 </ds:SignatureMethod><ds:Reference URI=\"\"><ds:Transforms><ds:Transform Algorithm=\"{DS}enveloped-signature\">\
                 </ds:Transform><ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:Transform></ds:Transforms>\
                 <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"></ds:DigestMethod>\
                 <ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
            )
        };
        let signed = info(&format!(" xmlns=\"{SWID}\" xmlns:ds=\"{DS}\" xmlns:h=\"{HASHES}\""));
        let value = STANDARD.encode(sign(key, signed.as_bytes()));
        format!(
            "{head}<ds:Signature xmlns:ds=\"{DS}\">{}<ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>\
             <ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>{tail}",
            info(""),
            STANDARD.encode(leaf)
        )
    }
}

const DRIVER: &str = "NV_GPU_DRIVER_GH100_550.90.07";
const FIRMWARE: &str = "NV_GPU_VBIOS_1010_0200_882_96009F0001";

/// The two manifests of an own device. The manifest's index 0 is SPDM's 1, whose value is 48 times 1.
fn rims() -> [Rim; 2] {
    let value = |index: u16| [u8::try_from(index + 1).unwrap(); 48];
    let one = |index: u16| (index, true, 1, vec![value(index)]);
    let driver =
        vec![one(20), (21, true, 2, vec![[0; 48], value(21)]), (22, false, 1, vec![[0; 48]]), one(35)];
    [
        Rim { version: "550.90.07", product: "GH100", measurements: driver },
        Rim { version: "96.00.9F.00.01", product: "GH100", measurements: vec![one(0), one(9)] },
    ]
}

fn collateral(documents: &[(&str, String)]) -> Collateral {
    let mut collateral = Collateral::none();
    for (id, text) in documents {
        let document = Document { body: text.clone().into_bytes(), issuer_chain: String::new() };
        collateral.insert(Need::NvidiaRim { id: (*id).to_owned() }, Arc::new(document));
    }
    collateral
}

struct Setting {
    vendor: Vendor,
    leaf: Vec<u8>,
    key: Vec<u8>,
    device: OwnDevice,
}

impl Setting {
    fn new() -> Self {
        let vendor = Vendor::new();
        let (leaf, key) = vendor.rim_root.leaf("RIM signer", None);
        let device = vendor.device(Architecture::Hopper);
        Setting { vendor, leaf, key, device }
    }

    fn sign(&self, rim: &Rim) -> String {
        rim.signed(&self.leaf, &self.key)
    }

    fn judge(&self, documents: &[(&str, String)], require_rims: bool) -> Verdict {
        self.judge_at(documents, require_rims, NOW)
    }

    fn judge_at(&self, documents: &[(&str, String)], require_rims: bool, now_unix: u64) -> Verdict {
        let evidence = Evidence { devices: vec![self.device.evidence(&CHALLENGE)] };
        let trust = Trust { require_rims, ..self.vendor.trust() };
        let expectation = Expectation { now_unix, ..expecting(Some(&CHALLENGE)) };
        only(verify(&evidence, &trust, &collateral(documents), &expectation))
    }
}

#[test]
fn equal_measurements_are_a_success() {
    let setting = Setting::new();
    let [driver, firmware] = rims().map(|rim| setting.sign(&rim));
    let both = [(DRIVER, driver.clone()), (FIRMWARE, firmware)];
    let verdict = setting.judge(&both, true);
    assert_eq!(failed(&verdict), []);
    assert_eq!(
        (&verdict.claims["measres"], &verdict.claims["rims"]),
        (&json!("success"), &json!([DRIVER, FIRMWARE]))
    );
    // Half of it is no success, and none of it neither.
    let verdict = setting.judge(&both[..1], false);
    assert_eq!(failed(&verdict), []);
    assert_eq!(
        (&verdict.claims["measres"], &verdict.claims["rims"]),
        (&json!("not-compared"), &json!([DRIVER]))
    );
    assert_eq!(setting.judge(&[], false).claims["measres"], "not-compared");
    let missing = Code::AttestCollateralMissing;
    assert_eq!(failed(&setting.judge(&both[..1], true)), [("rim.firmware", missing)]);
    assert_eq!(failed(&setting.judge(&[], true)), [("rim.driver", missing), ("rim.firmware", missing)]);
}

#[test]
fn other_measurements_are_refused() {
    let mut setting = Setting::new();
    let both = {
        let [driver, firmware] = rims().map(|rim| setting.sign(&rim));
        [(DRIVER, driver), (FIRMWARE, firmware)]
    };
    setting.device.measurements[9].1 = vec![0; 48];
    setting.device.measurements[20].1.pop();
    let verdict = setting.judge(&both, false);
    assert_eq!(failed(&verdict), [("report.measurements", Code::AttestMeasurementUnknown)]);
    let check = verdict.checks.iter().find(|check| check.name == "report.measurements").unwrap();
    assert_eq!(check.got, "other values at 9, 20 (counted from 0)");
    // A measurement that is not in the report is not equal.
    let mut setting = Setting::new();
    let documents = [(DRIVER, setting.sign(&rims()[0]))];
    setting.device.measurements.truncate(30);
    assert_eq!(names(&setting.judge(&documents, false)), ["report.measurements"]);
    // NVDEC0's counts only where that engine is on.
    let mut setting = Setting::new();
    let documents = [(DRIVER, setting.sign(&rims()[0]))];
    setting.device.measurements[35].1 = vec![0; 48];
    assert_eq!(names(&setting.judge(&documents, false)), ["report.measurements"]);
    setting.device.set(11, &[0x55]);
    assert_eq!(names(&setting.judge(&documents, false)), [""; 0]);
}

#[test]
fn manifests_that_are_not_the_right_ones_are_refused() {
    let setting = Setting::new();
    let [driver, firmware] = rims();
    let with = |change: fn(&mut Rim)| {
        let mut rim = driver.clone();
        change(&mut rim);
        setting.sign(&rim)
    };
    let signed = setting.sign(&driver);
    let other = Setting::new();
    let signature =
        &signed[signed.find("<ds:Signature ").unwrap()..signed.find("</SoftwareIdentity>").unwrap()];
    let (invalid, untrusted) = (Code::AttestCollateralInvalid, Code::AttestChainUntrusted);
    for (what, document, code) in [
        ("version", with(|rim| rim.version = "550.90.08"), invalid),
        ("product", with(|rim| rim.product = "GB100"), invalid),
        ("nothing to compare", with(|rim| rim.measurements.retain(|m| !m.1)), invalid),
        ("fewer values than it counts", with(|rim| rim.measurements[0].2 = 2), invalid),
        ("more values than it counts", with(|rim| rim.measurements[1].2 = 1), invalid),
        ("firmware's", setting.sign(&firmware), invalid),
        ("altered", signed.replace("\"20\"", "\"19\""), invalid),
        ("not signed", signed.replace(signature, ""), invalid),
        ("signed by another vendor", other.sign(&driver), untrusted),
        ("another's certificate", driver.signed(&other.leaf, &setting.key), Code::AttestSignatureInvalid),
        (
            "the root's own",
            driver.signed(&setting.vendor.rim_root.der, &setting.key),
            Code::AttestSignatureInvalid,
        ),
        ("no document", "<x/>".to_owned(), invalid),
        ("empty", String::new(), invalid),
    ] {
        for require in [false, true] {
            let firmware = (FIRMWARE, setting.sign(&firmware));
            let verdict = setting.judge(&[(DRIVER, document.clone()), firmware], require);
            assert_eq!(failed(&verdict), [("rim.driver", code)], "{what}");
        }
    }
    let late = setting.judge_at(&[(DRIVER, signed)], false, 2_300_000_000);
    let expired = Code::AttestCertificateExpired;
    assert_eq!(failed(&late), [("certificates.dates", expired), ("rim.driver", expired)]);
    // Listed by both: which of them would count?
    let mut both = firmware;
    both.measurements.push(driver.measurements[0].clone());
    let verdict = setting.judge(&[(DRIVER, setting.sign(&driver)), (FIRMWARE, setting.sign(&both))], false);
    assert_eq!(failed(&verdict), [("rim.indexes", invalid)]);
}

#[test]
fn a_real_manifest_is_compared_with_a_real_report() {
    let Some((_, evidence)) = hopper("hopper_coco_report1.txt", "hopper_coco_certs1.txt") else { return };
    let id = "NV_GPU_VBIOS_1010_0200_882_960074001A";
    let driver = "NV_GPU_DRIVER_GH100_580.95.05";
    assert_eq!(needs(&evidence), [driver, id].map(|id| Need::NvidiaRim { id: id.to_owned() }));
    let Some(body) = vector(&format!("nvidia/rim/{id}.swidtag")) else { return };
    let text = String::from_utf8(body).unwrap();
    let judge = |text: String, now_unix| {
        let expectation = Expectation { now_unix, ..expecting(None) };
        only(verify(&evidence, &Trust::default(), &collateral(&[(id, text)]), &expectation))
    };
    // NVIDIA's manifest of this firmware is good; the report differs from it in one of twelve values.
    let verdict = judge(text.clone(), JUNE_2025);
    assert_eq!(failed(&verdict), [("report.measurements", Code::AttestMeasurementUnknown)]);
    let got = |name| verdict.checks.iter().find(|check| check.name == name).unwrap();
    assert_eq!(got("rim.firmware").code, None);
    assert_eq!(got("report.measurements").got, "other values at 9 (counted from 0)");
    let verdict = judge(text.clone(), NOW);
    assert_eq!(failed(&verdict), [("rim.firmware", Code::AttestCertificateExpired)]);
    let verdict = judge(text.replace("7f3e93", "7f3e94"), JUNE_2025);
    assert_eq!(failed(&verdict), [("rim.firmware", Code::AttestCollateralInvalid)]);
}

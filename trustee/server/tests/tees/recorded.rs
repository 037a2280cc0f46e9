//! Evidence that real machines of AMD, TPMs and a CCA platform once sent, through the verification service at a fixed date.

use std::path::PathBuf;
use std::sync::Arc;

use cocoon_evidence::{Trust, cca, snp};
use cocoon_protocol::b64;
use cocoon_trustee::{CollateralSource, Explanation, Limits, NoCollateral};
use serde_json::{Value, json};

use crate::api::{Api, TOKEN};
use crate::guests::*;
use crate::support::*;

/// 2025-06-25: all recorded collateral is good.
pub const NOW: u64 = 1_750_809_600;

/// A recorded file, or `None` (and a note) where there is none.
pub fn vector(name: &str) -> Option<Vec<u8>> {
    let base = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"));
    let path = base.unwrap_or_else(default).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

pub fn json_vector(name: &str) -> Option<Value> {
    vector(name).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// The verification service of a Trustee whose date is [`NOW`].
pub struct Service {
    pub world: World,
    api: Api,
}

impl Service {
    pub async fn new(trust: Trust, collateral: Arc<dyn CollateralSource>) -> Service {
        let change = |config: &mut cocoon_trustee::Config| {
            config.live.access.token_sha256 = Some(sha256(TOKEN.as_bytes()));
            config.live.trust = trust;
            config.live.collateral = collateral;
            config.clock = Arc::new(|| NOW);
        };
        let world = World::with(change, Limits::default()).await;
        let api = Api::start(&world).await;
        Service { world, api }
    }

    fn body(tee: &str, evidence: &Value, report_data: Option<&[u8]>) -> Value {
        let mut one = json!({"tee": tee, "evidence": b64::url_encode(evidence.to_string().as_bytes())});
        if let Some(data) = report_data {
            one["runtime_data"] = json!({"raw": b64::url_encode(data)});
        }
        json!({"verification_requests": [one], "policy_ids": []})
    }

    /// The token's `cpu0`.
    pub async fn token(&self, tee: &str, evidence: &Value, report_data: Option<&[u8]>) -> Value {
        let body = Self::body(tee, evidence, report_data);
        let reply = self.api.ask("POST", "/attestation", Some(TOKEN), &body).await;
        assert_eq!(reply.status, 200, "{tee}: {:#?}", self.latest());
        let claims = claims_at(&self.world, &reply.text(), NOW);
        let cpu = claims["submods"]["cpu0"].clone();
        assert!(cpu.get("ear.cocoon.simulated").is_none(), "{tee} is real");
        cpu
    }

    /// The refusal's code, and the owner's explanation of it.
    pub async fn refused(&self, tee: &str, evidence: &Value, data: Option<&[u8]>) -> (String, Explanation) {
        let (_, code) = self.api.refused("POST", "/attestation", &Self::body(tee, evidence, data)).await;
        let latest = self.latest();
        assert_eq!(latest.code.unwrap().to_string(), code);
        (code, latest)
    }

    pub async fn code(&self, tee: &str, evidence: &Value, data: Option<&[u8]>) -> String {
        self.refused(tee, evidence, data).await.0
    }

    fn latest(&self) -> Explanation {
        self.world.trustee.latest_explanations(1).unwrap().pop().unwrap()
    }

    /// Registers what these claims say, under these names.
    pub fn register(&self, claims: &Value, names: &[(&str, &str)]) {
        for (name, claim) in names {
            let claim = claims.pointer(&format!("/{claim}")).unwrap_or_else(|| panic!("no claim {claim}"));
            values(&self.world, &[(name, claim.clone())]);
        }
    }

    pub fn forget(&self, name: &str) {
        self.world.trustee.delete_reference_values(name, None).unwrap();
    }

    pub async fn stop(self) {
        self.api.stop().await;
        self.world.stop().await;
    }
}

/// A claim's JSON pointer without the slash before it, and what it must look like.
pub type Typed<'a> = (&'a str, fn(&Value) -> bool);

/// The claims of a kind, all of which are named and typed as CoCo's policies read them.
pub fn named<'a>(cpu: &'a Value, tee: &str, shape: &[Typed<'_>]) -> &'a Value {
    let evidence = &cpu["ear.veraison.annotated-evidence"];
    let claims = &evidence[tee];
    for (name, typed) in shape {
        let claim = claims.pointer(&format!("/{name}")).unwrap_or_else(|| panic!("{tee}: no {name}"));
        assert!(typed(claim), "{tee}: {name} {claim}");
    }
    for name in ["report_data", "init_data"] {
        assert!(claims[name].is_string() && claims[name] == evidence[name], "{tee}: {name}");
    }
    claims
}

pub fn vector_of(cpu: &Value) -> [i64; 3] {
    let of = |name| cpu["ear.trustworthiness-vector"][name].as_i64().unwrap_or_default();
    [of("executables"), of("hardware"), of("configuration")]
}

pub const HEX: fn(&Value) -> bool = |v| v.as_str().is_some_and(|t| !t.is_empty() && hex::decode(t).is_ok());

const SNP: [(&str, &str); 11] = [
    ("launch_measurement", "measurement"),
    ("bootloader", "reported_tcb_bootloader"),
    ("microcode", "reported_tcb_microcode"),
    ("snp_svn", "reported_tcb_snp"),
    ("tee_svn", "reported_tcb_tee"),
    ("smt_enabled", "platform_smt_enabled"),
    ("tsme_enabled", "platform_tsme_enabled"),
    ("guest_abi_major", "policy_abi_major"),
    ("guest_abi_minor", "policy_abi_minor"),
    ("single_socket", "policy_single_socket"),
    ("smt_allowed", "policy_smt_allowed"),
];

#[tokio::test]
async fn a_genoa_guest() {
    let Some(evidence) = json_vector("snp/genoa-v3-evidence.json") else { return };
    let service = Service::new(Trust::default(), Arc::new(NoCollateral)).await;
    let report = snp::Evidence::from_json(&evidence).unwrap().report;
    let data = Some(report.report_data.as_slice());
    assert_eq!(service.code("snp", &evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN");
    let claims = snp::claims(&report);
    // Values for simulated guests are nothing to a real one.
    for prefix in ["sim", "snp"] {
        assert_eq!(service.code("snp", &evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN", "{prefix}");
        for (name, claim) in SNP {
            service.register(&claims, &[(&format!("{prefix}_{name}"), claim)]);
        }
    }
    let cpu = service.token("snp", &evidence, data).await;
    assert_eq!((&cpu["ear.status"], vector_of(&cpu)), (&json!("affirming"), [3, 2, 2]));
    let number: fn(&Value) -> bool = Value::is_number;
    let switch: fn(&Value) -> bool = Value::is_boolean;
    let shape = [
        ("policy_abi_major", number),
        ("policy_abi_minor", number),
        ("policy_smt_allowed", switch),
        ("policy_migrate_ma", switch),
        ("policy_debug_allowed", switch),
        ("policy_single_socket", switch),
        ("reported_tcb_bootloader", number),
        ("reported_tcb_tee", number),
        ("reported_tcb_snp", number),
        ("reported_tcb_microcode", number),
        ("platform_tsme_enabled", switch),
        ("platform_smt_enabled", switch),
        ("measurement", HEX),
        ("chip_id", HEX),
    ];
    named(&cpu, "snp", &shape);
    for (name, expected) in [
        ("snp_launch_measurement", "ATTEST-MEASUREMENT-UNKNOWN"),
        ("snp_bootloader", "ATTEST-TCB-OUTDATED"),
        ("snp_tee_svn", "ATTEST-TCB-OUTDATED"),
    ] {
        service.forget(name);
        assert_eq!(service.code("snp", &evidence, data).await, expected, "{name}");
        for (name, claim) in SNP {
            service.register(&claims, &[(&format!("snp_{name}"), claim)]);
        }
    }
    assert_eq!(service.code("snp", &evidence, Some(&[1; 64])).await, "ATTEST-REPORT-DATA-MISMATCH");
    service.stop().await;
}

const AZURE: [(&str, &str); 13] = [
    ("measurement", "measurement"),
    ("snp_pcr04", "tpm/pcr04"),
    ("snp_pcr11", "tpm/pcr11"),
    ("tcb_bootloader", "reported_tcb_bootloader"),
    ("tcb_microcode", "reported_tcb_microcode"),
    ("tcb_snp", "reported_tcb_snp"),
    ("tcb_tee", "reported_tcb_tee"),
    ("smt_enabled", "platform_smt_enabled"),
    ("tsme_enabled", "platform_tsme_enabled"),
    ("abi_major", "policy_abi_major"),
    ("abi_minor", "policy_abi_minor"),
    ("single_socket", "policy_single_socket"),
    ("smt_allowed", "policy_smt_allowed"),
];

#[tokio::test]
async fn guests_behind_azures_vtpm_of_every_version() {
    let v2 =
        "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef";
    let tee = "az-snp-vtpm";
    for (version, nonce) in
        [(0, b"challenge".to_vec()), (1, b"challenge".to_vec()), (2, hex::decode(v2).unwrap())]
    {
        let Some(evidence) = json_vector(&format!("az-snp-vtpm/evidence-v{version}.json")) else { return };
        let service = Service::new(Trust::default(), Arc::new(NoCollateral)).await;
        let data = Some(nonce.as_slice());
        assert_eq!(service.code(tee, &evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN");
        let parsed = cocoon_evidence::azure::snp::Evidence::from_json(&evidence).unwrap();
        let claims = cocoon_evidence::azure::snp::unverified(&parsed);
        service.register(&claims, &AZURE);
        let cpu = service.token(tee, &evidence, data).await;
        assert_eq!((&cpu["ear.status"], vector_of(&cpu)), (&json!("affirming"), [3, 2, 2]), "v{version}");
        let text: fn(&Value) -> bool = Value::is_string;
        let shape: Vec<Typed<'_>> = AZURE.iter().map(|(_, claim)| (*claim, text)).collect();
        let said = named(&cpu, tee, &shape);
        assert_eq!(said["report_data"], hex::encode(&nonce));
        assert_eq!(said["init_data"], said["tpm"]["pcr08"]);
        assert_eq!(said["policy_debug_allowed"], "false");
        assert!(said.get("chip_id").is_none() && said.get("init_data_digest").is_none());
        for (name, claim) in AZURE {
            service.forget(name);
            let expected = match name {
                "measurement" | "snp_pcr04" | "snp_pcr11" => Some("ATTEST-MEASUREMENT-UNKNOWN"),
                _ if name.starts_with("tcb_") => Some("ATTEST-TCB-OUTDATED"),
                _ => None,
            };
            match expected {
                Some(expected) => assert_eq!(service.code(tee, &evidence, data).await, expected, "{name}"),
                None => {
                    let cpu = service.token(tee, &evidence, data).await;
                    assert_eq!((&cpu["ear.status"], vector_of(&cpu)[2]), (&json!("warning"), 36), "{name}");
                }
            }
            service.register(&claims, &[(name, claim)]);
        }
        assert_eq!(service.code(tee, &evidence, Some(b"Challenge")).await, "ATTEST-REPORT-DATA-MISMATCH");
        let mut altered = evidence.clone();
        let quote = if version == 0 { "quote" } else { "tpm_quote" };
        altered[quote]["pcrs"].as_array_mut().unwrap().swap(4, 5);
        assert_eq!(service.code(tee, &altered, data).await, "ATTEST-SIGNATURE-INVALID");
        service.stop().await;
    }
}

#[tokio::test]
async fn a_tpm() {
    let Some(evidence) = json_vector("tpm/tpm_evidence.json") else { return };
    let service = Service::new(Trust::default(), Arc::new(NoCollateral)).await;
    assert_eq!(service.code("tpm", &evidence, None).await, "ATTEST-KEY-UNTRUSTED");
    let parsed = cocoon_evidence::tpm::Evidence::from_json(&evidence).unwrap();
    let claims = cocoon_evidence::tpm::unverified(&parsed);
    service.register(&claims, &[("trusted_ak", "ak_public")]);
    assert_eq!(service.code("tpm", &evidence, None).await, "ATTEST-MEASUREMENT-UNKNOWN");
    service.register(&claims, &[("tpm_pcr11", "pcr11")]);
    assert_eq!(service.code("tpm", &evidence, None).await, "ATTEST-MEASUREMENT-UNKNOWN", "without PCR 4");
    service.register(&claims, &[("tpm_pcr04", "pcr04")]);
    let cpu = service.token("tpm", &evidence, None).await;
    assert_eq!((&cpu["ear.status"], vector_of(&cpu)), (&json!("warning"), [3, 2, 36]), "unknown firmware");
    service.register(&claims, &[("tpm_pcr00", "pcr00"), ("tpm_pcr02", "pcr02"), ("tpm_pcr07", "pcr07")]);
    let cpu = service.token("tpm", &evidence, None).await;
    assert_eq!((&cpu["ear.status"], vector_of(&cpu)), (&json!("affirming"), [3, 2, 2]));
    let text: fn(&Value) -> bool = Value::is_string;
    let said = named(&cpu, "tpm", &[("ak_public", text), ("pcr00", HEX), ("pcr23", HEX)]);
    assert_eq!(said["ak_public"], evidence["ak_public"]);
    // Its qualifying data are 64 bytes of its own time.
    assert_eq!(service.code("tpm", &evidence, Some(&[1; 32])).await, "ATTEST-REPORT-DATA-MISMATCH");
    service.stop().await;
}

#[tokio::test]
async fn a_realm() {
    let (Some(anchors), Some(references)) =
        (json_vector("cca/tastore.json"), json_vector("cca/rvstore.json"))
    else {
        return;
    };
    let token = cca::Evidence::parse(vector("cca/cca-example-token.cbor").unwrap()).unwrap();
    let evidence = token.to_json();
    let store = Arc::new(cca::Store::from_json(&anchors, &references).unwrap());
    let service = Service::new(Trust { cca: store, ..Trust::default() }, Arc::new(NoCollateral)).await;
    let claims = cca::claims(&token);
    let data = hex::decode(claims["report_data"].as_str().unwrap()).unwrap();
    let data = Some(data.as_slice());
    assert_eq!(service.code("cca", &evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN");
    let realm = "realm/cca-realm-extensible-measurements";
    service.register(
        &claims,
        &[
            ("cca_realm_initial_measurement", "realm/cca-realm-initial-measurement"),
            ("cca_platform_config", "platform/cca-platform-config"),
        ],
    );
    // What firmware measured after the start must be known too, where there is anything.
    let extended = claims.pointer(&format!("/{realm}")).unwrap().as_array().unwrap().clone();
    let zeros = extended.iter().all(|m| m.as_str().unwrap().trim_end_matches('=').bytes().all(|b| b == b'A'));
    if !zeros {
        assert_eq!(service.code("cca", &evidence, data).await, "ATTEST-MEASUREMENT-UNKNOWN");
        let all = [("cca_realm_extensible_measurements".to_owned(), extended)].into();
        service.world.trustee.put_reference_values("test", &all, None).unwrap();
    }
    let cpu = service.token("cca", &evidence, data).await;
    assert_eq!((&cpu["ear.status"], vector_of(&cpu)), (&json!("affirming"), [3, 2, 0]));
    let text: fn(&Value) -> bool = Value::is_string;
    let shape = [
        ("realm/cca-realm-challenge", text),
        ("realm/cca-realm-personalization-value", text),
        ("realm/cca-realm-initial-measurement", text),
        ("realm/cca-realm-extensible-measurements", Value::is_array as fn(&Value) -> bool),
        ("realm/cca-realm-hash-algo-id", text),
        ("realm/cca-realm-public-key", text),
        ("platform/cca-platform-implementation-id", text),
        ("platform/cca-platform-instance-id", text),
    ];
    named(&cpu, "cca", &shape);
    assert_eq!(service.code("cca", &evidence, Some(&[1; 64])).await, "ATTEST-REPORT-DATA-MISMATCH");
    service.stop().await;
    let bare = Service::new(Trust::default(), Arc::new(NoCollateral)).await;
    assert_eq!(bare.code("cca", &evidence, data).await, "ATTEST-CHAIN-UNTRUSTED");
    bare.stop().await;
}

#[tokio::test]
async fn a_hygon_guest_needs_its_chips_certificates() {
    let Some(evidence) = json_vector("csv/csv_evidence.json") else { return };
    let shelf = crate::platform::Shelf(cocoon_evidence::collateral::Collateral::none());
    let service = Service::new(Trust::default(), Arc::new(shelf)).await;
    let (code, explanation) = service.refused("csv", &evidence, None).await;
    assert_eq!(code, "ATTEST-COLLATERAL-MISSING");
    let note = explanation.steps.iter().find(|step| step.name == "collateral.fetched").unwrap();
    assert_eq!(
        (note.expected.as_str(), note.got.as_str()),
        ("hygon-certificates KPA64911240507", "not on the shelf")
    );
    service.stop().await;
}

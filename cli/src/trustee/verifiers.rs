//! What verifiers trust and ask for, from the settings and the files they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_config::{CcaSettings, IntelSettings, SeSettings, Settings, SnpSettings};
use cocoon_evidence::x509::{Certificate, Crl};
use cocoon_evidence::{Trust, cca, csv, dcap, dpu, nvidia, se, snp, tpm};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{SecureExecution, system_clock};
use serde_json::{Value, json};

use super::invalid;
use crate::evidence::public_key;

/// Largest file that is read.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// Makes it.
pub fn trust(settings: &Settings) -> Result<Trust, Failure> {
    let verifiers = &settings.attestation.verifiers;
    let dpu_roots = certificates("attestation.nvidia_dpu.roots", &verifiers.dpu_roots)?;
    Ok(Trust {
        snp_rules: snp_rules(&verifiers.snp)?,
        dcap: Arc::new(dcap::Trust { rules: intel_rules(&verifiers.intel)?, ..dcap::Trust::default() }),
        tpm: tpm::Trust {
            enrolled: each("attestation.tpm.trusted_aks", &verifiers.tpm_trusted_aks, |key| {
                Ok(tpm::Enrolled::Spki(public_key(key)?))
            })?,
            roots: certificates("attestation.tpm.roots", &verifiers.tpm_roots)?,
            endorsement_keys: endorsement_keys(&verifiers.tpm_endorsement_keys)?,
            any_of_roots: verifiers.tpm_any_of_roots,
            ..tpm::Trust::default()
        },
        cca: Arc::new(cca_store(&verifiers.cca)?),
        cca_rules: cca::Rules {
            platform_references_optional: verifiers.cca.platform_references_optional,
            realm_references_ignored: verifiers.cca.realm_references_ignored,
        },
        csv_rules: csv::Rules { allow_v1: verifiers.csv_allow_v1, ..csv::Rules::default() },
        nvidia: nvidia::Trust { require_rims: verifiers.nvidia_require_rims, ..nvidia::Trust::default() },
        dpu: dpu::Trust {
            roots: dpu_roots,
            max_certificate_age_seconds: verifiers.dpu_max_certificate_age.as_secs(),
        },
        ..Trust::default()
    })
}

fn snp_rules(settings: &SnpSettings) -> Result<snp::Rules, Failure> {
    let keys = |name: &str, texts: &[String]| -> Result<Vec<[u8; 48]>, Failure> {
        let one = |text: &String| {
            let mut key = [0; 48];
            hex::decode_to_slice(text, &mut key).map(|()| key).map_err(|_| {
                invalid(name, format!("{text:?} is not the SHA-384 of a key in hex (96 digits)"))
            })
        };
        texts.iter().map(one).collect()
    };
    let [bootloader, tee, snp, microcode] = settings.minimum;
    let least = |level: Option<u8>| level.unwrap_or(0);
    let minimum = snp::Tcb {
        fmc: None,
        bootloader: least(bootloader),
        tee: least(tee),
        snp: least(snp),
        microcode: least(microcode),
    };
    Ok(snp::Rules {
        require_crl: settings.require_crl,
        max_vmpl: settings.max_vmpl,
        forbid_migration: settings.forbid_migration,
        allow_masked_chip_id: settings.allow_masked_chip_id,
        minimum_tcb: (minimum != snp::Tcb::default()).then_some(minimum),
        id_keys: keys("attestation.snp.id_keys", &settings.id_keys)?,
        author_keys: keys("attestation.snp.author_keys", &settings.author_keys)?,
        ..snp::Rules::default()
    })
}

fn endorsement_keys(texts: &[String]) -> Result<Vec<[u8; 32]>, Failure> {
    let one = |text: &String| {
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).map(|()| key).map_err(|_| {
            let reason = format!("{text:?} is not the SHA-256 of a key or certificate in hex (64 digits)");
            invalid("attestation.tpm.endorsement_keys", reason)
        })
    };
    texts.iter().map(one).collect()
}

fn intel_rules(settings: &IntelSettings) -> Result<dcap::Rules, Failure> {
    let status = |name: &String| {
        let known = dcap::TcbStatus::ACCEPTABLE.into_iter().find(|status| status.name() == name);
        known.ok_or_else(|| invalid("attestation.intel.accept_tcb", format!("{name:?} is no such status")))
    };
    Ok(dcap::Rules {
        accept: settings.accept_tcb.iter().map(status).collect::<Result<_, _>>()?,
        out_of_date_grace_seconds: settings.out_of_date_grace.as_secs(),
        collateral_grace_seconds: settings.collateral_grace.as_secs(),
        minimum_tcb_evaluation_data_number: settings.minimum_evaluation_number,
        refused_advisories: settings.refused_advisories.clone(),
        require_event_log: settings.require_event_log,
        ..dcap::Rules::default()
    })
}

fn cca_store(settings: &CcaSettings) -> Result<cca::Store, Failure> {
    let (anchors_key, references_key) = ("attestation.cca.trust_anchors", "attestation.cca.reference_values");
    let json = |key: &str, file: &Path| {
        serde_json::from_slice::<Value>(&read(key, file)?).map_err(|e| wrong(key, file, &e))
    };
    let Some(anchors_file) = &settings.trust_anchors else {
        return match &settings.reference_values {
            Some(_) => Err(invalid(references_key, "means nothing without `attestation.cca.trust_anchors`")),
            None => Ok(cca::Store::default()),
        };
    };
    let anchors = json(anchors_key, anchors_file)?;
    let alone =
        cca::Store::from_json(&anchors, &json!({})).map_err(|e| wrong(anchors_key, anchors_file, &e))?;
    match &settings.reference_values {
        None => Ok(alone),
        Some(file) => cca::Store::from_json(&anchors, &json(references_key, file)?)
            .map_err(|e| wrong(references_key, file, &e)),
    }
}

/// The machines and the image of Secure Execution; `None` where no machine is named.
pub fn secure_execution(settings: &SeSettings) -> Result<Option<Arc<SecureExecution>>, Failure> {
    if settings.host_keys.is_empty() {
        return Ok(None);
    }
    let header_key = "attestation.se.image_header";
    let header = settings.image_header.as_ref();
    let header = header
        .ok_or_else(|| invalid(header_key, "missing; name the header of the image that is expected"))?;
    let trust = se::HostKeyTrust {
        roots: certificates("attestation.se.roots", &settings.roots)?,
        certificates: certificates("attestation.se.certificates", &settings.certificates)?,
        crls: each("attestation.se.crls", &settings.crls, |list| Ok(Crl::parse(list)?))?,
    };
    let now = system_clock()();
    let key = "attestation.se.host_keys";
    let verified = each(key, &settings.host_keys, |document| {
        match se::HostKey::verify(document, &trust, now) {
            // A machine whose key or list is over today must not keep all others from attesting. What never was right is
            // told at once.
            Err(failure) => match failure.code {
                Code::AttestCertificateExpired | Code::AttestRevoked => Ok(Err(failure)),
                Code::AttestCollateralMissing if !settings.crls.is_empty() => Ok(Err(failure)),
                _ => Err(failure),
            },
            Ok(host_key) => Ok(Ok(host_key)),
        }
    })?;
    let mut host_keys = Vec::new();
    for (file, verified) in settings.host_keys.iter().zip(verified) {
        match verified {
            Ok(host_key) => host_keys.push(host_key),
            Err(f) => {
                eprintln!("cocoon: warning: {key}: {}: not used: {} ({})", file.display(), f.reason, f.code)
            }
        }
    }
    if host_keys.is_empty() {
        eprintln!("cocoon: warning: {key}: none is good, so that guests of Secure Execution are refused");
        return Ok(None);
    }
    let header = se::Header::parse(&read(header_key, header)?).map_err(|e| wrong(header_key, header, &e))?;
    Ok(Some(Arc::new(SecureExecution { host_keys, header })))
}

/// What the files of a setting hold, one after the other.
fn each<T>(
    key: &str,
    files: &[PathBuf],
    one: impl Fn(&[u8]) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let read = |file: &PathBuf| one(&read(key, file)?).map_err(|e| wrong(key, file, &e.reason));
    files.iter().map(read).collect()
}

fn certificates(key: &str, files: &[PathBuf]) -> Result<Vec<Certificate>, Failure> {
    let chains = each(key, files, |chain| Ok(Certificate::parse_chain(chain)?))?;
    Ok(chains.into_iter().flatten().collect())
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    let io = |e: std::io::Error| wrong(key, file, &e);
    if std::fs::metadata(file).map_err(io)?.len() > MAX_FILE {
        return Err(wrong(key, file, &"longer than 8 MiB"));
    }
    std::fs::read(file).map_err(io)
}

fn wrong(key: &str, file: &Path, reason: &dyn std::fmt::Display) -> Failure {
    invalid(key, format!("{}: {reason}", file.display()))
}

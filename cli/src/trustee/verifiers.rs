//! What verifiers trust and ask for, from the settings and the files they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_config::{CcaSettings, IntelSettings, SeSettings, Settings, SnpSettings};
use cocoon_evidence::x509::{Certificate, Crl};
use cocoon_evidence::{Trust, cca, csv, dcap, dpu, nvidia, se, snp, tpm};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{SecureExecution, system_clock};
use serde_json::Value;

use crate::evidence::public_key;

/// Largest file that is read.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// Makes it.
pub fn trust(settings: &Settings) -> Result<Trust, Failure> {
    let verifiers = &settings.attestation.verifiers;
    let roots: Vec<Vec<Certificate>> = each(&verifiers.dpu_roots, certificates)?;
    Ok(Trust {
        snp_rules: snp_rules(&verifiers.snp)?,
        dcap: Arc::new(dcap::Trust { rules: intel_rules(&verifiers.intel)?, ..dcap::Trust::default() }),
        tpm: tpm::Trust {
            enrolled: each(&verifiers.tpm_trusted_aks, |file| {
                public_key(&read(file)?).map(tpm::Enrolled::Spki).map_err(|e| wrong(file, &e.to_string()))
            })?,
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
            roots: roots.into_iter().flatten().collect(),
            max_certificate_age_seconds: verifiers.dpu_max_certificate_age.as_secs(),
        },
        ..Trust::default()
    })
}

fn snp_rules(settings: &SnpSettings) -> Result<snp::Rules, Failure> {
    let keys = |texts: &[String]| -> Result<Vec<[u8; 48]>, Failure> {
        let one = |text: &String| {
            let mut key = [0; 48];
            hex::decode_to_slice(text, &mut key).map(|()| key).map_err(|_| {
                invalid(format!("attestation.snp: {text:?} is not the SHA-384 of a key in hex (96 digits)"))
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
        id_keys: keys(&settings.id_keys)?,
        author_keys: keys(&settings.author_keys)?,
        ..snp::Rules::default()
    })
}

fn intel_rules(settings: &IntelSettings) -> Result<dcap::Rules, Failure> {
    let status = |name: &String| {
        let known = dcap::TcbStatus::ACCEPTABLE.into_iter().find(|status| status.name() == name);
        known.ok_or_else(|| invalid(format!("attestation.intel.accept_tcb: {name:?} is no such status")))
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
    let json = |file: &Option<PathBuf>, absent: Value| match file {
        Some(file) => serde_json::from_slice::<Value>(&read(file)?).map_err(|e| wrong(file, &e.to_string())),
        None => Ok(absent),
    };
    if settings.trust_anchors.is_none() {
        return match &settings.reference_values {
            Some(_) => Err(invalid("attestation.cca.reference_values: means nothing without trust_anchors")),
            None => Ok(cca::Store::default()),
        };
    }
    let none = || Value::Array(Vec::new());
    let (anchors, references) =
        (json(&settings.trust_anchors, none())?, json(&settings.reference_values, none())?);
    cca::Store::from_json(&anchors, &references)
        .map_err(|e| invalid(format!("attestation.cca: {}", Failure::from(e).reason)))
}

/// The machines and the image of Secure Execution; `None` where no machine is named.
pub fn secure_execution(settings: &SeSettings) -> Result<Option<Arc<SecureExecution>>, Failure> {
    if settings.host_keys.is_empty() {
        return Ok(None);
    }
    let header = settings.image_header.as_ref();
    let header = header.ok_or_else(|| {
        invalid("attestation.se.image_header: missing; name the header of the image that is expected")
    })?;
    let trust = se::HostKeyTrust {
        roots: each(&settings.roots, certificates)?.into_iter().flatten().collect(),
        certificates: each(&settings.certificates, certificates)?.into_iter().flatten().collect(),
        crls: each(&settings.crls, |file| Crl::parse(&read(file)?).map_err(|e| wrong(file, &e.to_string())))?,
    };
    let now = system_clock()();
    let host_keys = each(&settings.host_keys, |file| {
        se::HostKey::verify(&read(file)?, &trust, now).map_err(|e| wrong(file, &e.reason))
    })?;
    let header = se::Header::parse(&read(header)?).map_err(|e| wrong(header, &e.to_string()))?;
    Ok(Some(Arc::new(SecureExecution { host_keys, header })))
}

fn each<T>(files: &[PathBuf], one: impl Fn(&Path) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    files.iter().map(|file| one(file)).collect()
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, Failure> {
    Certificate::parse_chain(&read(file)?).map_err(|e| wrong(file, &e.to_string()))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let io = |e: std::io::Error| wrong(file, &e.to_string());
    if std::fs::metadata(file).map_err(io)?.len() > MAX_FILE {
        return Err(wrong(file, "longer than 8 MiB"));
    }
    std::fs::read(file).map_err(io)
}

fn wrong(file: &Path, reason: &str) -> Failure {
    invalid(format!("{}: {reason}", file.display()))
}

fn invalid(reason: impl Into<String>) -> Failure {
    Failure::new(Code::ConfigInvalid, reason)
}

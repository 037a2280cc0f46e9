//! Evidence of any kind: read from what its attester sends, or from a file of whatever form.

use cocoon_protocol::{Tee, bounds};
use serde_json::{Value, json};

use crate::collateral::Need;
use crate::{Error, azure, cca, csv, dcap, dcu, dpu, nvidia, se, sgx, snp, tdx, tpm};

/// A file longer than this is not read: eight GPUs and their chains have about 2 MiB of JSON.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// Evidence of any kind, read but not verified.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// AMD SEV-SNP.
    Snp(Box<snp::Evidence>),
    /// Intel TDX.
    Tdx(Box<tdx::Evidence>),
    /// Intel SGX.
    Sgx(Box<sgx::Evidence>),
    /// SNP behind Azure's vTPM.
    AzureSnp(Box<azure::snp::Evidence>),
    /// TDX behind Azure's vTPM.
    AzureTdx(Box<azure::tdx::Evidence>),
    /// A TPM on its own.
    Tpm(Box<tpm::Evidence>),
    /// Arm CCA.
    Cca(Box<cca::Evidence>),
    /// IBM Secure Execution.
    Se(Box<se::Evidence>),
    /// Hygon CSV.
    Csv(Box<csv::Evidence>),
    /// Hygon DCU.
    Dcu(Box<dcu::Evidence>),
    /// NVIDIA GPUs and switches.
    Nvidia(Box<nvidia::Evidence>),
    /// NVIDIA DPUs.
    Dpu(Box<dpu::Evidence>),
    /// No hardware; read only where it is accepted.
    Sample(Value),
    /// The same for a device.
    SampleDevice(Value),
}

impl Evidence {
    /// Reads the JSON that the attester of that TEE sends.
    ///
    /// # Errors
    /// Evidence that does not parse, or of a TEE without a verifier.
    pub fn from_json(tee: Tee, value: &Value) -> Result<Self, Error> {
        Ok(match tee {
            Tee::Snp => Evidence::Snp(Box::new(snp::Evidence::from_json(value)?)),
            Tee::Tdx => Evidence::Tdx(Box::new(tdx::Evidence::from_json(value)?)),
            Tee::Sgx => Evidence::Sgx(Box::new(sgx::Evidence::from_json(value)?)),
            Tee::AzSnpVtpm => Evidence::AzureSnp(Box::new(azure::snp::Evidence::from_json(value)?)),
            Tee::AzTdxVtpm => Evidence::AzureTdx(Box::new(azure::tdx::Evidence::from_json(value)?)),
            Tee::Tpm => Evidence::Tpm(Box::new(tpm::Evidence::from_json(value)?)),
            Tee::Cca => Evidence::Cca(Box::new(cca::Evidence::from_json(value)?)),
            Tee::Se => Evidence::Se(Box::new(se::Evidence::from_json(value)?)),
            Tee::Csv => Evidence::Csv(Box::new(csv::Evidence::from_json(value)?)),
            Tee::Hygondcu => Evidence::Dcu(Box::new(dcu::Evidence::from_json(value)?)),
            Tee::Nvidia => Evidence::Nvidia(Box::new(nvidia::Evidence::from_json(value)?)),
            Tee::NvidiaDpu => Evidence::Dpu(Box::new(dpu::Evidence::from_json(value)?)),
            Tee::Sample => Evidence::Sample(value.clone()),
            Tee::Sampledevice => Evidence::SampleDevice(value.clone()),
            other => return Err(Error::Unsupported { what: "TEE", got: other.to_string() }),
        })
    }

    /// Reads a file of unknown form: the JSON of any attester, or a bare SNP report, TDX or SGX quote, or CCA token.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no form is recognised; else what the form's parser finds.
    pub fn detect(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_FILE {
            return Err(Error::Json(format!("{} bytes are too many", bytes.len())));
        }
        let text = bytes.trim_ascii_start().first() == Some(&b'{');
        if text {
            bounds::check("evidence", bytes).map_err(|e| Error::Json(e.to_string()))?;
        }
        if text && let Ok(value) = serde_json::from_slice::<Value>(bytes) {
            return Evidence::detect_json(&value);
        }
        if let (snp::Report::SIZE, Some([2..=5, 0, 0, 0])) = (bytes.len(), bytes.first_chunk::<4>()) {
            let report = snp::Report::parse(bytes)?;
            return Ok(Evidence::Snp(Box::new(snp::Evidence { report, cert_chain: Vec::new() })));
        }
        match bytes.first_chunk::<8>() {
            // CBOR tag 399.
            Some([0xd9, 0x01, 0x8f, ..]) => {
                Ok(Evidence::Cca(Box::new(cca::Evidence::parse(bytes.to_vec())?)))
            }
            // Version, attestation key type 2, TEE type.
            Some([3, 0, 2, 0, ..]) => Ok(Evidence::Sgx(Box::new(sgx::Evidence::new(bytes)?))),
            Some([4 | 5, 0, 2, 0, 0x81, 0, 0, 0]) => {
                Ok(Evidence::Tdx(Box::new(tdx::Evidence::new(bytes, None)?)))
            }
            _ => Err(Error::Unsupported { what: "file", got: "neither JSON nor a known binary form".into() }),
        }
    }

    /// Reads the JSON that some attester sends, of whatever TEE its members tell.
    ///
    /// # Errors
    /// [`Error::Json`] where they are those of no TEE's evidence; else as [`Evidence::from_json`].
    pub fn detect_json(value: &Value) -> Result<Self, Error> {
        let tee = tee_of(value).ok_or_else(|| Error::Json("its members are those of no TEE's".into()))?;
        Evidence::from_json(tee, value)
    }

    /// Its kind.
    pub fn tee(&self) -> Tee {
        match self {
            Evidence::Snp(_) => Tee::Snp,
            Evidence::Tdx(_) => Tee::Tdx,
            Evidence::Sgx(_) => Tee::Sgx,
            Evidence::AzureSnp(_) => Tee::AzSnpVtpm,
            Evidence::AzureTdx(_) => Tee::AzTdxVtpm,
            Evidence::Tpm(_) => Tee::Tpm,
            Evidence::Cca(_) => Tee::Cca,
            Evidence::Se(_) => Tee::Se,
            Evidence::Csv(_) => Tee::Csv,
            Evidence::Dcu(_) => Tee::Hygondcu,
            Evidence::Nvidia(_) => Tee::Nvidia,
            Evidence::Dpu(_) => Tee::NvidiaDpu,
            Evidence::Sample(_) => Tee::Sample,
            Evidence::SampleDevice(_) => Tee::Sampledevice,
        }
    }

    /// The vendor's documents that verification will ask for. Those that stay missing fail their check.
    pub fn needs(&self) -> Vec<Need> {
        match self {
            Evidence::Snp(evidence) => snp::needs(evidence),
            Evidence::Tdx(evidence) => tdx::needs(evidence),
            Evidence::Sgx(evidence) => sgx::needs(evidence),
            Evidence::AzureSnp(evidence) => azure::snp::needs(evidence),
            Evidence::AzureTdx(evidence) => azure::tdx::needs(evidence),
            Evidence::Csv(evidence) => csv::needs(evidence),
            Evidence::Dcu(evidence) => dcu::needs(evidence),
            Evidence::Nvidia(evidence) => nvidia::needs(evidence),
            Evidence::Tpm(_)
            | Evidence::Cca(_)
            | Evidence::Se(_)
            | Evidence::Dpu(_)
            | Evidence::Sample(_)
            | Evidence::SampleDevice(_) => Vec::new(),
        }
    }

    /// The evidence as JSON, as its attester sends it.
    pub fn to_json(&self) -> Value {
        match self {
            Evidence::Snp(evidence) => evidence.to_json(),
            Evidence::Tdx(evidence) => evidence.to_json(),
            Evidence::Sgx(evidence) => evidence.to_json(),
            Evidence::AzureSnp(evidence) => evidence.to_json(),
            Evidence::AzureTdx(evidence) => evidence.to_json(),
            Evidence::Tpm(evidence) => evidence.to_json(),
            Evidence::Cca(evidence) => evidence.to_json(),
            Evidence::Se(evidence) => evidence.to_json(),
            Evidence::Csv(evidence) => evidence.to_json(),
            Evidence::Dcu(evidence) => evidence.to_json(),
            Evidence::Nvidia(evidence) => evidence.to_json(),
            Evidence::Dpu(evidence) => evidence.to_json(),
            Evidence::Sample(value) | Evidence::SampleDevice(value) => value.clone(),
        }
    }

    /// What the evidence says, under the names of its claims. **Nothing of it is verified**: for people to read only.
    pub fn unverified(&self) -> Value {
        match self {
            Evidence::Snp(evidence) => snp::claims(&evidence.report),
            Evidence::Tdx(evidence) => tdx::unverified(evidence),
            Evidence::Sgx(evidence) => Value::Object(sgx::claims(evidence)),
            Evidence::AzureSnp(evidence) => azure::snp::unverified(evidence),
            Evidence::AzureTdx(evidence) => azure::tdx::unverified(evidence),
            Evidence::Tpm(evidence) => tpm::unverified(evidence),
            Evidence::Cca(evidence) => cca::claims(evidence),
            Evidence::Se(evidence) => se::unverified(evidence),
            Evidence::Csv(evidence) => csv::unverified(evidence),
            Evidence::Dcu(evidence) => dcu::unverified(evidence),
            Evidence::Nvidia(evidence) => nvidia::unverified(evidence),
            Evidence::Dpu(evidence) => dpu::unverified(evidence),
            Evidence::Sample(value) | Evidence::SampleDevice(value) => json!({ "unverifiable": value }),
        }
    }
}

/// The kind of evidence that has these members; see the modules of the kinds for their forms.
fn tee_of(value: &Value) -> Option<Tee> {
    let has = |member: &str| value.get(member).is_some_and(|v| !v.is_null());
    let report = value.get("attestation_report");
    if report.is_some_and(|r| r.get("magic").is_some()) {
        return Some(Tee::Csv);
    }
    if report.is_some() {
        return Some(Tee::Snp);
    }
    if has("td_quote") {
        return Some(Tee::AzTdxVtpm);
    }
    if has("vcek") {
        return Some(Tee::AzSnpVtpm);
    }
    if has("ak_public") {
        return Some(Tee::Tpm);
    }
    if has("attestation_reports") {
        return Some(Tee::Hygondcu);
    }
    if has("device_evidence_list") {
        return Some(Tee::Nvidia);
    }
    if has("encr_measurement_key") {
        return Some(Tee::Se);
    }
    if has("token") {
        return Some(Tee::Cca);
    }
    if has("devices") {
        return Some(Tee::NvidiaDpu);
    }
    if has("svn") && has("report_data") {
        return Some(Tee::Sample);
    }
    // TDX and SGX send the same form; the quote says which.
    let quote = tdx::decode("quote", value.get("quote"), dcap::MAX_QUOTE).ok()??;
    Some(if quote.get(4) == Some(&0x81) { Tee::Tdx } else { Tee::Sgx })
}

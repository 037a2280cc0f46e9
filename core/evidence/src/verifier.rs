//! One door to all kinds of evidence: what is trusted, and the verdict.

use std::sync::Arc;

use serde_json::Value;

use crate::collateral::{Collateral, Need};
use crate::{
    Error, Evidence, Expectation, Verdict, azure, cca, csv, dcap, dcu, dpu, nvidia, sample, se, sgx, snp,
    tdx, tpm,
};

/// Chains kept verified: one per machine that attests here.
const CHAINS: usize = 4096;

/// What verifiers trust and ask for. The default trusts the vendors' roots and nothing that an operator would have to name.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// AMD's roots, and simulated ones.
    pub snp: snp::Roots,
    /// What is asked of SNP reports.
    pub snp_rules: snp::Rules,
    /// Intel's roots and rules for TDX and SGX, with what is remembered of their collateral.
    pub dcap: Arc<dcap::Trust>,
    /// Which attestation keys of TPMs are enrolled. None by default.
    pub tpm: tpm::Trust,
    /// Endorsements of Arm CCA platforms. None by default.
    pub cca: Arc<cca::Store>,
    /// What is asked of CCA tokens.
    pub cca_rules: cca::Rules,
    /// Host keys and image of IBM Secure Execution guests; without them there is no challenge for one.
    pub se: Option<Arc<se::Config>>,
    /// Hygon's root, and simulated ones.
    pub csv: csv::Roots,
    /// What is asked of CSV reports.
    pub csv_rules: csv::Rules,
    /// NVIDIA's roots, and whether reference manifests are required.
    pub nvidia: nvidia::Trust,
    /// Roots of NVIDIA's DPUs. None by default.
    pub dpu: dpu::Trust,
    /// Take evidence of the kinds `sample` and `sampledevice`, which proves nothing; verdicts say so.
    pub accept_sample: bool,
}

/// The verdict on one TEE or device of the evidence.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Class of the token's submodule and of the policy: `cpu`, `gpu`, `switch`, `ppcie`, `dcu`, `nvidia-dpu`.
    pub class: &'static str,
    /// The verdict; its claims are null unless every check passed.
    pub verdict: Verdict,
    /// The initdata's digest as the hardware binds it, in hex; only where the TEE proves it and all checks passed.
    pub init_data: Option<String>,
}

/// The verifiers of all kinds, with what they remember of chains already verified.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    snp_chains: snp::ChainCache,
}

impl Verifier {
    /// Verifiers that trust this and nothing else.
    pub fn new(trust: Trust) -> Self {
        Verifier { trust, snp_chains: snp::ChainCache::new(CHAINS) }
    }

    /// What is trusted.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The vendor's documents to have at hand before [`Verifier::verify`]. A quote or a device's report that fails already without them names
    /// none: its platform is whatever its sender made up, and no vendor is to be asked for that.
    pub fn needs(&self, evidence: &Evidence, now_unix: u64) -> Vec<Need> {
        let quote = match evidence {
            Evidence::Tdx(evidence) => Some(&evidence.quote),
            Evidence::Sgx(evidence) => Some(evidence.quote()),
            Evidence::AzureTdx(evidence) => Some(evidence.td_quote()),
            _ => None,
        };
        let genuine = match (quote, evidence) {
            (Some(quote), _) => {
                let checks = dcap::verify_offline(quote, &self.trust.dcap, now_unix);
                checks.iter().all(|check| check.code.is_none())
            }
            (None, Evidence::Nvidia(evidence)) => {
                let trust = nvidia::Trust { require_rims: false, ..self.trust.nvidia.clone() };
                let nothing = Expectation { report_data: None, init_data_digest: None, now_unix };
                let devices = nvidia::verify(evidence, &trust, &Collateral::none(), &nothing);
                devices.iter().all(|device| device.index.is_none() || device.verdict.ok())
            }
            _ => true,
        };
        if genuine { evidence.needs() } else { Vec::new() }
    }

    /// Judges evidence; one verdict for each TEE or device in it, never none.
    ///
    /// `named_keys` are attestation keys of TPMs that reference values name (`trusted_aks`), base64 of their DER
    /// SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`Error`] of sample evidence, which is read only where it is accepted, and of Secure Execution evidence where nothing
    /// is configured to judge it by.
    pub fn verify(
        &self,
        evidence: &Evidence,
        collateral: &Collateral,
        expectation: &Expectation<'_>,
        named_keys: &[String],
    ) -> Result<Vec<Verified>, Error> {
        self.verify_activated(evidence, collateral, expectation, named_keys, None, &[])
    }

    /// As [`Verifier::verify`], where a TPM has proved to hold an attestation key: of evidence of that key this is as good as
    /// an enrolled one, if the TPM is known. `named_endorsements` are those that reference values name (`tpm_ek`): SHA-256 of
    /// endorsement keys or of their certificates, hex.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify_activated(
        &self,
        evidence: &Evidence,
        collateral: &Collateral,
        expectation: &Expectation<'_>,
        named_keys: &[String],
        activated: Option<&tpm::enrol::Activated>,
        named_endorsements: &[String],
    ) -> Result<Vec<Verified>, Error> {
        let trust = &self.trust;
        let guest = |verdict| vec![bound("cpu", verdict)];
        Ok(match evidence {
            Evidence::Snp(evidence) => {
                let (roots, rules, chains) = (&trust.snp, &trust.snp_rules, &self.snp_chains);
                guest(snp::verify_cached(evidence, roots, rules, collateral, expectation, chains))
            }
            Evidence::Tdx(evidence) => guest(tdx::verify(evidence, &trust.dcap, collateral, expectation)),
            Evidence::Sgx(evidence) => guest(sgx::verify(evidence, &trust.dcap, collateral, expectation)),
            Evidence::AzureSnp(evidence) => {
                let (roots, rules, chains) = (&trust.snp, &trust.snp_rules, &self.snp_chains);
                let verdict =
                    azure::snp::verify_cached(evidence, roots, rules, collateral, expectation, chains);
                vec![extended(verdict, expectation)]
            }
            Evidence::AzureTdx(evidence) => {
                let verdict = azure::tdx::verify(evidence, &trust.dcap, collateral, expectation);
                vec![extended(verdict, expectation)]
            }
            Evidence::Tpm(evidence) => {
                let mut tpm = trust.tpm.clone();
                tpm.named.extend_from_slice(named_keys);
                tpm.named_endorsements.extend_from_slice(named_endorsements);
                tpm.activated = activated.cloned();
                vec![extended(tpm::verify(evidence, &tpm, expectation), expectation)]
            }
            Evidence::Cca(evidence) => {
                guest(cca::verify(evidence, &trust.cca, &trust.cca_rules, expectation))
            }
            Evidence::Se(evidence) => {
                let config = trust.se.as_ref().ok_or(Error::Unsupported {
                    what: "Secure Execution",
                    got: "a guest, for which neither host keys nor an image are configured,".into(),
                })?;
                vec![unbound("cpu", se::verify(evidence, config, expectation))]
            }
            Evidence::Csv(evidence) => {
                let (roots, rules) = (&trust.csv, &trust.csv_rules);
                vec![unbound("cpu", csv::verify(evidence, roots, rules, collateral, expectation))]
            }
            Evidence::Dcu(evidence) => {
                vec![unbound("dcu", dcu::verify(evidence, &trust.csv, collateral, expectation))]
            }
            Evidence::Nvidia(evidence) => nvidia::verify(evidence, &trust.nvidia, collateral, expectation)
                .into_iter()
                .map(|device| unbound(device.class, device.verdict))
                .collect(),
            Evidence::Dpu(evidence) => {
                vec![unbound("nvidia-dpu", dpu::verify(evidence, &trust.dpu, expectation))]
            }
            Evidence::Sample(value) => vec![self.sample("cpu", value, expectation)?],
            Evidence::SampleDevice(value) => vec![self.sample("gpu", value, expectation)?],
        })
    }

    fn sample(
        &self,
        class: &'static str,
        value: &Value,
        expectation: &Expectation<'_>,
    ) -> Result<Verified, Error> {
        // Asked first: whether it is well formed does not matter where it is not taken.
        let accepted = self.trust.accept_sample;
        let evidence = match accepted {
            true => sample::Evidence::from_json(value)?,
            false => sample::Evidence { svn: String::new(), report_data: Vec::new() },
        };
        Ok(unbound(class, sample::verify(&evidence, accepted, expectation.report_data)))
    }
}

/// A verdict of a TEE that binds the initdata's digest, which its claim `init_data` tells.
fn bound(class: &'static str, verdict: Verdict) -> Verified {
    let init_data = verdict.claims.get("init_data").and_then(Value::as_str).map(str::to_owned);
    Verified { class, verdict, init_data }
}

/// A verdict of a TPM, whose register 8 was extended with the digest. Its claim `init_data` is the register's value, so what
/// was extended, and was checked to be, becomes the claim `init_data_digest`.
fn extended(mut verdict: Verdict, expectation: &Expectation<'_>) -> Verified {
    let digest = expectation.init_data_digest.filter(|_| verdict.ok()).map(hex::encode);
    if let (Some(digest), Value::Object(claims)) = (&digest, &mut verdict.claims) {
        claims.insert("init_data_digest".to_owned(), Value::String(digest.clone()));
    }
    Verified { class: "cpu", verdict, init_data: digest }
}

/// A verdict of what binds no initdata.
fn unbound(class: &'static str, verdict: Verdict) -> Verified {
    Verified { class, verdict, init_data: None }
}

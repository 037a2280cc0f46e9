//! Which verifier judges which TEE, and what comes out of it in one shape.

use cocoon_evidence::snp::{self, ChainCache, Expectation, Roots};
use cocoon_evidence::{Check, Verdict, sample};
use cocoon_protocol::Tee;
use cocoon_stage::{Code, Failure};
use serde_json::Value;

use crate::Item;

/// Chains kept verified: one per machine that attests here.
const CHAINS: usize = 4096;

/// What verifiers trust.
#[derive(Clone, Default)]
pub struct Trust {
    /// Vendor and simulated roots.
    pub roots: Roots,
    /// Take evidence of the kinds `sample` and `sampledevice`, which proves nothing; tokens say so.
    pub accept_sample: bool,
}

/// The verifiers, with what they remember.
pub(crate) struct Verifiers {
    trust: Trust,
    chains: ChainCache,
}

/// Evidence that a verifier has looked at.
pub(crate) struct Verified {
    /// Class of the submodule and of the policy: `cpu`, `gpu`.
    pub class: &'static str,
    /// The verdict; its claims are null unless every check passed.
    pub verdict: Verdict,
    /// The initdata digest as the hardware binds it, in hex; only where the TEE proves it.
    pub init_data: Option<String>,
}

impl Verifiers {
    pub fn new(trust: Trust) -> Self {
        Verifiers { trust, chains: ChainCache::new(CHAINS) }
    }

    /// `Err` where the evidence cannot even be read, or no verifier knows it.
    pub fn verify(&self, item: &Item<'_>, now_unix: u64) -> Result<Verified, Failure> {
        match item.tee {
            Tee::Snp => self.snp(item, now_unix),
            Tee::Sample => self.sample(item, "cpu"),
            Tee::Sampledevice => self.sample(item, "gpu"),
            other => Err(Failure::new(Code::AttestTeeUnsupported, format!("no verifier for {other}"))),
        }
    }

    fn snp(&self, item: &Item<'_>, now_unix: u64) -> Result<Verified, Failure> {
        let evidence = snp::Evidence::from_json(item.evidence)?;
        let digest = item.init_data.digest();
        let own = evidence.report.report_data;
        let expectation = Expectation {
            report_data: item.report_data.unwrap_or(&own),
            init_data_digest: digest.as_deref(),
            now_unix,
            allow_v2: false,
        };
        let mut verdict = snp::verify_cached(&evidence, &self.trust.roots, &expectation, &self.chains);
        if item.report_data.is_none() {
            verdict.checks.retain(|c| c.name != "report.report-data");
        }
        let init_data = verdict.claims.get("init_data").and_then(Value::as_str).map(str::to_owned);
        Ok(Verified { class: "cpu", verdict, init_data })
    }

    fn sample(&self, item: &Item<'_>, class: &'static str) -> Result<Verified, Failure> {
        // Asked first: whether it is well formed does not matter where it is not taken.
        let accepted = self.trust.accept_sample;
        if !accepted {
            let verdict = sample::verify(
                &sample::Evidence { svn: String::new(), report_data: Vec::new() },
                false,
                item.report_data,
            );
            return Ok(Verified { class, verdict, init_data: None });
        }
        let evidence = sample::Evidence::from_json(item.evidence)?;
        let verdict = sample::verify(&evidence, accepted, item.report_data);
        Ok(Verified { class, verdict, init_data: None })
    }
}

/// The check that says nothing was compared.
pub(crate) fn unbound() -> Check {
    Check {
        name: "binding.report-data",
        expected: "nothing: the caller gave no runtime data".into(),
        got: "not compared".into(),
        source: "the request".into(),
        code: None,
    }
}

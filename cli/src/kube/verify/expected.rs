//! What pods are held against: registered plans, reference values, policies; of Trustee or of files, never of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use cocoon_attestation::{Appraiser, Config, Trust};
use cocoon_evidence::snp::{Roots, SimulatedRoot};
use cocoon_evidence::x509::Certificate;
use cocoon_policy::{Kind, Policies};
use cocoon_protocol::initdata::InitData;
use cocoon_protocol::token::Status;
use cocoon_reference::{ReferenceValue, ReferenceValues};
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure};
use cocoon_store::{MemoryStore, Store};
use serde_json::Value;

use crate::admin::{content, number, text, text_of, usage};
use crate::args::{PodVerifyArgs, StatusArg};
use crate::client::{AdminClient, segment};
use crate::dirs;
use crate::embedded::{now, sim_dir};

/// Most reference values that are taken.
const MAX_REFERENCES: usize = 20_000;
/// How many records a store takes at once.
const BATCH: usize = 1000;

/// A plan that a pod may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Under which name; nothing where the plan itself was given.
    pub name: Option<String>,
    /// When, in seconds since 1970.
    pub at_unix: u64,
    /// When it ends.
    pub expires_unix: Option<u64>,
    /// The worst appraisal that is good enough.
    pub least: Status,
    /// Whether a simulated TEE is.
    pub simulated: bool,
}

/// What pods are held against.
pub struct Expected {
    /// Plans by their digest in hex; of one digest the same plan may be registered once only.
    pub plans: BTreeMap<String, Registered>,
    /// Whether the plans are those that the command line gave, so that names do not matter.
    pub given: bool,
    pub appraiser: Appraiser,
}

fn least(word: &str) -> Status {
    if word == "warning" { Status::Warning } else { Status::Affirming }
}

impl Expected {
    /// What the flags name: files and digests, and of Trustee what these leave open.
    pub async fn of(args: &PodVerifyArgs) -> Result<Self, Failure> {
        let given = given(args)?;
        let (plans_given, references_given) = (!given.is_empty(), args.reference_values.is_some());
        let client = match plans_given && references_given {
            true => None,
            false => Some(AdminClient::open(&args.common)?),
        };
        let plans = match &client {
            Some(client) if !plans_given => registered(client).await?,
            _ => given,
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let references = ReferenceValues::new(store.clone());
        let policies = Arc::new(Policies::new(store));
        let records = match (&args.reference_values, &client) {
            (Some(file), _) => {
                of_file(&content(file)?).map_err(|why| usage(format!("{}: {why}", file.display())))?
            }
            (None, Some(client)) => records(client.get("reference-values", "reference values").await?)?,
            (None, None) => Vec::new(),
        };
        for batch in records.chunks(BATCH) {
            references.put(batch).map_err(Failure::from)?;
        }
        if let Some(client) = client.as_ref().filter(|_| !references_given) {
            adopt(client, &policies).await?;
        }
        let trust = Trust { snp: Roots { vendor: true, simulated: simulated(args)? }, ..Trust::default() };
        let collateral = crate::trustee::usual_collateral(&dirs::collateral_dir()?)?;
        let config = Config { trust, collateral, nvidia_remote: None, issue_contraindicated: false };
        Ok(Expected { plans, given: plans_given, appraiser: Appraiser::new(config, references, policies) })
    }
}

/// Plans that the command line gives.
fn given(args: &PodVerifyArgs) -> Result<BTreeMap<String, Registered>, Failure> {
    let mut digests: Vec<String> = Vec::new();
    for digest in &args.plan {
        let bytes = hex::decode(digest).map_err(|_| usage(format!("--plan {digest}: it is not hex")))?;
        if !matches!(bytes.len(), 32 | 48 | 64) {
            return Err(usage(format!("--plan {digest}: a digest has 32, 48 or 64 bytes")));
        }
        digests.push(hex::encode(bytes));
    }
    for file in &args.initdata {
        let text = text_of(file)?;
        let wrong = |e: &dyn std::fmt::Display| usage(format!("{}: {e}", file.display()));
        // A document, or an annotation as `cocoon plan` prints it.
        let document = match text.trim_start().starts_with("H4sI") {
            true => InitData::from_annotation(text.trim()).map_err(|e| wrong(&e))?,
            false => InitData::parse(&text).map_err(|e| wrong(&e))?,
        };
        digests.push(hex::encode(document.digest()));
    }
    let one = || Registered {
        name: None,
        at_unix: 0,
        expires_unix: None,
        least: if args.min_status == StatusArg::Warning { Status::Warning } else { Status::Affirming },
        simulated: args.accept_simulated,
    };
    Ok(digests.into_iter().map(|digest| (digest, one())).collect())
}

/// Plans that Trustee knows.
async fn registered(client: &AdminClient) -> Result<BTreeMap<String, Registered>, Failure> {
    let workloads = client.get("workloads", "workloads").await?;
    Ok(workloads.as_array().into_iter().flatten().map(workload).collect())
}

fn workload(value: &Value) -> (String, Registered) {
    let registered = Registered {
        name: Some(text(value, "name").to_owned()),
        at_unix: number(value, "registered_unix").unwrap_or_default(),
        expires_unix: number(value, "expires_unix"),
        least: least(text(value, "min_status")),
        simulated: value.get("accept_simulated").and_then(Value::as_bool).unwrap_or(false),
    };
    (text(value, "digest_hex").to_ascii_lowercase(), registered)
}

/// Records as Trustee lists them.
fn records(list: Value) -> Result<Vec<ReferenceValue>, Failure> {
    let wrong =
        |why: String| Failure::new(Code::ReferenceInvalid, format!("Trustee's reference values: {why}"));
    let records: Vec<ReferenceValue> = serde_json::from_value(list).map_err(|e| wrong(e.to_string()))?;
    if records.len() > MAX_REFERENCES {
        return Err(wrong(format!("more than {MAX_REFERENCES}")));
    }
    Ok(records)
}

/// A file of reference values: what `cocoon reference list` prints, or values (one, or a list) by name.
fn of_file(bytes: &[u8]) -> Result<Vec<ReferenceValue>, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("it is not JSON: {e}"))?;
    let Value::Object(names) = value else { return records(value).map_err(|f| f.reason) };
    let names = names.into_iter().map(|(name, values)| {
        let (values, single) = match values {
            Value::Array(values) => (values, false),
            one => (vec![one], true),
        };
        ReferenceValue {
            name,
            values,
            single,
            source: "the command line".into(),
            ..ReferenceValue::default()
        }
    });
    Ok(names.collect())
}

/// The owner's attestation policies of guests, which take the place of the rules that come with the program.
async fn adopt(client: &AdminClient, policies: &Policies) -> Result<(), Failure> {
    let list = client.get("policies", "policies").await?;
    let ids = list.as_array().into_iter().flatten().map(|p| text(p, "id"));
    for id in ids.filter(|id| id.starts_with("default_")) {
        let policy = client.get(&format!("policies/{}", segment(id)), &format!("policy {id}")).await?;
        policies.put(id, Kind::Attestation, text(&policy, "policy"), "trustee", "", now())?;
    }
    Ok(())
}

/// Makers of simulated TEEs that are accepted: none, unless asked for.
fn simulated(args: &PodVerifyArgs) -> Result<Vec<SimulatedRoot>, Failure> {
    let mut roots = Vec::new();
    if !args.accept_simulated {
        return Ok(roots);
    }
    let own = sim_dir()?;
    if own.is_dir() {
        let (ark_der, ask_der) = SecureProcessor::open_or_create(&own)?.root();
        roots.push(SimulatedRoot { ark_der, ask_der });
    }
    for file in &args.simulated_root {
        let wrong = |why: String| usage(format!("--simulated-root {}: {why}", file.display()));
        let chain = Certificate::parse_chain(&content(file)?).map_err(|e| wrong(e.to_string()))?;
        let [ark, ask] = chain.as_slice() else {
            return Err(wrong("it holds root and intermediate, two certificates in PEM".into()));
        };
        let root = SimulatedRoot { ark_der: ark.der().to_vec(), ask_der: ask.der().to_vec() };
        root.check().map_err(|e| wrong(e.to_string()))?;
        roots.push(root);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reference_values_come_by_name_or_as_records() {
        let by_name = of_file(br#"{"snp_launch_measurement": ["ab"], "snp_bootloader": 3}"#).unwrap();
        assert_eq!(by_name.len(), 2);
        let single = by_name.iter().find(|r| r.name == "snp_bootloader").unwrap();
        assert!(single.single && single.values == [json!(3)]);
        let list = serde_json::to_vec(&by_name).unwrap();
        assert_eq!(of_file(&list).unwrap(), by_name);
        for bad in [&b"["[..], b"7", br#"[{"name": 1}]"#] {
            assert!(of_file(bad).is_err());
        }
    }

    #[test]
    fn a_registration_says_what_is_good_enough() {
        let (digest, plan) =
            workload(&json!({"digest_hex": "AB", "name": "web.shop", "min_status": "warning"}));
        assert_eq!(
            (digest.as_str(), plan.name.as_deref(), plan.least),
            ("ab", Some("web.shop"), Status::Warning)
        );
        // What is not said is not allowed.
        let (_, plan) = workload(&json!({"min_status": "anything"}));
        assert_eq!((plan.least, plan.simulated), (Status::Affirming, false));
    }
}

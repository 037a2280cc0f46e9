//! `cocoon verify`: each pod proves over a fresh nonce what it is, to its owner, with nobody in between who is believed.
//!
//! Of the cluster come only the names of pods, their annotations and a way to them. What a pod must be comes of its owner:
//! plans that are registered with Trustee (or given), reference values, policies. Evidence is judged here, by the code that
//! Trustee uses.

mod expected;
mod judge;
mod proof;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure, Stage};
use futures_util::{StreamExt as _, stream};

use self::expected::Expected;
use self::judge::{Claim, Facts, Refusal};
use super::cluster::Cluster;
use super::pods::{self, Found, Life, Pod, Target};
use crate::admin::usage;
use crate::args::PodVerifyArgs;
use crate::embedded::now;
use crate::output::Output;

/// How many pods are asked at a time.
const AT_ONCE: usize = 8;
/// Bytes of a nonce.
const NONCE: usize = 32;

/// What became of one pod.
#[derive(Clone, Debug)]
enum Verdict {
    Proven(Facts),
    Refused(Refusal),
    /// It has ended: there is no guest left to ask.
    Over,
    /// It is not to be confidential, and was not asked for by name.
    Apart,
}

struct Finding {
    pod: Pod,
    verdict: Verdict,
}

/// Runs the command: 0 where every pod that was asked for is proven, 1 where one is not, or there is none.
pub async fn verify(args: PodVerifyArgs) -> Result<u8, Failure> {
    let output = Output { json: args.common.json, quiet: args.common.json };
    if args.name.is_some() && (args.all_namespaces || args.targets.is_empty()) {
        return Err(usage("--as goes with what it names: deploy/NAME, pod/NAME"));
    }
    let targets = args.targets.iter().map(|t| Target::parse(t)).collect::<Result<Vec<_>, _>>()?;
    let cluster = Arc::new(Cluster::open(&args.cluster).await?);
    let expected = Arc::new(Expected::of(&args).await?);
    let mut found = match (targets.as_slice(), args.all_namespaces) {
        ([], true) => Found { pods: pods::all(&cluster, None).await?, ..Found::default() },
        ([], false) => {
            let pods = pods::all(&cluster, Some(cluster.namespace())).await?;
            Found { pods, ..Found::default() }
        }
        (targets, _) => pods::of(&cluster, targets).await?,
    };
    if let Some(name) = &args.name {
        found.pods.iter_mut().for_each(|pod| pod.workload.clone_from(name));
    }
    found.pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let named = !targets.is_empty();
    let count = found.pods.iter().filter(|p| p.is_ours()).count();
    output.progress(Stage::Attest, &format!("asking {count} pods for their proof"));
    let limit = args.timeout;
    let mut findings: Vec<Finding> = stream::iter(found.pods)
        .map(|pod| {
            let (cluster, expected) = (cluster.clone(), expected.clone());
            async move {
                let verdict = one(&cluster, &expected, &pod, named, limit).await;
                Finding { pod, verdict }
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    tell_apart(&mut findings);
    Ok(report::report(&findings, &found.missing, named, args.common.json))
}

async fn one(
    cluster: &Cluster,
    expected: &Arc<Expected>,
    pod: &Pod,
    named: bool,
    limit: std::time::Duration,
) -> Verdict {
    if !pod.is_ours() && !named {
        return Verdict::Apart;
    }
    if pod.life() == Life::Over {
        return Verdict::Over;
    }
    match asked(cluster, expected, pod, limit).await {
        Ok(facts) => Verdict::Proven(facts),
        Err(refusal) if pod.life() == Life::Ending && refusal.failure.code == Code::VerifyNoProof => {
            Verdict::Over
        }
        Err(refusal) => Verdict::Refused(refusal),
    }
}

async fn asked(
    cluster: &Cluster,
    expected: &Arc<Expected>,
    pod: &Pod,
    limit: std::time::Duration,
) -> Result<Facts, Refusal> {
    let Some(initdata) = pod.initdata() else {
        let class = pods::plain(pod.class());
        let why = match pod.is_ours() {
            true => format!("its runtime class is {class:?}, but it has no plan"),
            false => format!("it has no plan, and its runtime class is {class:?}"),
        };
        return Err(Failure::new(Code::VerifyNotConfidential, why).into());
    };
    let (initdata, workload) = (initdata.to_owned(), pod.workload.clone());
    let (document, registered) =
        judge::plan(&Claim { initdata: &initdata, workload: &workload }, expected, now())?;
    let registered = registered.clone();
    let mut nonce = [0; NONCE];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Failure::new(Code::Internal, "no random numbers"))?;
    let proof = proof::ask(cluster, &pod.namespace, &pod.name, &nonce, limit).await?;
    // A vendor's documents may have to be fetched: that waits.
    let expected = expected.clone();
    let judged = tokio::task::spawn_blocking(move || {
        let document: &InitData = &document;
        judge::judge(&proof, &nonce, (document, &registered), &expected, now())
    });
    judged.await.map_err(|e| Failure::new(Code::Internal, e.to_string()))?
}

/// Refuses pods for which the same guest answered: of two replicas with one plan the evidence says no more than that.
fn tell_apart(findings: &mut [Finding]) {
    let mut by_guest: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in findings.iter() {
        if let Verdict::Proven(Facts { guest: Some(guest), .. }) = &finding.verdict {
            by_guest.entry(guest.clone()).or_default().push(finding.pod.label());
        }
    }
    for finding in findings {
        let Verdict::Proven(Facts { guest: Some(guest), .. }) = &finding.verdict else { continue };
        let own = finding.pod.label();
        let others: Vec<&str> =
            by_guest.get(guest).into_iter().flatten().map(String::as_str).filter(|n| *n != own).collect();
        if !others.is_empty() {
            let why = format!("the guest that answered for it also answered for {}", others.join(", "));
            finding.verdict = Verdict::Refused(Failure::new(Code::VerifySameGuest, why).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn one_guest_stands_for_one_pod() {
        let finding = |name: &str, guest: Option<&str>| Finding {
            pod: Pod { namespace: "n".into(), name: name.into(), workload: "w".into(), value: Value::Null },
            verdict: Verdict::Proven(Facts { guest: guest.map(str::to_owned), ..Facts::default() }),
        };
        let mut all = [
            finding("a", Some("1")),
            finding("b", Some("2")),
            finding("c", Some("1")),
            finding("d", None),
            finding("e", None),
        ];
        tell_apart(&mut all);
        let refused: Vec<&str> = all
            .iter()
            .filter(|f| matches!(&f.verdict, Verdict::Refused(r) if r.failure.code == Code::VerifySameGuest))
            .map(|f| f.pod.name.as_str())
            .collect();
        assert_eq!(refused, ["a", "c"]);
        let Verdict::Refused(refusal) = &all[0].verdict else { panic!("it is refused") };
        assert!(refusal.failure.reason.contains("n/c"), "{}", refusal.failure.reason);
    }
}

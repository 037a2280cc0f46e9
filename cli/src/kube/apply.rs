//! `cocoon apply`: from ordinary manifests to attested pods, in one command.

use cocoon_plan::{TrusteeConfig, workload_initdata};
use cocoon_stage::{Code, Failure, Stage};
use cocoon_trustee::{MinStatus, Registration};
use cocoon_workload::{Document, RuntimeClass, to_yaml, write};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::compile::{Compilation, Compiled};
use super::statement::{Verified, verified};
use super::wait::{Ready, Target, ready};
use super::{diff, guest, manifests};
use crate::admin::{say, text, usage};
use crate::args::{ApplyArgs, ManifestFormat, StatusArg};
use crate::client::{AdminClient, Remote};
use crate::embedded::now;
use crate::moments::expiry;
use crate::output::Output;
use crate::registrar::register;

/// Reference values of this machine's guest image are good for so long, in seconds.
const REFERENCES_LIFETIME: u64 = 30 * 24 * 3600;

/// A workload with what binds it.
struct Bound {
    compiled: Compiled,
    annotation: String,
    digest: String,
}

/// Runs the command; gives the exit status.
pub async fn apply(args: ApplyArgs) -> Result<u8, Failure> {
    let output = Output { json: args.common.json, quiet: false };
    let trustee = trustee_config(&args)?;
    let documents = manifests::documents(&args.compile.manifests)?;
    // What is only shown needs no cluster, but ConfigMaps of it are read where there is one.
    let cluster = match Cluster::open(&args.compile.cluster).await {
        Ok(cluster) => Some(cluster),
        Err(_) if args.dry_run => None,
        Err(failure) => return Err(failure),
    };
    let mut compilation = prepare(&args, documents, cluster.as_ref(), output).await?;
    let (workloads, passed, coco) = compilation.examine();
    for label in &coco {
        output.progress(Stage::Plan, &format!("{label}: has CoCo's initdata, and is left as it is"));
    }
    let bound = compilation
        .plans(workloads)?
        .into_iter()
        .map(|c| bind(c, &trustee))
        .collect::<Result<Vec<_>, _>>()?;
    for one in &bound {
        output
            .progress(Stage::Plan, &format!("{}: plan {}", one.compiled.workload.label, short(&one.digest)));
    }
    let class = RuntimeClass {
        name: args.runtime_class.clone().unwrap_or_else(|| "cocoon".into()),
        always: args.runtime_class.is_some(),
    };
    let Compilation { documents, inputs, .. } = &mut compilation;
    for one in &bound {
        if let Some(document) = documents.get_mut(one.compiled.index) {
            write(document, inputs, &one.annotation, &class);
        }
    }
    let changed = std::mem::take(documents);
    if args.diff {
        let cluster = cluster.ok_or_else(|| usage("--diff needs a cluster"))?;
        return differences(&cluster, &changed, args.force_conflicts).await;
    }
    if let Some(format) = args.output {
        print_manifests(&changed, format)?;
    }
    if args.dry_run {
        report(&args, output, &bound, passed, &coco, &[]);
        return Ok(0);
    }
    let cluster = cluster.ok_or_else(|| Failure::new(Code::ClusterUnreachable, "there is no cluster"))?;
    let client = AdminClient::open(&args.common)?;
    let began = now();
    if let Some(platform) = args.platform {
        guest::register(&client, platform, began.saturating_add(REFERENCES_LIFETIME))
            .await
            .map_err(|f| f.at(Stage::Register))?;
        output.progress(Stage::Register, "this machine's guest image is registered");
    }
    for one in &bound {
        register(&client, &registration(&args, one)?).await.map_err(|f| f.at(Stage::Register))?;
        output
            .progress(Stage::Register, &format!("{}: registered with Trustee", one.compiled.workload.label));
    }
    let applied = send(&cluster, &changed, args.force_conflicts, output).await?;
    if args.no_wait {
        report(&args, output, &bound, passed, &coco, &[]);
        return Ok(0);
    }
    finish(&args, output, &cluster, &client, &bound, &changed, &applied, began, passed, &coco).await
}

async fn prepare(
    args: &ApplyArgs,
    documents: Vec<Document>,
    cluster: Option<&Cluster>,
    output: Output,
) -> Result<Compilation, Failure> {
    let again = documents.clone();
    match Compilation::prepare(&args.compile, documents, cluster, true, output).await {
        // A dry run goes on where the cluster does not answer; what is missing is said then.
        Err(failure) if args.dry_run && failure.code == Code::ClusterUnreachable => {
            output.warn(&format!("the cluster is not asked: {}", failure.reason));
            Compilation::prepare(&args.compile, again, None, true, output).await
        }
        prepared => prepared,
    }
}

/// Where guests find Trustee, and the certificate that it must show.
fn trustee_config(args: &ApplyArgs) -> Result<TrusteeConfig, Failure> {
    let common = &args.common;
    let Some(url) = &common.trustee else {
        return Err(usage("apply needs --trustee: the embedded Trustee ends with this command"));
    };
    let certificate = match &common.trustee_cert {
        Some(file) => {
            Some(std::fs::read_to_string(file).map_err(|e| usage(format!("{}: {e}", file.display())))?)
        }
        None => None,
    };
    Remote::check(url)?;
    let url = args.guest_trustee.as_deref().unwrap_or(url).trim_end_matches('/');
    let url = match &common.tenant {
        Some(tenant) => format!("{url}/t/{tenant}"),
        None => url.to_owned(),
    };
    Ok(TrusteeConfig { url, certificate })
}

fn bind(compiled: Compiled, trustee: &TrusteeConfig) -> Result<Bound, Failure> {
    let label = compiled.workload.label.clone();
    let initdata = workload_initdata(&compiled.plan, trustee).map_err(|mut f| {
        f.reason = format!("{label}: {}", f.reason);
        f
    })?;
    let annotation =
        initdata.to_annotation().map_err(|e| Failure::new(Code::PlanTooLarge, format!("{label}: {e}")))?;
    // Annotations of one object have 256 KiB together.
    if annotation.len() > 240 * 1024 {
        let why = format!(
            "{label}: the annotation has {} bytes; Kubernetes takes 256 KiB of all",
            annotation.len()
        );
        return Err(Failure::new(Code::PlanTooLarge, why));
    }
    Ok(Bound { digest: hex::encode(initdata.digest()), annotation, compiled })
}

fn registration(args: &ApplyArgs, one: &Bound) -> Result<Registration, Failure> {
    let demands = &args.demands;
    Ok(Registration {
        digest_hex: one.digest.clone(),
        name: one.compiled.plan.name.clone(),
        secrets: one.compiled.secrets.clone(),
        allow: one.compiled.allow.clone(),
        min_status: match demands.min_status {
            StatusArg::Affirming => MinStatus::Affirming,
            StatusArg::Warning => MinStatus::Warning,
        },
        accept_simulated: demands.accept_simulated,
        expires_unix: expiry(demands.expires.as_deref(), now())?,
    })
}

fn short(digest: &str) -> String {
    digest.chars().take(16).collect()
}

fn print_manifests(documents: &[Document], format: ManifestFormat) -> Result<(), Failure> {
    let values: Vec<&Value> = documents.iter().map(|d| &d.value).collect();
    match format {
        ManifestFormat::Yaml => say(to_yaml(&values)?.trim_end()),
        ManifestFormat::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": values});
            let text = serde_json::to_string_pretty(&list)
                .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
            say(&text);
        }
    }
    Ok(())
}

/// What others need comes first.
fn rank(document: &Document) -> u8 {
    match document.kind() {
        "Namespace" | "CustomResourceDefinition" | "RuntimeClass" | "PriorityClass" | "StorageClass" => 0,
        "ServiceAccount" | "Role" | "ClusterRole" | "ResourceQuota" | "LimitRange" | "NetworkPolicy" => 1,
        "RoleBinding"
        | "ClusterRoleBinding"
        | "ConfigMap"
        | "Secret"
        | "PersistentVolumeClaim"
        | "PersistentVolume" => 2,
        "Service" => 3,
        _ => 4,
    }
}

/// Applies everything, in an order in which it works; gives objects as they then are, by the documents' order.
async fn send(
    cluster: &Cluster,
    documents: &[Document],
    force: bool,
    output: Output,
) -> Result<Vec<Value>, Failure> {
    let mut order: Vec<(usize, &Document)> = documents.iter().enumerate().collect();
    order.sort_by_key(|(_, document)| rank(document));
    let mut applied = vec![Value::Null; documents.len()];
    for (index, document) in order {
        let object = cluster.apply(document, force, false).await?;
        output.progress(Stage::Register, &format!("{}: applied", document.label()));
        if let Some(place) = applied.get_mut(index) {
            *place = object;
        }
    }
    Ok(applied)
}

async fn differences(cluster: &Cluster, documents: &[Document], force: bool) -> Result<u8, Failure> {
    let mut status = 0;
    for document in documents {
        let before = match document.name() {
            "" => None,
            _ => cluster.current(document).await?,
        };
        let after = cluster.apply(document, force, true).await?;
        let before = before.as_ref().map(diff::readable).unwrap_or_default();
        let lines = diff::unified(&before, &diff::readable(&after));
        if !lines.is_empty() {
            status = 1;
            say(&format!("--- {0} (cluster)\n+++ {0} (manifest)\n{1}", document.label(), lines.trim_end()));
        }
    }
    Ok(status)
}

/// Waits for every workload and says what became of it. A refusal of one does not keep the others from being told.
#[allow(clippy::too_many_arguments)] // of one caller's making
async fn finish(
    args: &ApplyArgs,
    output: Output,
    cluster: &Cluster,
    client: &AdminClient,
    bound: &[Bound],
    documents: &[Document],
    applied: &[Value],
    began: u64,
    passed: usize,
    coco: &[String],
) -> Result<u8, Failure> {
    let until = Instant::now() + args.timeout;
    let mut ends = Vec::new();
    let mut first = None;
    for one in bound {
        let (Some(document), Some(object)) =
            (documents.get(one.compiled.index), applied.get(one.compiled.index))
        else {
            continue;
        };
        let metadata = object.get("metadata").unwrap_or(&Value::Null);
        let target = Target {
            document,
            namespace: text(metadata, "namespace"),
            name: text(metadata, "name"),
            initdata: &one.annotation,
        };
        let waited = ready(cluster, &target, until, output).await;
        // Trustee's word is asked for either way: it also says what was refused.
        let verified = verified(client, &one.digest, began).await.unwrap_or_default();
        match waited {
            Ok(ready) => ends.push((ready, verified)),
            Err(failure) => {
                output.failure(&failure, None);
                ends.push((None, verified));
                first.get_or_insert(failure.code);
            }
        }
    }
    report(args, output, bound, passed, coco, &ends);
    Ok(u8::from(first.is_some()))
}

/// One statement for each workload.
fn report(
    args: &ApplyArgs,
    output: Output,
    bound: &[Bound],
    passed: usize,
    coco: &[String],
    ends: &[(Option<Ready>, Verified)],
) {
    let images = |one: &Bound| -> Vec<String> {
        one.compiled.plan.containers.iter().map(|c| c.image.reference.clone()).collect()
    };
    if output.json {
        let workloads: Vec<Value> = bound
            .iter()
            .enumerate()
            .map(|(i, one)| {
                let (ready, verified) = ends.get(i).cloned().unwrap_or_default();
                json!({
                    "workload": one.compiled.workload.label,
                    "namespace": one.compiled.workload.namespace,
                    "plan": one.digest,
                    "images": images(one),
                    "pods": ready.as_ref().map(|r| json!({"ready": r.ready, "wanted": r.wanted, "names": r.pods})),
                    "verified": ends.get(i).map(|_| verified.json()),
                })
            })
            .collect();
        let whole = json!({
            "type": "applied", "dry_run": args.dry_run, "workloads": workloads, "others": passed, "coco": coco,
        });
        // Standard output has the manifests where they were asked for.
        if args.output.is_some() {
            output.line(&whole)
        } else {
            say(&whole.to_string())
        }
        return;
    }
    if passed > 0 && !args.dry_run {
        output.progress(Stage::Register, &format!("{passed} other objects applied as they are"));
    }
    for (i, one) in bound.iter().enumerate() {
        let label = &one.compiled.workload.label;
        let images = images(one).join(", ");
        let line = match ends.get(i) {
            Some((Some(ready), verified)) => {
                format!(
                    "{label}: {} of {} pods are ready. {}; images {images}",
                    ready.ready,
                    ready.wanted,
                    verified.words()
                )
            }
            Some((None, verified)) if verified.refused.is_empty() => {
                format!("{label}: applied; plan {}; images {images}", short(&one.digest))
            }
            Some((None, verified)) => {
                let refused: Vec<&str> = verified.refused.iter().map(String::as_str).collect();
                format!("{label}: Trustee refused: {}", refused.join(", "))
            }
            None if args.dry_run => {
                format!("{label}: would be applied; plan {}; images {images}", short(&one.digest))
            }
            None => format!("{label}: applied; plan {}; images {images}", short(&one.digest)),
        };
        if args.output.is_some() { eprintln!("{line}") } else { say(&line) }
    }
}

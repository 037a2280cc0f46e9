//! From the owner's manifests to plans: images and what the cluster alone knows are looked up, the rest is pure.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_image::Reference;
use cocoon_plan::Plan;
use cocoon_registry::Client;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_trustee::ResourcePath;
use cocoon_workload::{
    Document, Examined, ImageFacts, Inputs, OwnerWishes, PREFIX, Workload, examine, images, wanted,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use zeroize::Zeroizing;

use super::cluster::Cluster;
use crate::admin::usage;
use crate::args::{CompileArgs, LayersArg};
use crate::output::Output;
use crate::registry;
use crate::{delivery, wishes};

/// So many images are looked up at a time.
const AT_ONCE: usize = 4;

/// Manifests with everything that is needed to compile them.
pub struct Compilation {
    pub documents: Vec<Document>,
    pub inputs: Inputs,
    /// By the image's name as written, the ids of keys that encrypt its layers.
    key_ids: BTreeMap<String, Vec<String>>,
    /// What Trustee is to keep for every workload.
    values: BTreeMap<ResourcePath, Zeroizing<Vec<u8>>>,
    allow: Vec<String>,
    signed: bool,
}

/// A workload that became a plan.
pub struct Compiled {
    /// Which of the documents.
    pub index: usize,
    pub workload: Workload,
    pub plan: Plan,
    pub secrets: BTreeMap<ResourcePath, Zeroizing<Vec<u8>>>,
    pub allow: BTreeSet<ResourcePath>,
}

impl Compilation {
    /// Reads manifests and flags, and looks up what they name. `cluster` is asked for ConfigMaps that are not among the
    /// manifests. `lookup`: whether registries are asked for images.
    pub async fn prepare(
        args: &CompileArgs,
        documents: Vec<Document>,
        cluster: Option<&Cluster>,
        lookup: bool,
        output: Output,
    ) -> Result<Self, Failure> {
        if args.delivery.layers == LayersArg::Shared {
            return Err(usage("--layers shared: layers of pods are the node's to attach; leave it out"));
        }
        let own = wishes::secrets(&args.secrets)?;
        let settings = delivery::settings(&args.delivery)?;
        let signature_key_pem = match &args.require_signature {
            Some(file) => Some(std::fs::read_to_string(file).map_err(|e| {
                Failure::new(Code::UsageInvalid, format!("--require-signature {}: {e}", file.display()))
            })?),
            None => None,
        };
        let namespace = match (&args.cluster.namespace, cluster) {
            (Some(namespace), _) => namespace.clone(),
            (None, Some(cluster)) => cluster.namespace().to_owned(),
            (None, None) => "default".into(),
        };
        let mut inputs = Inputs {
            namespace,
            wishes: OwnerWishes {
                secrets: own.plans,
                images: settings,
                registry_auth: None,
                signature_key_pem,
                annotations: annotations(&args.with)?,
            },
            ..Inputs::default()
        };
        for path in &args.allow {
            crate::embedded::resource_path(path)?;
            inputs.wishes.secrets.push(cocoon_plan::SecretPlan { uri: format!("kbs:///{path}"), file: None });
        }
        inputs.learn(&documents)?;
        if let Some(cluster) = cluster {
            learn(&mut inputs, &documents, cluster, output).await?;
        }
        let mut compilation = Compilation {
            signed: args.require_signature.is_some(),
            documents,
            inputs,
            key_ids: BTreeMap::new(),
            values: own.values,
            allow: args.allow.clone(),
        };
        if lookup {
            compilation.look_up(output).await?;
        } else {
            compilation.assume();
        }
        Ok(compilation)
    }

    fn image_names(&self) -> BTreeSet<String> {
        self.documents.iter().flat_map(|d| images(d, &self.inputs)).collect()
    }

    /// Asks registries for every image.
    async fn look_up(&mut self, output: Output) -> Result<(), Failure> {
        let names = self.image_names();
        if names.is_empty() {
            return Ok(());
        }
        let auth = registry::auth_json();
        let auth = auth.as_deref().map(String::as_str);
        let client = registry::client_for(&self.inputs.wishes.images, auth)?;
        let found: Vec<(String, Reference, registry::Image)> = stream::iter(names)
            .map(|name| inspect(&client, name))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut credentials = serde_json::Map::new();
        for (name, reference, image) in found {
            delivery::check_way(LayersArg::Guest, &image.manifest)?;
            self.signed |= delivery::demands_signature(&self.inputs.wishes.images, &reference)?;
            output.progress(Stage::Plan, &format!("{name} is {}", image.digest));
            // A registry on loopback is spoken to in plain HTTP, through the host: no credentials go there from a guest.
            let own =
                auth.filter(|_| !reference.is_loopback()).and_then(|a| registry::auth_for(a, &reference));
            if let Some(serde_json::Value::Object(auths)) = own.and_then(|text| {
                serde_json::from_slice::<serde_json::Value>(&text).ok()?.get("auths").cloned()
            }) {
                credentials.extend(auths);
            }
            self.key_ids.insert(name.clone(), image.key_ids);
            let facts = ImageFacts { digest: image.digest.to_string(), defaults: image.defaults };
            self.inputs.images.insert(name, facts);
        }
        if !credentials.is_empty() {
            let path = crate::embedded::resource_path(wishes::REGISTRY_AUTH_PATH)?;
            self.inputs.wishes.registry_auth = Some(format!("kbs:///{}", path.as_str()));
            let text = serde_json::json!({ "auths": credentials }).to_string();
            self.values.insert(path, Zeroizing::new(text.into_bytes()));
        }
        Ok(())
    }

    /// Images that nobody asked for: a digest of zeros, and a program that says so.
    fn assume(&mut self) {
        for name in self.image_names() {
            let digest = match name.split_once('@') {
                Some((_, digest)) => digest.to_owned(),
                None => format!("sha256:{}", "0".repeat(64)),
            };
            let mut facts = ImageFacts { digest, ..ImageFacts::default() };
            facts.defaults.entrypoint = vec!["(the image's own)".into()];
            self.inputs.images.insert(name, facts);
        }
    }

    /// Every workload, field by field, with its place among the documents; and how many objects are none or bring a policy
    /// of CoCo's own.
    pub fn examine(&self) -> (Vec<(usize, Workload)>, usize, Vec<String>) {
        let (mut workloads, mut passed, mut coco) = (Vec::new(), 0, Vec::new());
        for (index, document) in self.documents.iter().enumerate() {
            match examine(document, &self.inputs) {
                Examined::Passed => passed += 1,
                Examined::Coco => coco.push(document.label()),
                Examined::Workload(workload) => workloads.push((index, *workload)),
            }
        }
        (workloads, passed, coco)
    }

    /// The workloads as plans.
    ///
    /// # Errors
    /// What of any of them is wrong, all of it.
    pub fn plans(&self, workloads: Vec<(usize, Workload)>) -> Result<Vec<Compiled>, Failure> {
        let mut wrong = Vec::new();
        let mut compiled = Vec::new();
        for (index, workload) in workloads {
            match workload.plan().cloned() {
                Ok(plan) => {
                    let allow = self.allowed(&plan)?;
                    compiled.push(Compiled { index, workload, plan, secrets: self.values.clone(), allow });
                }
                Err(e) => wrong.push(e),
            }
        }
        let Some(first) = wrong.first() else { return Ok(compiled) };
        // A manifest that is wrong is wrong before it asks for too much.
        let code = wrong.iter().map(cocoon_workload::Error::code).find(|c| *c == Code::PlanManifestInvalid);
        let reasons: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Err(Failure::new(code.unwrap_or_else(|| first.code()), reasons.join("\n")))
    }

    /// The shared resources that a workload may have: those asked for, and the keys of its images.
    fn allowed(&self, plan: &Plan) -> Result<BTreeSet<ResourcePath>, Failure> {
        let mut asked = self.allow.clone();
        for secret in &plan.secrets {
            let path = secret.uri.trim_start_matches("kbs:///").to_owned();
            let own = self.values.keys().any(|p| p.as_str() == path);
            if !own && !asked.contains(&path) {
                asked.push(path);
            }
        }
        let needed = plan.own_resources().into_iter().map(|uri| uri.trim_start_matches("kbs:///").to_owned());
        asked.extend(needed.filter(|path| !self.values.keys().any(|p| p.as_str() == path)));
        asked.extend(plan.images.policy_uri.iter().map(|uri| uri.trim_start_matches("kbs:///").to_owned()));
        let keys: Vec<String> = self
            .key_ids
            .iter()
            .filter(|(name, _)| {
                plan.containers.iter().any(|c| c.image.reference.split('@').next() == name.split('@').next())
            })
            .flat_map(|(_, ids)| ids.clone())
            .collect();
        wishes::allowed(&asked, &keys, self.signed)
    }
}

async fn inspect(client: &Client, name: String) -> Result<(String, Reference, registry::Image), Failure> {
    let reference = registry::reference(&name)?;
    let image = registry::inspect(client, &reference).await.map_err(|mut f| {
        f.reason = format!("{name}: {}", f.reason);
        f
    })?;
    Ok((name, reference, image))
}

/// What the cluster has of the ConfigMaps and Secrets that are not among the manifests.
async fn learn(
    inputs: &mut Inputs,
    documents: &[Document],
    cluster: &Cluster,
    output: Output,
) -> Result<(), Failure> {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for document in documents {
        let (maps, others) = wanted(document, inputs);
        config_maps.extend(maps);
        secrets.extend(others);
    }
    for (secret, names) in [(false, config_maps), (true, secrets)] {
        for (namespace, name) in names {
            let Some(content) = cluster.content(secret, &namespace, &name).await? else { continue };
            let (kind, contents) = match secret {
                true => ("Secret", &mut inputs.secrets),
                false => ("ConfigMap", &mut inputs.config_maps),
            };
            output.progress(
                Stage::Plan,
                &format!("{kind} {namespace}/{name}: taken as the cluster has it now"),
            );
            contents.insert(&namespace, &name, content);
        }
    }
    Ok(())
}

/// `NAME=VALUE`, with or without `cocoon.dev/`.
fn annotations(with: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    for setting in with {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| usage(format!("--with {setting}: write NAME=VALUE")))?;
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        found.insert(format!("{PREFIX}{name}"), value.to_owned());
    }
    Ok(found)
}

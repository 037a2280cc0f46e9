//! From an object of a manifest to a plan, field by field.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_plan::pod::VolumeSource;
use cocoon_plan::{ContainerPlan, MountPlan, Plan};
use serde_json::Value;

use crate::Error;
use crate::container::{Shared, limits};
use crate::fields::Fields;
use crate::inputs::Inputs;
use crate::log::{Decision, Log, Problem};
use crate::manifest::Document;
use crate::names::{instance, plan_name};
use crate::sealed;
use crate::security::PodSecurity;
use crate::settings::{PREFIX, Settings};
use crate::spec::{measured, restart, the_clusters_own};
use crate::template::{Kind, Pod};
use crate::volumes::{self, Volume, Volumes};

/// CoCo's annotation for initdata: a manifest that has it brings a policy of its own.
pub const COCO_INITDATA: &str = "io.katacontainers.config.hypervisor.cc_init_data";
/// Where admission mounts the token of the pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What an object of a manifest is to a compilation.
#[derive(Debug)]
pub enum Examined {
    /// Nothing that makes pods: it goes to the cluster as it is.
    Passed,
    /// It brings initdata by CoCo's annotation, and is left as it is.
    Coco,
    /// Something that makes pods.
    Workload(Box<Workload>),
}

/// Something that makes pods, field by field.
#[derive(Debug)]
pub struct Workload {
    /// For people: `Deployment shop/web`.
    pub label: String,
    /// Its namespace.
    pub namespace: String,
    /// What was decided, in the order of the manifest.
    pub decisions: Vec<Decision>,
    /// What keeps it from becoming a plan.
    pub problems: Vec<Problem>,
    /// The plan, where nothing does.
    pub plan: Option<Plan>,
}

impl Workload {
    /// The plan.
    ///
    /// # Errors
    /// [`Error::Fields`] with everything that is wrong; [`Error::Plan`] where what came out is no plan that a guest takes.
    pub fn plan(&self) -> Result<&Plan, Error> {
        let label = self.label.clone();
        match &self.plan {
            _ if !self.problems.is_empty() => Err(Error::Fields { label, problems: self.problems.clone() }),
            None => Err(Error::Plan { label, problem: "it has no containers".into(), too_large: false }),
            Some(plan) => match plan.to_canonical() {
                Ok(_) => Ok(plan),
                Err(e) => {
                    let too_large = matches!(e, cocoon_plan::Error::TooLarge(_));
                    Err(Error::Plan { label, problem: self.named(&e.to_string()), too_large })
                }
            },
        }
    }

    /// What a plan's check says, with containers by their names.
    fn named(&self, problem: &str) -> String {
        let mut text = problem.to_owned();
        for (i, container) in self.plan.iter().flat_map(|p| p.containers.iter().enumerate()) {
            text = text.replace(&format!("containers[{i}]"), &format!("containers[{}]", container.name));
        }
        text
    }
}

/// The images that an object's pods have, as written; empty for what makes no pods.
pub fn images(document: &Document, inputs: &Inputs) -> Vec<String> {
    let Some(pod) = Kind::of(document).and_then(|kind| kind.pod(document)) else { return Vec::new() };
    let mut images = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            images.extend(container.get("image").and_then(Value::as_str).map(str::to_owned));
        }
    }
    let debug =
        annotations(document, pod, inputs, &mut Log::default(), "").remove(&format!("{PREFIX}debug-image"));
    images.extend(debug.map(|image| image.trim().to_owned()));
    images.into_iter().filter(|i| !i.is_empty()).collect()
}

/// The annotations that count: the pod's, else the object's own, else the owner's.
pub(crate) fn annotations(
    document: &Document,
    pod: &Value,
    inputs: &Inputs,
    log: &mut Log,
    at: &str,
) -> BTreeMap<String, String> {
    let mut found = inputs.wishes.annotations.clone();
    let mut add = |metadata: Option<&Value>, at: &str| {
        let Some(metadata) = metadata else { return };
        let Some(mut metadata) = Fields::of(at, metadata, log) else { return };
        found.extend(
            metadata.labels("annotations", log).into_iter().filter(|(name, _)| name.starts_with(PREFIX)),
        );
    };
    add(document.value.get("metadata"), "metadata");
    if !std::ptr::eq(pod, &document.value) {
        add(pod.get("metadata"), at);
    }
    found
}

/// Looks at every field of an object that makes pods.
pub fn examine(document: &Document, inputs: &Inputs) -> Examined {
    let Some(kind) = Kind::of(document) else { return Examined::Passed };
    let mut log = Log::default();
    let namespace = match document.namespace() {
        "" => inputs.namespace.clone(),
        namespace => namespace.to_owned(),
    };
    let (mut plan, mut coco) = (None, false);
    match kind.pod(document) {
        None => log.wrong(&kind.path("spec"), "is missing"),
        Some(value) => {
            let mut job = JobTraits::default();
            job.read(kind, document);
            coco = value.pointer("/metadata/annotations").and_then(|a| a.get(COCO_INITDATA)).is_some();
            if !coco {
                plan = pod(kind, document, value, &namespace, inputs, &job, &mut log);
            }
        }
    }
    if coco {
        return Examined::Coco;
    }
    let Log { decisions, problems } = log;
    let plan = plan.filter(|_| problems.is_empty());
    Examined::Workload(Box::new(Workload { label: document.label(), namespace, decisions, problems, plan }))
}

/// What a job adds to its pods.
#[derive(Default)]
struct JobTraits {
    indexed: bool,
}

impl JobTraits {
    fn read(&mut self, kind: &Kind, document: &Document) {
        let mode = kind.job().and_then(|job| document.value.pointer(&format!("{job}/completionMode")));
        self.indexed = mode.and_then(Value::as_str) == Some("Indexed");
    }
}

#[allow(clippy::too_many_arguments)] // of one caller's making
fn pod(
    kind: &'static Kind,
    document: &Document,
    value: &Value,
    namespace: &str,
    inputs: &Inputs,
    job: &JobTraits,
    log: &mut Log,
) -> Option<Plan> {
    let at = kind.path("metadata");
    let mut settings =
        Settings::read(&annotations(document, value, inputs, log, &at), &format!("{at}.annotations"), log);
    if job.indexed {
        // Which part of the work a pod is to do is for the job's controller to say.
        settings.host_env.push("JOB_COMPLETION_INDEX".into());
    }
    let metadata = value.get("metadata").filter(|m| !m.is_null());
    let (labels, notes) = match metadata {
        None => Default::default(),
        Some(metadata) => {
            let mut metadata = Fields::of(at.clone(), metadata, log)?;
            (metadata.labels("labels", log), metadata.labels("annotations", log))
        }
    };
    measured(&notes, &at, log);
    let spec_value = value.get("spec").filter(|s| !s.is_null());
    let Some(spec_value) = spec_value else {
        log.wrong(&kind.path("spec"), "is missing");
        return None;
    };
    let mut spec = Fields::of(kind.path("spec"), spec_value, log)?;
    let account = spec.text("serviceAccountName", log).or(spec.text("serviceAccount", log));
    let pod = Pod {
        inputs,
        kind,
        settings,
        namespace: namespace.to_owned(),
        name: Some(document.name().to_owned()).filter(|n| kind.is_pod() && !n.is_empty()),
        labels,
        annotations: notes,
        service_account: account.unwrap_or("default").to_owned(),
        service_links: spec.flag("enableServiceLinks", log).unwrap_or(true),
        limits: limits(spec_value),
    };
    let security = PodSecurity::read(&mut spec, log);
    let mut volumes = volumes::read(&mut spec, document, &pod, security.fs_group, log);
    let restart = restart(kind, &mut spec, log);
    let share = spec.flag("shareProcessNamespace", log).unwrap_or(false);
    if share {
        log.fixed(&spec.path("shareProcessNamespace"), "true", "");
    }
    let mount_token = spec.flag("automountServiceAccountToken", log).unwrap_or(true) && pod.settings.token;
    let token = mount_token.then(|| token(&mut volumes));
    let shared = Shared { pod: &pod, security: &security, volumes: &volumes, restart };
    let mut compiled = Vec::new();
    for (list, init) in [("initContainers", true), ("containers", false)] {
        for container in spec.objects(list, "name", log) {
            compiled.extend(shared.container(container, init, log));
        }
    }
    if spec_value.get("containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        log.wrong(&spec.path("containers"), "is empty");
    }
    compiled.extend(shared.debugger(log));
    the_clusters_own(&mut spec, log);
    spec.finish(log);

    let mut ports = BTreeSet::new();
    let mut containers: Vec<ContainerPlan> = Vec::new();
    for one in compiled {
        ports.extend(one.ports);
        if containers.iter().any(|c| c.name == one.plan.name) {
            log.wrong(&kind.path("spec.containers"), format!("the name {:?} is there twice", one.plan.name));
        }
        containers.push(one.plan);
    }
    if let Some(token) = &token {
        add_token(token, &mut containers, &kind.path("spec"), log);
    } else {
        log.fixed(
            &kind.path("spec.automountServiceAccountToken"),
            "false",
            "no token of the cluster reaches the pod",
        );
    }
    if !pod.settings.port_forward {
        ports.clear();
    }
    let ports: Vec<u16> = ports.into_iter().collect();
    if !ports.is_empty() {
        let at = kind.path("spec.containers[*].ports");
        log.open(
            &at,
            format!("{ports:?}"),
            "`kubectl port-forward` reaches these ports of the pod and no others",
        );
    }
    let secrets: Vec<_> =
        inputs.wishes.secrets.iter().chain(&pod.settings.trustee_secrets).cloned().collect();
    for secret in &secrets {
        let file = secret.file.as_deref().unwrap_or("no file");
        log.fixed(
            "secrets",
            format!("{} as {file}", secret.uri),
            "from Trustee, once the guest has proved what it is",
        );
    }
    for variable in &pod.settings.secret_env {
        log.fixed(
            "secrets",
            format!("{} as variable {}", variable.uri, variable.name),
            "from Trustee, once the guest has proved what it is",
        );
    }
    let notes = kind.path("metadata.annotations");
    let sealed = sealed::places(spec_value, &pod.settings, &containers, &notes, log);
    Some(Plan {
        version: 1,
        name: plan_name(document, namespace),
        instance: instance(document, namespace),
        volumes: used(volumes, &containers),
        containers,
        secrets,
        secret_env: pod.settings.secret_env.clone(),
        sealed,
        attestation_api: pod.settings.attestation_api,
        registry_auth: inputs.wishes.registry_auth.clone(),
        images: inputs.wishes.images.clone(),
        sysctls: security.sysctls,
        share_process_namespace: share,
        forward_ports: ports,
        exact: pod.settings.exact,
    })
}

/// The name of the volume that admission adds for the token.
fn token(volumes: &mut Volumes) -> String {
    let mut name = "kube-api-access".to_owned();
    while volumes.contains_key(&name) {
        name.push_str("-x");
    }
    let source = Volume::Mountable(VolumeSource::Files { digests: None });
    volumes.insert(name.clone(), (String::new(), source));
    name
}

fn add_token(volume: &str, containers: &mut [ContainerPlan], at: &str, log: &mut Log) {
    for container in containers {
        let taken = container.mounts.iter().any(|m| m.target().trim_end_matches('/') == TOKEN);
        if !taken {
            container.mounts.push(MountPlan::Volume {
                target: TOKEN.into(),
                volume: volume.to_owned(),
                sub_path: String::new(),
                read_only: true,
            });
        }
    }
    let why = "the cluster's token and certificate, for its API: untrusted (automountServiceAccountToken: false leaves it out)";
    log.open(&format!("{at}.automountServiceAccountToken"), TOKEN, why);
}

/// The volumes that containers use.
fn used(volumes: Volumes, containers: &[ContainerPlan]) -> Vec<cocoon_plan::pod::VolumePlan> {
    let mounted = |name: &str| {
        containers.iter().any(|c| {
            c.devices.iter().any(|d| d.volume == name)
                || c.mounts.iter().any(|m| matches!(m, MountPlan::Volume { volume, .. } if volume == name))
        })
    };
    volumes
        .into_iter()
        .filter(|(name, _)| mounted(name))
        .filter_map(|(name, (_, volume))| match volume {
            Volume::Mountable(source) => Some(volumes::plan(&name, source)),
            Volume::Encrypted { source, .. } => Some(volumes::plan(&name, source)),
            Volume::Claim { .. } => Some(volumes::plan(&name, VolumeSource::Block {})),
            Volume::Refused => None,
        })
        .collect()
}

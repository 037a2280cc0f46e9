//! The workload's owner: Trustee, plans, and what pods carry of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cocoon_evidence::snp;
use cocoon_guest_image::GuestImage;
use cocoon_http::Method;
use cocoon_image::{Config, Document, MAX_CONFIG_BYTES, Reference};
use cocoon_layers::{Roots, plan_roots};
use cocoon_plan::compile::{ImageDefaults, RunWishes, compile_run};
use cocoon_plan::images::{ImageSettings, SharedLayer};
use cocoon_plan::{ContainerPlan, Plan, TrusteeConfig, workload_initdata};
use cocoon_registry::Auth;
use cocoon_runtime::{Acceleration, Protection, RuntimeConfig};
use serde_json::{Value, json};

use super::{ContainerWish, Node};
use crate::{Job, Outcome, Registry, Served, TrusteeHome, guest_image, run, wait_until};

/// Cocoon's annotation of a pod.
pub const ANNOTATION: &str = "dev.cocoon.initdata";
/// CoCo's annotation of the same content.
pub const COCO_ANNOTATION: &str = "io.katacontainers.config.hypervisor.cc_init_data";

/// An owner with a Trustee that serves on the node's address. It accepts the guests of this test's image.
pub struct Owner {
    home: TrusteeHome,
    trustee: Served,
    registry: String,
    image: PathBuf,
}

impl Owner {
    /// Starts Trustee; `None`, and the reason printed, where this call of the tests lacks something. The calling thread
    /// must be in the node's network.
    ///
    /// # Errors
    /// Where Trustee does not start.
    pub fn start(registry: &Registry) -> Result<Option<Self>> {
        let Some(home) = TrusteeHome::open()? else { return Ok(None) };
        let Some(image) = guest_image() else {
            println!("skipped: COCOON_GUEST_IMAGE does not name what to test (make test does)");
            return Ok(None);
        };
        home.processor()?;
        home.settings_as_they_are(&format!(
            "[server]\nlisten = [\"{}:0\"]\n[server.limits]\nhandshakes_per_peer_per_minute = 1000000\n\
             [attestation]\naccept_simulated = true\n",
            Node::ADDRESS
        ))?;
        let trustee = home.start()?;
        let image = std::fs::canonicalize(image)?;
        Ok(Some(Owner { home, trustee, registry: registry.address(), image }))
    }

    /// The runtime class of pods whose guests this Trustee accepts, with the state of pods in the node's folder.
    pub fn class(&self, node: &Node) -> RuntimeConfig {
        RuntimeConfig {
            protection: Protection::Sim,
            acceleration: Acceleration::Tcg,
            guest_image: self.image.clone(),
            state: node.folder().join("s"),
            data: self.home.file("data"),
            default_memory_mib: 256,
            console: true,
            ..RuntimeConfig::default()
        }
    }

    /// Whom to trust as maker of the node's simulated processor, and nobody else.
    ///
    /// # Errors
    /// Where the processor's files cannot be read.
    pub fn simulated_roots(&self) -> Result<snp::Roots> {
        let (ark_der, ask_der) = self.home.processor()?.root();
        Ok(snp::Roots { vendor: false, simulated: vec![snp::SimulatedRoot { ark_der, ask_der }] })
    }

    /// Lets Trustee affirm the guests.
    ///
    /// # Errors
    /// Where it does not take the values.
    pub async fn accept_guests(&self) -> Result<()> {
        self.accept_image("guest-image", &self.image).await
    }

    /// Lets Trustee affirm the guests of another image too: of this source, they replace those that it had said before.
    ///
    /// # Errors
    /// Where the image cannot be read or Trustee does not take the values.
    pub async fn accept_image(&self, source: &str, image: &Path) -> Result<()> {
        let values = self.values(image)?;
        let body = json!({"source": source, "values": values, "expires_unix": 4_102_444_800_u64});
        self.trustee.admin()?.put("/cocoon/v0/reference-values", body.to_string()).await?;
        Ok(())
    }

    /// What this test's guests are compared with.
    ///
    /// # Errors
    /// Where the processor's files or the image cannot be read.
    pub fn reference_values(&self) -> Result<Value> {
        self.values(&self.image)
    }

    fn values(&self, image: &Path) -> Result<Value> {
        let tcb = self.home.processor()?.tcb();
        let measured = GuestImage::open(image)?.reference_values()?;
        let measurement = measured.get("sim_launch_measurement").context("no measurement")?;
        Ok(json!({
            "sim_launch_measurement": measurement,
            "sim_bootloader": [tcb.bootloader], "sim_microcode": [tcb.microcode],
            "sim_snp_svn": [tcb.snp], "sim_tee_svn": [tcb.tee],
        }))
    }

    /// The plan of a container as a test wishes it, with the right to exec anything.
    ///
    /// # Errors
    /// Where the registry does not know its image, or the wishes are no valid plan.
    pub fn container(&self, wish: &ContainerWish) -> Result<ContainerPlan> {
        let digest = digest(&wish.image)?;
        let image = ImageDefaults { env: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        let wishes = RunWishes {
            name: "test".into(),
            reference: wish.image.clone(),
            digest,
            command: wish.command.clone(),
            env: wish.env.iter().map(|(k, v)| format!("{k}={v}")).collect(),
            user: wish.user.map(|u| u.to_string()),
            stdin: wish.stdin,
            terminal: wish.tty,
            ..RunWishes::default()
        };
        let mut plan = compile_run(&image, &wishes)?.containers.pop().context("no container")?;
        plan.name = wish.name.clone();
        plan.exec.any = true;
        Ok(plan)
    }

    /// The layers of an image for a plan that wants them attached as disks, with roots that are computed here.
    ///
    /// # Errors
    /// Where the image cannot be read.
    pub async fn layers(&self, image: &str) -> Result<Vec<SharedLayer>> {
        let settings = ImageSettings { plain_http: vec![self.registry.clone()], ..ImageSettings::default() };
        let http = cocoon_registry::http_for_plan(&settings, None)?;
        let client = cocoon_registry::for_plan(&settings, http, Auth::anonymous())?;
        let reference = Reference::parse(image)?;
        let (_, bytes) = client.resolve(&reference).await?;
        let Document::Manifest(manifest) = Document::parse(&bytes)? else { bail!("{image} is an index") };
        let config = client.blob_bytes(&reference, &manifest.config, MAX_CONFIG_BYTES).await?;
        let config = Config::parse(&config)?;
        let roots = Roots::open(&self.home.file("roots"))?;
        let planned =
            plan_roots(&roots, None, &client, &reference, &manifest, &config, Arc::new(|_| {})).await?;
        let pinned = planned.layers.iter().map(|known| SharedLayer {
            diff_id: known.diff_id.to_string(),
            root: hex::encode(known.root),
            blocks: known.blocks,
            key: None,
        });
        Ok(pinned.collect())
    }

    /// A plan of these containers, started in this order.
    ///
    /// # Errors
    /// Where no random bytes can be had.
    pub fn plan(&self, name: &str, containers: Vec<ContainerPlan>) -> Result<Plan> {
        let mut instance = [0; 8];
        aws_lc_rs::rand::fill(&mut instance).ok().context("no random bytes")?;
        let mut plan: Plan = serde_json::from_value(json!({
            "version": 1, "name": name, "instance": hex::encode(instance), "containers": containers,
        }))?;
        plan.images.plain_http = vec![self.registry.clone()];
        Ok(plan)
    }

    /// Registers a plan and its secrets (by path, such as `default/secret/token`); gives the annotation's value.
    ///
    /// # Errors
    /// Where the plan is not valid or Trustee refuses it.
    pub async fn register(&self, plan: &Plan, secrets: &[(&str, &str)]) -> Result<String> {
        use base64::Engine;
        let certificate = self.trustee.certificate_pem()?;
        let config = TrusteeConfig { url: self.trustee.url().to_owned(), certificate: Some(certificate) };
        let initdata = workload_initdata(plan, &config).map_err(|f| anyhow::anyhow!(f.reason))?;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let values: serde_json::Map<String, Value> =
            secrets.iter().map(|(path, value)| ((*path).to_owned(), encode(value).into())).collect();
        let body = json!({"name": plan.name, "secrets": values, "accept_simulated": true});
        let path = format!("/cocoon/v0/workloads/{}", hex::encode(initdata.digest()));
        self.trustee.admin()?.put(&path, body.to_string()).await?;
        Ok(initdata.to_annotation()?)
    }

    /// Forgets a workload that was registered.
    ///
    /// # Errors
    /// Where Trustee does not know it.
    pub async fn unregister(&self, annotation: &str) -> Result<()> {
        let initdata = cocoon_protocol::initdata::InitData::from_annotation(annotation)?;
        let path = format!("/cocoon/v0/workloads/{}", hex::encode(initdata.digest()));
        self.trustee.admin()?.send(Method::DELETE, &path, "").await?.succeeded()?;
        Ok(())
    }

    /// Trustee.
    pub fn trustee(&self) -> &Served {
        &self.trustee
    }

    /// `cocoon` with these arguments, as this owner, against this Trustee, to its end.
    ///
    /// # Errors
    /// Where it cannot be started or takes longer than `limit`.
    pub fn cocoon(&self, args: &[&str], limit: Duration) -> Result<Outcome> {
        let mut command = self.home.command(args);
        command.args(["--trustee", self.trustee.url(), "--trustee-token"]).arg(self.token());
        command.arg("--trustee-cert").arg(self.certificate()?);
        Job::start(command)?.finish(limit)
    }

    /// The file with an administrator's token of its Trustee.
    pub fn token(&self) -> PathBuf {
        self.home.state().join("admin.token")
    }

    /// A file with its Trustee's certificate, PEM.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn certificate(&self) -> Result<PathBuf> {
        let certificate = self.home.file("trustee.pem");
        std::fs::write(&certificate, self.trustee.certificate_pem()?)?;
        Ok(certificate)
    }

    /// Waits until Trustee's log holds a text; whether it came to.
    pub fn heard(&self, text: &str) -> bool {
        wait_until(Duration::from_secs(20), || self.trustee.log().contains(text))
    }
}

/// The digest to which the registry resolves an image's name.
fn digest(reference: &str) -> Result<String> {
    let image = format!("docker://{reference}");
    let raw = run("skopeo", ["inspect", "--raw", "--tls-verify=false", &image])?;
    Ok(cocoon_image::Digest::sha256(&raw).to_string())
}

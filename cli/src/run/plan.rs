//! The plan stage: from flags and an image to a plan, what Trustee registers of it, and the disks that it needs.

use cocoon_plan::compile::{RunWishes, compile_run};
use cocoon_plan::{TrusteeConfig, workload_initdata};
use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_trustee::{MinStatus, Registration};

use super::{REGISTRATION_LIFETIME, Run};
use crate::args::LayersArg;
use crate::embedded::now;
use crate::{delivery, dirs, registry, wishes};

/// What the plan stage settles.
pub(super) struct Planned {
    pub(super) initdata: InitData,
    pub(super) registration: Registration,
    /// Layers that the VM gets as disks; held while it runs.
    pub(super) shared: Option<delivery::Shared>,
}

impl Run {
    /// Resolves the image, reads what flags name and compiles both to a plan and its registration.
    pub(super) async fn plan(
        &self,
        id: &str,
        trustee: &TrusteeConfig,
        simulated: bool,
    ) -> Result<Planned, Failure> {
        let args = &self.args;
        let reference = registry::reference(&args.image)?;
        let mut secrets = wishes::secrets(&args.secrets)?;
        let signature_key_pem = match &args.require_signature {
            Some(file) => Some(std::fs::read_to_string(file).map_err(|e| {
                Failure::new(Code::UsageInvalid, format!("--require-signature {}: {e}", file.display()))
            })?),
            None => None,
        };
        let images = delivery::settings(&args.delivery)?;
        let auth = registry::auth_json();
        let client = registry::client_for(&images, auth.as_deref().map(String::as_str))?;
        let image = registry::inspect(&client, &reference).await?;
        delivery::check_way(args.delivery.layers, &image.manifest)?;
        self.output.progress(Stage::Plan, &format!("image pinned to {}", image.digest));

        let mut registry_auth = None;
        let auth = auth.as_deref().and_then(|text| registry::auth_for(text, &reference));
        // A registry on loopback is spoken to in plain HTTP, through the host: no credentials go there from a guest.
        if let Some(auth) = auth.filter(|_| !reference.is_loopback()) {
            let path = crate::embedded::resource_path(wishes::REGISTRY_AUTH_PATH)?;
            registry_auth = Some(format!("kbs:///{}", path.as_str()));
            secrets.values.insert(path, auth);
        }
        let mut plans = secrets.plans;
        let keys: Vec<String> =
            image.key_ids.iter().filter_map(|id| id.strip_prefix("kbs:///").map(str::to_owned)).collect();
        for path in args.allow.iter().filter(|p| !keys.contains(p)) {
            plans.push(cocoon_plan::SecretPlan { uri: format!("kbs:///{path}"), file: None });
        }
        let signed = args.require_signature.is_some() || delivery::demands_signature(&images, &reference)?;
        let mut allow = wishes::allowed(&args.allow, &image.key_ids, signed)?;
        if let Some(uri) = &images.policy_uri {
            allow.insert(crate::embedded::resource_path(uri.trim_start_matches("kbs:///"))?);
        }
        let shared = match args.delivery.layers {
            LayersArg::Guest => None,
            LayersArg::Shared => Some(delivery::shared(&client, &reference, &image, self.output).await?),
        };
        let run = RunWishes {
            name: wishes::workload_name(&reference.repository),
            instance: format!("{id}{}", dirs::random_hex(10)?),
            reference: args.image.clone(),
            digest: image.digest.to_string(),
            command: args.command.clone(),
            env: wishes::environment(&args.env),
            workdir: args.workdir.clone(),
            user: args.user.clone(),
            signature_key_pem,
            secrets: plans,
            layers: shared.as_ref().map(|s| s.layers.clone()),
            images,
            registry_auth,
            attestation_api: args.attestation_api,
            stdin: args.interactive,
            terminal: args.tty,
        };
        let plan = compile_run(&image.defaults, &run)?;
        let initdata = workload_initdata(&plan, trustee)?;
        let registration = Registration {
            digest_hex: hex::encode(initdata.digest()),
            name: run.name,
            secrets: secrets.values,
            allow,
            min_status: MinStatus::Affirming,
            accept_simulated: simulated,
            expires_unix: Some(now().saturating_add(REGISTRATION_LIFETIME)),
        };
        Ok(Planned { initdata, registration, shared })
    }
}

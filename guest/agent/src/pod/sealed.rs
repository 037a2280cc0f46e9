//! Sealed secrets that the host hands over, and variables from Trustee: what they become before a program sees them.
//!
//! In a place that the plan names for one the host can bring in nothing but a sealed secret that the plan means: anything else
//! is refused, text of the host's own as well. What is sealed elsewhere is refused too, so that no program takes the sealed
//! form for its secret.

use std::sync::Arc;

use cocoon_plan::sealed::SealedPlan;
use cocoon_protocol::sealed::is_sealed;
use cocoon_stage::{Code, Failure, Stage};

use super::Pod;
use crate::container::HostPart;
use crate::prepare::{Preparation, Secret};

impl Pod {
    /// Puts what a sealed file stands for in its place. `whole` says that the host sends it from its beginning.
    ///
    /// # Errors
    /// `SECRET-UNSEAL-FAILED`, and what keeps Trustee from being asked.
    pub(crate) async fn unseal_file(
        &self,
        volume: &str,
        path: &str,
        whole: bool,
        data: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let Some(plan) = self.sealed_file(volume, path) else { return Ok(()) };
        let at = format!("file {path:?} of volume {volume:?}");
        if !whole {
            return Err(failed(&at, "a sealed secret comes in one piece"));
        }
        let preparation = self.with(|running| Ok(Arc::clone(&running.preparation)))?;
        let secret = unsealed(&preparation, data, &plan, &at).await;
        let secret = match secret {
            Ok(secret) => secret,
            Err(failure) => return Err(preparation.reported(failure).await),
        };
        data.clear();
        data.extend_from_slice(&secret);
        Ok(())
    }

    fn sealed_file(&self, volume: &str, path: &str) -> Option<SealedPlan> {
        // Before the guest is configured nothing is taken at all.
        self.with(|running| Ok(running.sandbox.plan().sealed_file(volume, path).cloned())).ok().flatten()
    }

    /// Puts what sealed variables of the host stand for in their places, and adds those from Trustee.
    ///
    /// # Errors
    /// As [`Pod::unseal_file`]; also where the host leaves one out.
    pub(super) async fn unseal_variables(
        &self,
        container: &str,
        host: &mut HostPart,
        preparation: &Preparation,
    ) -> Result<(), Failure> {
        let (sealed, own) = self.with(|running| {
            let plan = running.sandbox.plan();
            let sealed: Vec<(String, SealedPlan)> = plan
                .sealed_variables(container)
                .map(|(name, plan)| (name.to_owned(), plan.clone()))
                .collect();
            Ok((sealed, plan.secret_env.clone()))
        })?;
        let env = &mut host.env;
        let of = |entry: &String, name: &str| entry.split_once('=').is_some_and(|(n, _)| n == name);
        if let Some(entry) = env.iter().find(|e| {
            e.split_once('=')
                .is_some_and(|(n, v)| is_sealed(v.as_bytes()) && !sealed.iter().any(|(name, _)| name == n))
        }) {
            let name = entry.split('=').next().unwrap_or_default();
            return Err(failed(&format!("variable {name}"), "a sealed secret, where the plan has none"));
        }
        for (name, plan) in &sealed {
            let at = format!("variable {name}");
            let value = env.iter().find(|e| of(e, name)).and_then(|e| e.split_once('='));
            let (_, value) = value.ok_or_else(|| failed(&at, "the host sets none"))?;
            let secret = unsealed(preparation, value.as_bytes(), plan, &at).await?;
            let entry = entry(name, &secret, &at)?;
            env.retain(|e| !of(e, name));
            env.push(entry);
        }
        for variable in &own {
            let at = format!("variable {}", variable.name);
            let secret = preparation.resource(&variable.uri).await?;
            env.push(entry(&variable.name, &secret, &at)?);
        }
        host.sealed = sealed.into_iter().map(|(name, _)| name).collect();
        Ok(())
    }
}

async fn unsealed(
    preparation: &Preparation,
    sealed: &[u8],
    plan: &SealedPlan,
    at: &str,
) -> Result<Secret, Failure> {
    if !is_sealed(sealed) {
        return Err(failed(at, "it is no sealed secret, and the plan takes nothing else there"));
    }
    preparation.secrets().await?.unseal(sealed, plan).await.map_err(|mut failure| {
        failure.reason = format!("{at}: {}", failure.reason);
        failure
    })
}

/// The largest value of a variable, in bytes.
const MAX_VALUE: usize = 128 * 1024;

fn entry(name: &str, secret: &Secret, at: &str) -> Result<String, Failure> {
    let text = std::str::from_utf8(secret).ok().filter(|t| !t.contains('\0') && t.len() <= MAX_VALUE);
    let text = text.ok_or_else(|| failed(at, "its value is no text that a variable can hold"))?;
    Ok(format!("{name}={text}"))
}

fn failed(at: &str, why: &str) -> Failure {
    Failure::new(Code::SecretUnsealFailed, format!("{at}: {why}")).at(Stage::Start)
}

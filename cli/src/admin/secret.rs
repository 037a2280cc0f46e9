//! `cocoon secret` and its rules.

use std::io::Write;

use bytes::Bytes;
use cocoon_stage::{Code, Failure};
use serde_json::{Map, Value, json};

use super::seal::{public_jwk, seal};
use super::{note, print, say, secret_value, usage};
use crate::args::{Common, RulesCommand, SecretCommand};
use crate::client::{AdminClient, segment};
use crate::embedded::{now, resource_path};
use crate::moments::expiry;

pub async fn secret(command: SecretCommand) -> Result<(), Failure> {
    match command {
        SecretCommand::Set { path, value, workload, namespace, accept_simulated, common } => {
            let path = resource_path(&path)?;
            let workload = workload.map(|of| crate::kube::registered_name(&of, &namespace)).transpose()?;
            let value = secret_value(&value)?;
            let client = AdminClient::open(&common)?;
            let body = Bytes::copy_from_slice(&value);
            client.put_bytes(&format!("secrets/{}", path.as_str()), body, path.as_str()).await?;
            let Some(workload) = workload else { return Ok(()) };
            let id = rule_id(&workload, path.as_str());
            let rule = json!({"workload": format!("name:{workload}"), "path": path.as_str(), "min_status": "affirming",
                "accept_simulated": accept_simulated, "note": "cocoon secret set --for"});
            client.put(&format!("rules/{id}"), &rule, &format!("rule {id}")).await?;
            note(&common, &format!("{workload} may have {} (rule {id})", path.as_str()));
            Ok(())
        }
        SecretCommand::Seal(args) => {
            say(&match public_jwk(&args)? {
                Some(jwk) => jwk,
                None => seal(&args)?,
            });
            Ok(())
        }
        SecretCommand::Get { path, common } => get(&path, &common),
        SecretCommand::List { common } => {
            let paths = AdminClient::open(&common)?.get("secrets", "secrets").await?;
            if common.json {
                return print(&paths, &common);
            }
            for path in paths.as_array().into_iter().flatten().filter_map(Value::as_str) {
                say(path);
            }
            Ok(())
        }
        SecretCommand::Rm { path, common } => {
            let path = resource_path(&path)?;
            let client = AdminClient::open(&common)?;
            client.delete(&format!("secrets/{}", path.as_str()), path.as_str()).await.map(drop)
        }
        SecretCommand::Rules(command) => rules(command).await,
    }
}

/// A rule's name that is the same for the same workload and path.
fn rule_id(workload: &str, path: &str) -> String {
    let text = format!("{workload}\n{path}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    format!("for-{}", hex::encode(digest.as_ref()).chars().take(24).collect::<String>())
}

fn get(path: &str, common: &Common) -> Result<(), Failure> {
    let path = resource_path(path)?;
    if common.trustee.is_some() {
        return Err(usage(
            "a Trustee never gives a secret's value out over HTTP but to an attested guest, encrypted; run `cocoon \
             secret get` where its state is, or set the secret anew",
        ));
    }
    if common.tenant.is_some() {
        return Err(usage("values of a tenant's secrets are for its guests only; set the secret anew"));
    }
    let client = AdminClient::open(common)?;
    let embedded = client.embedded().ok_or_else(|| Failure::new(Code::Internal, "no embedded Trustee"))?;
    let value = embedded
        .secret(path.as_str())?
        .ok_or_else(|| Failure::new(Code::ReleaseSecretMissing, format!("there is no {}", path.as_str())))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&value)
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(Code::Internal, format!("standard output: {e}")))
}

async fn rules(command: RulesCommand) -> Result<(), Failure> {
    let at = |id: &str| format!("rules/{}", segment(id));
    match command {
        RulesCommand::List { common } => {
            print(&AdminClient::open(&common)?.get("rules", "rules").await?, &common)
        }
        RulesCommand::Set { id, workload, path, demands, note: words, common } => {
            let mut rule = Map::new();
            rule.insert("workload".into(), workload.into());
            rule.insert("path".into(), path.into());
            rule.insert("min_status".into(), demands.min_status.as_str().into());
            rule.insert("accept_simulated".into(), demands.accept_simulated.into());
            if let Some(end) = expiry(demands.expires.as_deref(), now())? {
                rule.insert("expires_unix".into(), end.into());
            }
            if let Some(words) = words {
                rule.insert("note".into(), words.into());
            }
            let client = AdminClient::open(&common)?;
            client.put(&at(&id), &Value::Object(rule), &format!("rule {id}")).await?;
            note(&common, &format!("rule {id} is in force"));
            Ok(())
        }
        RulesCommand::Show { id, common } => {
            print(&AdminClient::open(&common)?.get(&at(&id), &format!("rule {id}")).await?, &common)
        }
        RulesCommand::Rm { id, common } => {
            AdminClient::open(&common)?.delete(&at(&id), &format!("rule {id}")).await.map(drop)
        }
    }
}

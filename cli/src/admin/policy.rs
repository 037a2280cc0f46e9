//! `cocoon policy`.

use cocoon_stage::Failure;
use serde_json::{Value, json};

use super::{note, number, print, say, text, text_of, usage};
use crate::args::PolicyCommand;
use crate::client::{AdminClient, segment};

pub async fn policy(command: PolicyCommand) -> Result<(), Failure> {
    let at = |id: &str| format!("policies/{}", segment(id));
    let named = |id: &str| format!("policy {id}");
    match command {
        PolicyCommand::List { common } => {
            print(&AdminClient::open(&common)?.get("policies", "policies").await?, &common)
        }
        PolicyCommand::Set { id, file, note: words, common } => {
            let body = json!({"policy": text_of(&file)?, "note": words});
            let stored = AdminClient::open(&common)?.put(&at(&id), &body, &named(&id)).await?;
            let version = number(&stored, "version").unwrap_or_default();
            note(&common, &format!("policy {id}, version {version}, is in force"));
            print(&stored, &common)
        }
        PolicyCommand::Get { id, version, common } => {
            let query = version.map(|v| format!("?version={v}")).unwrap_or_default();
            let client = AdminClient::open(&common)?;
            let found = client.get(&format!("{}{query}", at(&id)), &named(&id)).await?;
            if common.json {
                return print(&found, &common);
            }
            say(text(&found, "policy").trim_end_matches('\n'));
            Ok(())
        }
        PolicyCommand::History { id, common } => {
            let path = format!("{}/history", at(&id));
            print(&AdminClient::open(&common)?.get(&path, &named(&id)).await?, &common)
        }
        PolicyCommand::Rollback { id, version, common } => {
            let path = format!("{}/activate", at(&id));
            let what = format!("version {version} of policy {id}");
            let body = json!({"version": version});
            let active = AdminClient::open(&common)?.post(&path, Some(&body), &what).await?;
            note(&common, &format!("policy {id}, version {version}, is in force"));
            print(&active, &common)
        }
        PolicyCommand::Rm { id, common } => {
            AdminClient::open(&common)?.delete(&at(&id), &named(&id)).await.map(drop)
        }
        PolicyCommand::DryRun { id, file, limit, common } => {
            let path = format!("{}/dry-run?limit={limit}", at(&id));
            let body = json!({"policy": text_of(&file)?});
            let answer = AdminClient::open(&common)?.post(&path, Some(&body), &named(&id)).await?;
            if common.json {
                return print(&answer, &common);
            }
            let runs: Vec<&Value> =
                answer.get("runs").and_then(Value::as_array).into_iter().flatten().collect();
            if runs.is_empty() {
                note(&common, "the policy is valid; no evidence was seen lately that it would judge");
            }
            for run in runs {
                say(&outcome(run));
            }
            Ok(())
        }
        PolicyCommand::Defaults { name, common } => {
            let all = AdminClient::open(&common)?.get("policy-defaults", "default policies").await?;
            let Some(name) = name else {
                if common.json {
                    return print(&all, &common);
                }
                all.as_object().into_iter().flatten().for_each(|(name, _)| say(name));
                return Ok(());
            };
            match all.get(&name) {
                Some(Value::String(policy)) => say(policy.trim_end_matches('\n')),
                _ => return Err(usage(format!("no policy {name} comes with Trustee"))),
            }
            Ok(())
        }
    }
}

/// One dry run in a line.
fn outcome(run: &Value) -> String {
    let id = text(run, "request_id");
    let decided = match (run.get("allow").and_then(Value::as_bool), run.get("status")) {
        (Some(true), _) => format!("{} allowed", text(run, "path")),
        (Some(false), _) => format!("{} denied", text(run, "path")),
        (None, Some(_)) => text(run, "status").to_owned(),
        (None, None) => format!("{}: {}", text(run, "code"), text(run, "reason")),
    };
    format!("{id}  {decided}")
}

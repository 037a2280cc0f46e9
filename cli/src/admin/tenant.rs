//! `cocoon tenant`.

use cocoon_stage::Failure;
use serde_json::{Map, Value};

use super::{note, print, say, text, usage};
use crate::args::{Common, QuotaArgs, TenantCommand};
use crate::client::{AdminClient, segment};

pub async fn tenant(command: TenantCommand) -> Result<(), Failure> {
    let at = |name: &str| format!("tenants/{}", segment(name));
    let named = |name: &str| format!("tenant {name}");
    match command {
        TenantCommand::List { common } => print(&open(&common)?.get("tenants", "tenants").await?, &common),
        TenantCommand::Add { name, quota, common } => {
            let made = open(&common)?.put(&at(&name), &limits(&quota), &named(&name)).await?;
            if common.json {
                return print(&made, &common);
            }
            match made.get("admin_token").and_then(Value::as_str) {
                Some(token) => {
                    let path = text(&made, "path");
                    note(&common, &format!("tenant {name} is at {path}; its admin token, shown this once:"));
                    say(token);
                }
                None => note(&common, &format!("tenant {name} was there; its quota is set")),
            }
            Ok(())
        }
        TenantCommand::Token { name, common } => {
            let made = open(&common)?.post(&format!("{}/token", at(&name)), None, &named(&name)).await?;
            if common.json {
                return print(&made, &common);
            }
            say(text(&made, "admin_token"));
            Ok(())
        }
        TenantCommand::Rm { name, common } => {
            open(&common)?.delete(&at(&name), &named(&name)).await.map(drop)
        }
    }
}

fn open(common: &Common) -> Result<AdminClient, Failure> {
    if common.tenant.is_some() {
        return Err(usage("a tenant has no tenants: leave --tenant away and name the tenant itself"));
    }
    AdminClient::open(common)
}

fn limits(quota: &QuotaArgs) -> Value {
    let given = [
        ("secrets", quota.secrets),
        ("workloads", quota.workloads),
        ("rules", quota.rules),
        ("reference_values", quota.reference_values),
        ("policies", quota.policies),
    ];
    let given = given.into_iter().filter_map(|(name, most)| Some((name.to_owned(), most?.into())));
    Value::Object(given.collect::<Map<_, _>>())
}

//! `cocoon workload`.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{MinStatus, Registration};

use super::{note, print, secret_value, text_of, usage};
use crate::args::{StatusArg, Which, WorkloadCommand};
use crate::client::{AdminClient, segment};
use crate::embedded::{now, resource_path};
use crate::moments::expiry;
use crate::registrar::register;

pub async fn workload(command: WorkloadCommand) -> Result<(), Failure> {
    let at = |digest: &str| format!("workloads/{}", segment(digest));
    match command {
        WorkloadCommand::Add { which, name, secrets, allow, demands, common } => {
            let registration = Registration {
                digest_hex: digest(&which)?,
                name,
                secrets: own_secrets(&secrets)?,
                allow: allow.iter().map(|path| resource_path(path)).collect::<Result<BTreeSet<_>, _>>()?,
                min_status: match demands.min_status {
                    StatusArg::Affirming => MinStatus::Affirming,
                    StatusArg::Warning => MinStatus::Warning,
                },
                accept_simulated: demands.accept_simulated,
                expires_unix: expiry(demands.expires.as_deref(), now())?,
            };
            let record = register(&AdminClient::open(&common)?, &registration).await?;
            note(&common, &format!("workload {} is registered", registration.name));
            print(&record, &common)
        }
        WorkloadCommand::List { common } => {
            print(&AdminClient::open(&common)?.get("workloads", "workloads").await?, &common)
        }
        WorkloadCommand::Show { which, common } => {
            let digest = digest(&which)?;
            let what = format!("workload {digest}");
            print(&AdminClient::open(&common)?.get(&at(&digest), &what).await?, &common)
        }
        WorkloadCommand::Rm { which, common } => {
            let digest = digest(&which)?;
            let what = format!("workload {digest}");
            AdminClient::open(&common)?.delete(&at(&digest), &what).await.map(drop)
        }
    }
}

/// The digest that was given, or that of the initdata.
fn digest(which: &Which) -> Result<String, Failure> {
    match (&which.digest, &which.initdata) {
        (Some(digest), _) => Ok(digest.to_ascii_lowercase()),
        (None, Some(file)) => Ok(hex::encode(InitData::parse(&text_of(file)?)?.digest())),
        (None, None) => Err(usage("give the initdata's digest, or --initdata FILE")),
    }
}

fn own_secrets(
    arguments: &[String],
) -> Result<BTreeMap<cocoon_trustee::ResourcePath, zeroize::Zeroizing<Vec<u8>>>, Failure> {
    let mut secrets = BTreeMap::new();
    for argument in arguments {
        // Only what stands before `=` may be printed: the rest can be the secret itself.
        let (path, value) = argument.split_once('=').ok_or_else(|| {
            Failure::new(Code::PlanSecretInvalid, "a --secret has no `=`; write PATH=@FILE or PATH=VALUE")
        })?;
        if secrets.insert(resource_path(path)?, secret_value(value)?).is_some() {
            return Err(Failure::new(Code::PlanSecretInvalid, format!("--secret {path} is given twice")));
        }
    }
    Ok(secrets)
}

//! `kubectl cocoon doctor`: looks at a whole cluster, changes nothing, and says of each thing whether it is well and what to do.

mod api;
mod findings;
mod install;
mod pods;
mod trustee;

use cocoon_stage::Failure;

use self::findings::Findings;
use super::cluster::Cluster;
use crate::args::DoctorArgs;

/// Runs the command: 0 where nothing is broken, 1 where something is. Warnings alone break nothing.
///
/// # Errors
/// Where there is no configuration that says where the cluster is.
pub async fn doctor(args: &DoctorArgs) -> Result<u8, Failure> {
    let cluster = Cluster::open(&args.cluster).await?;
    let mut findings = Findings::default();
    if api::look(&cluster, &mut findings).await {
        install::look(&cluster, &mut findings).await;
        pods::look(&cluster, &mut findings).await;
    }
    trustee::look(&args.common, &mut findings).await;
    Ok(findings.tell(args.common.json))
}

//! `cocoon plan`: the first half of `cocoon run`, for pods that somebody else starts.

use std::time::Instant;

use cocoon_guest_image::GuestImage;
use cocoon_sandbox::TeePlatform;
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure};

use super::Run;
use crate::args::{LayersArg, RunArgs};
use crate::output::Output;
use crate::{dirs, platform};

/// Runs the command: the annotation's value is all that goes to standard output.
pub async fn print(args: RunArgs) -> Result<(), Failure> {
    let usage = |why: &str| Err(Failure::new(Code::UsageInvalid, why));
    if args.trustee.is_none() {
        return usage("plan needs --trustee: the embedded Trustee ends with this command");
    }
    if args.delivery.layers == LayersArg::Shared || args.adversary.is_some() {
        return usage("--layers shared and --adversary concern the VM, which plan does not start");
    }
    let output = Output { json: args.json, quiet: args.quiet };
    let mut run = Run {
        args,
        output,
        began: Instant::now(),
        observer: None,
        registrar: None,
        registered: None,
        leases: Vec::new(),
    };
    let id = dirs::random_hex(6)?;
    let tee = platform::choose(run.args.platform)?;
    let processor = match &tee {
        TeePlatform::Sim { dir } => Some(SecureProcessor::open_or_create(dir)?),
        _ => None,
    };
    let guest = GuestImage::open(&dirs::guest_dir()?)?;
    let trustee = run.open_trustee(processor.as_ref()).await?;
    let planned = run.plan(&id, &trustee, processor.is_some()).await?;
    run.register(&planned.registration, &guest, &tee, processor.as_ref()).await?;
    let annotation = planned.initdata.to_annotation();
    println!("{}", annotation.map_err(|e| Failure::new(Code::PlanTooLarge, e.to_string()))?);
    Ok(())
}

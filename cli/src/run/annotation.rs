//! `cocoon plan`: the first half of `cocoon run`, for pods that somebody else starts.

use std::time::Instant;

use cocoon_guest_image::GuestImage;
use cocoon_sandbox::{TeePlatform, TpmAuthority};
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure};

use super::{Guarantors, Run};
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
    let guest_dir = dirs::guest_dir()?;
    let chosen = platform::choose(run.args.platform, &guest_dir)?;
    let tee = chosen.platform;
    let processor = match &tee {
        TeePlatform::Sim { dir } => Some(SecureProcessor::open_or_create(dir)?),
        _ => None,
    };
    let authority = match &tee {
        TeePlatform::Tpm { dir, .. } => Some(TpmAuthority::open_or_create(dir).await?),
        _ => None,
    };
    let guest = GuestImage::open(&guest_dir)?;
    let trustee = run.open_trustee(processor.as_ref(), authority.as_ref()).await?;
    // Trustee is one that serves: it takes a TPM of this machine's for no simulated one.
    let planned = run.plan(&id, &trustee, processor.is_some()).await?;
    let known = Guarantors {
        processor: processor.as_ref(),
        tpms: authority.is_some().then_some(false),
        firmware: &chosen.firmware,
    };
    run.register(&planned.registration, &guest, &tee, &known).await?;
    let annotation = planned.initdata.to_annotation();
    println!("{}", annotation.map_err(|e| Failure::new(Code::PlanTooLarge, e.to_string()))?);
    Ok(())
}

//! `cocoon doctor`.

use cocoon_stage::{Code, Failure};

use crate::args::DoctorArgs;
use crate::dirs;

/// Prints what was found; the status is 1 where something that a run needs is missing.
pub async fn main(args: &DoctorArgs) -> Result<u8, Failure> {
    let report = cocoon_node::doctor(&dirs::guest_dir()?, &dirs::data_dir()?).await;
    if args.common.json {
        let text =
            serde_json::to_string_pretty(&report).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.render());
    }
    Ok(u8::from(report.anything_missing()))
}

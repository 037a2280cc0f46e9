//! `cocoon layers fetch`: what a pod's host has done before the pod boots, by a process of its own.
//!
//! Host side: initdata and plan are the pod's, and say only what to read.

use std::io::{Read, Write};
use std::path::Path;

use cocoon_layers::{fetch, silent};
use cocoon_plan::{PLAN_FILE, Plan};
use cocoon_protocol::initdata::InitData;
use cocoon_registry::Auth;
use cocoon_stage::{Code, Failure, Stage};
use serde_json::json;

use crate::admin::usage;
use crate::args::LayersFetchArgs;
use crate::registry;

/// Most bytes of a file with initdata: the annotation's text of the largest one.
const MAX_FILE: u64 = 2 << 20;
/// What an initdata disk begins with.
const DISK: &[u8] = b"initdata";

pub async fn main(args: &LayersFetchArgs) -> Result<(), Failure> {
    if args.hold && args.initdata.as_deref() == Some(Path::new("-")) {
        return Err(usage("--hold waits for the end of standard input, which --initdata - reads"));
    }
    let initdata = initdata(args)?;
    let missing =
        || Failure::new(Code::PlanInvalid, format!("the initdata holds no {PLAN_FILE}")).at(Stage::Boot);
    let plan = initdata.file(PLAN_FILE).ok_or_else(missing)?;
    let plan = Plan::parse(plan.as_bytes()).map_err(|e| Failure::from(e).at(Stage::Boot))?;
    let auth = registry::auth_json().map(|text| Auth::from_json(&text)).transpose();
    let auth = auth.map_err(|e| Failure::from(e).at(Stage::Boot))?.unwrap_or_else(Auth::anonymous);
    let cache = super::open(&args.place)?;
    let leases = fetch(&cache, &plan, auth, silent()).await?;
    let lost = |e: std::io::Error| Failure::new(Code::Internal, format!("standard output: {e}"));
    let mut out = std::io::stdout().lock();
    for lease in &leases {
        let line = json!({"root": lease.root_hex(), "path": lease.path, "serial": lease.serial()});
        writeln!(out, "{line}").map_err(lost)?;
    }
    out.flush().map_err(lost)?;
    drop(out);
    if args.hold {
        hold().map_err(lost)?;
    }
    drop(leases);
    Ok(())
}

/// Lets who reads the lines see their end, and returns when they need the layers no longer.
fn hold() -> std::io::Result<()> {
    let nothing = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}

fn initdata(args: &LayersFetchArgs) -> Result<InitData, Failure> {
    let malformed =
        |e: &dyn std::fmt::Display| Failure::new(Code::InitdataMalformed, e.to_string()).at(Stage::Boot);
    let annotation = |text: &str| InitData::from_annotation(text.trim()).map_err(|e| malformed(&e));
    let Some(path) = &args.initdata else {
        return annotation(args.annotation.as_deref().unwrap_or_default());
    };
    let unreadable = |e: std::io::Error| usage(format!("--initdata {}: {e}", path.display()));
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(unreadable)?),
    };
    let mut bytes = Vec::new();
    source.take(MAX_FILE).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.starts_with(DISK) {
        return InitData::from_disk(bytes.as_slice()).map_err(|e| malformed(&e));
    }
    let text = String::from_utf8(bytes).map_err(|e| malformed(&e))?;
    // Base64 has no equals sign but at its end, and TOML of initdata has several lines.
    match text.trim().contains('\n') {
        true => InitData::parse(&text).map_err(|e| malformed(&e)),
        false => annotation(&text),
    }
}

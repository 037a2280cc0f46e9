//! The role `services`: CoCo's attestation agent and data hub for a guest that another agent runs (kata-agent).
//!
//! `cocoon-guest services [--initdata FILE] [--agent-socket PATH] [--hub-socket PATH] [--rest ADDRESS] [--sealing-key URI]`.
//! Initdata is CoCo's document, as kata-agent leaves it; its `aa.toml` says where Trustee is.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use cocoon_datahub::DataHub;
use cocoon_protocol::initdata::{InitData, MAX_TEXT};
use cocoon_services::{Settings, serve};
use cocoon_stage::{Code, Failure};
use tokio::signal::unix::{SignalKind, signal};

/// Where kata-agent leaves initdata.
const INITDATA: &str = "/run/confidential-containers/initdata/initdata.toml";

/// Serves until it is told to end.
pub(crate) fn main() -> ExitCode {
    crate::console::init();
    let served = arguments(std::env::args_os().skip(2)).and_then(|(initdata, settings)| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(failed)?.block_on(run(initdata, settings))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(initdata: PathBuf, settings: Settings) -> Result<(), Failure> {
    let malformed = |e: String| Failure::new(Code::InitdataMalformed, format!("{}: {e}", initdata.display()));
    let mut text = String::new();
    let file = fs::File::open(&initdata).map_err(|e| malformed(e.to_string()))?;
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_string(&mut text).map_err(|e| malformed(e.to_string()))?;
    let data = InitData::parse(&text).map_err(|e| malformed(e.to_string()))?;
    // Evidence is what a client asks for; a machine without any is told so then, and Trustee's session checks the binding.
    let hub = DataHub::new(data, cocoon_attest::detect().await?, None)?;
    let (mut ended, mut interrupted) =
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
    let _serving = serve(hub, &settings).await.map_err(failed)?;
    tokio::select! {
        _ = ended.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}

fn failed(error: std::io::Error) -> Failure {
    Failure::new(Code::Internal, format!("services: {error}"))
}

fn arguments(mut arguments: impl Iterator<Item = OsString>) -> Result<(PathBuf, Settings), Failure> {
    let usage = |what: String| Failure::new(Code::UsageInvalid, what);
    let (mut initdata, mut settings) = (PathBuf::from(INITDATA), Settings::default());
    while let Some(name) = arguments.next() {
        let name = name.to_string_lossy().into_owned();
        let value = arguments.next().ok_or_else(|| usage(format!("{name} takes a value")))?;
        let text = || value.to_str().map(str::to_owned).ok_or_else(|| usage(format!("{name}: no text")));
        match name.as_str() {
            "--initdata" => initdata = value.into(),
            "--agent-socket" => settings.agent = value.into(),
            "--hub-socket" => settings.hub = value.into(),
            "--rest" => {
                let address: std::net::SocketAddr =
                    text()?.parse().map_err(|_| usage(format!("{name}: no address with a port")))?;
                if !address.ip().is_loopback() {
                    return Err(usage(format!("{name}: only on loopback")));
                }
                settings.rest = Some(address);
            }
            "--sealing-key" => settings.sealing_key = Some(text()?),
            _ => return Err(usage(format!("unknown option {name}"))),
        }
    }
    Ok((initdata, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(PathBuf, Settings), Failure> {
        arguments(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read_and_wrong_ones_named() {
        let (initdata, settings) = read("").unwrap();
        assert_eq!((initdata.to_str(), settings.rest), (Some(INITDATA), None));
        let (_, settings) = read("--rest 127.0.0.1:8006 --hub-socket /x --sealing-key kbs:///a/b/c").unwrap();
        assert_eq!((settings.rest.unwrap().port(), settings.hub.to_str()), (8006, Some("/x")));
        for bad in ["--rest 0.0.0.0:8006", "--rest x", "--other x", "--initdata", "x"] {
            assert_eq!(read(bad).unwrap_err().code, Code::UsageInvalid, "{bad}");
        }
    }
}

//! `cocoon trustee serve`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{Config, Tls, Trustee};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::args::ServeArgs;
use crate::dirs;
use crate::embedded::{LOOPBACK_NAMES, now, open_state, sim_dir};
use crate::signals::Signals;

pub async fn main(args: ServeArgs) -> Result<(), Failure> {
    let state = match &args.state {
        Some(dir) => dir.clone(),
        None => dirs::data_dir()?.join("trustee"),
    };
    let (store, sealer) = open_state(&state, true)?;
    let token = admin_token(&args.admin_token.clone().unwrap_or_else(|| state.join("admin.token")))?;
    let mut config = Config::new(store, sealer);
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref());
    config.admin_token_hash = Some(hash);
    if args.accept_simulated {
        eprintln!("cocoon: this Trustee accepts SIMULATED evidence; it protects nothing. For tests only.");
        config.simulated_roots = vec![SecureProcessor::open_or_create(&sim_dir()?)?.root()];
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Tls { cert_chain_pem: read(cert)?, key_pem: Zeroizing::new(read(key)?) },
        _ => {
            let address = args.listen.ip().to_string();
            let names: Vec<&str> = LOOPBACK_NAMES.into_iter().chain([address.as_str()]).collect();
            cocoon_trustee::self_signed(&state, &names, now())?
        }
    };
    let failed = |e: std::io::Error| Failure::new(Code::RegisterFailed, format!("{}: {e}", args.listen));
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let certificate = state.join("tls-certificate.pem");
    std::fs::write(&certificate, &tls.cert_chain_pem).map_err(failed)?;
    eprintln!("cocoon: Trustee on https://{address}, certificate {}", certificate.display());
    let mut signals = Signals::new()?;
    let shutdown = async move {
        signals.next().await;
    };
    Ok(cocoon_trustee::serve(Trustee::new(config)?, listener, Some(tls), shutdown).await?)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::new(Code::UsageInvalid, format!("{}: {e}", path.display())))
}

/// The admin token in the file; a new random one where there is no file yet.
fn admin_token(path: &PathBuf) -> Result<Zeroizing<String>, Failure> {
    let failed = |e: std::io::Error| Failure::new(Code::RegisterFailed, format!("{}: {e}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(token) if token.trim().len() >= 32 => return Ok(Zeroizing::new(token.trim().to_owned())),
        Ok(_) => {
            return Err(Failure::new(
                Code::RegisterFailed,
                format!("{}: the token is too short", path.display()),
            ));
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        Err(_) => {}
    }
    let token = Zeroizing::new(dirs::random_hex(32)?);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(token.as_bytes()).map_err(failed)?;
    eprintln!("cocoon: admin token written to {}", path.display());
    Ok(token)
}

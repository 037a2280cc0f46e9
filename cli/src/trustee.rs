//! `cocoon trustee`: running and operating Trustee as a server.

mod access;
mod backends;
mod backup;
mod callers;
mod collateral;
mod honour;
mod identity;
mod import;
mod listeners;
mod live;
mod metrics;
mod reload;
mod serve;
mod settings;
mod state;
mod verifiers;

pub use collateral::usual as usual_collateral;

use std::path::Path;

use cocoon_stage::{Code, Failure};
use serde_json::json;

use crate::admin::{print, say, text};
use crate::args::{ConfigCommand, TrusteeCommand};
use crate::client::AdminClient;

pub async fn main(command: TrusteeCommand) -> Result<(), Failure> {
    match command {
        TrusteeCommand::Serve(args) => serve::main(args).await,
        TrusteeCommand::Config(command) => config(command),
        TrusteeCommand::RotateKey { common } => {
            let made = AdminClient::open(&common)?.post("token-key/rotate", None, "token key").await?;
            if common.json {
                return print(&made, &common);
            }
            say(text(&made, "kid"));
            Ok(())
        }
        TrusteeCommand::Backup { file, into, keep, key, place, common } => {
            let target = backup::Target::new(file, into, keep)?;
            match &common.trustee {
                Some(_) => backup::fetch(&target, &common).await,
                None => backup::backup(&target, key.as_deref(), &place),
            }
        }
        TrusteeCommand::Restore { file, key, replace, place } => {
            backup::restore(&file, key.as_deref(), replace, &place)
        }
        TrusteeCommand::ImportUpstream { dir, kind, dry_run, common } => {
            import::main(&dir, kind, dry_run, &common).await
        }
        TrusteeCommand::AuditKey { common } => {
            let key = AdminClient::open(&common)?.get("audit/key", "audit key").await?;
            if common.json {
                return print(&json!(key), &common);
            }
            say(text(&key, "public_key"));
            Ok(())
        }
    }
}

fn config(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Example => {
            say(cocoon_config::EXAMPLE.trim_end_matches('\n'));
            Ok(())
        }
        ConfigCommand::Check { file } => {
            let loaded = settings::Source::of_file(file).load()?;
            loaded.tell_notes();
            say("the settings are valid");
            Ok(())
        }
        ConfigCommand::Show { file } => {
            let loaded = settings::Source::of_file(file).load()?;
            loaded.tell_notes();
            say(loaded.settings.show().trim_end_matches('\n'));
            Ok(())
        }
    }
}

/// Settings that cannot be used, said with their key.
fn invalid(key: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::new(Code::ConfigInvalid, format!("`{key}`: {reason}"))
}

/// Largest file that a setting names.
const MAX_FILE: u64 = 1 << 20;

/// The content of a file that a setting names.
fn read(key: &str, path: &Path) -> Result<zeroize::Zeroizing<String>, Failure> {
    use std::io::Read;
    let wrong = |e: &dyn std::fmt::Display| invalid(key, format!("{}: {e}", path.display()));
    let mut text = zeroize::Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|e| wrong(&e))?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| wrong(&e))?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE) {
        Ok(text)
    } else {
        Err(wrong(&format!("over {MAX_FILE} bytes")))
    }
}

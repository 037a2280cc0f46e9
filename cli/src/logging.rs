//! Log lines on standard error. `COCOON_LOG` says how much; without it, errors only, or what Trustee's settings say.

use std::sync::OnceLock;

use cocoon_config::LogLevel;
use tracing_subscriber::EnvFilter;

type Set = Box<dyn Fn(EnvFilter) + Send + Sync>;

static SET: OnceLock<Set> = OnceLock::new();

/// Begins to log.
pub fn start() {
    let asked = EnvFilter::try_from_env("COCOON_LOG").ok();
    let fixed = asked.is_some();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(asked.unwrap_or_else(|| EnvFilter::new("error")))
        .with_writer(std::io::stderr)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    if !fixed {
        let _ = SET.set(Box::new(move |filter| drop(handle.reload(filter))));
    }
}

/// Logs from this severity on, unless `COCOON_LOG` says otherwise. Libraries stay quieter: what they say of single
/// connections is of no use to an operator.
pub fn set(level: LogLevel) {
    let Some(set) = SET.get() else { return };
    set(EnvFilter::new(match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,cocoon=info,cocoon_trustee=info,cocoon_access=info,cocoon_audit=info",
        LogLevel::Debug => {
            "info,cocoon=debug,cocoon_trustee=debug,cocoon_access=debug,cocoon_audit=debug,cocoon_rpc=debug"
        }
        LogLevel::Trace => "trace",
    }));
}

/// What the roles of a cluster log: what they do, and what goes wrong.
pub fn set_cluster() {
    if let Some(set) = SET.get() {
        set(EnvFilter::new("warn,cocoon=info,cocoon_operator=info,cocoon_cluster_node=info"));
    }
}

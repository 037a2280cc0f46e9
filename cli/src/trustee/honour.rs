//! Settings that are right but that this program cannot follow: they are refused, never ignored.

use cocoon_config::{LogFormat, Metrics, Plugin, Settings, TlsVersion};
use cocoon_stage::{Code, Failure};
use url::{Host, Url};

/// Names every setting that cannot be honoured, with what to do about it.
pub fn check(settings: &Settings) -> Result<(), Failure> {
    let mut problems: Vec<(String, String)> = Vec::new();
    let mut refuse = |holds: bool, key: &str, advice: String| {
        if holds {
            problems.push((key.to_owned(), advice));
        }
    };
    refuse(
        settings.telemetry.as_ref().is_some_and(|telemetry| leaves_in_plain(&telemetry.otlp_endpoint)),
        "telemetry.otlp_endpoint",
        "traces leave this machine over https only; write an https URL, or a collector on loopback".into(),
    );
    refuse(
        !settings.server.tls_versions.contains(&TlsVersion::Tls13),
        "server.tls_versions",
        "TLS 1.3 cannot be switched off; write [\"1.2\", \"1.3\"] or [\"1.3\"]".into(),
    );
    refuse(settings.log.format == LogFormat::Json, "log.format", "log lines are text only; remove it".into());
    if let Metrics::At(address) = settings.metrics {
        refuse(
            !address.ip().is_loopback(),
            "metrics.listen",
            "it has no TLS, so it listens on loopback only; let your collector come here or through a proxy"
                .into(),
        );
    }
    for (index, plugin) in settings.plugins.iter().enumerate() {
        if let Plugin::Pkcs11(token) = plugin {
            refuse(
                token.key_label.is_none(),
                &format!("plugins[{index}].key_label"),
                "it is missing; name the RSA key pair that wraps".into(),
            );
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> =
        problems.iter().map(|(key, advice)| format!("`{key}`: cannot be honoured; {advice}")).collect();
    Err(Failure::new(Code::ConfigInvalid, lines.join("\n")))
}

/// Whether what is sent to this URL crosses the network readable.
fn leaves_in_plain(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return true };
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() != "https" && !here
}

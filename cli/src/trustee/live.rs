//! The changeable part of the settings as Trustee takes it.

use std::path::{Path, PathBuf};

use cocoon_config::{Admin, Metrics, Settings};
use cocoon_sim::SecureProcessor;
use cocoon_stage::Failure;
use cocoon_trustee::{Live, PeerLimits, TelemetryConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::backends::{self, Tokens};
use super::{access, collateral, identity, invalid, read, verifiers};
use crate::embedded::sim_dir;

/// Makes it; reads the files and fetches the keys that the settings name.
pub async fn live(settings: &Settings, folder: &Path, tokens: &Tokens) -> Result<Live, Failure> {
    let attestation = &settings.attestation;
    let simulated = match attestation.accept_simulated {
        true if attestation.simulated_roots.is_empty() => {
            vec![SecureProcessor::open_or_create(&sim_dir()?)?.root()]
        }
        true => simulated_roots(&attestation.simulated_roots)?,
        false => Vec::new(),
    };
    Ok(Live {
        vendor_roots: true,
        simulated_roots: simulated,
        accept_sample: attestation.accept_sample,
        trust: verifiers::trust(settings)?,
        secure_execution: verifiers::secure_execution(&attestation.verifiers.se)?,
        collateral: collateral::source(&attestation.verifiers.collateral, &folder.join("collateral"))?,
        nvidia_remote: collateral::nvidia_remote(settings)?,
        access: access::access(settings, folder).await?,
        session_lifetime: attestation.session,
        token_lifetime: settings.tokens.lifetime,
        issue_contraindicated: attestation.issue_contraindicated,
        verbose_tokens: settings.tokens.verbose,
        issuer: settings.tokens.issuer.clone(),
        public_url: settings.server.public_url.clone(),
        token_identity: identity::token_signer(&settings.tokens)?,
        trusted: identity::trusted(&settings.tokens).await?,
        source: backends::source(settings, tokens)?,
        plugins: backends::plugins(settings, tokens)?,
        body_limit: settings.server.limits.body_bytes,
        metrics: settings.metrics == Metrics::WithServer,
        policy_id: attestation.policy_ids.first().cloned().unwrap_or_else(|| "default".into()),
        verdicts_kept: settings.explain.keep,
    })
}

/// A simulated processor's root and intermediate certificate, DER.
type SimulatedRoot = (Vec<u8>, Vec<u8>);

/// Roots of simulated processors: pairs of certificates, root before intermediate.
fn simulated_roots(files: &[PathBuf]) -> Result<Vec<SimulatedRoot>, Failure> {
    const KEY: &str = "attestation.simulated_roots";
    let mut roots = Vec::new();
    for file in files {
        let wrong = |what: &str| invalid(KEY, format!("{}: {what}", file.display()));
        let text = read(KEY, file)?;
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
            .map(|found| found.map(|certificate| certificate.to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| wrong(&e.to_string()))?;
        let (pairs, rest) = certificates.as_chunks::<2>();
        if pairs.is_empty() || !rest.is_empty() {
            return Err(wrong("it has not two certificates of each processor, ark and ask"));
        }
        roots.extend(pairs.iter().map(|[ark, ask]| (ark.clone(), ask.clone())));
    }
    Ok(roots)
}

/// Limits for one address.
pub fn peer_limits(settings: &Settings) -> PeerLimits {
    let limits = &settings.server.limits;
    PeerLimits {
        handshakes_per_minute: u32::try_from(limits.handshakes_per_peer_per_minute).unwrap_or(u32::MAX),
        connections: u32::try_from(limits.connections_per_peer).unwrap_or(u32::MAX),
    }
}

/// Where traces go, if anywhere.
pub fn telemetry(settings: &Settings) -> Option<TelemetryConfig> {
    settings.telemetry.as_ref().map(|telemetry| TelemetryConfig {
        endpoint: telemetry.otlp_endpoint.clone(),
        service_name: telemetry.service_name.clone(),
        sample_ratio: telemetry.sample_ratio,
    })
}

/// What must be heard by whoever starts this.
pub fn warn(settings: &Settings) {
    if settings.attestation.accept_simulated {
        eprintln!("cocoon: this Trustee accepts SIMULATED evidence; it protects nothing. For tests only.");
    }
    if settings.attestation.accept_sample {
        eprintln!(
            "cocoon: this Trustee accepts SAMPLE evidence, which anybody can make; it protects nothing."
        );
    }
    if settings.admin == Admin::Everybody {
        eprintln!("cocoon: EVERYBODY who reaches this Trustee may administer it. For tests only.");
    }
}

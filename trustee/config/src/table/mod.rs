//! The table of all settings: sections in the order of the file, keys in the order of their section.

mod access;
mod listen;
mod observe;
mod state;
mod trust;
mod verifiers;

use crate::key::{Key, Section};

/// All sections.
pub(crate) const SECTIONS: &[Section] = &[
    Section { path: "server", doc: "Where Trustee listens, and its TLS identity." },
    Section { path: "server.limits", doc: "How much clients may take." },
    Section {
        path: "state",
        doc: "Where Trustee keeps everything: secrets, registrations, policies, sessions.",
    },
    Section { path: "seal", doc: "The key that opens the secrets in the state." },
    Section { path: "seal.pkcs11", doc: "The sealing key in a PKCS#11 token." },
    Section { path: "tokens", doc: "Attestation tokens that Trustee issues." },
    Section { path: "tokens.trusted", doc: "Whose tokens it accepts besides its own." },
    Section { path: "attestation", doc: "How evidence is appraised." },
    Section { path: "attestation.snp", doc: "What is asked of AMD SEV-SNP reports." },
    Section { path: "attestation.intel", doc: "What is asked of Intel TDX and SGX quotes." },
    Section { path: "attestation.tpm", doc: "Whose TPM quotes are trusted." },
    Section { path: "attestation.cca", doc: "Endorsements of Arm CCA platforms." },
    Section { path: "attestation.se", doc: "IBM Secure Execution: trusted machines, and the image." },
    Section { path: "attestation.csv", doc: "What is asked of Hygon CSV reports." },
    Section { path: "attestation.nvidia", doc: "What is asked of NVIDIA GPUs and switches." },
    Section { path: "attestation.nvidia_dpu", doc: "Whose NVIDIA DPUs are trusted." },
    Section { path: "admin", doc: "Administration over HTTP." },
    Section { path: "admin.identity_providers[]", doc: "Who issues administrators' JWTs." },
    Section { path: "admin.acls[]", doc: "What a role may do." },
    Section { path: "admin.client_certificates[]", doc: "Administrators by TLS client certificate." },
    Section { path: "secrets", doc: "Where shared secrets live." },
    Section { path: "secrets.vault", doc: "HashiCorp Vault or OpenBao, secrets engine KV." },
    Section { path: "secrets.pkcs11", doc: "Secrets as data objects in a PKCS#11 token." },
    Section { path: "plugins[]", doc: "Further services under /kbs/v0." },
    Section { path: "attestation_api", doc: "Attestation for other key brokers. Off unless it listens." },
    Section { path: "explain", doc: "Verdicts kept to answer why a guest was refused." },
    Section { path: "metrics", doc: "Prometheus metrics." },
    Section { path: "telemetry", doc: "Traces over OTLP. Off without an endpoint." },
    Section { path: "log", doc: "Log lines on standard error." },
];

const GROUPS: &[&[Key]] =
    &[listen::KEYS, state::KEYS, trust::KEYS, verifiers::KEYS, access::KEYS, observe::KEYS];

/// All keys.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.iter())
}

/// The keys of one section.
pub(crate) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    keys().filter(move |key| key.section() == section)
}

/// The key at a path as in [`Key::path`].
pub(crate) fn key(path: &str) -> Option<&'static Key> {
    keys().find(|key| key.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_itself() {
        let mut paths = std::collections::BTreeSet::new();
        for key in keys() {
            assert!(paths.insert(key.path), "{} is there twice", key.path);
            assert!(SECTIONS.iter().any(|s| s.path == key.section()), "{} has no section", key.path);
            assert!(key.doc.ends_with('.'), "{}: no sentence", key.path);
            assert!(key.default.is_empty() || !key.required, "{}: required and a default", key.path);
            assert!(!(key.default.is_empty() && key.sample.is_empty()), "{}: nothing to show", key.path);
            if let Some((other, values)) = key.when {
                assert!(super::key(other).is_some(), "{}: no {other}", key.path);
                assert!(!values.is_empty());
            }
        }
        for section in SECTIONS {
            assert!(keys_of(section.path).next().is_some(), "{} is empty", section.path);
        }
    }
}

//! Trustee's TLS identity: given by the operator, or self-signed and kept.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Error;

/// How long a self-signed certificate is made for, and how long before its end it is replaced.
const VALIDITY: u64 = 365 * 86_400;
const RENEWAL: u64 = 30 * 86_400;
/// Clocks of guests may be behind by this much.
const BACKDATED: u64 = 86_400;
/// Name of the kept identity in its folder.
const FILE: &str = "trustee-tls.json";

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Tls {
    /// Certificates in PEM, the server's own first.
    pub cert_chain_pem: String,
    /// Private key in PEM (PKCS#8, SEC1 or PKCS#1).
    pub key_pem: Zeroizing<String>,
    /// Authorities of client certificates in PEM. A client may show one that they issued, and need not.
    pub client_authorities_pem: Option<String>,
    /// Speak TLS 1.3 only.
    pub only_tls_1_3: bool,
}

/// A TLS identity that can be replaced while connections are served; new connections get the new one.
#[derive(Clone)]
pub struct ReloadableTls(Arc<RwLock<Arc<ServerConfig>>>);

impl ReloadableTls {
    /// With this identity.
    ///
    /// # Errors
    /// [`Error::Tls`] where it cannot be used.
    pub fn new(tls: &Tls) -> Result<Self, Error> {
        Ok(ReloadableTls(Arc::new(RwLock::new(Arc::new(tls.server_config()?)))))
    }

    /// Replaces the identity; one that cannot be used leaves the old one in place.
    ///
    /// # Errors
    /// [`Error::Tls`].
    pub fn replace(&self, tls: &Tls) -> Result<(), Error> {
        let new = Arc::new(tls.server_config()?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tls {
    /// An identity without client authorities, for TLS 1.2 and 1.3.
    pub fn new(cert_chain_pem: String, key_pem: Zeroizing<String>) -> Self {
        Tls { cert_chain_pem, key_pem, client_authorities_pem: None, only_tls_1_3: false }
    }

    /// The server's side of TLS with this identity. Hybrid key agreement (X25519MLKEM768) is preferred.
    ///
    /// # Errors
    /// [`Error::Tls`] where certificates and key do not parse or do not belong together.
    pub fn server_config(&self) -> Result<ServerConfig, Error> {
        let unusable = |e: &dyn std::fmt::Display| Error::Tls(e.to_string());
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(self.cert_chain_pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|e| unusable(&e))?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|e| unusable(&e))?;
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups =
            vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        let provider = Arc::new(provider);
        let versions: &[&rustls::SupportedProtocolVersion] = match self.only_tls_1_3 {
            true => &[&rustls::version::TLS13],
            false => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|e| unusable(&e))?;
        let builder = match &self.client_authorities_pem {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(certificate.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|e| unusable(&e))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| unusable(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// What is kept of a self-signed identity.
#[derive(Serialize, Deserialize)]
struct Kept {
    cert_pem: String,
    key_pem: Zeroizing<String>,
    names: Vec<String>,
    not_after_unix: u64,
}

/// The self-signed identity kept in `folder` (file 0600) for these DNS names and IP addresses; made anew if there
/// is none, it lacks a name, or it ends within 30 days.
///
/// P-256, not a CA: clients pin the certificate itself. Of processes that make one at once all end with the same,
/// unless a replaced one is replaced twice; then each serves the one it got and the last is kept.
pub fn self_signed(folder: &Path, names: &[&str], now_unix: u64) -> Result<Tls, Error> {
    let path = folder.join(FILE);
    let usable = |kept: &Kept| {
        kept.not_after_unix > now_unix.saturating_add(RENEWAL)
            && names.iter().all(|name| kept.names.iter().any(|k| k == name))
    };
    let existing = read(&path)?;
    let replace = existing.is_some();
    if let Some(kept) = existing.filter(usable) {
        return Ok(kept.into());
    }
    let made = make(names, now_unix)?;
    write(folder, &path, &made, replace)?;
    match read(&path)? {
        Some(kept) if usable(&kept) => Ok(kept.into()),
        _ => Ok(made.into()),
    }
}

impl From<Kept> for Tls {
    fn from(kept: Kept) -> Self {
        Tls::new(kept.cert_pem, kept.key_pem)
    }
}

fn make(names: &[&str], now_unix: u64) -> Result<Kept, Error> {
    let failed = |e: rcgen::Error| Error::Tls(e.to_string());
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).map_err(failed)?;
    let not_after_unix = now_unix.saturating_add(VALIDITY);
    params.not_before = (UNIX_EPOCH + Duration::from_secs(now_unix.saturating_sub(BACKDATED))).into();
    params.not_after = (UNIX_EPOCH + Duration::from_secs(not_after_unix)).into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut serial = [0u8; 8];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| Error::Internal("no randomness"))?;
    // Names differ between identities, so that a client that pins one never takes another for its issuer.
    params.distinguished_name.push(DnType::CommonName, format!("Cocoon Trustee {}", hex::encode(serial)));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let cert_pem = params.self_signed(&key).map_err(failed)?.pem();
    Ok(Kept { cert_pem, key_pem: Zeroizing::new(key.serialize_pem()), names, not_after_unix })
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::Io { what: path.display().to_string(), source }
}

fn read(path: &Path) -> Result<Option<Kept>, Error> {
    match std::fs::read(path) {
        Ok(json) => {
            let json = Zeroizing::new(json);
            // A damaged file is replaced: the identity holds nothing that cannot be made again.
            Ok(serde_json::from_slice(&json).ok().or(Some(Kept {
                cert_pem: String::new(),
                key_pem: Zeroizing::default(),
                names: Vec::new(),
                not_after_unix: 0,
            })))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Puts the whole file in place at once. A first file never overwrites one that another process just made.
fn write(folder: &Path, path: &Path, kept: &Kept, replace: bool) -> Result<(), Error> {
    let failed = io_error(path);
    std::fs::create_dir_all(folder).map_err(&failed)?;
    let json = serde_json::to_vec(kept).map(Zeroizing::new).map_err(|_| Error::Internal("identity"))?;
    let mut suffix = [0u8; 8];
    aws_lc_rs::rand::fill(&mut suffix).map_err(|_| Error::Internal("no randomness"))?;
    let temporary = folder.join(format!("{FILE}.new-{}", hex::encode(suffix)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&json)?;
        file.sync_all()?;
        if replace {
            std::fs::rename(&temporary, path)?;
        } else if let Err(error) = std::fs::hard_link(&temporary, path)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        File::open(folder)?.sync_all()
    })();
    let _ = std::fs::remove_file(&temporary);
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn the_identity_is_kept_private_and_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["127.0.0.1", "10.0.2.2", "localhost"];
        let first = self_signed(folder.path(), &names, NOW).unwrap();
        first.server_config().unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = |names: &[&str], now| self_signed(folder.path(), names, now).unwrap().cert_chain_pem;
        assert_eq!(again(&names[..2], NOW + 86_400), first.cert_chain_pem);
        let renewed = again(&names, NOW + VALIDITY - RENEWAL);
        assert_ne!(renewed, first.cert_chain_pem);
        let other = again(&["example.org"], NOW + VALIDITY - RENEWAL);
        assert_ne!(other, renewed);
        std::fs::write(&path, b"{").unwrap();
        let healed = again(&["example.org"], NOW);
        assert_ne!(healed, other);
        assert_eq!(again(&["example.org"], NOW), healed);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn processes_that_start_at_once_share_one_identity() {
        let folder = tempfile::tempdir().unwrap();
        let made: Vec<String> = std::thread::scope(|scope| {
            let make = || self_signed(folder.path(), &["localhost"], NOW).unwrap().cert_chain_pem;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(made.iter().all(|c| *c == made[0]));
    }

    #[test]
    fn unusable_identities_are_refused() {
        let bad = Tls::new("x".into(), Zeroizing::new("y".into()));
        assert!(matches!(bad.server_config(), Err(Error::Tls(_))));
    }
}

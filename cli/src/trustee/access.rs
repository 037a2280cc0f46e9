//! Who may administer, from the settings.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cocoon_access::{
    AccessConfig, AclRule, CertificateMatch, CertificateRule, IdentityProvider, KeySource, make_token,
    token_sha256,
};
use cocoon_config::{Admin, AdminAccess, CertificateIdentity, Settings};
use cocoon_stage::{Code, Failure};
use zeroize::Zeroizing;

use super::{identity, invalid, read};

/// Shortest admin token that is taken.
const SHORTEST: usize = 32;

/// Makes the access settings; makes the admin token where there is none yet.
pub async fn access(settings: &Settings, folder: &Path) -> Result<AccessConfig, Failure> {
    match &settings.admin {
        Admin::Off => Ok(AccessConfig::default()),
        Admin::Everybody => Ok(AccessConfig {
            insecure_allow_all: true,
            insecure_allow_all_acknowledged: true,
            ..AccessConfig::default()
        }),
        Admin::Proven(proofs) => proven(proofs, folder).await,
    }
}

async fn proven(proofs: &AdminAccess, folder: &Path) -> Result<AccessConfig, Failure> {
    let file = proofs.token_file.clone().unwrap_or_else(|| folder.join("admin.token"));
    let token = admin_token(&file)?;
    let mut identity_providers = Vec::new();
    for (index, provider) in proofs.identity_providers.iter().enumerate() {
        let of = |keys| IdentityProvider {
            issuer: provider.issuer.clone(),
            audience: provider.audience.clone(),
            keys,
        };
        if let Some(location) = &provider.public_key_uri {
            let key = format!("admin.identity_providers[{index}].public_key_uri");
            let keys = match identity::local(location) {
                Some(path) => KeySource::PublicKeyFile(path),
                None => KeySource::PublicKeyPem(identity::fetch(&key, location).await?.to_vec()),
            };
            identity_providers.push(of(keys));
        }
        if let Some(location) = &provider.jwk_set_uri {
            let keys = match identity::local(location) {
                Some(path) => KeySource::JwksFile(path),
                None => KeySource::JwksUrl(location.clone()),
            };
            identity_providers.push(of(keys));
        }
    }
    let acl = proofs.acls.iter().map(|rule| AclRule {
        role: rule.role.clone(),
        allowed_endpoints: vec![rule.allowed_endpoints.clone()],
    });
    let certificates = proofs.client_certificates.iter().enumerate().map(|(index, rule)| {
        let certificate = match &rule.identity {
            CertificateIdentity::CommonName(name) => CertificateMatch::SubjectCn(name.clone()),
            CertificateIdentity::Dns(name) => CertificateMatch::SanDns(name.clone()),
            CertificateIdentity::Uri(uri) => CertificateMatch::SanUri(uri.clone()),
            CertificateIdentity::Sha256(digits) => {
                let mut digest = [0; 32];
                hex::decode_to_slice(digits, &mut digest).map_err(|_| {
                    invalid(&format!("admin.client_certificates[{index}].sha256"), "not 64 hex digits")
                })?;
                CertificateMatch::Sha256(digest)
            }
        };
        Ok(CertificateRule { certificate, role: rule.role.clone(), tenant: rule.tenant.clone() })
    });
    Ok(AccessConfig {
        token_sha256: Some(token_sha256(&token)),
        identity_providers,
        acl: acl.collect(),
        client_certificates: certificates.collect::<Result<_, Failure>>()?,
        ..AccessConfig::default()
    })
}

/// The admin token in the file; a new random one where there is no file yet.
fn admin_token(path: &PathBuf) -> Result<Zeroizing<String>, Failure> {
    let failed = |e: std::io::Error| Failure::new(Code::RegisterFailed, format!("{}: {e}", path.display()));
    if path.try_exists().map_err(failed)? {
        return kept_token("admin.token_file", path);
    }
    let token = make_token().map_err(Failure::from)?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(token.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    eprintln!("cocoon: admin token written to {}", path.display());
    Ok(token)
}

/// A bearer token in a file.
pub fn kept_token(key: &str, path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = read(key, path)?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.len() < SHORTEST {
        let reason = format!("{}: the token is too short; {SHORTEST} characters at least", path.display());
        return Err(invalid(key, reason));
    }
    Ok(token)
}

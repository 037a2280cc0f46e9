//! Homes of shared secrets outside the state, and plugins.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cocoon_backends::{
    Pkcs11Source, Pkcs11Wrap, RsaMechanism, Token, TokenConfig, TokenSelector, VaultConfig,
};
use cocoon_config::{
    ExternalPlugin, Given, KvVersion, Plugin as PluginSetting, Secrets, Settings, TokenChoice, Vault,
};
use cocoon_rpc::{ClientIdentity, Endpoint};
use cocoon_stage::{Code, Failure};
use cocoon_trustee::{External, Plugin, Provisioner, SharedSource, WrapKey};
use rustix::fs::{MemfdFlags, Mode};
use zeroize::Zeroizing;

use super::read;

/// How long a Vault may take for one call.
const VAULT_TIME: Duration = Duration::from_secs(10);
/// The machine's authorities, for plugins without authorities of their own.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The PKCS#11 tokens and inline secrets in use: kept over reloads, so that a token has one session.
#[derive(Default)]
pub struct Tokens {
    open: Mutex<Vec<Opened>>,
    inline: Mutex<Vec<Inline>>,
}

/// A token and how it was opened.
struct Opened {
    module: PathBuf,
    selector: TokenSelector,
    pin_file: PathBuf,
    token: Arc<Token>,
}

/// A secret of the settings file in a file that only this process has and no disk.
struct Inline {
    secret: Zeroizing<String>,
    file: std::os::fd::OwnedFd,
}

impl Tokens {
    /// A token with its session.
    pub fn open(&self, module: &Path, choice: &TokenChoice, pin_file: &Path) -> Result<Arc<Token>, Failure> {
        let selector = match choice {
            TokenChoice::Label(label) => TokenSelector::Label(label.clone()),
            TokenChoice::Slot(slot) => TokenSelector::Index(usize::try_from(*slot).unwrap_or(usize::MAX)),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            open.iter().find(|o| o.module == module && o.selector == selector && o.pin_file == pin_file);
        if let Some(opened) = found {
            return Ok(opened.token.clone());
        }
        let (module, pin_file) = (module.to_owned(), pin_file.to_owned());
        let token = Token::open(TokenConfig {
            module: module.clone(),
            token: selector.clone(),
            pin_file: pin_file.clone(),
        })?;
        open.push(Opened { module, selector, pin_file, token: token.clone() });
        Ok(token)
    }

    /// The file of a secret that is in a file or in the settings themselves.
    fn file(&self, given: &Given) -> Result<PathBuf, Failure> {
        use std::os::fd::AsRawFd;
        let secret = match given {
            Given::File(path) => return Ok(path.clone()),
            Given::Inline(secret) => secret.expose(),
        };
        let path = |inline: &Inline| PathBuf::from(format!("/proc/self/fd/{}", inline.file.as_raw_fd()));
        let mut all = self.inline.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|inline| inline.secret.as_str() == secret) {
            return Ok(path(known));
        }
        let failed = |e: rustix::io::Errno| Failure::new(Code::Internal, format!("memory file: {e}"));
        let file = rustix::fs::memfd_create("cocoon-secret", MemfdFlags::CLOEXEC).map_err(failed)?;
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let mut rest = secret.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest).map_err(failed)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        let inline = Inline { secret: Zeroizing::new(secret.to_owned()), file };
        let path = path(&inline);
        all.push(inline);
        Ok(path)
    }
}

/// Where shared secrets live, if not in the state.
pub fn source(settings: &Settings, tokens: &Tokens) -> Result<Option<Arc<dyn SharedSource>>, Failure> {
    match &settings.secrets {
        Secrets::Store => Ok(None),
        Secrets::Vault(vault) => {
            Ok(Some(Arc::new(cocoon_backends::Vault::new(vault_config(vault, tokens)?)?)))
        }
        Secrets::Pkcs11(secrets) => {
            let token = tokens.open(&secrets.module, &secrets.token, &secrets.pin_file)?;
            Ok(Some(Arc::new(Pkcs11Source::new(token))))
        }
    }
}

fn vault_config(vault: &Vault, tokens: &Tokens) -> Result<VaultConfig, Failure> {
    let ca = vault.ca_file.as_deref().map(|file| read("secrets.vault.ca_file", file)).transpose()?;
    Ok(VaultConfig {
        url: vault.url.clone(),
        kv_version: match vault.kv_version {
            KvVersion::V1 => cocoon_backends::KvVersion::V1,
            KvVersion::V2 => cocoon_backends::KvVersion::V2,
        },
        mount: vault.mount.clone(),
        prefix: vault.prefix.clone().unwrap_or_default(),
        token_file: tokens.file(&vault.token)?,
        namespace: vault.namespace.clone(),
        ca_pem: ca.map(|pem| pem.to_string()),
        timeout: VAULT_TIME,
    })
}

/// The plugins by their names in paths.
pub fn plugins(settings: &Settings, tokens: &Tokens) -> Result<Vec<(String, Plugin)>, Failure> {
    let mut plugins: Vec<(String, Plugin)> = Vec::new();
    let mut external = Vec::new();
    for (index, setting) in settings.plugins.iter().enumerate() {
        match setting {
            PluginSetting::External(plugin) => {
                external.push(cocoon_rpc::ExternalPlugin::connect(endpoint(index, plugin)?)?);
            }
            PluginSetting::Provisioner { key_bytes } => {
                plugins.push(("provisioner".into(), Arc::new(Provisioner::new(*key_bytes))));
            }
            PluginSetting::Pkcs11(plugin) => {
                let key = format!("plugins[{index}].key_label");
                let label = plugin.key_label.clone().ok_or_else(|| super::invalid(&key, "it is missing"))?;
                let token = tokens.open(&plugin.module, &plugin.token, &tokens.file(&plugin.pin)?)?;
                let wrap = Pkcs11Wrap::new(token.clone(), label, RsaMechanism::default());
                plugins.push(("pkcs11".into(), Arc::new(WrapKey::new(wrap, Pkcs11Source::new(token)))));
            }
        }
    }
    if !external.is_empty() {
        plugins.push(("external".into(), Arc::new(External::new(external))));
    }
    Ok(plugins)
}

fn endpoint(index: usize, plugin: &ExternalPlugin) -> Result<Endpoint, Failure> {
    let key = |name: &str| format!("plugins[{index}].{name}");
    let ca_pem = match &plugin.ca_file {
        Some(file) => Some(read(&key("ca_file"), file)?.to_string()),
        None if plugin.endpoint.starts_with("https:") => {
            Some(read(&key("endpoint"), Path::new(SYSTEM_ROOTS))?.to_string())
        }
        None => None,
    };
    let identity = match &plugin.client {
        Some((chain, private)) => Some(ClientIdentity {
            cert_chain_pem: read(&key("client_certificate"), chain)?.to_string(),
            key_pem: read(&key("client_key"), private)?,
        }),
        None => None,
    };
    Ok(Endpoint {
        name: plugin.name.clone(),
        endpoint: plugin.endpoint.clone(),
        ca_pem,
        identity,
        timeout: plugin.time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_secret_of_the_settings_is_a_private_file_on_no_disk() {
        let tokens = Tokens::default();
        let given = Given::Inline(cocoon_config::Secret::new("s.token"));
        let path = tokens.file(&given).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "s.token");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "s.token", "it is read more than once");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(tokens.file(&given).unwrap(), path, "a reload makes no other");
    }
}

//! Annotations by which an owner says what a manifest leaves open.

use std::collections::BTreeMap;

use cocoon_plan::SecretPlan;
use cocoon_plan::sealed::SecretVariable;

use crate::log::Log;

/// Begins the names of the owner's annotations.
pub const PREFIX: &str = "cocoon.dev/";

/// How far content from the cluster is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It must be what it was when the plan was made.
    Pinned,
    /// The cluster may change it.
    Untrusted,
    /// No workload may use it.
    Refused,
}

/// Which variables of services the cluster may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceLinks {
    /// Those of services that are among the manifests.
    Known,
    /// All that look like one.
    Any,
    /// None but those of Kubernetes' own service.
    None,
}

/// What annotations say of one workload.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config_maps: Trust,
    pub(crate) secrets: Trust,
    pub(crate) service_links: ServiceLinks,
    pub(crate) exec_any: bool,
    pub(crate) logs: bool,
    pub(crate) port_forward: bool,
    pub(crate) token: bool,
    pub(crate) debug_image: Option<String>,
    pub(crate) trustee_secrets: Vec<SecretPlan>,
    pub(crate) attestation_api: bool,
    pub(crate) host_env: Vec<String>,
    pub(crate) exact: bool,
    /// Claims whose disks the guest encrypts, by the volume's name.
    pub(crate) encrypted: BTreeMap<String, Encryption>,
    pub(crate) secret_env: Vec<SecretVariable>,
    /// What a key of a Secret may be unsealed to: `kbs:///…`.
    pub(crate) sealed: BTreeMap<(String, String), String>,
    /// Who seals: `kbs:///…`, or empty.
    pub(crate) sealing_key: String,
}

/// How a disk is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// `kbs:///…`.
    pub(crate) key: String,
    pub(crate) integrity: bool,
}

impl Settings {
    /// Whether any key of a Secret may be sealed.
    pub(crate) fn seals(&self, secret: &str) -> bool {
        self.sealed.keys().any(|(name, _)| name == secret)
    }

    /// What a key of a Secret may be unsealed to.
    pub(crate) fn sealed(&self, secret: &str, key: &str) -> Option<&str> {
        let found = self.sealed.iter().find(|((name, of), _)| name == secret && of == key);
        found.map(|(_, resource)| resource.as_str())
    }

    /// Reads them. `at` is the field that holds annotations, for messages.
    pub(crate) fn read(annotations: &BTreeMap<String, String>, at: &str, log: &mut Log) -> Settings {
        let mut settings = Settings {
            config_maps: Trust::Pinned,
            secrets: Trust::Untrusted,
            service_links: ServiceLinks::Known,
            exec_any: false,
            logs: true,
            port_forward: true,
            token: true,
            debug_image: None,
            trustee_secrets: Vec::new(),
            attestation_api: false,
            host_env: Vec::new(),
            exact: true,
            encrypted: BTreeMap::new(),
            secret_env: Vec::new(),
            sealed: BTreeMap::new(),
            sealing_key: String::new(),
        };
        for (name, value) in annotations {
            let Some(short) = name.strip_prefix(PREFIX) else { continue };
            let value = value.trim();
            let field = format!("{at}[{name}]");
            let mut choose = |choices: &[&str]| {
                let found = choices.iter().position(|c| *c == value);
                if found.is_none() {
                    log.wrong(&field, format!("{value:?} is none of {}", choices.join(", ")));
                }
                found.unwrap_or_default()
            };
            match short {
                "config-maps" => {
                    settings.config_maps =
                        if choose(&["pinned", "untrusted"]) == 0 { Trust::Pinned } else { Trust::Untrusted };
                }
                "secrets" => {
                    settings.secrets = match choose(&["untrusted", "pinned", "refused"]) {
                        0 => Trust::Untrusted,
                        1 => Trust::Pinned,
                        _ => Trust::Refused,
                    };
                }
                "service-links" => {
                    settings.service_links = match choose(&["known", "any", "none"]) {
                        0 => ServiceLinks::Known,
                        1 => ServiceLinks::Any,
                        _ => ServiceLinks::None,
                    };
                }
                "exec" => settings.exec_any = choose(&["refused", "allowed"]) == 1,
                "logs" => settings.logs = choose(&["allowed", "refused"]) == 0,
                "port-forward" => settings.port_forward = choose(&["declared", "refused"]) == 0,
                "service-account-token" => settings.token = choose(&["allowed", "refused"]) == 0,
                "attestation-api" => settings.attestation_api = choose(&["refused", "allowed"]) == 1,
                "changed-requests" => settings.exact = choose(&["refused", "ignored"]) == 0,
                "debug-image" => settings.debug_image = Some(value.to_owned()),
                "host-env" => settings.host_env = parts(value),
                "trustee-secrets" => {
                    for part in parts(value) {
                        match secret(&part) {
                            Ok(plan) => settings.trustee_secrets.push(plan),
                            Err(problem) => log.wrong(&field, format!("{part:?}: {problem}")),
                        }
                    }
                }
                "encrypted-volumes" => {
                    for part in parts(value) {
                        match encryption(&part) {
                            Ok((volume, encryption)) => drop(settings.encrypted.insert(volume, encryption)),
                            Err(problem) => log.wrong(&field, format!("{part:?}: {problem}")),
                        }
                    }
                }
                "trustee-env" => {
                    for part in parts(value) {
                        match part.split_once('=').map(|(name, path)| (name.to_owned(), resource(path))) {
                            Some((name, Ok(uri))) => settings.secret_env.push(SecretVariable { name, uri }),
                            _ => log.wrong(&field, format!("{part:?}: must be NAME=repository/type/tag")),
                        }
                    }
                }
                "sealed-secrets" => {
                    for part in parts(value) {
                        let named = part.split_once('=').and_then(|(of, path)| {
                            let (secret, key) = of.split_once('/')?;
                            Some(((secret.to_owned(), key.to_owned()), resource(path).ok()?))
                        });
                        match named {
                            Some((of, uri)) => drop(settings.sealed.insert(of, uri)),
                            None => {
                                log.wrong(
                                    &field,
                                    format!("{part:?}: must be SECRET/KEY=repository/type/tag"),
                                );
                            }
                        }
                    }
                }
                "sealing-key" => match resource(value) {
                    Ok(uri) => settings.sealing_key = uri,
                    Err(problem) => log.wrong(&field, problem),
                },
                // Written by this program, for people.
                "applied" => {}
                _ => log.wrong(&field, "is no annotation of Cocoon's"),
            }
        }
        settings
    }
}

fn parts(value: &str) -> Vec<String> {
    value.split([',', '\n']).map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// `repository/type/tag`, which becomes `/run/secrets/TAG`, or `repository/type/tag:/PATH`.
fn secret(text: &str) -> Result<SecretPlan, &'static str> {
    let (path, file) = match text.split_once(':') {
        Some((path, file)) if file.starts_with('/') => (path, Some(file.to_owned())),
        Some(_) => return Err("a file's path begins with /"),
        None => (text, None),
    };
    let uri = resource(path).map_err(|_| "must be repository/type/tag, or repository/type/tag:/PATH")?;
    let tag = path.rsplit('/').next().unwrap_or_default();
    let file = file.unwrap_or_else(|| format!("/run/secrets/{tag}"));
    Ok(SecretPlan { uri, file: Some(file) })
}

/// `repository/type/tag` as a URI.
fn resource(path: &str) -> Result<String, &'static str> {
    let names: Vec<&str> = path.split('/').collect();
    match names.as_slice() {
        [_, _, _] if names.iter().all(|name| !name.is_empty()) => Ok(format!("kbs:///{path}")),
        _ => Err("must be repository/type/tag"),
    }
}

/// `VOLUME=repository/type/tag`, or with `:integrity` behind it.
fn encryption(text: &str) -> Result<(String, Encryption), &'static str> {
    const FORM: &str = "must be VOLUME=repository/type/tag, or VOLUME=repository/type/tag:integrity";
    let (volume, path) = text.split_once('=').ok_or(FORM)?;
    let (path, integrity) = match path.split_once(':') {
        None => (path, false),
        Some((path, "integrity")) => (path, true),
        Some(_) => return Err(FORM),
    };
    let key = resource(path).map_err(|_| FORM)?;
    Ok((volume.trim().to_owned(), Encryption { key, integrity }))
}

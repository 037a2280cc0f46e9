//! One identity provider and its keys, wherever they come from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use cocoon_http::Client;
use serde_json::Value;

use crate::config::{IdentityProvider, KeySource};
use crate::jwt::{Flaw, Jwt, MAX_NAME, is_name};
use crate::key::Key;
use crate::remote::Remote;
use crate::{Error, fetch, jwks, strict};

/// Longest key file and key set, in bytes.
pub(crate) const MAX_DOCUMENT: usize = 256 * 1024;
/// Longest issuer and audience, in bytes.
const MAX_ISSUER: usize = 2048;

pub(crate) struct Provider {
    issuer: Option<String>,
    audience: Option<String>,
    keys: Source,
}

enum Source {
    Fixed(Arc<[Key]>),
    File { path: PathBuf, form: Form, keys: RwLock<Arc<[Key]>> },
    Remote(Arc<Remote>),
}

#[derive(Clone, Copy)]
enum Form {
    Pem,
    Jwks,
}

impl Provider {
    pub(crate) fn new(settings: &IdentityProvider, client: &Client) -> Result<Self, Error> {
        for (what, text) in [("issuer", &settings.issuer), ("audience", &settings.audience)] {
            if text.as_ref().is_some_and(|text| !is_name(text, MAX_ISSUER)) {
                return Err(Error::Setting(format!("{what} of an identity provider is empty or unusable")));
            }
        }
        if settings.issuer.is_none() || settings.audience.is_none() {
            tracing::warn!(
                keys = ?settings.keys,
                "an identity provider without issuer or audience: tokens it made for others are accepted"
            );
        }
        let file = |path: &PathBuf, form| {
            let keys = RwLock::new(read_file(path, form)?);
            Ok(Source::File { path: path.clone(), form, keys })
        };
        let keys = match &settings.keys {
            KeySource::PublicKeyPem(pem) => Source::Fixed(read(pem, Form::Pem, "the settings")?),
            KeySource::Jwks(set) => Source::Fixed(of_set(set, "the settings")?),
            KeySource::PublicKeyFile(path) => file(path, Form::Pem)?,
            KeySource::JwksFile(path) => file(path, Form::Jwks)?,
            KeySource::JwksUrl(url) => {
                let url = fetch::key_set_url(url).map_err(|reason| keys_error("jwks_url", reason))?;
                Source::Remote(Arc::new(Remote::new(url, settings.issuer.clone(), client.clone())))
            }
        };
        Ok(Provider { issuer: settings.issuer.clone(), audience: settings.audience.clone(), keys })
    }

    /// Whether this provider made the token, and for us. Keys are fetched only for a token that claims so.
    pub(crate) async fn made(&self, jwt: &Jwt<'_>, now: u64) -> Result<(), Flaw> {
        jwt.check_names(self.issuer.as_deref(), self.audience.as_deref())?;
        let keys = match &self.keys {
            Source::Fixed(keys) => keys.clone(),
            Source::File { keys, .. } => keys.read().unwrap_or_else(PoisonError::into_inner).clone(),
            Source::Remote(remote) => remote.keys(jwt.kid.as_deref(), now).await,
        };
        jwt.is_signed_by(&keys)
    }

    /// Reads the file again, or fetches the set. Where that fails the keys stay as they were.
    pub(crate) async fn refresh(&self, now: u64) -> Result<(), Error> {
        match &self.keys {
            Source::Fixed(_) => Ok(()),
            Source::Remote(remote) => remote.refresh(now).await,
            Source::File { path, form, keys } => {
                let (file, form) = (path.clone(), *form);
                let read = tokio::task::spawn_blocking(move || read_file(&file, form)).await;
                let fresh = read.map_err(|e| keys_error(&path.display().to_string(), e.to_string()))??;
                *keys.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                Ok(())
            }
        }
    }
}

pub(crate) fn keys_error(origin: &str, reason: impl Into<String>) -> Error {
    Error::Keys { origin: origin.to_owned(), reason: reason.into() }
}

/// A role or tenant in the settings.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    if is_name(name, MAX_NAME) {
        Ok(())
    } else {
        Err(Error::Setting(format!(
            "{what}: empty, longer than {MAX_NAME} bytes, or with control characters"
        )))
    }
}

fn read_file(path: &Path, form: Form) -> Result<Arc<[Key]>, Error> {
    let origin = path.display().to_string();
    let mut text = Vec::new();
    let limit = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut text))
        .map_err(|e| keys_error(&origin, e.to_string()))?;
    read(&text, form, &origin)
}

fn read(text: &[u8], form: Form, origin: &str) -> Result<Arc<[Key]>, Error> {
    if text.len() > MAX_DOCUMENT {
        return Err(keys_error(origin, format!("longer than {MAX_DOCUMENT} bytes")));
    }
    match form {
        Form::Pem => Key::from_pem(text).map(|key| Arc::from([key])).map_err(|why| keys_error(origin, why)),
        Form::Jwks => match strict::parse(text) {
            Some(set) => of_set(&set, origin),
            None => Err(keys_error(origin, "not JSON, or with a member given twice")),
        },
    }
}

fn of_set(set: &Value, origin: &str) -> Result<Arc<[Key]>, Error> {
    jwks::parse(set).map(Arc::from).map_err(|reason| keys_error(origin, reason))
}

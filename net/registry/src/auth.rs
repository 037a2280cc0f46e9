//! Credentials from Docker's `auth.json` / `config.json`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_image::Reference;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::Error;

const MAX_TEXT: usize = 1 << 20;

/// A user and password, or an identity token, for one registry or repository. Secret.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: Zeroizing<String>,
    identity: Option<Zeroizing<String>>,
}

impl Credentials {
    /// From user name and password (or token).
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Credentials { user: user.into(), password: Zeroizing::new(password.into()), identity: None }
    }

    /// From an identity token (an OAuth 2.0 refresh token), which the registry's token service exchanges.
    pub fn from_identity_token(token: impl Into<String>) -> Self {
        let identity = Some(Zeroizing::new(token.into()));
        Credentials { user: String::new(), password: Zeroizing::default(), identity }
    }

    pub(crate) fn identity(&self) -> Option<&str> {
        self.identity.as_ref().map(|i| i.as_str())
    }

    /// The `Authorization` field's value for HTTP Basic (RFC 7617); `None` for an identity token.
    pub(crate) fn basic(&self) -> Option<Zeroizing<String>> {
        if self.identity.is_some() {
            return None;
        }
        let pair = Zeroizing::new(format!("{}:{}", self.user, self.password.as_str()));
        let mut coded = STANDARD.encode(pair.as_bytes());
        let value = Zeroizing::new(format!("Basic {coded}"));
        coded.zeroize();
        Some(value)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Which credentials belong to which registry; anonymous where none do.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    entries: BTreeMap<String, Credentials>,
    helpers: Vec<String>,
    default_helper: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.auth.zeroize();
        self.password.zeroize();
        self.identitytoken.zeroize();
    }
}

impl Auth {
    /// No credentials.
    pub fn anonymous() -> Self {
        Auth::default()
    }

    /// The same credentials for one key: `host[:port]` or `host[:port]/path`.
    #[must_use]
    pub fn with(mut self, key: &str, credentials: Credentials) -> Self {
        self.entries.insert(normal_key(key), credentials);
        self
    }

    /// Reads `{"auths": {"<key>": {"auth": base64("user:password")}}}`; `username` and `password` members work too, and
    /// an `identitytoken` goes before both. Keys are `host[:port][/path]`, or API addresses as Docker writes them
    /// (`https://index.docker.io/v1/`), of which the host counts. Credential helpers are programs and are not run; that
    /// a registry's credentials are with one is noted in the log and remembered for the error message.
    ///
    /// # Errors
    /// [`Error::Auth`]; the message never quotes the text.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_TEXT {
            return Err(Error::Auth("it is larger than 1 MiB".to_owned()));
        }
        let file: File = serde_json::from_str(text)
            .map_err(|e| Error::Auth(format!("it is not the expected JSON (line {})", e.line())))?;
        let mut auth = Auth {
            helpers: file.cred_helpers.keys().map(|k| normal_key(k)).collect(),
            default_helper: file.creds_store.is_some_and(|s| !s.is_empty()),
            ..Auth::default()
        };
        if auth.default_helper || !auth.helpers.is_empty() {
            tracing::info!("auth.json names credential helpers; they are not run");
        }
        // Where two keys are the same to us, the one written as we write it counts.
        let (own, other): (Vec<_>, Vec<_>) = file.auths.iter().partition(|(key, _)| normal_key(key) == **key);
        for (key, entry) in other.into_iter().chain(own) {
            if let Some(credentials) = entry.credentials(key)? {
                auth.entries.insert(normal_key(key), credentials);
            }
        }
        Ok(auth)
    }

    /// The credentials for a reference: those of the longest prefix of `registry/repository`, down to the host.
    pub fn lookup(&self, reference: &Reference) -> Option<&Credentials> {
        let name = format!("{}/{}", reference.registry.to_ascii_lowercase(), reference.repository);
        let mut key = name.as_str();
        loop {
            if let Some(found) = self.entries.get(key) {
                return Some(found);
            }
            key = key.rsplit_once('/')?.0;
        }
    }

    /// Whether the credentials are probably with a helper program that is not run.
    pub(crate) fn is_with_helper(&self, reference: &Reference) -> bool {
        self.default_helper || self.helpers.contains(&reference.registry.to_ascii_lowercase())
    }
}

impl Entry {
    fn credentials(&self, key: &str) -> Result<Option<Credentials>, Error> {
        let malformed = || Error::Auth(format!("the entry {key:?} is not base64 of user:password"));
        if let Some(token) = self.identitytoken.as_deref().filter(|t| !t.is_empty()) {
            return Ok(Some(Credentials::from_identity_token(token)));
        }
        if let Some(auth) = self.auth.as_deref().filter(|a| !a.is_empty()) {
            let bytes = Zeroizing::new(STANDARD.decode(auth.trim()).map_err(|_| malformed())?);
            let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
            // Docker itself has written a trailing NUL.
            let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(malformed)?;
            return Ok(Some(Credentials::new(user, password)));
        }
        match (&self.username, &self.password) {
            (Some(user), Some(password)) => Ok(Some(Credentials::new(user, password.as_str()))),
            _ => Ok(None),
        }
    }
}

/// Keys as references spell them: no scheme, no slash at the end; Docker Hub's old names are `docker.io`.
fn normal_key(key: &str) -> String {
    let had_scheme = key.contains("://");
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    // With a scheme it is an API address (`https://index.docker.io/v1/`), of which the host counts.
    let key = if had_scheme { key.split('/').next().unwrap_or(key) } else { key };
    let (host, path) = key.split_once('/').map_or((key, None), |(h, p)| (h, Some(p)));
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    match path {
        Some("v1" | "v2") | None => host.to_owned(),
        Some(path) => format!("{host}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(auth: &Auth, name: &str) -> Option<String> {
        auth.lookup(&Reference::parse(name).unwrap()).and_then(|c| Some(c.basic()?.to_string()))
    }

    #[test]
    fn the_longest_prefix_wins() {
        let b64 = |t: &str| STANDARD.encode(t);
        let text = format!(
            r#"{{"auths":{{"quay.io":{{"auth":"{}"}},"quay.io/team/app":{{"auth":"{}"}},
                "https://index.docker.io/v1/":{{"auth":"bGl1ZGFsaWJqOlBhc3N3MHJkIXFheg=="}},
                "localhost:5000":{{"username":"u","password":"p:q"}},"empty.io":{{}}}}}}"#,
            b64("a:1"),
            b64("b:2")
        );
        let auth = Auth::from_json(&text).unwrap();
        for (name, expected) in [
            ("quay.io/x/y", Some("a:1")),
            ("quay.io/team/app:v", Some("b:2")),
            ("quay.io/team/apple", Some("a:1")),
            ("busybox", Some("liudalibj:Passw0rd!qaz")),
            ("localhost:5000/x", Some("u:p:q")),
            ("localhost:5001/x", None),
            ("empty.io/x", None),
            ("evil-quay.io/x", None),
        ] {
            assert_eq!(basic(&auth, name), expected.map(|e| format!("Basic {}", b64(e))), "{name}");
        }
    }

    #[test]
    fn docker_hubs_names_and_identity_tokens() {
        for key in [
            "docker.io",
            "https://index.docker.io/v1/",
            "index.docker.io",
            "https://registry-1.docker.io/v2/",
        ] {
            let auth =
                Auth::from_json(&format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#));
            assert!(basic(&auth.unwrap(), "docker.io/library/busybox").is_some(), "{key}");
        }
        let both = r#"{"auths":{"docker.io":{"username":"a","password":"p"},
                       "https://index.docker.io/v1/":{"username":"b","password":"p"},
                       "docker.io/team":{"username":"c","password":"p"}}}"#;
        let auth = Auth::from_json(both).unwrap();
        let of = |name: &str| auth.lookup(&Reference::parse(name).unwrap()).unwrap().user.clone();
        assert_eq!((of("busybox").as_str(), of("team/app").as_str()), ("a", "c"));
        let text = r#"{"auths":{"Acr.IO":{"auth":"MDA6","identitytoken":"refresh"}}}"#;
        let auth = Auth::from_json(text).unwrap();
        let found = auth.lookup(&Reference::parse("acr.io/x").unwrap()).unwrap();
        assert_eq!((found.identity(), found.basic()), (Some("refresh"), None));
    }

    #[test]
    fn malformed_files_are_refused_without_quoting() {
        for bad in
            ["", "7", r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#, r#"{"auths":{"a":{"auth":"%secret"}}}"#]
        {
            let e = Auth::from_json(bad).unwrap_err().to_string();
            assert!(!e.contains("secret") && !e.contains("c2VjcmV0"), "{e}");
        }
    }

    #[test]
    fn helpers_are_known_but_not_run() {
        let auth = Auth::from_json(r#"{"credHelpers":{"gcr.io":"gcloud"}}"#).unwrap();
        assert!(auth.is_with_helper(&Reference::parse("gcr.io/x/y").unwrap()));
        assert!(!auth.is_with_helper(&Reference::parse("quay.io/x/y").unwrap()));
        assert_eq!(format!("{:?}", Credentials::new("u", "p")), "Credentials { .. }");
    }
}

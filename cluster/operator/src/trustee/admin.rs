//! The admin API of a Trustee in the cluster, as its administrator.

use bytes::Bytes;
use cocoon_cluster_api::Trustee;
use cocoon_http::{Client, Method, Options, Request, Roots, header};
use kube::ResourceExt;
use serde_json::Value;
use std::time::Duration;
use zeroize::Zeroizing;

use super::objects::{self, Names};
use super::own::authorities;
use super::watched::NamedSecrets;
use crate::Error;

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// Most characters of a refusal that are shown.
const MAX_WORDS: usize = 500;
/// How long a connection and a silence may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// The admin API.
pub struct Admin {
    http: Client,
    url: String,
    token: Zeroizing<String>,
}

impl Admin {
    /// Of a Trustee: by its Service, believing the CA and with the token that are in its Secrets.
    ///
    /// # Errors
    /// Where the Secrets are absent or not what they should be.
    pub async fn of(trustee: &Trustee, secrets: &NamedSecrets) -> Result<Self, Error> {
        let (names, ns) = (Names::of(trustee), trustee.namespace().unwrap_or_default());
        let lacks = |name: &str| {
            Error::Own(format!("Secret {name} of Trustee {} is not complete", trustee.name_any()))
        };
        let secret = secrets.get(&ns, &names.admin).await?.ok_or_else(|| lacks(&names.admin))?;
        let token = secret.data.as_ref().and_then(|d| d.get("token")).map(|t| t.0.clone());
        let token =
            Zeroizing::new(token.and_then(|t| String::from_utf8(t).ok()).ok_or_else(|| lacks(&names.admin))?);
        let tls = secrets.get(&ns, &names.tls).await?;
        let ca = tls.and_then(|s| authorities(&s)).ok_or_else(|| lacks(&names.tls))?;
        let options = Options {
            roots: Roots::Pinned(vec![ca]),
            connect_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            ..Options::default()
        };
        let http = Client::new(options).map_err(|e| Error::Trustee(e.to_string()))?;
        Ok(Admin { http, url: objects::url(trustee), token: Zeroizing::new(token.trim().to_owned()) })
    }

    /// Reads JSON; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Trustee`] where it does not answer, [`Error::Refused`] where it says no.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, Error> {
        let Some(body) = self.send(Method::GET, path, "application/json", Bytes::new()).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|e| Error::Trustee(format!("its answer is not JSON: {e}")))
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn put(&self, path: &str, body: &Value) -> Result<(), Error> {
        let body = Bytes::from(body.to_string());
        self.send(Method::PUT, path, "application/json", body).await.map(drop)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn put_bytes(&self, path: &str, body: &[u8]) -> Result<(), Error> {
        let body = Bytes::copy_from_slice(body);
        self.send(Method::PUT, path, "application/octet-stream", body).await.map(drop)
    }

    /// Removes; that there was nothing is fine.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.send(Method::DELETE, path, "application/json", Bytes::new()).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Option<Bytes>, Error> {
        let failed = |reason: String| Error::Trustee(format!("{}: {reason}", self.url));
        let mut bearer = header::HeaderValue::from_str(&format!("Bearer {}", self.token.as_str()))
            .map_err(|_| failed("the token holds characters that no header may have".into()))?;
        bearer.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/cocoon/v0/{path}", self.url))
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(|e| failed(e.to_string()))?;
        let answer = self.http.send(request).await.map_err(|e| failed(e.to_string()))?;
        let status = answer.status.as_u16();
        let body = answer.bytes(MAX_ANSWER).await.map_err(|e| failed(e.to_string()))?;
        match status {
            200..300 => Ok(Some(body)),
            404 => Ok(None),
            400 | 413 | 422 | 507 => Err(Error::Refused(words(&body))),
            _ => Err(failed(format!("it answered {status}: {}", words(&body)))),
        }
    }
}

/// What a refusal says: `detail` of its JSON, or its text.
fn words(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let detail = json.as_ref().and_then(|v| v.get("detail")).and_then(Value::as_str);
    let text = detail.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

/// One segment of a path or a query's value, escaped (RFC 3986 §2.1).
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_without_control_characters_and_not_at_length() {
        assert_eq!(words(br#"{"detail": "no\u001b[31m"}"#), "no[31m");
        assert_eq!(words(&[b'x'; 10_000]).len(), MAX_WORDS);
        assert_eq!(segment("kubernetes a/b."), "kubernetes%20a%2Fb%2E");
    }
}

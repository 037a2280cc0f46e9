//! A Trustee at a URL: HTTPS with its own certificate or the machine's authorities, and the admin token.

use std::path::Path;

use bytes::Bytes;
use cocoon_http::{Client, Method, Options, Request, Roots, header};
use cocoon_plan::TrusteeConfig;
use cocoon_stage::{Code, Failure};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::Answer;

/// Largest answer of the admin API, in bytes.
pub(super) const MAX_ANSWER: usize = 64 << 20;

/// A Trustee's admin API over HTTP.
pub struct Remote {
    http: Client,
    url: String,
    token: Zeroizing<String>,
    certificate: Option<String>,
}

/// The admin token and secrets go over https only, or stay on this machine.
fn check_url(text: &str) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name or password, which does not belong there");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it may not hold a query or fragment");
    }
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err("it names no host"),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if here => Ok(()),
        _ => Err("secrets go to Trustee over https only (http on this machine's loopback)"),
    }
}

impl Remote {
    /// The Trustee at `url` with the token from a file or the environment's `COCOON_TRUSTEE_TOKEN`. Nothing is sent yet.
    pub fn new(url: &str, token: Option<&Path>, certificate: Option<&Path>) -> Result<Self, Failure> {
        let failed = |reason: String| Failure::new(Code::RegisterFailed, reason);
        check_url(url).map_err(|reason| failed(format!("{url:?}: {reason}")))?;
        let read = |file: &Path| {
            std::fs::read_to_string(file).map_err(|e| failed(format!("{}: {e}", file.display())))
        };
        let token = Zeroizing::new(match token {
            Some(file) => read(file)?,
            None => std::env::var("COCOON_TRUSTEE_TOKEN")
                .map_err(|_| failed("--trustee needs --trustee-token FILE or COCOON_TRUSTEE_TOKEN".into()))?,
        });
        let certificate = certificate.map(read).transpose()?;
        let roots = certificate.clone().map_or(Options::default().roots, |pem| Roots::Pinned(vec![pem]));
        let http = Client::new(Options { roots, ..Options::default() }).map_err(|e| failed(e.to_string()))?;
        Ok(Remote {
            http,
            url: url.trim_end_matches('/').to_owned(),
            token: Zeroizing::new(token.trim().to_owned()),
            certificate,
        })
    }

    /// Whether secrets may go to this URL.
    ///
    /// # Errors
    /// `REGISTER-FAILED` with what is wrong with it.
    pub fn check(url: &str) -> Result<(), Failure> {
        check_url(url).map_err(|reason| Failure::new(Code::RegisterFailed, format!("{url:?}: {reason}")))
    }

    /// Without token and certificate.
    #[cfg(test)]
    pub fn for_tests(url: &str) -> Self {
        let http = Client::new(Options::default()).unwrap();
        Remote { http, url: url.into(), token: Zeroizing::default(), certificate: None }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the guest must know of it.
    pub fn config(&self) -> TrusteeConfig {
        TrusteeConfig { url: self.url.clone(), certificate: self.certificate.clone() }
    }

    /// Makes a request; a refusal is an answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let answer = self.ask(method, path, content_type, body).await?;
        let status = answer.status.as_u16();
        let date = answer.header("date").map(str::to_owned);
        let body = answer.bytes(MAX_ANSWER).await;
        let body =
            body.map_err(|e| Failure::new(Code::RegisterFailed, format!("Trustee at {}: {e}", self.url)))?;
        Ok(Answer { status, body, date })
    }

    /// Makes a request; the answer's body is still to be read.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<cocoon_http::Response, Failure> {
        let failed =
            |reason: String| Failure::new(Code::RegisterFailed, format!("Trustee at {}: {reason}", self.url));
        let mut bearer = header::HeaderValue::from_str(&format!("Bearer {}", self.token.as_str()))
            .map_err(|_| failed("the admin token holds characters that no header may have".into()))?;
        bearer.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(|e| failed(e.to_string()))?;
        self.http.send(request).await.map_err(|e| failed(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn nothing_leaves_this_machine_in_plain() {
        for good in
            ["https://trustee.example:8080", "http://127.0.0.1:1", "http://localhost/", "http://[::1]:1"]
        {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "http://trustee.example",
            "http://127.0.0.1:80@evil.example/",
            "http://localhost@evil.example",
            "http://127.0.0.1.evil.example",
            "https://user:pw@trustee.example",
            "https://trustee.example/?x",
            "ftp://localhost",
            "localhost:8080",
            "",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}

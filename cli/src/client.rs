//! One client for the owner's commands: Trustee's admin API, of the embedded Trustee in this process or of one at a
//! URL. Both answer the same; what differs is only the way there.

mod remote;

use bytes::Bytes;
use cocoon_http::Method;
use cocoon_stage::{Code, Failure};
use serde_json::Value;

pub use remote::Remote;

use crate::args::Common;
use crate::embedded::Embedded;

/// Most characters of a refusal's words that are shown.
const MAX_WORDS: usize = 2000;

/// An admin API.
pub struct AdminClient {
    home: Home,
    /// Before each path: empty, or `/t/NAME`.
    prefix: String,
}

enum Home {
    Embedded(Box<Embedded>),
    Remote(Box<Remote>),
}

/// What an API answered.
struct Answer {
    status: u16,
    body: Bytes,
    /// Its clock, as its header tells.
    date: Option<String>,
}

impl AdminClient {
    /// The Trustee that the flags name.
    pub fn open(common: &Common) -> Result<Self, Failure> {
        let prefix = prefix(common.tenant.as_deref())?;
        let home = match &common.trustee {
            Some(url) => {
                let (token, cert) = (common.trustee_token.as_deref(), common.trustee_cert.as_deref());
                Home::Remote(Box::new(Remote::new(url, token, cert)?))
            }
            None => Home::Embedded(Box::new(Embedded::open(None)?)),
        };
        Ok(AdminClient { home, prefix })
    }

    /// The API of an embedded Trustee that is open already.
    pub fn of_embedded(embedded: Embedded) -> Self {
        AdminClient { home: Home::Embedded(Box::new(embedded)), prefix: String::new() }
    }

    /// The API of a Trustee elsewhere.
    pub fn of_remote(remote: Remote) -> Self {
        AdminClient { home: Home::Remote(Box::new(remote)), prefix: String::new() }
    }

    /// The embedded Trustee, if it is that.
    pub fn embedded(&self) -> Option<&Embedded> {
        if let Home::Embedded(embedded) = &self.home { Some(embedded) } else { None }
    }

    /// Where it is, for messages.
    pub fn place(&self) -> &str {
        match &self.home {
            Home::Embedded(_) => "the embedded Trustee",
            Home::Remote(remote) => remote.url(),
        }
    }

    /// Reads JSON. `what` names what is asked for, for the case that there is none.
    pub async fn get(&self, path: &str, what: &str) -> Result<Value, Failure> {
        parse(&self.send(Method::GET, path, None, what).await?)
    }

    /// [`AdminClient::get`], with the time that the answer's header tells (`Sun, 06 Nov 1994 08:49:37 GMT`).
    pub async fn dated(&self, path: &str, what: &str) -> Result<(Value, Option<String>), Failure> {
        let (answer, path) = self.ask(Method::GET, path, None).await?;
        match answer.status {
            200..300 => Ok((parse(&answer.body)?, answer.date)),
            _ => Err(self.refusal(&answer, &path, what)),
        }
    }

    /// Sends JSON by PUT; gives the answer's JSON, null if it has no body.
    pub async fn put(&self, path: &str, body: &Value, what: &str) -> Result<Value, Failure> {
        parse(&self.send(Method::PUT, path, Some(Sent::Json(body)), what).await?)
    }

    /// Sends bytes by PUT.
    pub async fn put_bytes(&self, path: &str, body: Bytes, what: &str) -> Result<(), Failure> {
        self.send(Method::PUT, path, Some(Sent::Bytes(body)), what).await.map(drop)
    }

    /// Sends bytes by PUT for what must not be there yet; whether it was not. Of several callers one is told `true`.
    pub async fn create_bytes(&self, path: &str, body: Bytes, what: &str) -> Result<bool, Failure> {
        let path = format!("{path}?if_absent=true");
        let (answer, path) = self.ask(Method::PUT, &path, Some(Sent::Bytes(body))).await?;
        match answer.status {
            200..300 => Ok(true),
            412 => Ok(false),
            _ => Err(self.refusal(&answer, &path, what)),
        }
    }

    /// Sends JSON, or nothing, by POST; gives the answer's JSON.
    pub async fn post(&self, path: &str, body: Option<&Value>, what: &str) -> Result<Value, Failure> {
        parse(&self.send(Method::POST, path, body.map(Sent::Json), what).await?)
    }

    /// Asks a Trustee at a URL, by POST, for something that is too large to be held: the answer whose body is still to be read.
    pub async fn download(&self, path: &str, what: &str) -> Result<cocoon_http::Response, Failure> {
        let path = format!("{}/cocoon/v0/{path}", self.prefix);
        let Home::Remote(remote) = &self.home else {
            return Err(Failure::new(Code::UsageInvalid, "this asks a Trustee at a URL; give --trustee"));
        };
        let answer = remote.ask(Method::POST, &path, "application/json", Bytes::new()).await?;
        let status = answer.status.as_u16();
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let body = answer.bytes(remote::MAX_ANSWER).await;
        let body = body.map_err(|e| Failure::new(Code::RegisterFailed, e.to_string()))?;
        Err(self.refusal(&Answer { status, body, date: None }, &path, what))
    }

    /// Removes something; gives the answer's JSON, null if it has no body.
    pub async fn delete(&self, path: &str, what: &str) -> Result<Value, Failure> {
        parse(&self.send(Method::DELETE, path, None, what).await?)
    }

    /// Makes a request below `/cocoon/v0/`; a refusal is a failure with the code that Trustee gave.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Sent<'_>>,
        what: &str,
    ) -> Result<Bytes, Failure> {
        let (answer, path) = self.ask(method, path, body).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        Err(self.refusal(&answer, &path, what))
    }

    /// The answer to a request, and the whole path that was asked.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Sent<'_>>,
    ) -> Result<(Answer, String), Failure> {
        let path = format!("{}/cocoon/v0/{path}", self.prefix);
        let (body, kind) = match body {
            Some(Sent::Json(value)) => (value.to_string().into(), "application/json"),
            Some(Sent::Bytes(bytes)) => (bytes, "application/octet-stream"),
            None => (Bytes::new(), "application/json"),
        };
        let answer = match &self.home {
            Home::Embedded(embedded) => {
                let answer = embedded.trustee().local(method, &path, body).await?;
                Answer { status: answer.status, body: answer.body, date: None }
            }
            Home::Remote(remote) => remote.send(method, &path, kind, body).await?,
        };
        Ok((answer, path))
    }

    /// A refusal as failure. Its body is `{"type", "detail": "CODE (request ID): words"}`, and comes from the network.
    fn refusal(&self, answer: &Answer, path: &str, what: &str) -> Failure {
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let detail = json.as_ref().and_then(|v| v.get("detail")).and_then(Value::as_str);
        let text = detail.map_or_else(|| String::from_utf8_lossy(&answer.body).into_owned(), str::to_owned);
        let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
        let parts = text.split_once(" (request ").and_then(|(code, rest)| {
            let code = Code::ALL.iter().copied().find(|c| c.as_str() == code)?;
            let (id, words) = rest.split_once(')')?;
            Some((code, id.to_owned(), words.trim_start_matches(": ").to_owned()))
        });
        let (code, id, words) = match parts {
            Some((code, id, words)) => (code, Some(id), words),
            None => (by_status(answer.status), None, text),
        };
        let failure = if answer.status == 404 && words == "there is none" {
            let secret = path.contains("/cocoon/v0/secrets/");
            let code = if secret { Code::ReleaseSecretMissing } else { Code::UsageInvalid };
            Failure::new(code, format!("there is no {what}"))
        } else if answer.status == 404 && !self.prefix.is_empty() {
            let tenant = self.prefix.trim_start_matches("/t/");
            Failure::new(Code::UsageInvalid, format!("there is no tenant {tenant} at {}", self.place()))
        } else if self.embedded().is_some() {
            Failure::new(code, words)
        } else {
            let reason =
                format!("Trustee at {} answered {} for {what}: {words}", self.place(), answer.status);
            Failure::new(code, reason)
        };
        match id {
            Some(id) => failure.with_request_id(id),
            None => failure,
        }
    }
}

/// A request's body.
enum Sent<'a> {
    Json(&'a Value),
    Bytes(Bytes),
}

fn by_status(status: u16) -> Code {
    match status {
        401 | 403 => Code::AccessDenied,
        429 | 503 => Code::ServerBusy,
        507 => Code::StoreQuota,
        _ => Code::RegisterFailed,
    }
}

fn prefix(tenant: Option<&str>) -> Result<String, Failure> {
    let Some(name) = tenant else { return Ok(String::new()) };
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=40).contains(&name.len()) || !name.bytes().all(valid) {
        let reason = format!("--tenant {name:?}: a name is 1 to 40 characters of a-z, 0-9 and -");
        return Err(Failure::new(Code::UsageInvalid, reason));
    }
    Ok(format!("/t/{name}"))
}

fn parse(body: &Bytes) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body)
        .map_err(|e| Failure::new(Code::RegisterFailed, format!("Trustee's answer is not JSON: {e}")))
}

/// One segment of a path, escaped (RFC 3986 §2.1) so that nothing in it can be taken for more than a segment.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            out.push(char::from(byte));
        } else if byte == b'.' && text.bytes().any(|b| b != b'.') {
            out.push('.');
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_segments() {
        assert_eq!(segment("default_cpu.v1"), "default_cpu.v1");
        assert_eq!(segment("rvps:///a b?#"), "rvps%3A%2F%2F%2Fa%20b%3F%23");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("ä"), "%C3%A4");
    }

    #[test]
    fn tenants_names_are_no_paths() {
        assert_eq!(prefix(Some("team-1")).unwrap(), "/t/team-1");
        for bad in ["", "a/b", "..", "A", "a%2fb"] {
            assert_eq!(prefix(Some(bad)).unwrap_err().code, Code::UsageInvalid, "{bad}");
        }
    }

    #[test]
    fn refusals_keep_their_code_and_lose_control_characters() {
        let remote = Remote::for_tests("http://127.0.0.1:1");
        let client = AdminClient::of_remote(remote);
        let refused = |status, body: &str| {
            client.refusal(
                &Answer { status, body: Bytes::copy_from_slice(body.as_bytes()), date: None },
                "/cocoon/v0/x",
                "the thing",
            )
        };
        let failure =
            refused(400, r#"{"type":"t","detail":"POLICY-INVALID (request r1): line 3\u001b[31m"}"#);
        assert_eq!((failure.code, failure.request_id.as_deref()), (Code::PolicyInvalid, Some("r1")));
        assert!(failure.reason.ends_with("line 3[31m"), "{}", failure.reason);
        assert_eq!(refused(401, "no").code, Code::AccessDenied);
        assert_eq!(refused(502, "<html>").code, Code::RegisterFailed);
        let none = refused(404, r#"{"detail":"USAGE-INVALID (request r2): there is none"}"#);
        assert_eq!(none.reason, "there is no the thing");
    }
}

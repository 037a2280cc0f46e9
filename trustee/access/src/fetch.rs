//! Fetching a key set over HTTP, by way of OpenID Connect discovery where the URL is not a key set's own.

use bytes::Bytes;
use cocoon_http::{Client, Request, StatusCode, header};
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::key::Key;
use crate::provider::MAX_DOCUMENT;
use crate::{jwks, strict};

/// OpenID Connect Discovery 1.0 §4.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Reads a URL from which keys may be fetched: `https`, or `http` on this machine; no user and no fragment.
pub(crate) fn key_set_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return Err("must be https (or http on loopback)".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must have neither user nor fragment".to_owned());
    }
    Ok(url)
}

/// Fetches the keys. `issuer` is whose tokens they are for, where that is known.
///
/// At most three requests of 256 KiB each; the caller bounds the time.
pub(crate) async fn keys(client: &Client, url: &Url, issuer: Option<&str>) -> Result<Vec<Key>, String> {
    let first = get(client, url).await?;
    let document = match first {
        Some(members) if members.contains_key("keys") => return jwks::parse(&Value::Object(members)),
        Some(members) if members.contains_key("jwks_uri") => members,
        _ => {
            let mut well_known = url.clone();
            well_known.set_path(&format!("{}{DISCOVERY}", url.path().trim_end_matches('/')));
            well_known.set_query(None);
            get(client, &well_known)
                .await?
                .ok_or("neither a key set nor an issuer with a discovery document")?
        }
    };
    let uri = jwks_uri(&document, url, issuer)?;
    let set = get(client, &uri).await?.ok_or_else(|| format!("{uri} is not a key set"))?;
    jwks::parse(&Value::Object(set))
}

/// The key set that a discovery document names.
fn jwks_uri(document: &Map<String, Value>, from: &Url, issuer: Option<&str>) -> Result<Url, String> {
    let text =
        |name: &str| document.get(name).and_then(Value::as_str).ok_or(format!("discovery without {name}"));
    // A document of somebody else must not bring keys for tokens of this issuer.
    let claimed = text("issuer")?;
    if issuer.is_some_and(|issuer| issuer != claimed) {
        return Err("the discovery document is of another issuer".to_owned());
    }
    let uri = key_set_url(text("jwks_uri")?).map_err(|e| format!("jwks_uri: {e}"))?;
    if from.scheme() == "https" && uri.scheme() != "https" {
        return Err("jwks_uri must be https".to_owned());
    }
    Ok(uri)
}

/// The JSON object at a URL; `None` where the server has something else or nothing there.
async fn get(client: &Client, url: &Url) -> Result<Option<Map<String, Value>>, String> {
    let request = Request::get(url.as_str())
        .header(header::ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|e| e.to_string())?;
    let answer = client.send(request).await.map_err(|e| e.to_string())?;
    let status = answer.status;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(format!("{url} answered {status}"));
    }
    let body = answer.bytes(MAX_DOCUMENT).await.map_err(|e| e.to_string())?;
    Ok(if status == StatusCode::OK { strict::object(&body) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_https_or_loopback() {
        for good in [
            "https://idp.example.org/keys?x=1",
            "http://localhost:8080/",
            "http://127.0.0.9/keys",
            "http://[::1]:1/",
            "http://idp.localhost/",
        ] {
            assert!(key_set_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://idp.example.org/keys",
            "http://127.0.0.1.example.org/",
            "http://localhost.example.org/",
            "http://0.0.0.0/",
            "http://[::ffff:127.0.0.1]/",
            "https://user@idp.example.org/",
            "https://:pw@idp.example.org/",
            "https://idp.example.org/#keys",
            "file:///etc/keys",
            "ftp://localhost/",
            "idp.example.org",
            "",
        ] {
            assert!(key_set_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn discovery_must_be_the_issuers_and_stay_secure() {
        let of = |text: &str, from: &str, issuer: Option<&str>| {
            jwks_uri(&strict::object(text.as_bytes()).unwrap(), &Url::parse(from).unwrap(), issuer)
        };
        let document = r#"{"issuer":"https://i","jwks_uri":"https://i/keys"}"#;
        assert!(of(document, "https://i", Some("https://i")).is_ok());
        assert!(of(document, "https://i", None).is_ok());
        assert!(of(document, "https://i", Some("https://j")).is_err());
        assert!(of(r#"{"jwks_uri":"https://i/keys"}"#, "https://i", None).is_err());
        assert!(of(r#"{"issuer":"https://i"}"#, "https://i", None).is_err());
        let downgrade = r#"{"issuer":"i","jwks_uri":"http://127.0.0.1/keys"}"#;
        assert!(of(downgrade, "https://i", None).is_err());
        assert!(of(downgrade, "http://127.0.0.1/", None).is_ok());
        assert!(of(r#"{"issuer":"i","jwks_uri":"file:///keys"}"#, "https://i", None).is_err());
    }
}

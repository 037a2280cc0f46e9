//! Tokens: from a challenge to an `Authorization` value (distribution's "token" scheme).

use bytes::Bytes;
use cocoon_http::Response;
use http::{Method, StatusCode, Uri};
use tokio::time::{Duration, Instant};
use zeroize::Zeroizing;

use crate::auth::Credentials;
use crate::challenge::{Challenge, TokenAnswer, query_value};
use crate::place::Place;
use crate::request::Ask;
use crate::retry::retry_after;
use crate::{Client, Error};

const MAX_TOKEN_ANSWER: usize = 256 * 1024;
/// How long a token lasts whose service does not say (distribution's token specification).
const LIFETIME: Duration = Duration::from_secs(60);
/// No token is kept for longer, whatever its service says.
const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);
/// The name by which token services may know us.
const CLIENT_ID: &str = "cocoon";

/// An `Authorization` value, and until when it is worth sending.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: Zeroizing<String>,
    until: Option<Instant>,
}

impl Token {
    fn lasting(value: Zeroizing<String>, seconds: Option<u64>) -> Token {
        let lifetime = seconds.map_or(LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        // The last tenth is left for the way.
        Token { value, until: Some(Instant::now() + lifetime * 9 / 10) }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Client {
    /// The credentials that may be sent to a place: its own, and over plain HTTP to this machine's own loopback only.
    /// A guest's `localhost` is the host's, from which its credentials are to be kept.
    fn credentials(&self, place: &Place) -> Option<&Credentials> {
        let is_safe = !place.plain || (place.reference.is_loopback() && !self.http.loopback_is_elsewhere());
        self.auth.lookup(&place.reference).filter(|_| is_safe)
    }

    /// The `Authorization` value that answers a challenge.
    pub(crate) async fn authorise(
        &self,
        place: &Place,
        answer: &Response,
        push: bool,
    ) -> Result<Token, Error> {
        let registry = &place.reference.registry;
        let field = answer.header("www-authenticate").unwrap_or_default();
        let credentials = self.credentials(place);
        match Challenge::parse(field) {
            Some(Challenge::Basic) => match credentials.and_then(Credentials::basic) {
                Some(value) => Ok(Token { value, until: None }),
                None => Err(self.unauthorised(place, answer.status)),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let actions = if push { "pull,push" } else { "pull" };
                let scope =
                    scope.unwrap_or_else(|| format!("repository:{}:{actions}", place.reference.repository));
                let ask = token_ask(&realm, &scope, service.as_deref(), credentials);
                let url: Uri =
                    ask.1.parse().map_err(|_| Error::answer(registry, "its token service has no URL"))?;
                self.token(place, &ask.0, &url, credentials).await
            }
            None => Err(Error::answer(registry, "it asks for credentials in a way that is not known")),
        }
    }

    async fn token(
        &self,
        place: &Place,
        ask: &Ask,
        url: &Uri,
        credentials: Option<&Credentials>,
    ) -> Result<Token, Error> {
        let registry = &place.reference.registry;
        // Tokens in plain only where the registry itself is spoken to in plain; credentials only within loopback.
        let away = self
            .leads_away(place, url)
            .filter(|away| url.scheme_str() == Some("https") || credentials.is_none() || !away)
            .ok_or_else(|| {
                Error::answer(registry, "its token service is not https or not at a public address")
            })?;
        let basic = credentials.filter(|_| !ask.has_body()).and_then(Credentials::basic);
        let mut failures = 0;
        loop {
            let request = ask.request(url, basic.as_ref().map(|b| b.as_str()))?;
            let answer =
                if away { self.http.send_away(request).await } else { self.http.send(request).await };
            let mut asked = None;
            let problem = match answer {
                Ok(answer) if matches!(answer.status.as_u16(), 400 | 401 | 403) => {
                    return Err(self.unauthorised(place, answer.status));
                }
                Ok(answer) if answer.status == StatusCode::OK => match answer.bytes(MAX_TOKEN_ANSWER).await {
                    Ok(body) => return read_token(registry, &body),
                    Err(e) => Error::transport(registry, &e),
                },
                Ok(answer) => {
                    asked = retry_after(&answer);
                    Error::answer(registry, format!("its token service says HTTP {}", answer.status))
                }
                Err(e @ (cocoon_http::Error::Certificate { .. } | cocoon_http::Error::Forbidden(_))) => {
                    return Err(Error::transport(registry, &e));
                }
                Err(e) => Error::transport(registry, &e),
            };
            failures += 1;
            if failures >= self.retry.attempts {
                return Err(problem);
            }
            self.retry.wait(failures, asked).await;
        }
    }

    pub(crate) fn unauthorised(&self, place: &Place, status: StatusCode) -> Error {
        let reference = &place.reference;
        let known = self.auth.lookup(reference).is_some();
        let hint = match (known, self.auth.is_with_helper(reference)) {
            (true, _) if self.credentials(place).is_none() => {
                format!(" (HTTP {status}); the credentials of auth.json are not sent over plain HTTP")
            }
            (true, _) => format!(" with the credentials of auth.json (HTTP {status})"),
            (false, true) => format!(
                " (HTTP {status}); its credentials are with a credential helper, which is not run here: \
                 write them into auth.json"
            ),
            (false, false) => format!(" without credentials (HTTP {status})"),
        };
        Error::Unauthorized {
            registry: reference.registry.clone(),
            repository: reference.repository.clone(),
            hint,
        }
    }
}

/// The request for a token and its URL: by `GET` with user and password or nothing, by `POST` with an identity token
/// (OAuth 2.0, RFC 6749 §6).
fn token_ask(
    realm: &str,
    scope: &str,
    service: Option<&str>,
    credentials: Option<&Credentials>,
) -> (Ask, String) {
    let scope = query_value(scope);
    let service = service.map(|s| format!("&service={}", query_value(s))).unwrap_or_default();
    if let Some(identity) = credentials.and_then(Credentials::identity) {
        let form = format!(
            "grant_type=refresh_token&client_id={CLIENT_ID}&scope={scope}{service}&refresh_token={}",
            query_value(identity)
        );
        let ask = Ask::new(Method::POST, "").body("application/x-www-form-urlencoded", Bytes::from(form));
        return (ask, realm.to_owned());
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    (Ask::new(Method::GET, ""), format!("{realm}{separator}scope={scope}{service}"))
}

fn read_token(registry: &str, body: &[u8]) -> Result<Token, Error> {
    let none = || Error::answer(registry, "its token service gave no token");
    let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| none())?;
    let lifetime = answer.expires_in;
    let token = Zeroizing::new(answer.into_token().ok_or_else(none)?);
    Ok(Token::lasting(Zeroizing::new(format!("Bearer {}", token.as_str())), lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_before_they_expire_and_never_last() {
        let value = || Zeroizing::new(String::new());
        assert!(!Token::lasting(value(), Some(0)).is_fresh());
        assert!(Token::lasting(value(), None).is_fresh());
        let longest = Token::lasting(value(), Some(u64::MAX)).until.unwrap();
        assert!(longest <= Instant::now() + LONGEST_LIFETIME);
        for bad in
            ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"ü"}"#, r#"{"token":"x","expires_in":"y"}"#]
        {
            assert!(read_token("r", bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read_token("r", br#"{"access_token":"x","expires_in":-5}"#).is_err());
    }
}

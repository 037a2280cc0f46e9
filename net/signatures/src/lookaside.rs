//! Detached signatures in a look-aside place: `<base>/<repository>@sha256=<hex>/signature-1`, `-2` and so on, up to the
//! first that is not there.
//!
//! Plain HTTP is as good as HTTPS here: a signature proves itself, and whoever hides one refuses the image.

use std::time::Duration;

use bytes::Bytes;
use cocoon_http::{Client, Error as Http};
use cocoon_image::{Digest, Reference};
use cocoon_signature::Needs;
use http::{Request, StatusCode};
use tokio::io::AsyncReadExt as _;

use crate::find::{Gathered, Places};
use crate::redirect::{self, MAX_REDIRECTS};
use crate::{Error, MAX_SIGNATURES};

/// The longest signed message, in bytes.
const MAX_BYTES: usize = 128 * 1024;
/// Tries of one signature.
const TRIES: u32 = 3;
/// Limit for one try, however it drips.
const LIMIT: Duration = Duration::from_secs(60);

/// One answer of a place.
enum Answer {
    Signature(Vec<u8>),
    Absent,
    /// There is something, too long for a signature.
    TooLong,
}

pub(crate) async fn find(
    http: &Client,
    places: &Places,
    reference: &Reference,
    digests: &[Digest],
    needs: Needs,
) -> Result<Gathered, Error> {
    let mut all = Gathered::default();
    let Some(lookaside) = places.lookaside.as_ref().filter(|_| needs.simple) else { return Ok(all) };
    for digest in digests {
        for number in 1..=MAX_SIGNATURES {
            let Some(url) = lookaside.signature_url(reference, digest, number) else { break };
            if all.found.simple.len() >= MAX_SIGNATURES {
                return Ok(all);
            }
            let answer = match url.strip_prefix("file://") {
                Some(path) if places.files => file(&url, path).await?,
                Some(_) => {
                    let problem = "files are not read here; name an http or https place".to_owned();
                    return Err(Error::Answer { url, problem });
                }
                None => over_http(http, &url).await?,
            };
            match answer {
                Answer::Signature(message) => all.found.simple.push(message),
                Answer::TooLong => all.faults.add(&url, format_args!("longer than {MAX_BYTES} bytes")),
                Answer::Absent => break,
            }
        }
    }
    Ok(all)
}

async fn file(url: &str, path: &str) -> Result<Answer, Error> {
    let fail = |e: std::io::Error| Error::Answer { url: url.to_owned(), problem: e.to_string() };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Answer::Absent),
        Err(e) => return Err(fail(e)),
    };
    if !file.metadata().await.map_err(fail)?.is_file() {
        return Err(fail(std::io::Error::other("it is not a file")));
    }
    let mut message = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut message).await.map_err(fail)?;
    Ok(if message.len() > MAX_BYTES { Answer::TooLong } else { Answer::Signature(message) })
}

async fn over_http(http: &Client, url: &str) -> Result<Answer, Error> {
    let mut problem = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
        match tokio::time::timeout(LIMIT, once(http, url)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Attempt::Final(e))) => return Err(e),
            Ok(Err(Attempt::Again(why))) => problem = why,
            Err(_) => problem = format!("not complete within {LIMIT:?}"),
        }
    }
    Err(Error::Unreachable { url: url.to_owned(), problem })
}

enum Attempt {
    Again(String),
    Final(Error),
}

async fn once(http: &Client, url: &str) -> Result<Answer, Attempt> {
    let wrong = |problem: String| Attempt::Final(Error::Answer { url: url.to_owned(), problem });
    let mut at = url.to_owned();
    for _ in 0..=MAX_REDIRECTS {
        let request = Request::get(&at).body(Bytes::new()).map_err(|e| wrong(e.to_string()))?;
        let answer = http.send(request).await.map_err(|e| match e {
            Http::Url(_) | Http::Roots(_) | Http::Certificate { .. } => wrong(e.to_string()),
            e => Attempt::Again(e.to_string()),
        })?;
        match answer.status {
            StatusCode::OK => {
                return match answer.bytes(MAX_BYTES).await {
                    Ok(message) => Ok(Answer::Signature(message.to_vec())),
                    Err(Http::TooLarge(_)) => Ok(Answer::TooLong),
                    Err(e) => Err(Attempt::Again(e.to_string())),
                };
            }
            StatusCode::NOT_FOUND => return Ok(Answer::Absent),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Attempt::Again(format!("HTTP {status}")));
            }
            status if status.is_redirection() => {
                let location = answer.header("location").unwrap_or_default();
                at = redirect::target(&at, location).map_err(wrong)?;
            }
            status => return Err(wrong(format!("HTTP {status}"))),
        }
    }
    Err(wrong(format!("more than {MAX_REDIRECTS} redirects")))
}

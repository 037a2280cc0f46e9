//! gRPC's status in headers and trailers, and its time-out header.

use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cocoon_stage::Code;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt, Full};

use crate::failure::plain;
use crate::{GrpcCode, RpcFailure};

pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const COCOON_CODE: HeaderName = HeaderName::from_static("x-cocoon-code");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whether a content type is gRPC's (`application/grpc`, or that with `+proto`).
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    matches!(kind.strip_prefix(b"application/grpc"), Some(b"" | b"+proto"))
        || kind.starts_with(b"application/grpc;")
}

/// An answer of one framed message.
pub(crate) fn success(framed: Bytes) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(framed).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// An answer without a message. Its status is in the headers, as gRPC wants it then.
pub(crate) fn refusal(failure: RpcFailure) -> Response<Body> {
    let failure = failure.identified();
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(failure.status.number())));
    headers.insert(COCOON_CODE, HeaderValue::from_static(failure.code.as_str()));
    if let Ok(message) = HeaderValue::from_str(&percent_encode(&failure.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Some(Ok(id)) = failure.request_id.map(|id| HeaderValue::from_str(&id)) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// A peer's refusal: status, its words (plain, at most 512 characters), its own code if it is a Cocoon.
pub(crate) type Refused = (GrpcCode, String, Option<Code>);

/// What headers or trailers say about a call: `None` without a status, `Some(Ok)` for status 0.
pub(crate) fn outcome(headers: &HeaderMap) -> Option<Result<(), Refused>> {
    let status = headers.get(GRPC_STATUS)?.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    if status == Some(0) {
        return Some(Ok(()));
    }
    let message = headers.get(GRPC_MESSAGE).map_or(&[][..], HeaderValue::as_bytes);
    let code =
        headers.get(COCOON_CODE).and_then(|v| v.to_str().ok()).and_then(|text| Code::from_str(text).ok());
    let status = GrpcCode::from_number(status.unwrap_or_default());
    Some(Err((status, plain(&percent_decode(message)), code)))
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

fn percent_decode(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after
            .first_chunk::<2>()
            .filter(|_| byte == b'%')
            .and_then(|digits| hex::decode(digits).ok())
            .and_then(|bytes| bytes.first().copied());
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `grpc-timeout`: 1 to 8 digits and a unit. `None` if absent.
pub(crate) fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, RpcFailure> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    value
        .to_str()
        .ok()
        .and_then(parse_timeout)
        .map(Some)
        .ok_or_else(|| RpcFailure::malformed("grpc-timeout is malformed"))
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n.saturating_mul(3600)),
        "M" => Duration::from_secs(n.saturating_mul(60)),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// A time as `grpc-timeout`, in milliseconds; at most 99 999 999 of them.
pub(crate) fn timeout_value(time: Duration) -> HeaderValue {
    let millis = time.as_millis().clamp(1, 99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).unwrap_or(HeaderValue::from_static("1S"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timeouts_are_read_as_specified() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("00000010m"), Some(Duration::from_millis(10)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("7n"), Some(Duration::from_nanos(7)));
        for bad in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "5 S", "5é", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
        assert_eq!(timeout_value(Duration::from_secs(3)), "3000m");
        assert_eq!(timeout_value(Duration::MAX), "99999999m");
    }

    #[test]
    fn refusals_carry_all_of_it() {
        let failure = RpcFailure::new(Code::PolicyInvalid, GrpcCode::InvalidArgument, "50% é\n");
        let response = refusal(failure.clone());
        assert_eq!(response.headers()["grpc-status"], "3");
        assert_eq!(response.headers()["grpc-message"], "50%25 %C3%A9 ");
        assert_eq!(response.headers()["x-cocoon-code"], "POLICY-INVALID");
        assert_eq!(response.headers()["x-request-id"].len(), 24);
        let read = outcome(response.headers()).unwrap().unwrap_err();
        assert_eq!(read, (GrpcCode::InvalidArgument, "50% é ".into(), Some(Code::PolicyInvalid)));
        assert!(outcome(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_garbled_status_is_no_success() {
        for bad in ["", "00x", "-1", "zero", "4294967296", "17"] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_STATUS, HeaderValue::from_str(bad).unwrap());
            assert_eq!(outcome(&headers).unwrap().unwrap_err().0, GrpcCode::Unknown, "{bad:?}");
        }
    }

    #[test]
    fn content_types_are_told_apart() {
        for (kind, yes) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc+json", false),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_grpc(&headers), yes, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn messages_round_trip(text: String) {
            prop_assert_eq!(percent_decode(percent_encode(&text).as_bytes()), text);
        }

        #[test]
        fn any_message_is_survived(bytes: Vec<u8>, text: String) {
            let _ = percent_decode(&bytes);
            let _ = parse_timeout(&text);
        }
    }
}

//! The header `grpc-timeout`: 1 to 8 digits and a unit.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Code, Status};

pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The caller's limit; `None` if there is none.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse).map(Some);
    parsed.ok_or_else(|| Status::new(Code::InvalidArgument, "grpc-timeout is malformed"))
}

/// A time in milliseconds; at most 99 999 999 of them.
pub(crate) fn write(time: Duration) -> HeaderValue {
    let millis = time.as_millis().clamp(1, 99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).unwrap_or(HeaderValue::from_static("1S"))
}

fn parse(text: &str) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_specified() {
        for (text, time) in [
            ("5S", Duration::from_secs(5)),
            ("00000010m", Duration::from_millis(10)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("7n", Duration::from_nanos(7)),
        ] {
            assert_eq!(parse(text), Some(time), "{text}");
        }
        for bad in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "5 S", "5é", "é"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(write(Duration::from_secs(3)), "3000m");
        assert_eq!(write(Duration::MAX), "99999999m");
        assert_eq!(write(Duration::ZERO), "1m");
    }
}

//! gRPC's status: its codes, and how they travel in headers and trailers.

use std::fmt::{self, Write};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Most characters of a status message, either way.
const MAX_MESSAGE: usize = 1024;

macro_rules! codes {
    ($($variant:ident = $number:literal, $name:literal, $doc:literal;)*) => {
        /// gRPC's status codes (statuscodes.md of gRPC's documentation), but OK.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $doc] $variant,)*
        }

        impl Code {
            /// The number on the wire, 1 to 16.
            pub fn number(self) -> u8 {
                match self { $(Code::$variant => $number,)* }
            }

            /// The code with this number; [`Code::Unknown`] for one that is none.
            pub fn from_number(number: u32) -> Self {
                match number { $($number => Code::$variant,)* _ => Code::Unknown }
            }

            /// Its name in gRPC's documentation.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }
        }
    };
}

codes! {
    Cancelled = 1, "CANCELLED", "The caller gave up.";
    Unknown = 2, "UNKNOWN", "Something without a better code.";
    InvalidArgument = 3, "INVALID_ARGUMENT", "The request is malformed or out of bounds.";
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED", "It took too long.";
    NotFound = 5, "NOT_FOUND", "What was named does not exist.";
    AlreadyExists = 6, "ALREADY_EXISTS", "What was to be made exists.";
    PermissionDenied = 7, "PERMISSION_DENIED", "The caller may not do this.";
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED", "A quota or limit is used up.";
    FailedPrecondition = 9, "FAILED_PRECONDITION", "The state does not allow it.";
    Aborted = 10, "ABORTED", "It was aborted by something concurrent.";
    OutOfRange = 11, "OUT_OF_RANGE", "A value is out of range.";
    Unimplemented = 12, "UNIMPLEMENTED", "There is no such method, or not in this form.";
    Internal = 13, "INTERNAL", "Something that should not occur.";
    Unavailable = 14, "UNAVAILABLE", "It cannot be served now, or nobody is there; try again.";
    DataLoss = 15, "DATA_LOSS", "State was lost.";
    Unauthenticated = 16, "UNAUTHENTICATED", "The caller is not known.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call failed: the peer's words, or this side's where the peer was not reached or not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    /// The code.
    pub code: Code,
    /// For people: at most 1024 characters, without control characters.
    pub message: String,
}

impl Status {
    /// A status; control characters in the message become spaces, and what is beyond 1024 characters is cut.
    pub fn new(code: Code, message: impl AsRef<str>) -> Self {
        Status { code, message: plain(message.as_ref()) }
    }

    /// The headers, or trailers, that say this.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.code.number())));
        if let Ok(message) = HeaderValue::from_str(&percent_encode(&self.message)) {
            headers.insert(GRPC_MESSAGE, message);
        }
    }

    /// What an HTTP status without a gRPC status means (http-grpc-status-mapping.md).
    pub(crate) fn of_http(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Status::new(code, format!("the peer answered with HTTP status {}", status.as_u16()))
    }
}

/// What headers or trailers say of a call: `None` without a status, `Some(Ok)` for status 0. A garbled one is
/// [`Code::Unknown`], never success.
pub(crate) fn outcome(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let number = headers.get(GRPC_STATUS)?.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    if number == Some(0) {
        return Some(Ok(()));
    }
    let message = headers.get(GRPC_MESSAGE).map_or(&[][..], HeaderValue::as_bytes);
    let code = Code::from_number(number.unwrap_or_default());
    Some(Err(Status::new(code, percent_decode(message))))
}

fn plain(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
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
        match after.first_chunk::<2>().filter(|_| byte == b'%').and_then(|[high, low]| hex(*high, *low)) {
            Some(escaped) => {
                decoded.push(escaped);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some((digit(high)? << 4) | digit(low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_round_trip() {
        for number in 1..=16 {
            assert_eq!(u32::from(Code::from_number(number).number()), number);
        }
        assert_eq!(Code::from_number(0), Code::Unknown);
        assert_eq!(Code::from_number(17), Code::Unknown);
    }

    #[test]
    fn a_status_survives_headers() {
        let status = Status::new(Code::NotFound, "50% é\nx");
        let mut headers = HeaderMap::new();
        status.put(&mut headers);
        assert_eq!(headers["grpc-status"], "5");
        assert_eq!(headers["grpc-message"], "50%25 %C3%A9 x");
        assert_eq!(outcome(&headers).unwrap().unwrap_err(), status);
        assert!(outcome(&HeaderMap::new()).is_none());
        assert_eq!(Status::new(Code::Internal, "x".repeat(5000)).message.len(), MAX_MESSAGE);
    }

    #[test]
    fn a_garbled_status_is_no_success() {
        for bad in ["", "00x", "-1", "zero", "4294967296", "17"] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_STATUS, HeaderValue::from_str(bad).unwrap());
            assert_eq!(outcome(&headers).unwrap().unwrap_err().code, Code::Unknown, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_round_trip(text: String) {
            prop_assert_eq!(percent_decode(percent_encode(&text).as_bytes()), text);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            prop_assert!(percent_decode(&bytes).len() <= 3 * bytes.len());
        }
    }
}

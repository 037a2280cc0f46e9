//! A refusal as a remote caller sees it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cocoon_stage::{Code, Failure};
use http::StatusCode;

/// Most characters of a message for or from a peer.
const MAX_MESSAGE: usize = 512;

macro_rules! statuses {
    ($($variant:ident = $number:literal, $doc:literal;)*) => {
        /// gRPC's status codes (statuscodes.md of gRPC's documentation), but OK.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GrpcCode {
            $(#[doc = $doc] $variant,)*
        }

        impl GrpcCode {
            /// The number on the wire, 1 to 16.
            pub fn number(self) -> u8 {
                match self { $(GrpcCode::$variant => $number,)* }
            }

            /// The status with this number; [`GrpcCode::Unknown`] for one that is none.
            pub fn from_number(number: u32) -> Self {
                match number { $($number => GrpcCode::$variant,)* _ => GrpcCode::Unknown }
            }
        }

        impl fmt::Display for GrpcCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(GrpcCode::$variant => stringify!($variant),)* })
            }
        }
    };
}

statuses! {
    Cancelled = 1, "The caller gave up.";
    Unknown = 2, "Something without a better status.";
    InvalidArgument = 3, "The message is malformed or out of bounds.";
    DeadlineExceeded = 4, "It took too long.";
    NotFound = 5, "What was named does not exist.";
    AlreadyExists = 6, "What was to be made exists.";
    PermissionDenied = 7, "The caller is known and may not do this.";
    ResourceExhausted = 8, "A quota or limit is used up.";
    FailedPrecondition = 9, "The evidence or the state does not allow it.";
    Aborted = 10, "It was aborted; upstream's status for everything.";
    OutOfRange = 11, "A value is out of range.";
    Unimplemented = 12, "There is no such method.";
    Internal = 13, "Something that should not occur.";
    Unavailable = 14, "It cannot be served now; try again.";
    DataLoss = 15, "State was lost.";
    Unauthenticated = 16, "The caller is not known.";
}

/// Why a call was refused.
///
/// The caller gets all of it: `status` and `message` as the gRPC status, `code` and `request_id` as the metadata
/// `x-cocoon-code` and `x-request-id`, or all of them as the JSON body of REST. So `message` is one short sentence,
/// without a secret and without internals; it is cut at 512 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcFailure {
    /// Cocoon's stable code.
    pub code: Code,
    /// gRPC's status; REST derives its own from it.
    pub status: GrpcCode,
    /// One sentence for the caller.
    pub message: String,
    /// The id under which Trustee can explain it; made up here if absent.
    pub request_id: Option<String>,
}

impl RpcFailure {
    /// A failure without a request id.
    pub fn new(code: Code, status: GrpcCode, message: impl Into<String>) -> Self {
        RpcFailure { code, status, message: message.into(), request_id: None }
    }

    /// The caller is not known.
    pub fn unauthenticated() -> Self {
        RpcFailure::new(Code::AccessDenied, GrpcCode::Unauthenticated, "the credentials are missing or wrong")
    }

    /// The caller is known but may not do this.
    pub fn denied() -> Self {
        RpcFailure::new(Code::AccessDenied, GrpcCode::PermissionDenied, "the caller may not do this")
    }

    /// The message cannot be understood.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        RpcFailure::new(Code::AttestProtocol, GrpcCode::InvalidArgument, message)
    }

    /// The same failure with an id, the given one only if it has none.
    pub(crate) fn identified(mut self) -> Self {
        self.request_id.get_or_insert_with(request_id);
        self.message = plain(&self.message);
        self
    }

    /// The HTTP status of the same failure.
    pub(crate) fn http_status(&self) -> StatusCode {
        match self.status {
            GrpcCode::InvalidArgument | GrpcCode::FailedPrecondition | GrpcCode::OutOfRange => {
                StatusCode::BAD_REQUEST
            }
            GrpcCode::Unauthenticated => StatusCode::UNAUTHORIZED,
            GrpcCode::PermissionDenied => StatusCode::FORBIDDEN,
            GrpcCode::NotFound => StatusCode::NOT_FOUND,
            GrpcCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            GrpcCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Failure> for RpcFailure {
    /// The failure's reason is passed on where it is about what the caller sent; of this Trustee's own state only
    /// the code's summary is.
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            Code::AccessDenied => GrpcCode::PermissionDenied,
            Code::StoreUnavailable | Code::StoreBusy | Code::ServerBusy => GrpcCode::Unavailable,
            Code::StoreQuota => GrpcCode::ResourceExhausted,
            Code::PolicyInvalid | Code::ReferenceInvalid | Code::UsageInvalid => GrpcCode::InvalidArgument,
            Code::AttestProtocol | Code::AttestProtocolVersion | Code::AttestEvidenceMalformed => {
                GrpcCode::InvalidArgument
            }
            Code::AttestTeeUnsupported => GrpcCode::InvalidArgument,
            code if code.as_str().starts_with("ATTEST-") || code.as_str().starts_with("RELEASE-") => {
                GrpcCode::FailedPrecondition
            }
            Code::PolicyFailed => GrpcCode::FailedPrecondition,
            _ => GrpcCode::Internal,
        };
        let message = match status {
            GrpcCode::Internal | GrpcCode::Unavailable => failure.code.summary().to_owned(),
            _ => failure.reason,
        };
        RpcFailure { code: failure.code, status, message, request_id: failure.request_id }
    }
}

/// A text that may go into a header, a log or an error: no control characters, at most 512 characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A new id: 24 hex digits, the first 12 the time in milliseconds, the rest random.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut rest = [0u8; 6];
    if aws_lc_rs::rand::fill(&mut rest).is_err() {
        // Ids need to be distinct, not secret.
        rest.copy_from_slice(
            COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes().last_chunk().unwrap_or(&[0; 6]),
        );
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    format!("{:012x}{}", now & 0xffff_ffff_ffff, hex::encode(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for number in 1..=16 {
            assert_eq!(u32::from(GrpcCode::from_number(number).number()), number);
        }
        assert_eq!(GrpcCode::from_number(0), GrpcCode::Unknown);
        assert_eq!(GrpcCode::from_number(99), GrpcCode::Unknown);
    }

    #[test]
    fn internals_stay_inside() {
        let inner = Failure::new(Code::StoreUnavailable, "postgres://user:pw@db refused");
        let shown = RpcFailure::from(inner);
        assert_eq!(shown.status, GrpcCode::Unavailable);
        assert!(!shown.message.contains("postgres"));
        let outer = Failure::new(Code::PolicyInvalid, "line 3: expected a rule").with_request_id("r");
        let shown = RpcFailure::from(outer).identified();
        assert_eq!(
            (shown.status, shown.message.as_str()),
            (GrpcCode::InvalidArgument, "line 3: expected a rule")
        );
        assert_eq!(shown.request_id.as_deref(), Some("r"));
        let evidence = RpcFailure::from(Failure::new(Code::AttestSignatureInvalid, "no"));
        assert_eq!(evidence.status, GrpcCode::FailedPrecondition);
        assert_eq!(evidence.http_status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn ids_are_made_and_texts_cut() {
        let failure = RpcFailure::malformed(format!("a\r\n{}", "x".repeat(10_000))).identified();
        assert_eq!(failure.message.len(), MAX_MESSAGE);
        assert!(failure.message.starts_with("a  x"));
        let id = failure.request_id.unwrap();
        assert!(id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(
            RpcFailure::denied().identified().request_id,
            RpcFailure::denied().identified().request_id
        );
    }
}

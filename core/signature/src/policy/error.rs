//! Why a policy cannot be used, or why it does not accept an image.

use cocoon_stage::{Code, Failure};

/// Everything that ends without an image being accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy itself is malformed, or asks for what is not supported.
    #[error("the signature policy cannot be used: {0}")]
    Invalid(String),
    /// The policy rejects the image whatever is signed.
    #[error("{0}")]
    Rejected(String),
    /// A signature is required and none of that kind was found.
    #[error("{0}")]
    Missing(String),
    /// Signatures were found and none satisfies the requirement.
    #[error("{0}")]
    Unsatisfied(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match &e {
            Error::Invalid(_) => Code::ImagePolicyInvalid,
            Error::Rejected(_) => Code::ImagePolicyRejected,
            Error::Missing(_) => Code::ImageSignatureMissing,
            Error::Unsatisfied(_) => Code::ImageSignatureInvalid,
        };
        Failure::new(code, e.to_string())
    }
}

/// Text from a registry made fit for one line of a log: no control characters, at most `limit` characters.
pub(crate) fn line(text: &str, limit: usize) -> String {
    let mut out: String =
        text.chars().take(limit).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

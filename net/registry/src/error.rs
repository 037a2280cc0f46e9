//! What can go wrong with a registry.

use cocoon_stage::{Code, Failure};
use http::StatusCode;

/// A registry failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or no TLS, within the retries allowed.
    #[error("registry {registry}: {problem}")]
    Unreachable {
        /// Its `host[:port]`.
        registry: String,
        /// The last problem.
        problem: String,
    },
    /// It answered, then fell silent or broke off, and did not resume within the retries allowed.
    #[error("registry {registry}: {problem}")]
    Stalled {
        /// Its `host[:port]`.
        registry: String,
        /// The last problem.
        problem: String,
    },
    /// The answer is not the registry protocol: a web page, an error, a redirect that is not followed.
    #[error("registry {registry}: {problem}")]
    Answer {
        /// Its `host[:port]`.
        registry: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// 401 or 403 with the credentials at hand.
    #[error("registry {registry} refuses access to {repository}{hint}")]
    Unauthorized {
        /// Its `host[:port]`.
        registry: String,
        /// The repository.
        repository: String,
        /// What is known of the reason, starting with a separator; may be empty.
        hint: String,
    },
    /// 404.
    #[error("registry {registry} has no {what}")]
    NotFound {
        /// Its `host[:port]`.
        registry: String,
        /// Repository and manifest or blob.
        what: String,
    },
    /// The document does not have the digest by which it was asked for, or is malformed.
    #[error(transparent)]
    Image(#[from] cocoon_image::Error),
    /// registries.conf blocks the image or cannot be applied to its name.
    #[error(transparent)]
    Registries(#[from] cocoon_image::registries::Error),
    /// auth.json is malformed.
    #[error("auth.json: {0}")]
    Auth(String),
    /// The transport itself cannot be used (URL, trusted roots).
    #[error("{0}")]
    Transport(String),
}

impl Error {
    /// From a transport error that is not tried again (any more).
    pub(crate) fn transport(registry: &str, e: &cocoon_http::Error) -> Error {
        use cocoon_http::Error as Http;
        let (registry, problem) = (registry.to_owned(), e.to_string());
        match e {
            Http::Connect { .. } | Http::Resolve { .. } | Http::Tls { .. } | Http::Certificate { .. } => {
                Error::Unreachable { registry, problem }
            }
            Http::Timeout(_) | Http::Stalled(_) | Http::Protocol(_) => Error::Stalled { registry, problem },
            Http::TooLarge(_) | Http::Forbidden(_) => Error::Answer { registry, problem },
            Http::Url(_) | Http::Roots(_) | Http::Proxy(_) => Error::Transport(problem),
        }
    }

    /// The same error, saying also how the mirrors asked before failed.
    pub(crate) fn after(mut self, mirrors: &[String]) -> Error {
        if mirrors.is_empty() {
            return self;
        }
        let note = format!(" (mirrors before it: {})", mirrors.join("; "));
        match &mut self {
            Error::Unreachable { problem, .. }
            | Error::Stalled { problem, .. }
            | Error::Answer { problem, .. } => problem.push_str(&note),
            Error::Unauthorized { hint, .. } => hint.push_str(&note),
            Error::NotFound { what, .. } => what.push_str(&note),
            Error::Image(
                cocoon_image::Error::DigestMismatch { what, .. }
                | cocoon_image::Error::SizeMismatch { what, .. },
            ) => what.push_str(&note),
            Error::Transport(problem) | Error::Auth(problem) => problem.push_str(&note),
            Error::Image(_) | Error::Registries(_) => {}
        }
        self
    }

    pub(crate) fn answer(registry: &str, problem: impl Into<String>) -> Error {
        Error::Answer { registry: registry.to_owned(), problem: problem.into() }
    }

    pub(crate) fn status(registry: &str, status: StatusCode, what: &str) -> Error {
        match status {
            StatusCode::NOT_FOUND => Error::NotFound { registry: registry.to_owned(), what: what.to_owned() },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let (registry, repository) = (registry.to_owned(), what.to_owned());
                Error::Unauthorized { registry, repository, hint: format!(" (HTTP {status})") }
            }
            other => Error::answer(registry, format!("HTTP {other} for {what}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match e {
            Error::Image(e) => return e.into(),
            Error::Registries(e) => return e.into(),
            Error::Unreachable { .. } => Code::ImageRegistryUnreachable,
            Error::Stalled { .. } => Code::ImageRegistryStalled,
            Error::Answer { .. } => Code::ImageRegistryAnswer,
            Error::Unauthorized { .. } => Code::ImageUnauthorized,
            Error::NotFound { .. } => Code::ImageNotFound,
            Error::Auth(_) => Code::ImageUnauthorized,
            Error::Transport(_) => Code::ImagePullFailed,
        };
        Failure::new(code, e.to_string())
    }
}

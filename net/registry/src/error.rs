//! What can go wrong with a registry.

use cocoon_stage::{Code, Failure};
use http::StatusCode;

/// Text that a registry had a hand in, fit for a terminal and a log: control characters and those that turn the
/// direction of writing are shown as `\u{…}`.
fn clean(text: &str) -> String {
    let is_bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_bad(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A registry failure. What it shows has no control characters in it, whatever the registry said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or no TLS, within the retries allowed.
    #[error("registry {registry}: {}", clean(problem))]
    Unreachable {
        /// Its `host[:port]`.
        registry: String,
        /// The last problem.
        problem: String,
    },
    /// It answered, then fell silent or broke off, and did not resume within the retries allowed.
    #[error("registry {registry}: {}", clean(problem))]
    Stalled {
        /// Its `host[:port]`.
        registry: String,
        /// The last problem.
        problem: String,
    },
    /// The answer is not the registry protocol: a web page, an error, a redirect that is not followed.
    #[error("registry {registry}: {}", clean(problem))]
    Answer {
        /// Its `host[:port]`.
        registry: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// 401 or 403 with the credentials at hand.
    #[error("registry {registry} refuses access to {}{}", clean(repository), clean(hint))]
    Unauthorized {
        /// Its `host[:port]`.
        registry: String,
        /// The repository.
        repository: String,
        /// What is known of the reason, starting with a separator; may be empty.
        hint: String,
    },
    /// 404.
    #[error("registry {registry} has no {}", clean(what))]
    NotFound {
        /// Its `host[:port]`.
        registry: String,
        /// Repository and manifest or blob.
        what: String,
    },
    /// The document does not have the digest by which it was asked for, or is malformed.
    #[error("{}", clean(&.0.to_string()))]
    Image(#[from] cocoon_image::Error),
    /// registries.conf blocks the image or cannot be applied to its name.
    #[error(transparent)]
    Registries(#[from] cocoon_image::registries::Error),
    /// auth.json is malformed.
    #[error("auth.json: {}", clean(.0))]
    Auth(String),
    /// The transport itself cannot be used (URL, trusted roots).
    #[error("{}", clean(.0))]
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
        let text = e.to_string();
        let code = match e {
            Error::Image(e) => {
                let mut failure = Failure::from(e);
                failure.reason = clean(&failure.reason);
                return failure;
            }
            Error::Registries(e) => return e.into(),
            Error::Unreachable { .. } => Code::ImageRegistryUnreachable,
            Error::Stalled { .. } => Code::ImageRegistryStalled,
            Error::Answer { .. } => Code::ImageRegistryAnswer,
            Error::Unauthorized { .. } => Code::ImageUnauthorized,
            Error::NotFound { .. } => Code::ImageNotFound,
            Error::Auth(_) => Code::ImageUnauthorized,
            Error::Transport(_) => Code::ImagePullFailed,
        };
        Failure::new(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_cannot_steer_a_terminal() {
        let bad = "a\u{1b}[2Jb\r\nc\u{202e}d\u{9b}e";
        let (registry, problem) = (|| "r.io".to_owned(), || bad.to_owned());
        let image = || cocoon_image::Error::TooLarge(problem());
        for e in [
            Error::Unreachable { registry: registry(), problem: problem() },
            Error::Stalled { registry: registry(), problem: problem() },
            Error::answer("r.io", bad),
            Error::Unauthorized { registry: registry(), repository: problem(), hint: problem() },
            Error::NotFound { registry: registry(), what: problem() },
            Error::Image(image()),
            Error::Auth(problem()),
            Error::Transport(problem()),
            Error::status("r.io", StatusCode::NOT_FOUND, "x").after(&[problem()]),
        ] {
            let shown = e.to_string();
            let reason = Failure::from(e).reason;
            for text in [shown, reason] {
                assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
            }
        }
        assert_eq!(clean(bad), "a\\u{1b}[2Jb\\r\\nc\\u{202e}d\\u{9b}e");
        assert_eq!(clean("Grüße: 100 %"), "Grüße: 100 %");
    }
}

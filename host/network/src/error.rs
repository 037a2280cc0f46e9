//! What can go wrong with a pod's network.

use std::io;
use std::path::PathBuf;

use cocoon_stage::{Code, Failure, Stage};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path names no network namespace.
    #[error("{path} is not a network namespace: {reason}")]
    Namespace {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The namespace is the host's own.
    #[error("the pod uses the host's network, which a VM cannot join")]
    HostNetwork,
    /// The namespace holds something that a VM cannot take over.
    #[error("{what}: {reason}")]
    Unsupported {
        /// The device or route.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A step failed in the kernel.
    #[error("cannot {step}: {reason}")]
    Kernel {
        /// The step.
        step: String,
        /// The kernel's answer.
        reason: String,
    },
}

impl Error {
    pub(crate) fn unsupported(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Unsupported { what: what.into(), reason: reason.into() }
    }

    /// For `map_err`: the error of a step.
    pub(crate) fn step<E: Reason>(step: impl Into<String>) -> impl FnOnce(E) -> Error {
        move |e| Error::Kernel { step: step.into(), reason: e.reason() }
    }
}

/// The kernel's answers, in words.
pub(crate) trait Reason {
    fn reason(self) -> String;
}

impl Reason for io::Error {
    fn reason(self) -> String {
        self.to_string()
    }
}

impl Reason for rustix::io::Errno {
    fn reason(self) -> String {
        self.to_string()
    }
}

impl Reason for rtnetlink::Error {
    fn reason(self) -> String {
        match self {
            rtnetlink::Error::NetlinkError(e) => e.to_io().to_string(),
            // Others carry whole messages.
            rtnetlink::Error::RequestFailed => "the request could not be sent".into(),
            _ => "the kernel's answer makes no sense".into(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::HostNetwork | Error::Unsupported { .. } => Code::BootNetworkUnsupported,
            Error::Namespace { .. } | Error::Kernel { .. } => Code::BootNetworkFailed,
        };
        Failure::new(code, error.to_string()).at(Stage::Boot)
    }
}

//! What can go wrong in the guest's own work.

use std::io;

use cocoon_stage::{Code, Failure, Stage};

/// A failure of the guest itself; what others report (Trustee, registry, plan) is a [`Failure`] already.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step of setting the VM up failed.
    #[error("{step}: {source}")]
    Boot {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A step of building or starting a container failed.
    #[error("{step}: {source}")]
    Container {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not take a setting of the plan.
    #[error("{name}: {source}")]
    Sysctl {
        /// The setting.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The plan's user or group is not in the image.
    #[error("user {user:?}: {problem}")]
    User {
        /// The plan's user field.
        user: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The plan's user is root, which the plan rules out.
    #[error("user {0:?} is root, and the plan says that the container must not run as root")]
    Root(String),
    /// The plan asks for something that this guest cannot do.
    #[error("{0}")]
    Plan(String),
    /// The host asked for something that is not allowed or not well-formed.
    #[error("{0}")]
    Refused(String),
    /// The VM lacks memory or another resource.
    #[error("{0}")]
    Resources(String),
}

impl Error {
    pub(crate) fn boot<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Error {
        let step = step.into();
        move |source| Error::Boot { step, source: source.into() }
    }

    pub(crate) fn container<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Error {
        let step = step.into();
        move |source| Error::Container { step, source: source.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let out_of_memory = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::ENOMEM | libc::ENOSPC));
        let (code, stage) = match &error {
            Error::Boot { .. } => (Code::BootGuestFailed, Stage::Boot),
            Error::Sysctl { .. } => (Code::PlanSysctlRefused, Stage::Boot),
            Error::Container { source, .. } if out_of_memory(source) => (Code::StartResources, Stage::Start),
            Error::Container { .. } => (Code::StartContainerFailed, Stage::Start),
            Error::User { .. } => (Code::StartUserUnknown, Stage::Start),
            Error::Root(_) => (Code::StartUserRoot, Stage::Start),
            Error::Plan(_) => (Code::PlanInvalid, Stage::Start),
            Error::Refused(_) => (Code::PlanRequestRefused, Stage::Start),
            Error::Resources(_) => (Code::StartResources, Stage::Start),
        };
        Failure::new(code, error.to_string()).at(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        let os = io::Error::from_raw_os_error;
        let code = |e: Error| Failure::from(e).code;
        assert_eq!(code(Error::boot("x")(os(1))), Code::BootGuestFailed);
        assert_eq!(code(Error::container("x")(os(2))), Code::StartContainerFailed);
        assert_eq!(code(Error::container("x")(os(12))), Code::StartResources);
        assert_eq!(code(Error::User { user: "x".into(), problem: "y".into() }), Code::StartUserUnknown);
        assert_eq!(code(Error::Refused("x".into())), Code::PlanRequestRefused);
    }
}

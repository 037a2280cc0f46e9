//! Failures as containerd and people hear of them: a gRPC status, and `CODE: reason (request id)`.

use cocoon_sandbox::Pod;
use cocoon_stage::{Code, Failure, Stage};
use ttrpc::{Error, get_status};

/// Longest reason, in characters: it is one line of `kubectl describe`.
const MAX_REASON: usize = 400;

/// A coded failure.
pub fn coded(failure: &Failure) -> Error {
    let status = match failure.code {
        Code::PlanRequestRefused => ttrpc::Code::PERMISSION_DENIED,
        Code::BootTimeout => ttrpc::Code::DEADLINE_EXCEEDED,
        Code::BootDiskFull => ttrpc::Code::RESOURCE_EXHAUSTED,
        _ => ttrpc::Code::FAILED_PRECONDITION,
    };
    Error::RpcStatus(get_status(status, sentence(failure)))
}

/// `CODE: reason (request id)`, one line.
pub fn sentence(failure: &Failure) -> String {
    let reason: String = failure.reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    match &failure.request_id {
        Some(id) => format!("{}: {reason} (request {id})", failure.code),
        None => format!("{}: {reason}", failure.code),
    }
}

/// What the guest answered: a coded failure, or a status that containerd knows what to do with.
pub fn of_guest(pod: &Pod, error: &Error, stage: Stage) -> Error {
    let known = [ttrpc::Code::NOT_FOUND, ttrpc::Code::ALREADY_EXISTS, ttrpc::Code::UNIMPLEMENTED];
    match error {
        Error::RpcStatus(status) if status.code.enum_value().is_ok_and(|code| known.contains(&code)) => {
            let text: String = status.message.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
            Error::RpcStatus(get_status(status.code.enum_value_or_default(), text))
        }
        error => coded(&pod.failure_of(error, stage)),
    }
}

/// There is no such container or process.
pub fn not_found(what: &str) -> Error {
    Error::RpcStatus(get_status(ttrpc::Code::NOT_FOUND, what.to_owned()))
}

/// It is not in a state for that.
pub fn precondition(what: &str) -> Error {
    Error::RpcStatus(get_status(ttrpc::Code::FAILED_PRECONDITION, what.to_owned()))
}

/// It is there already.
pub fn exists(what: &str) -> Error {
    Error::RpcStatus(get_status(ttrpc::Code::ALREADY_EXISTS, what.to_owned()))
}

/// It cannot be done at all.
pub fn unimplemented(what: &str) -> Error {
    Error::RpcStatus(get_status(ttrpc::Code::UNIMPLEMENTED, what.to_owned()))
}

/// Whether this is a "not found".
pub fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::RpcStatus(status) if status.code == ttrpc::Code::NOT_FOUND.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_code_first() {
        let failure =
            Failure::new(Code::AttestTcbOutdated, "old\n\tfirmware \x1b[31m").with_request_id("r-1");
        assert_eq!(sentence(&failure), "ATTEST-TCB-OUTDATED: old firmware [31m (request r-1)");
        let Error::RpcStatus(status) = coded(&Failure::new(Code::PlanRequestRefused, "exec".repeat(900)))
        else {
            panic!()
        };
        assert_eq!(status.code, ttrpc::Code::PERMISSION_DENIED.into());
        assert!(status.message.starts_with("PLAN-REQUEST-REFUSED: execexec") && status.message.len() < 500);
    }

    #[test]
    fn containerd_knows_what_is_not_there() {
        assert!(is_not_found(&not_found("x")) && !is_not_found(&precondition("x")));
    }
}

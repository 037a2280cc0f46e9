//! A guest's request for a secret: token, decision, encryption to the guest's key.

use cocoon_protocol::jwe::{self, JweFlattened};
use cocoon_release::{Explanation, ResourcePath, Subject, decide};
use cocoon_stage::Code;
use http::StatusCode;

use crate::reply::{Refusal, Variant};
use crate::trustee::Inner;

impl Inner {
    /// Answers `GET /resource/…`. What an unauthorised guest sees does not depend on whether the path exists.
    pub fn release(
        &self,
        token: Option<&str>,
        path: &ResourcePath,
        id: &str,
        now: u64,
    ) -> Result<JweFlattened, Refusal> {
        let Some(token) = token else {
            return Err(Refusal::coded(Variant::TokenNotFound, Code::ReleaseTokenInvalid, "no token"));
        };
        let verified =
            self.tokens.verify(token, now).map_err(|f| Refusal::new(Variant::TokenVerifierError, f))?;
        let decision = decide(&self.registry, &verified.claims, path, now).map_err(Refusal::internal)?;
        let (released, failure) = match decision.outcome {
            Ok(released) => (Some(released), None),
            Err(failure) => (None, Some(failure)),
        };
        self.explanations.keep(Explanation {
            request_id: id.to_owned(),
            at_unix: now,
            subject: Subject::Release { path: path.to_string() },
            code: failure.as_ref().map(|f| f.code),
            reason: failure.as_ref().map(|f| f.reason.clone()),
            init_data: decision.init_data,
            workload: decision.workload,
            simulated: decision.simulated,
            steps: decision.steps,
        });
        match (released, failure) {
            (Some(released), _) => {
                tracing::debug!(request_id = %id, %path, "released");
                jwe::encrypt(&verified.key, &released.value)
                    .map_err(|e| Refusal::new(Variant::JweError, e.into()))
            }
            // Only a guest whose registration lists the path learns that nothing is there; 404 spares it the
            // handshakes with which guests answer a 401.
            (None, Some(failure)) if failure.code == Code::ReleaseSecretMissing => {
                Err(Refusal::new(Variant::PluginInternalError, failure).with_status(StatusCode::NOT_FOUND))
            }
            (None, Some(failure)) => Err(Refusal::new(Variant::PolicyDeny, failure)),
            (None, None) => Err(Refusal::coded(Variant::PolicyDeny, Code::ReleaseDenied, "nothing decided")),
        }
    }
}

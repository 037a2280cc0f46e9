//! What a remote caller may ask for.

/// One operation of the interfaces, so that [`crate::Authenticate`] can decide by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Appraise evidence and give a token.
    Evaluate,
    /// Give a challenge.
    Challenge,
    /// Set an attestation policy.
    SetPolicy,
    /// List the attestation policies; REST only.
    ListPolicies,
    /// Read an attestation policy; REST only.
    GetPolicy,
    /// Read a reference value.
    QueryReference,
    /// Register reference values.
    RegisterReference,
}

impl Operation {
    /// Every operation.
    pub const ALL: &[Operation] = &[
        Operation::Evaluate,
        Operation::Challenge,
        Operation::SetPolicy,
        Operation::ListPolicies,
        Operation::GetPolicy,
        Operation::QueryReference,
        Operation::RegisterReference,
    ];

    /// The gRPC path, for those that gRPC has.
    pub fn grpc_path(self) -> Option<&'static str> {
        Some(match self {
            Operation::Evaluate => "/attestation.AttestationService/AttestationEvaluate",
            Operation::Challenge => "/attestation.AttestationService/GetAttestationChallenge",
            Operation::SetPolicy => "/attestation.AttestationService/SetAttestationPolicy",
            Operation::QueryReference => "/reference.ReferenceValueProviderService/QueryReferenceValue",
            Operation::RegisterReference => "/reference.ReferenceValueProviderService/RegisterReferenceValue",
            Operation::ListPolicies | Operation::GetPolicy => return None,
        })
    }

    /// The operation behind a gRPC path.
    pub(crate) fn from_grpc_path(path: &str) -> Option<Self> {
        Operation::ALL.iter().copied().find(|operation| operation.grpc_path() == Some(path))
    }
}

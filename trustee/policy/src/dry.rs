//! What a policy would say of given inputs, before it is put into force.

use serde_json::Value;

use crate::compiled::References;
use crate::{AttestationOutcome, Compiled, Error};

/// What a policy says of one input.
#[derive(Debug)]
pub struct DryRun {
    /// The caller's name for the input.
    pub label: String,
    /// The verdict, or why there is none.
    pub outcome: Result<AttestationOutcome, Error>,
}

/// Evaluates an attestation policy on each input in turn; `inputs` are a label and an input as
/// [`Compiled::attestation`] takes it. One input's failure does not end the run.
pub fn dry_run(compiled: &Compiled, inputs: &[(String, Value)], references: &References<'_>) -> Vec<DryRun> {
    inputs
        .iter()
        .map(|(label, input)| DryRun {
            label: label.clone(),
            outcome: compiled.attestation(input, references),
        })
        .collect()
}

//! Evidence of every kind through a whole Trustee: what real machines once sent, at a fixed date, and guests made here that
//! attest by the KBS protocol and fetch their secret.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accelerators;
#[path = "../administration/mod.rs"]
mod administration;
#[allow(dead_code)]
#[path = "../administration/api.rs"]
mod api;
mod chip;
mod devices;
mod digests;
mod guests;
mod hygon;
mod intel;
mod platform;
mod realm;
mod recorded;
mod recorded_intel;
mod secure_execution;
mod simulated;
#[path = "../support/mod.rs"]
mod support;
mod tpm;
mod tpm_enrolment;
mod ultravisor;
mod vtpm;

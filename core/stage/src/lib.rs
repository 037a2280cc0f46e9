//! Stages, coded refusals and the stage timeline: the vocabulary every part of Cocoon speaks about
//! progress and failure.
//!
//! Contract: pure data. It never reads a clock or a device; callers pass instants in. It is used on both
//! sides of the trust boundary, so a [`Failure`] has two forms: the full one for the workload's owner and
//! [`Failure::for_host`], which carries stage and code only.

#[macro_use]
mod code_table;
mod codes;
mod failure;
mod timeline;

pub use codes::{Code, render_errors_page};
pub use failure::{Failure, HostFailure};
pub use timeline::{Mark, Stage, StageEvent, Timeline};

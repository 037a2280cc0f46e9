//! Trustee's settings: text in, typed [`Settings`] or a list of [`Problem`]s out.
//!
//! Pure: reads no file, no environment and no clock; the caller hands in what it read ([`Inputs`]). One static table
//! of keys drives parsing, suggestions, defaults, [`EXAMPLE`] and [`reference_markdown`].
//!
//! Contract: an unknown key, a wrong type or a contradiction is an error, never ignored; all problems are told at
//! once; no secret appears in a problem, a `Debug` or [`Settings::show`]. The text is at most [`MAX_TEXT`] bytes and
//! may be hostile: nothing here panics on it. Runs on the workload owner's side.

mod build;
mod changed;
mod detect;
mod effective;
mod error;
mod key;
mod kind;
mod node;
mod parse;
mod reader;
mod regex_rule;
mod render;
mod resolve;
mod rules;
mod rules_more;
mod secret;
mod settings;
mod suggest;
mod table;
mod upstream;

#[cfg(test)]
mod parse_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod upstream_tests;
#[cfg(test)]
mod verifiers_tests;

pub use changed::{Changes, changed};
pub use detect::{Dialect, detect, read};
pub use error::{Error, Note, Problem};
pub use node::{Format, MAX_TEXT};
pub use parse::{Inputs, parse, parse_with};
pub use render::{reference_markdown, render_example};
pub use secret::Secret;
pub use settings::*;
pub use upstream::{from_upstream, from_upstream_with};

/// A documented settings file: every key with its default and unit; parses to the defaults. Keys without a default,
/// and lists of tables, are there as comments.
pub const EXAMPLE: &str = include_str!("../trustee.example.toml");

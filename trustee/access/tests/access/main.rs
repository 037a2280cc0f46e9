//! Who gets in and who does not, with real keys, real certificates and a real HTTP server for key sets.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod credentials;
mod key_sets;
mod support;
mod tokens;

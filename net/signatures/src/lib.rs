//! Finds an image's signatures where their makers put them, and has them decided by policy.

//! Proofs that are good, and those of a hostile cluster.

//! How much callers of a server may take.

use std::time::Duration;

/// Bounds of one server. [`Limits::default`] suits a service on a unix socket that a few local programs call.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the listener's queue.
    pub connections: usize,
    /// HTTP/2 streams at a time on one connection.
    pub streams: u32,
    /// Calls at a time over all connections whose requests are held; more wait.
    pub calls: usize,
    /// Most bytes of one call's headers.
    pub header_bytes: u32,
    /// Most bytes of one message.
    pub message_bytes: usize,
    /// From accepting a connection to its first byte.
    pub greeting: Duration,
    /// From a call's headers to the end of its answer; a shorter `grpc-timeout` of the caller counts.
    pub call: Duration,
    /// Between HTTP/2 pings, and how long one may stay unanswered.
    pub keep_alive: Duration,
    /// Between the wish to stop and the end of the calls in progress.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            streams: 128,
            calls: 64,
            header_bytes: 64 * 1024,
            message_bytes: 4 << 20,
            greeting: Duration::from_secs(10),
            call: Duration::from_secs(120),
            keep_alive: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

//! How much callers of the remote interfaces may take.

use std::time::Duration;

use crate::Error;

/// Bounds of one listener. [`RpcLimits::default`] suits a Trustee that a few services call.
#[derive(Clone, Debug)]
pub struct RpcLimits {
    /// Connections at a time; more wait in the listener's queue.
    pub connections: usize,
    /// Connections at a time from one address; more are closed at once.
    pub connections_per_address: usize,
    /// HTTP/2 streams at a time on one connection.
    pub streams: u32,
    /// Requests whose bodies are held at a time, over all connections; more wait.
    pub requests: usize,
    /// Most bytes of one request's headers.
    pub header_bytes: u32,
    /// Most bytes of one message or REST body.
    pub message_bytes: usize,
    /// From accepting a connection to the end of its TLS handshake, then to its first request.
    pub headers: Duration,
    /// From a request's headers to its answer, body included; a shorter `grpc-timeout` of the caller counts.
    pub request: Duration,
    /// Without a request in progress. It also ends connections whose peer does not take its answers.
    pub idle: Duration,
    /// The longest life of a connection; afterwards the peer must connect, and prove who it is, again.
    pub age: Duration,
    /// Between HTTP/2 pings, and how long one may stay unanswered.
    pub keep_alive: Duration,
    /// Between the wish to end a connection and its end.
    pub drain: Duration,
}

impl Default for RpcLimits {
    fn default() -> Self {
        RpcLimits {
            connections: 256,
            connections_per_address: 64,
            streams: 64,
            requests: 32,
            header_bytes: 64 * 1024,
            message_bytes: 4 << 20,
            headers: Duration::from_secs(10),
            request: Duration::from_secs(60),
            idle: Duration::from_secs(120),
            age: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(20),
            drain: Duration::from_secs(5),
        }
    }
}

impl RpcLimits {
    /// Refuses limits under which nothing could be served, or that would not bound anything.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let counts = [self.connections, self.connections_per_address, self.requests];
        if counts.iter().any(|n| *n == 0 || *n > 1 << 20) || self.streams == 0 {
            return Err(Error::Limits("a count is zero or above 2^20"));
        }
        if self.message_bytes == 0 || self.message_bytes > 64 << 20 || self.header_bytes < 4096 {
            return Err(Error::Limits("messages above 64 MiB or headers below 4 KiB"));
        }
        let times = [self.headers, self.request, self.idle, self.age, self.keep_alive];
        if times.iter().any(|t| t.is_zero() || *t > Duration::from_secs(86_400)) {
            return Err(Error::Limits("a time is zero or above a day"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_bound_nothing_are_refused() {
        RpcLimits::default().check().unwrap();
        let default = RpcLimits::default;
        for bad in [
            RpcLimits { connections: 0, ..default() },
            RpcLimits { requests: usize::MAX, ..default() },
            RpcLimits { streams: 0, ..default() },
            RpcLimits { message_bytes: 1 << 30, ..default() },
            RpcLimits { header_bytes: 10, ..default() },
            RpcLimits { request: Duration::MAX, ..default() },
            RpcLimits { idle: Duration::ZERO, ..default() },
        ] {
            assert!(matches!(bad.check(), Err(Error::Limits(_))), "{bad:?}");
        }
    }
}

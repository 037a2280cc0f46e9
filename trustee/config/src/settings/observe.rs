//! `[explain]`, `[metrics]`, `[telemetry]` and `[log]`.

use std::net::SocketAddr;

/// Verdicts kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Explain {
    /// How many.
    pub keep: usize,
}

/// Prometheus metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum Metrics {
    /// None.
    Off,
    /// On the server's addresses.
    WithServer,
    /// On an address of their own, without TLS.
    At(SocketAddr),
}

/// Traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The collector's OTLP/HTTP endpoint.
    pub otlp_endpoint: String,
    /// `service.name`.
    pub service_name: String,
    /// Share of requests that are traced, 0 to 1.
    pub sample_ratio: f64,
}

/// Log lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Least severity.
    pub level: LogLevel,
    /// Form.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// What happens.
    Info,
    /// Details.
    Debug,
    /// All details.
    Trace,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

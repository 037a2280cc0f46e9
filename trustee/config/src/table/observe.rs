//! `[audit]`, `[explain]`, `[metrics]`, `[telemetry]` and `[log]`.

use crate::key::Key;
use crate::kind::Kind;

pub(super) const KEYS: &[Key] = &[
    Key::new("explain.keep", Kind::Int(0, 100_000), "How many verdicts are kept.").default("1000"),
    Key::new("metrics.enabled", Kind::Bool, "Offer /metrics.").default("true"),
    Key::new(
        "metrics.listen",
        Kind::Socket,
        "Offer it on this address only, instead of the server's, without TLS.",
    )
    .sample(r#""127.0.0.1:9090""#)
    .restart(),
    Key::new("telemetry.otlp_endpoint", Kind::Url(&["https", "http"]), "The collector's OTLP/HTTP endpoint.")
        .sample(r#""http://127.0.0.1:4318""#),
    Key::new("telemetry.service_name", Kind::Text, "`service.name` of the traces.").default(r#""trustee""#),
    Key::new("telemetry.sample_ratio", Kind::Ratio, "Share of requests that are traced.").default("1.0"),
    Key::new(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "Least severity logged.",
    )
    .default(r#""info""#),
    Key::new("log.format", Kind::Choice(&["text", "json"]), "Form of the lines.").default(r#""text""#),
];

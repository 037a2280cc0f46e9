//! What a monitoring system may know: counts and times, under upstream's names where it has them. No secret's path, no
//! workload and no tenant is ever a label.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// A part of the work whose time is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)] // the label's value
pub(crate) enum Stage {
    auth,
    verify,
    sign,
    decide,
    encrypt,
    audit,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StageLabel {
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TeeLabel {
    pub tee_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CodeLabel {
    pub code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StatusLabel {
    pub status: u16,
}

/// The metrics of one process.
pub(crate) struct Metrics {
    registry: Registry,
    pub requests: Family<StatusLabel, Counter>,
    pub request_seconds: Histogram,
    pub request_bytes: Histogram,
    pub response_bytes: Histogram,
    pub connections: Gauge<i64, AtomicI64>,
    pub auth_requests: Counter,
    pub auth_successes: Counter,
    pub auth_errors: Counter,
    pub attestations: Counter,
    pub attested: Family<TeeLabel, Counter>,
    pub attestation_failures: Family<TeeLabel, Counter>,
    pub attestation_errors: Counter,
    pub reads: Counter,
    pub writes: Counter,
    pub deletes: Counter,
    pub evaluations: Counter,
    pub approvals: Counter,
    pub violations: Counter,
    pub policy_errors: Counter,
    pub plugin_requests: Counter,
    pub plugin_errors: Counter,
    pub refusals: Family<CodeLabel, Counter>,
    pub audit_entries: Counter,
    stages: Family<StageLabel, Histogram>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 16))
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(32.0, 4.0, 9))
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics {
            requests: Family::default(),
            request_seconds: seconds(),
            request_bytes: sizes(),
            response_bytes: sizes(),
            connections: Gauge::default(),
            auth_requests: Counter::default(),
            auth_successes: Counter::default(),
            auth_errors: Counter::default(),
            attestations: Counter::default(),
            attested: Family::default(),
            attestation_failures: Family::default(),
            attestation_errors: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            deletes: Counter::default(),
            evaluations: Counter::default(),
            approvals: Counter::default(),
            violations: Counter::default(),
            policy_errors: Counter::default(),
            plugin_requests: Counter::default(),
            plugin_errors: Counter::default(),
            refusals: Family::default(),
            audit_entries: Counter::default(),
            stages: Family::new_with_constructor(seconds),
            registry: Registry::default(),
        };
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("kbs_build", "The program", build);
        let m = &metrics;
        registry.register("kbs_http_requests", "Requests answered, by status", m.requests.clone());
        registry.register("kbs_http_request_duration_seconds", "Time to answer", m.request_seconds.clone());
        registry.register("kbs_http_request_size_bytes", "Bodies of requests", m.request_bytes.clone());
        registry.register("kbs_http_response_size_bytes", "Bodies of answers", m.response_bytes.clone());
        registry.register("kbs_http_active_connections", "Open connections", m.connections.clone());
        let counters = [
            ("kbs_auth_requests", "Handshakes begun", &m.auth_requests),
            ("kbs_auth_successes", "Challenges given", &m.auth_successes),
            ("kbs_auth_errors", "Handshakes refused at their begin", &m.auth_errors),
            ("kbs_attestation_requests", "Answers to challenges", &m.attestations),
            ("kbs_attestation_errors", "Answers that no verdict could be made of", &m.attestation_errors),
            ("kbs_resource_reads", "Secrets asked for", &m.reads),
            ("kbs_resource_writes", "Secrets set", &m.writes),
            ("kbs_resource_deletes", "Secrets removed", &m.deletes),
            ("kbs_policy_evaluations", "Decisions on secrets", &m.evaluations),
            ("kbs_policy_approvals", "Secrets released", &m.approvals),
            ("kbs_policy_violations", "Secrets refused", &m.violations),
            ("kbs_policy_errors", "Decisions that could not be made", &m.policy_errors),
            ("kbs_plugin_requests", "Requests to plugins", &m.plugin_requests),
            ("kbs_plugin_errors", "Plugins that failed", &m.plugin_errors),
            ("cocoon_audit_entries", "Entries of the audit log", &m.audit_entries),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("kbs_attestation_successes", "Tokens given, by TEE", m.attested.clone());
        registry.register(
            "kbs_attestation_failures",
            "Evidence refused, by TEE",
            m.attestation_failures.clone(),
        );
        registry.register("cocoon_refusals", "Refusals, by code", m.refusals.clone());
        registry.register("cocoon_stage_duration_seconds", "Time of each part of the work", m.stages.clone());
        Metrics { registry, ..metrics }
    }

    /// Notes how long a part of the work took.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages.get_or_create(&StageLabel { stage }).observe(took.as_secs_f64());
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        let metrics = Metrics::new();
        metrics.requests.get_or_create(&StatusLabel { status: 401 }).inc();
        metrics.attested.get_or_create(&TeeLabel { tee_type: "snp" }).inc();
        metrics.stage(Stage::sign, Duration::from_millis(1));
        let text = metrics.text();
        for line in [
            "kbs_http_requests_total{status=\"401\"} 1",
            "kbs_attestation_successes_total{tee_type=\"snp\"} 1",
            "kbs_resource_reads_total 0",
            "cocoon_stage_duration_seconds_count{stage=\"sign\"} 1",
            "kbs_build_info{version=",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}

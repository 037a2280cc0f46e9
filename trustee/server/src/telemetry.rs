//! Traces for an OpenTelemetry collector, by OTLP over HTTP in its JSON form (opentelemetry-proto 1.x, `/v1/traces`).
//!
//! One span for each request, named by its route: no secret's path, no tenant, no address. Callers' trace ids (W3C
//! `traceparent`) are gone on with. A collector that is slow or away costs spans, never a request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cocoon_http::{Client, Options, Request, header};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::Error;

/// Spans that may wait.
const QUEUE: usize = 4096;
/// Most spans of one message, and how long they are gathered.
const BATCH: usize = 512;
const GATHERING: Duration = Duration::from_secs(2);

/// Where traces go.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Base URL of the collector: `https`, or `http` on loopback; `/v1/traces` is added.
    pub endpoint: String,
    /// `service.name`.
    pub service_name: String,
    /// Part of the requests that is traced, 0 to 1, where the caller's `traceparent` does not decide.
    pub sample_ratio: f64,
}

/// Sends spans from a task of its own.
pub(crate) struct Telemetry {
    queue: Sender<Value>,
    sample_ratio: f64,
}

/// A request that is being answered.
pub(crate) struct Span {
    trace_id: String,
    span_id: String,
    parent: Option<String>,
    name: String,
    start: SystemTime,
}

impl Telemetry {
    /// Starts the task; must be called within a runtime.
    pub fn start(config: &TelemetryConfig) -> Result<Self, Error> {
        if !config.endpoint.starts_with("https://") && !on_loopback(&config.endpoint) {
            return Err(Error::Telemetry("the collector's URL is neither https nor on loopback".into()));
        }
        let client = Client::new(Options::default()).map_err(|e| Error::Telemetry(e.to_string()))?;
        let url = format!("{}/v1/traces", config.endpoint.trim_end_matches('/'));
        let (queue, waiting) = channel(QUEUE);
        tokio::spawn(send_all(client, url, config.service_name.clone(), waiting));
        Ok(Telemetry { queue, sample_ratio: config.sample_ratio.clamp(0.0, 1.0) })
    }

    /// Begins a span for a request, if it is to be traced.
    pub fn begin(&self, method: &http::Method, path: &str, headers: &HeaderMap) -> Option<Span> {
        let mut random = [0u8; 24];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let (trace, span) = random.split_at(16);
        let name = format!("{method} {}", route(path));
        let mut made = Span {
            trace_id: hex::encode(trace),
            span_id: hex::encode(span),
            parent: None,
            name,
            start: SystemTime::now(),
        };
        match headers.get("traceparent").and_then(|v| v.to_str().ok()).and_then(traceparent) {
            Some((trace_id, parent, sampled)) => {
                if !sampled {
                    return None;
                }
                (made.trace_id, made.parent) = (trace_id.to_owned(), Some(parent.to_owned()));
            }
            None => {
                let [first, second, ..] = random;
                if f64::from(u16::from_be_bytes([first, second])) / 65536.0 >= self.sample_ratio {
                    return None;
                }
            }
        }
        Some(made)
    }

    /// Ends a span with the request's answer.
    pub fn end(&self, span: Span, status: http::StatusCode, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let attribute = |key: &str, value: Value| json!({"key": key, "value": value});
        let mut attributes =
            vec![attribute("http.response.status_code", json!({"intValue": status.as_u16().to_string()}))];
        for (key, header) in [("cocoon.request_id", "x-request-id"), ("cocoon.code", "x-cocoon-code")] {
            if let Some(value) = text(header) {
                attributes.push(attribute(key, json!({ "stringValue": value })));
            }
        }
        let mut sent = json!({
            "traceId": span.trace_id,
            "spanId": span.span_id,
            "name": span.name,
            "kind": 2,
            "startTimeUnixNano": nanos(span.start),
            "endTimeUnixNano": nanos(SystemTime::now()),
            "attributes": attributes,
            "status": if status.is_server_error() { json!({"code": 2}) } else { json!({}) },
        });
        if let (Some(parent), Some(members)) = (span.parent, sent.as_object_mut()) {
            members.insert("parentSpanId".into(), parent.into());
        }
        // A full queue means that the collector does not keep up.
        let _ = self.queue.try_send(sent);
    }
}

/// Whether a URL is `http` to this machine: by host, not by how it begins.
fn on_loopback(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let user = url.authority().is_some_and(|a| a.as_str().contains('@'));
    let host = url.host().unwrap_or_default();
    url.scheme_str() == Some("http") && !user && matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}

async fn send_all(client: Client, url: String, service: String, mut waiting: Receiver<Value>) {
    let mut spans = Vec::new();
    while let Some(first) = waiting.recv().await {
        spans.push(first);
        let end = tokio::time::Instant::now() + GATHERING;
        while spans.len() < BATCH {
            match tokio::time::timeout_at(end, waiting.recv()).await {
                Ok(Some(next)) => spans.push(next),
                _ => break,
            }
        }
        let message = json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeSpans": [{
                "scope": {"name": "cocoon-trustee", "version": env!("CARGO_PKG_VERSION")},
                "spans": std::mem::take(&mut spans),
            }],
        }]});
        let request = Request::post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(message.to_string()));
        let Ok(request) = request else { return };
        match client.send(request).await {
            Ok(answer) if answer.status.is_success() => {}
            Ok(answer) => tracing::debug!(status = %answer.status, "the collector refused traces"),
            Err(error) => tracing::debug!(%error, "the collector cannot be reached"),
        }
    }
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos()).to_string()
}

/// The route of a path: what varies, and might tell something, is a star.
fn route(path: &str) -> String {
    let mut parts = path.split('/').skip(1);
    let first = parts.next().unwrap_or_default();
    let (prefix, first) = match first {
        "t" => {
            parts.next();
            ("/t/*", parts.next().unwrap_or_default())
        }
        other => ("", other),
    };
    let kept: Vec<&str> = std::iter::once(first).chain(parts.by_ref().take(2)).collect();
    let known = matches!(first, "kbs" | "cocoon" | "healthz" | "readyz" | "metrics" | ".well-known");
    let shown = if known { kept.join("/") } else { "*".to_owned() };
    let rest = if parts.next().is_some() { "/*" } else { "" };
    format!("{prefix}/{}{rest}", shown.chars().take(64).collect::<String>())
}

/// Trace id, parent span id and whether it is sampled, of a W3C `traceparent` header (version 00).
fn traceparent(header: &str) -> Option<(&str, &str, bool)> {
    let mut parts = header.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |text: &str| text.bytes().any(|b| b != b'0');
    let fine =
        version == "00" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && parts.next().is_none();
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (fine && nonzero(trace) && nonzero(parent)).then_some((trace, parent, sampled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn routes_tell_nothing_of_what_is_asked_for() {
        for (path, expected) in [
            ("/kbs/v0/resource/default/key/secret-name", "/kbs/v0/resource/*"),
            ("/kbs/v0/auth", "/kbs/v0/auth"),
            ("/t/acme/kbs/v0/resource/a/b/c", "/t/*/kbs/v0/resource/*"),
            ("/cocoon/v0/workloads/00ff", "/cocoon/v0/workloads/*"),
            ("/whatever/they/like", "/*"),
            ("/", "/*"),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }

    #[test]
    fn trace_parents_are_read_strictly() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(traceparent(&format!("00-{trace}-{parent}-01")), Some((trace, parent, true)));
        assert_eq!(traceparent(&format!("00-{trace}-{parent}-00")), Some((trace, parent, false)));
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            format!("01-{trace}-{parent}-01"),
            format!("00-{zeros}-{parent}-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{trace}-{parent}-01-x"),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-zz"),
        ] {
            assert_eq!(traceparent(&bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn spans_reach_a_collector() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = TelemetryConfig { endpoint, service_name: "t".into(), sample_ratio: 1.0 };
        let telemetry = Telemetry::start(&config).unwrap();
        let mut headers = HeaderMap::new();
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        headers.insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
        let span = telemetry.begin(&http::Method::GET, "/kbs/v0/resource/a/b/hidden", &headers).unwrap();
        telemetry.end(span, http::StatusCode::OK, &HeaderMap::new());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"]}]}]}") {
            let mut part = [0; 4096];
            let n = stream.read(&mut part).await.unwrap();
            assert!(n > 0, "{}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&part[..n]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let text = String::from_utf8(received).unwrap();
        assert!(text.starts_with("POST /v1/traces"));
        assert!(text.contains(trace) && text.contains("GET /kbs/v0/resource/*") && !text.contains("hidden"));
        for endpoint in
            ["http://192.0.2.1", "http://localhost.evil", "http://127.0.0.1:80@evil", "ftp://localhost"]
        {
            let refused = TelemetryConfig { endpoint: endpoint.into(), ..config.clone() };
            assert!(Telemetry::start(&refused).is_err(), "{endpoint}");
        }
    }
}

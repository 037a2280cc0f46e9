//! The pod's proof, for whoever asks with a nonce: `GET /proof?nonce=…` over a stream that the host forwarded.
//!
//! Contract: no secret and no choice of the caller's enters the evidence but the nonce, hashed under a name that no session
//! uses (`cocoon_protocol::proof_report_data`). One request a connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_attest::Attester;
use cocoon_protocol::{PROOF_PATH, Proof, proof_nonce, proof_report_data};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// How long a connection may last: a TPM signs in about a second.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the caller may take for the request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head (the smallest that hyper takes is 8 KiB).
const MAX_HEAD: usize = 8 << 10;

/// Answers one request on the stream with this guest's evidence.
pub async fn serve_proof<S: AsyncRead + AsyncWrite + Unpin>(stream: S, attester: Arc<dyn Attester>) {
    let answer = service_fn(move |request| {
        let attester = Arc::clone(&attester);
        async move { Ok::<_, Infallible>(answer(&request, attester.as_ref()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    if !matches!(timeout(LIMIT, connection).await, Ok(Ok(()))) {
        tracing::debug!("a connection for a proof broke off");
    }
}

async fn answer<B>(request: &Request<B>, attester: &dyn Attester) -> Response<Full<Bytes>> {
    if request.uri().path() != PROOF_PATH {
        return plain(StatusCode::NOT_FOUND, "only /proof is here\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET\n");
    }
    let nonce = match proof_nonce(request.uri().query().unwrap_or_default()) {
        Ok(nonce) => nonce,
        Err(e) => return plain(StatusCode::BAD_REQUEST, format!("{e}\n")),
    };
    match attester.evidence(&proof_report_data(&nonce)).await {
        Ok(evidence) => json(&Proof { tee: attester.tee(), evidence }),
        // The host forwards this answer: it learns the code alone.
        Err(failure) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", failure.code)),
    }
}

fn json(proof: &Proof) -> Response<Full<Bytes>> {
    let Ok(body) = serde_json::to_vec(proof) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "");
    };
    let mut answer = plain(StatusCode::OK, body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use cocoon_protocol::{Tee, b64};
    use cocoon_stage::{Code, Failure};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Repeats(bool);

    #[async_trait]
    impl Attester for Repeats {
        fn tee(&self) -> Tee {
            Tee::Snp
        }
        fn simulated(&self) -> bool {
            true
        }
        fn bound(&self, _: &Value) -> Option<[u8; 32]> {
            None
        }
        async fn evidence(&self, report_data: &[u8]) -> Result<Value, Failure> {
            let failure = Failure::new(Code::AttestEvidenceUnavailable, "the reason is the guest's own");
            self.0.then(|| json!({ "over": b64::url_encode(report_data) })).ok_or(failure)
        }
    }

    async fn said(works: bool, sent: &str) -> String {
        let (mut host, guest) = tokio::io::duplex(64 << 10);
        let served = tokio::spawn(serve_proof(guest, Arc::new(Repeats(works))));
        host.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        host.read_to_string(&mut answer).await.unwrap();
        served.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn evidence_is_over_the_nonce_in_its_own_domain() {
        let nonce = [9; 32];
        let request = format!("GET /proof?nonce={} HTTP/1.1\r\nHost: pod\r\n\r\n", b64::url_encode(&nonce));
        let answer = said(true, &request).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let proof: Proof = serde_json::from_str(body).unwrap();
        assert_eq!(proof.tee, Tee::Snp);
        assert_eq!(proof.evidence, json!({ "over": b64::url_encode(&proof_report_data(&nonce)) }));

        let answer = said(false, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("ATTEST-EVIDENCE-UNAVAILABLE"),
            "{answer}"
        );
        assert!(!answer.contains("reason"), "{answer}");
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let nonce = b64::url_encode(&[9; 32]);
        for (request, status) in [
            (format!("GET /aa/evidence?runtime_data=x&nonce={nonce} HTTP/1.1"), "404"),
            (format!("GET / HTTP/1.1\r\nnonce: {nonce}"), "404"),
            (format!("POST /proof?nonce={nonce} HTTP/1.1"), "405"),
            ("GET /proof HTTP/1.1".into(), "400"),
            ("GET /proof?nonce=AAAA HTTP/1.1".into(), "400"),
            ("no request at all".into(), "400"),
        ] {
            let answer = said(true, &format!("{request}\r\nHost: pod\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        }
        let huge = said(true, &format!("GET /proof?{} HTTP/1.1\r\n\r\n", "x".repeat(40 << 10))).await;
        assert!(!huge.contains("200 OK"), "{huge}");
    }
}

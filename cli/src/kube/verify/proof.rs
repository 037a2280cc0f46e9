//! Asks a pod for its proof over a nonce of ours.

use std::time::Duration;

use bytes::Bytes;
use cocoon_protocol::{PROOF_PATH, PROOF_PORT, Proof, b64, bounds};
use cocoon_stage::{Code, Failure};
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::super::cluster::Cluster;
use super::super::trouble::code_in;

/// Largest proof: evidence of a guest with its certificates and event log.
const MAX_PROOF: usize = 2 << 20;

fn none(why: impl Into<String>) -> Failure {
    Failure::new(Code::VerifyNoProof, why)
}

/// The pod's answer to a nonce. Nothing of it is verified.
///
/// # Errors
/// `VERIFY-NO-PROOF` where none came in time, or something else did; the guest's own code where it says why not; what the
/// cluster's API refuses.
pub async fn ask(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    nonce: &[u8],
    limit: Duration,
) -> Result<Proof, Failure> {
    let forwarded = cluster.forward(namespace, pod, PROOF_PORT).await?;
    let mut trouble = forwarded.trouble;
    let asked = timeout(limit, exchange(forwarded.stream, nonce)).await;
    match asked {
        Ok(Ok(proof)) => Ok(proof),
        Ok(Err(failure)) => {
            // The cluster's words on why there was no stream say more than that it broke.
            match timeout(Duration::from_secs(1), &mut trouble).await {
                Ok(Ok(words)) if failure.code == Code::VerifyNoProof => {
                    Err(none(format!("{}: {words}", failure.reason)))
                }
                _ => Err(failure),
            }
        }
        Err(_) => Err(none(format!("no answer within {} s", limit.as_secs()))),
    }
}

async fn exchange<S>(stream: S, nonce: &[u8]) -> Result<Proof, Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let broke = |_| none("the connection to the guest broke off");
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    let task = tokio::spawn(connection);
    let request = Request::get(format!("{PROOF_PATH}?nonce={}", b64::url_encode(nonce)))
        .header(header::HOST, "pod")
        .body(Empty::<Bytes>::new())
        .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broke)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_PROOF).collect().await;
    task.abort();
    let body = body.map_err(|_| none("the answer broke off, or is too long"))?.to_bytes();
    read(status, &body)
}

fn read(status: u16, body: &[u8]) -> Result<Proof, Failure> {
    if status != 200 {
        let words = String::from_utf8_lossy(body.get(..body.len().min(200)).unwrap_or_default());
        // Whoever answered: a code of ours is told as such, other words as theirs.
        let code = (status == 503).then(|| code_in(&words)).flatten().unwrap_or(Code::VerifyNoProof);
        let plain: String = words.chars().filter(|c| !c.is_control()).collect();
        return Err(Failure::new(code, format!("the answer was {status} {plain:?}")));
    }
    bounds::check("proof", body).map_err(|e| Failure::new(Code::AttestEvidenceMalformed, e.to_string()))?;
    serde_json::from_slice(body)
        .map_err(|e| Failure::new(Code::AttestEvidenceMalformed, format!("the answer is no proof: {e}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn answered(answer: Vec<u8>) -> Result<Proof, Failure> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(async move {
            let mut request = vec![0; 4096];
            let length = theirs.read(&mut request).await.unwrap();
            let _ = theirs.write_all(&answer).await;
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let proof = exchange(ours, &[7; 32]).await;
        assert!(server.await.unwrap().starts_with("GET /proof?nonce=Bwc"));
        proof
    }

    fn http(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn only_a_proof_is_a_proof() {
        let good = answered(http("200 OK", r#"{"tee": "snp", "evidence": {}}"#)).await.unwrap();
        assert_eq!(good.tee, cocoon_protocol::Tee::Snp);
        let code = |answer| async { answered(answer).await.unwrap_err().code };
        assert_eq!(code(http("200 OK", "{}")).await, Code::AttestEvidenceMalformed);
        assert_eq!(code(http("200 OK", &"[".repeat(100_000))).await, Code::AttestEvidenceMalformed);
        assert_eq!(code(http("404 Not Found", "only /proof is here\n")).await, Code::VerifyNoProof);
        assert_eq!(
            code(http("503 X", "ATTEST-EVIDENCE-UNAVAILABLE\n")).await,
            Code::AttestEvidenceUnavailable
        );
        // Only where the guest speaks of itself, and never a code that it has no business with.
        assert_eq!(code(http("400 X", "ATTEST-REVOKED\n")).await, Code::VerifyNoProof);
        assert_eq!(code(b"SSH-2.0-OpenSSH\r\n".to_vec()).await, Code::VerifyNoProof);
        assert_eq!(code(Vec::new()).await, Code::VerifyNoProof);
        let long = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40);
        let mut long = long.into_bytes();
        long.resize(MAX_PROOF + (1 << 20), b' ');
        assert_eq!(code(long).await, Code::VerifyNoProof);
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000));
        assert_eq!(code(head.into_bytes()).await, Code::VerifyNoProof);
    }
}

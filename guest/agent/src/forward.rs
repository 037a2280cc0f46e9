//! Forwarded connections: the host names a TCP port of the pod's loopback, the guest connects to it and passes bytes both
//! ways, each until its own end. Only ports that the plan opens for that are served, and [`PROOF_PORT`], at which the guest
//! itself answers.
//!
//! A connection begins with the port in decimal digits and a line feed; the answer is `ok` or a code, and a line feed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use cocoon_protocol::PROOF_PORT;
use cocoon_stage::Code;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 256;
/// Longest first line: five digits and the line feed.
const MAX_LINE: usize = 6;
/// How long the host may take for the first line.
const LINE_LIMIT: Duration = Duration::from_secs(10);
/// How long a process of the pod may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the host may take to read a refusal.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Most proofs at a time: a platform makes one after the other.
const MAX_PROOFS: usize = 4;

/// Who says which ports may be reached.
pub(crate) trait Ports: Send + Sync + 'static {
    /// Whether connections to this port of the pod's loopback may be forwarded now.
    fn allows(&self, port: u16) -> bool;

    /// Whether there is a plan to prove.
    fn proves(&self) -> bool;
}

/// Where connections of the host come from.
pub(crate) trait Connections: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Serves for as long as the VM lives, or until `connections` fails.
pub(crate) async fn serve(mut connections: impl Connections, ports: Arc<impl Ports>) -> io::Result<()> {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Those that are told so hold nothing but their socket, and not for long; they too are counted.
    let refusals = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let proofs = Arc::new(Semaphore::new(MAX_PROOFS));
    loop {
        let stream = connections.accept().await?;
        let (ports, proofs) = (Arc::clone(&ports), Arc::clone(&proofs));
        match Arc::clone(&free).try_acquire_owned() {
            Ok(permit) => {
                tokio::spawn(async move {
                    forward(stream, ports.as_ref(), &proofs, LINE_LIMIT).await;
                    drop(permit);
                });
            }
            Err(_) => {
                let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() else { continue };
                tokio::spawn(async move {
                    answer(stream, Code::StartResources.as_str()).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn forward<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    ports: &impl Ports,
    proofs: &Semaphore,
    line: Duration,
) {
    let port = match timeout(line, read_port(&mut stream)).await {
        Ok(Ok(Some(port))) => port,
        Ok(Ok(None)) => return answer(stream, Code::PlanRequestRefused.as_str()).await,
        // Nobody is there to answer to.
        Ok(Err(_)) | Err(_) => return,
    };
    if port == PROOF_PORT && ports.proves() {
        return prove(stream, proofs).await;
    }
    if !ports.allows(port) {
        tracing::warn!("a connection to port {port} is refused: the plan does not forward it");
        return answer(stream, Code::PlanRequestRefused.as_str()).await;
    }
    let Some(mut local) = connect(port).await else {
        return answer(stream, Code::ServeFailed.as_str()).await;
    };
    if stream.write_all(b"ok\n").await.is_ok() {
        // An end on one side is passed on to the other, whose own direction stays open.
        let _ = copy_bidirectional(&mut stream, &mut local).await;
    }
}

/// The guest answers itself. Whoever comes while others wait for theirs waits too.
async fn prove<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, proofs: &Semaphore) {
    let Ok(_slot) = proofs.acquire().await else { return };
    match cocoon_attest::detect().await {
        Ok(attester) => {
            if stream.write_all(b"ok\n").await.is_ok() {
                cocoon_datahub::serve_proof(stream, attester).await;
            }
        }
        Err(failure) => answer(stream, failure.code.as_str()).await,
    }
}

async fn connect(port: u16) -> Option<TcpStream> {
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        if let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, TcpStream::connect((address, port))).await {
            let _ = stream.set_nodelay(true);
            return Some(stream);
        }
    }
    None
}

/// The port on the first line; `None` for anything else. Reads no byte beyond the line.
async fn read_port(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<u16>> {
    let mut line = Vec::with_capacity(MAX_LINE);
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            digit if digit.is_ascii_digit() && line.len() < MAX_LINE - 1 => line.push(digit),
            _ => return Ok(None),
        }
    }
    let port = std::str::from_utf8(&line).ok().and_then(|l| l.parse::<u16>().ok());
    Ok(port.filter(|p| *p != 0))
}

async fn answer<S: AsyncWrite + Unpin>(mut stream: S, word: &str) {
    let write = async {
        stream.write_all(word.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        stream.shutdown().await
    };
    let _ = timeout(ANSWER_LIMIT, write).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    struct Only(u16);

    impl Ports for Only {
        fn allows(&self, port: u16) -> bool {
            port == self.0
        }

        fn proves(&self) -> bool {
            self.0 == PROOF_PORT
        }
    }

    impl Connections for mpsc::Receiver<DuplexStream> {
        type Stream = DuplexStream;

        async fn accept(&mut self) -> io::Result<DuplexStream> {
            self.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
        }
    }

    async fn said(ports: Only, sent: &[u8]) -> String {
        let (mut host, guest) = tokio::io::duplex(1024);
        let served =
            tokio::spawn(async move { forward(guest, &ports, &Semaphore::new(1), LINE_LIMIT).await });
        host.write_all(sent).await.unwrap();
        let mut answer = String::new();
        host.read_to_string(&mut answer).await.unwrap();
        served.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_guest_proves_its_plan_itself() {
        // Without a plan there is nothing to prove.
        assert_eq!(said(Only(80), b"8007\n").await, "PLAN-REQUEST-REFUSED\n");
        // On a machine without a TEE no evidence is made up.
        let answer = said(Only(PROOF_PORT), b"8007\nGET /other HTTP/1.1\r\n\r\n").await;
        assert!(
            answer.starts_with("ok\nHTTP/1.1 404") || answer == "ATTEST-EVIDENCE-UNAVAILABLE\n",
            "{answer}"
        );
    }

    #[tokio::test]
    async fn only_ports_of_the_plan_in_so_many_words() {
        for bad in
            [&b"81\n"[..], b"0\n", b"-1\n", b"80 \n", b"999999\n", b"65616\n", b"\n", b"80\r\n", b"0x50\n"]
        {
            assert_eq!(said(Only(80), bad).await, "PLAN-REQUEST-REFUSED\n", "{bad:?}");
        }
        // Nobody listens on a port that was just closed.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(said(Only(port), format!("{port}\n").as_bytes()).await, "SERVE-FAILED\n");
    }

    async fn echo_after_end(address: &str) {
        let Ok(listener) = TcpListener::bind((address, 0)).await else {
            println!("skipped: no {address}");
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            // Answers only once the other side has ended.
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        });
        let (mut host, guest) = tokio::io::duplex(1024);
        let served =
            tokio::spawn(async move { forward(guest, &Only(port), &Semaphore::new(1), LINE_LIMIT).await });
        // Bytes that follow the line at once are the connection's.
        host.write_all(format!("{port}\nhello ").as_bytes()).await.unwrap();
        let mut ok = [0; 3];
        host.read_exact(&mut ok).await.unwrap();
        assert_eq!(&ok, b"ok\n");
        host.write_all(b"there").await.unwrap();
        host.shutdown().await.unwrap();
        let mut back = String::new();
        host.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "hello there");
        server.await.unwrap();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn each_side_ends_by_itself_over_both_families() {
        echo_after_end("127.0.0.1").await;
        echo_after_end("::1").await;
    }

    #[tokio::test]
    async fn a_silent_host_is_let_go() {
        let (mut host, guest) = tokio::io::duplex(64);
        let served = tokio::spawn(async move {
            forward(guest, &Only(80), &Semaphore::new(1), Duration::from_millis(50)).await
        });
        host.write_all(b"8").await.unwrap();
        served.await.unwrap();
        let mut rest = Vec::new();
        host.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn connections_are_counted() {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(serve(receiver, Arc::new(Only(80))));
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let (host, guest) = tokio::io::duplex(64);
            sender.send(guest).await.unwrap();
            held.push(host);
        }
        let (mut host, guest) = tokio::io::duplex(64);
        sender.send(guest).await.unwrap();
        let mut answer = String::new();
        host.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "START-RESOURCES\n");
        drop(held.pop());
        // The place is free as soon as the guest has seen the end.
        loop {
            let (mut host, guest) = tokio::io::duplex(64);
            sender.send(guest).await.unwrap();
            let _ = host.write_all(b"81\n").await;
            let mut answer = String::new();
            host.read_to_string(&mut answer).await.unwrap();
            if answer == "PLAN-REQUEST-REFUSED\n" {
                break;
            }
        }
    }
}

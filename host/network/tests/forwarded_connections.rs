//! Connections to the pod's loopback on the host reach the guest's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cocoon_network::forward::{self, MAX_CONNECTIONS, listen};
use common::{LIMIT, Space};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// A guest at the other end of the stream: as its agent, it reads the port and answers; the service behind then says what
/// it heard, once it has heard all.
async fn guest(stream: DuplexStream) {
    let mut stream = BufReader::new(stream);
    let mut port = String::new();
    stream.read_line(&mut port).await.unwrap();
    if port != "8080\n" {
        return stream.write_all(b"PLAN-REQUEST-REFUSED\n").await.unwrap();
    }
    // In one piece with the service's first word: none of it may be lost.
    stream.write_all(b"ok\nhello, ").await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    stream.write_all(&heard).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn connect(port: u16) -> io::Result<DuplexStream> {
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(guest(far));
    forward::open(near, port).await
}

fn ask(pod: &Space, address: &'static str, size: usize) -> io::Result<Vec<u8>> {
    let client = pod.inside(move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&vec![b'x'; size])?;
        // After a reset there is nothing to shut; reading tells.
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    });
    client.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_families_both_ways_and_to_the_end() {
    let Some(pod) = Space::new() else { return };
    let forwarder = listen(&pod.path(), &[8080, 8081, 8080], connect).unwrap();
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        let answer = ask(&pod, address, 300_000).unwrap();
        assert_eq!(answer.len(), 300_007, "{address}");
        assert!(answer.starts_with(b"hello, xxx"), "{address}");
    }
    // The guest refuses this one: a reset, not an empty answer.
    let refused = ask(&pod, "127.0.0.1:8081", 0).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset, "{refused}");
    // Nobody listens elsewhere, nor on the host.
    assert_eq!(ask(&pod, "127.0.0.1:8082", 0).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(TcpStream::connect("127.0.0.1:8080").is_err() || TcpStream::connect("127.0.0.1:8081").is_err());
    // Ports that are taken are named.
    let taken = listen(&pod.path(), &[8081], connect).unwrap_err();
    assert!(taken.to_string().contains("127.0.0.1:8081"), "{taken}");
    drop(forwarder);
    // Dropped tasks end when their runtime next looks at them; the port is free once they have.
    while let Err(error) = listen(&pod.path(), &[8080], connect) {
        assert!(error.to_string().contains("8080"), "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ipv6_and_with_loopback_down() {
    let Some(pod) = Space::new() else { return };
    pod.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    pod.run("ip link set lo down");
    let _forwarder = listen(&pod.path(), &[8080], connect).unwrap();
    assert_eq!(ask(&pod, "127.0.0.1:8080", 1).unwrap(), b"hello, x");
    assert!(ask(&pod, "[::1]:8080", 1).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_and_the_rest_waits() {
    let Some(pod) = Space::new() else { return };
    let asked = Arc::new(AtomicUsize::new(0));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let count = asked.clone();
    // More listeners than connections may be.
    let ports: Vec<u16> = (8080..8150).collect();
    let forwarder = listen(&pod.path(), &ports, move |_| {
        let now = count.fetch_add(1, Ordering::Relaxed) + 1;
        let tell = tell.clone();
        async move {
            let (near, far) = tokio::io::duplex(64);
            tell.send((now, far)).unwrap();
            Ok(near)
        }
    })
    .unwrap();
    let clients = pod.inside(|| {
        (0..=MAX_CONNECTIONS).map(|_| TcpStream::connect("127.0.0.1:8080").unwrap()).collect::<Vec<_>>()
    });
    let clients = tokio::task::spawn_blocking(|| clients.join().unwrap()).await.unwrap();
    let mut guests = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        guests.push(told.recv().await.unwrap());
    }
    assert_eq!(asked.load(Ordering::Relaxed), MAX_CONNECTIONS);
    assert!(told.try_recv().is_err());
    // One ends at both ends, and the last is let in.
    drop(guests.remove(0));
    drop(clients);
    assert_eq!(told.recv().await.unwrap().0, MAX_CONNECTIONS + 1);
    drop(forwarder);
}

#[tokio::test]
async fn a_guest_that_answers_nonsense() {
    let long = format!("{}\n", "A".repeat(65));
    for (answer, kind) in [
        ("PLAN-REQUEST-REFUSED\n", io::ErrorKind::ConnectionRefused),
        ("OK\n", io::ErrorKind::ConnectionRefused),
        ("ok", io::ErrorKind::UnexpectedEof),
        ("", io::ErrorKind::UnexpectedEof),
        ("\x1b[2J\n", io::ErrorKind::InvalidData),
        (&long, io::ErrorKind::InvalidData),
    ] {
        let (near, mut far) = tokio::io::duplex(256);
        far.write_all(answer.as_bytes()).await.unwrap();
        let end = tokio::spawn(async move {
            let mut asked = [0; 3];
            far.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"80\n");
        });
        let error = forward::open(near, 80).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
        end.await.unwrap();
    }
}

#[tokio::test]
async fn namespaces_and_ports_that_cannot_be() {
    let many: Vec<u16> = (1..=1026).collect();
    let Some(pod) = Space::new() else { return };
    assert!(listen(&pod.path(), &many, connect).is_err());
    assert!(listen(Path::new("/proc/self/ns/net"), &[8080], connect).is_err());
    assert!(listen(Path::new("/nonexistent"), &[8080], connect).is_err());
    assert!(listen(Path::new("/nonexistent"), &[], connect).is_ok(), "nothing is asked of it");
}

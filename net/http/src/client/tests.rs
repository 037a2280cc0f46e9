use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn client(idle: Duration) -> Client {
    Client::new(Options { idle_timeout: idle, ..Options::default() }).unwrap()
}

fn get(url: String) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

/// Answers each request on each connection with the given raw bytes, then stays silent.
async fn server(answer: &'static str) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while tcp.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    if tcp.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (url, connections)
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (url, connections) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let client = client(Duration::from_secs(5));
    for _ in 0..3 {
        let answer = client.send(get(url.clone())).await.unwrap();
        assert_eq!(answer.bytes(10).await.unwrap(), "hi");
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn idle_connections_are_few_and_end() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let keep_idle = Duration::from_millis(600);
    let client = Client::new(Options { keep_idle, ..Options::default() }).unwrap();
    for _ in 0..80 {
        let (url, _) = server(answer).await;
        client.send(get(url)).await.unwrap().bytes(10).await.unwrap();
    }
    assert!((1..=64).contains(&client.pool.servers()), "{}", client.pool.servers());
    // Without anybody asking for one.
    tokio::time::sleep(keep_idle * 4).await;
    assert_eq!(client.pool.servers(), 0);
    let (url, connections) = server(answer).await;
    for _ in 0..2 {
        client.send(get(url.clone())).await.unwrap().bytes(10).await.unwrap();
        tokio::time::sleep(keep_idle * 2).await;
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 2);
}

/// Takes a megabyte each time after such a pause, and answers once it has `all`.
async fn slow_reader(pause: Duration, all: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
        while got < all {
            tokio::time::sleep(pause).await;
            let mut piece = 0;
            while piece < buffer.len() && got < all {
                let n = tcp.read(&mut buffer[piece..]).await.unwrap();
                (piece, got) = (piece + n, got + n);
            }
        }
        tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    url
}

#[tokio::test]
async fn a_slow_upload_is_no_silence_and_a_stopped_one_is() {
    let body = Bytes::from(vec![7; 32 << 20]);
    let put = |url: String| Request::put(url).body(body.clone()).unwrap();
    let url = slow_reader(Duration::from_millis(50), body.len()).await;
    let answer = client(Duration::from_millis(400)).send(put(url)).await.unwrap();
    assert_eq!(answer.status, 200);
    let url = slow_reader(Duration::from_secs(60), body.len()).await;
    let stopped = client(Duration::from_millis(400)).send(put(url)).await;
    assert!(matches!(stopped, Err(Error::Timeout(_))));
}

#[tokio::test]
async fn a_long_answer_is_cut_off() {
    let (url, _) = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789").await;
    let answer = client(Duration::from_secs(5)).send(get(url)).await.unwrap();
    assert!(matches!(answer.bytes(8).await, Err(Error::TooLarge(8))));
}

#[tokio::test]
async fn silence_is_an_error() {
    let (url, _) = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123").await;
    let answer = client(Duration::from_millis(50)).send(get(url)).await.unwrap();
    assert!(matches!(answer.bytes(100).await, Err(Error::Stalled(_))));
    let (url, _) = server("").await;
    assert!(matches!(client(Duration::from_millis(50)).send(get(url)).await, Err(Error::Timeout(_))));
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    let (url, _) = server("SSH-2.0-nope\r\n\r\n").await;
    assert!(matches!(client(Duration::from_secs(5)).send(get(url)).await, Err(Error::Protocol(_))));
    for bad in ["ftp://x/", "http://x:99999/", "http://x:y/", "http://u@x/"] {
        let answer = client(Duration::from_secs(5)).send(get(bad.into())).await;
        assert!(matches!(answer, Err(Error::Url(_))), "{bad}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = client(Duration::from_secs(5)).send(get(format!("http://{closed}/"))).await;
    assert!(matches!(gone, Err(Error::Connect { .. })));
}

#[tokio::test]
async fn pinned_roots_must_be_certificates() {
    let options = Options { roots: Roots::Pinned(vec!["nonsense".into()]), ..Options::default() };
    assert!(matches!(Client::new(options), Err(Error::Roots(_))));
}

//! Client and server against each other, over a unix socket and over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cocoon_grpc::{Call, Client, Code, Limits, Listener, Server, Sink, Status, bind_unix};
use protobuf::well_known_types::empty::Empty;
use protobuf::well_known_types::wrappers::{BytesValue, Int64Value, StringValue};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

const MIB: usize = 1 << 20;

struct Running {
    _folder: tempfile::TempDir,
    path: PathBuf,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

fn text(value: &str) -> StringValue {
    StringValue { value: value.into(), ..StringValue::default() }
}

fn number(value: i64) -> Int64Value {
    Int64Value { value, ..Int64Value::default() }
}

async fn echo(call: Call, request: StringValue) -> Result<StringValue, Status> {
    match request.value.as_str() {
        "who" => Ok(text(call.metadata("x-name").unwrap_or("nobody"))),
        "fail" => Err(Status::new(Code::FailedPrecondition, "50% é is\nnot enough")),
        "hang" => std::future::pending().await,
        _ => Ok(request),
    }
}

async fn count(_: Call, request: Int64Value, sink: Sink<Int64Value>) -> Result<(), Status> {
    for n in 0..request.value {
        if n == 1000 {
            return Err(Status::new(Code::OutOfRange, "far enough"));
        }
        sink.send(&number(n)).await?;
    }
    Ok(())
}

fn table(limits: Limits) -> Server {
    Server::new(limits)
        .unary("/test.Echo/Say", echo)
        .unary("/test.Echo/Fill", |_, request: Int64Value| async move {
            let value = vec![7; usize::try_from(request.value).unwrap()];
            Ok(BytesValue { value, ..BytesValue::default() })
        })
        .streaming("/test.Echo/Count", count)
}

fn start(server: Server) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = bind_unix(&path).unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.serve(listener, async { stopped.await.unwrap() }));
    Running { _folder: folder, path, stop, served }
}

async fn say(client: &Client, value: &str) -> Result<String, Status> {
    client.unary("/test.Echo/Say", &text(value), MIB).await.map(|a: StringValue| a.value)
}

#[tokio::test]
async fn calls_and_refusals_cross_a_unix_socket() {
    let running = start(table(Limits::default()));
    let client = Client::unix(&running.path);
    assert_eq!(say(&client, "hello").await.unwrap(), "hello");
    assert_eq!(say(&client, "").await.unwrap(), "");
    assert_eq!(say(&client, "who").await.unwrap(), "nobody");
    let named = client.clone().with_metadata("x-name", "me").unwrap();
    assert_eq!(say(&named, "who").await.unwrap(), "me");
    let refused = say(&client, "fail").await.unwrap_err();
    assert_eq!(refused, Status::new(Code::FailedPrecondition, "50% é is not enough"));
    let absent = client.unary::<_, Empty>("/test.Echo/Shout", &Empty::new(), MIB).await.unwrap_err();
    assert_eq!(absent.code, Code::Unimplemented);
    assert!(absent.message.contains("/test.Echo/Shout"), "{absent}");
    assert!(client.with_metadata("a b", "x").is_err());
}

#[tokio::test]
async fn a_thousand_calls_share_one_connection() {
    let running = start(table(Limits { calls: 4, streams: 8, ..Limits::default() }));
    let client = Client::unix(&running.path);
    let calls = (0..1000).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { say(&client, &n.to_string()).await.unwrap() == n.to_string() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap());
    }
}

#[tokio::test]
async fn loopback_only() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(table(Limits::default()).serve(Listener::Loopback(listener), std::future::pending()));
    assert_eq!(say(&Client::loopback(address).unwrap(), "x").await.unwrap(), "x");
    assert_eq!(Client::loopback("192.0.2.1:1".parse().unwrap()).unwrap_err().code, Code::InvalidArgument);
    let open = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = table(Limits::default()).serve(Listener::Loopback(open), std::future::pending()).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn sizes_are_bounded_both_ways() {
    let running = start(table(Limits { message_bytes: 1000, ..Limits::default() }));
    let client = Client::unix(&running.path);
    assert_eq!(say(&client, &"x".repeat(990)).await.unwrap().len(), 990);
    assert_eq!(say(&client, &"x".repeat(1001)).await.unwrap_err().code, Code::ResourceExhausted);
    let fill = |bytes| {
        let client = client.clone();
        async move { client.unary::<_, BytesValue>("/test.Echo/Fill", &number(bytes), 5000).await }
    };
    assert_eq!(fill(4990).await.unwrap().value.len(), 4990);
    assert_eq!(fill(5001).await.unwrap_err().code, Code::ResourceExhausted);
    assert_eq!(fill(50_000_000).await.unwrap_err().code, Code::ResourceExhausted);
    // A refusal of one call is none of the connection.
    assert_eq!(say(&client, "still").await.unwrap(), "still");
    let huge = client.with_metadata("x-name", &"n".repeat(100_000)).unwrap();
    assert!(say(&huge, "who").await.is_err());
}

#[tokio::test]
async fn streams_are_whole_or_fail() {
    let running = start(table(Limits::default()));
    let client = Client::unix(&running.path);
    let ask = |n: i64, most: usize| {
        let client = client.clone();
        async move {
            let stream = client.streaming::<_, Int64Value>("/test.Echo/Count", &number(n), 100, most).await?;
            Ok::<_, Status>(stream.all().await?.iter().map(|a| a.value).collect::<Vec<_>>())
        }
    };
    assert_eq!(ask(0, 0).await.unwrap(), [0; 0]);
    assert_eq!(ask(100, 100).await.unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(ask(101, 100).await.unwrap_err().code, Code::ResourceExhausted);
    assert_eq!(ask(2000, 5000).await.unwrap_err(), Status::new(Code::OutOfRange, "far enough"));
    // A stream is no unary answer.
    let two = client.unary::<_, Int64Value>("/test.Echo/Count", &number(2), 100).await.unwrap_err();
    assert_eq!(two.code, Code::ResourceExhausted);
    let none = client.unary::<_, Int64Value>("/test.Echo/Count", &number(0), 100).await.unwrap_err();
    assert_eq!(none, Status::new(Code::Internal, "the answer is no message"));
}

#[tokio::test]
async fn a_stream_ends_when_nobody_takes_it() {
    let ended = Arc::new(Notify::new());
    let tell = ended.clone();
    let running = start(Server::new(Limits { calls: 1, ..Limits::default() }).streaming(
        "/test.Echo/Endless",
        move |_, _: Empty, sink: Sink<Int64Value>| {
            struct Tell(Arc<Notify>);
            impl Drop for Tell {
                fn drop(&mut self) {
                    self.0.notify_one();
                }
            }
            let tell = Tell(tell.clone());
            async move {
                let _tell = tell;
                loop {
                    sink.send(&number(1)).await?;
                }
            }
        },
    ));
    let client = Client::unix(&running.path);
    // One call at a time: the second begins only because the first gave its room back.
    for _ in 0..2 {
        let mut stream = client
            .streaming::<_, Int64Value>("/test.Echo/Endless", &Empty::new(), 100, usize::MAX)
            .await
            .unwrap();
        assert!(stream.next().await.unwrap().is_some());
        drop(stream);
        tokio::time::timeout(Duration::from_secs(10), ended.notified()).await.unwrap();
    }
}

#[tokio::test]
async fn both_sides_give_up_in_time() {
    let running = start(table(Limits { call: Duration::from_millis(100), ..Limits::default() }));
    let slow = say(&Client::unix(&running.path), "hang").await.unwrap_err();
    assert_eq!(slow, Status::new(Code::DeadlineExceeded, "the call took too long"));
    let patient = start(table(Limits::default()));
    let client = Client::unix(&patient.path).with_timeout(Duration::from_millis(100));
    assert_eq!(say(&client, "hang").await.unwrap_err().code, Code::DeadlineExceeded);
    assert_eq!(say(&client, "after").await.unwrap(), "after");
}

#[tokio::test]
async fn stopping_lets_calls_end_and_new_servers_are_found() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let calls = Arc::new(AtomicUsize::new(0));
    let waiting = {
        let (entered, leave, calls) = (entered.clone(), leave.clone(), calls.clone());
        move |_, _: Empty| {
            let (entered, leave, calls) = (entered.clone(), leave.clone(), calls.clone());
            async move {
                calls.fetch_add(1, Ordering::SeqCst);
                entered.notify_one();
                leave.notified().await;
                Ok(Empty::new())
            }
        }
    };
    let running = start(Server::new(Limits::default()).unary("/test.Wait/Wait", waiting));
    let client = Client::unix(&running.path);
    let call = {
        let client = client.clone();
        tokio::spawn(async move { client.unary::<_, Empty>("/test.Wait/Wait", &Empty::new(), 10).await })
    };
    entered.notified().await;
    running.stop.send(()).unwrap();
    leave.notify_one();
    call.await.unwrap().unwrap();
    running.served.await.unwrap().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let gone = client.unary::<_, Empty>("/test.Wait/Wait", &Empty::new(), 10).await.unwrap_err();
    assert_eq!(gone.code, Code::Unavailable);
    assert!(gone.message.contains("cannot be reached"), "{gone}");
    // The file that the first server left is no obstacle, and the client finds the second.
    let listener = bind_unix(&running.path).unwrap();
    let second = tokio::spawn(table(Limits::default()).serve(listener, std::future::pending()));
    assert_eq!(say(&client, "again").await.unwrap(), "again");
    assert_eq!(bind_unix(&running.path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    second.abort();
}

#[tokio::test]
async fn a_file_is_not_taken_for_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    assert_eq!(bind_unix(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

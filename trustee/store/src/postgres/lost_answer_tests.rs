//! What is said and done when a connection is cut at the worst moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cocoon_stage::Code;

use super::PostgresStore;
use super::testing::{Server, options, shared_server};
use crate::{Change, Condition, Error, Store};

fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, options()).unwrap()
}

/// Passes bytes on until the client says `word`; passes that on too (or not), and then cuts the connection, once.
fn cutting_proxy(server_port: u16, word: &'static [u8], deliver: bool) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let armed = Arc::new(AtomicBool::new(false));
    let switch = armed.clone();
    // Ends with the test process; it serves at most what the test opens.
    std::thread::spawn(move || {
        for client in listener.incoming().take(3).flatten() {
            let server = TcpStream::connect(("127.0.0.1", server_port)).unwrap();
            let cut = Arc::new(AtomicBool::new(false));
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let cut_back = cut.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(count @ 1..) = from_server.read(&mut buffer) {
                    if cut_back.load(Ordering::SeqCst) || to_client.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                drop(to_client.shutdown(Shutdown::Both));
            });
            let (mut from_client, mut to_server, switch) = (client, server, switch.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(count @ 1..) = from_client.read(&mut buffer) {
                    let said = buffer[..count].windows(word.len()).any(|w| w == word);
                    let last = said && switch.swap(false, Ordering::SeqCst);
                    cut.fetch_or(last, Ordering::SeqCst);
                    let passed =
                        if last && !deliver { Ok(()) } else { to_server.write_all(&buffer[..count]) };
                    if last || passed.is_err() {
                        break;
                    }
                }
                std::thread::sleep(Duration::from_millis(if cut.load(Ordering::SeqCst) { 100 } else { 0 }));
                drop(from_client.shutdown(Shutdown::Both));
                drop(to_server.shutdown(Shutdown::Write));
            });
        }
    });
    (port, armed)
}

#[test]
fn a_lost_confirmation_is_reported_as_unknown_and_a_lost_beginning_is_repeated() {
    let Some(server) = shared_server() else { return };
    let put = |key: &'static str| {
        [Change::Put { ns: "n", key, value: b"1" }, Change::Put { ns: "n", key: "b", value: b"1" }]
    };
    let absent = [Condition { ns: "n", key: "b", value: None }];
    for (word, deliver) in [(&b"COMMIT\0"[..], true), (b"COMMIT\0", false)] {
        let url = server.new_database();
        let (port, armed) = cutting_proxy(server.port, word, deliver);
        let store = open(&Server::tcp_url(&url, &format!("127.0.0.1:{port}"), ""));
        armed.store(true, Ordering::SeqCst);
        let error = store.apply_if(&absent, &put("a")).unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
        assert_eq!(error.code(), Code::StoreUnavailable);
        // The read finds a new connection and the truth.
        let expected: &[&str] = if deliver { &["a", "b"] } else { &[] };
        assert_eq!(store.list("n", "", 9).unwrap(), expected);
    }

    let url = server.new_database();
    let (port, armed) = cutting_proxy(server.port, b"BEGIN\0", false);
    let store = open(&Server::tcp_url(&url, &format!("127.0.0.1:{port}"), ""));
    armed.store(true, Ordering::SeqCst);
    assert!(store.apply_if(&absent, &put("a")).unwrap(), "certainly not begun, so done again");
    assert!(!armed.load(Ordering::SeqCst), "the connection was cut");
    assert_eq!(store.list("n", "", 9).unwrap(), ["a", "b"]);

    // One statement alone: its outcome is unknown, and it is not done twice.
    let (port, armed) = cutting_proxy(server.port, b"single", true);
    let store = open(&Server::tcp_url(&url, &format!("127.0.0.1:{port}"), ""));
    armed.store(true, Ordering::SeqCst);
    let error = store.put_if_absent("n", "single", b"1").unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    assert!(!store.put_if_absent("n", "single", b"2").unwrap());
    assert_eq!(store.get("n", "single").unwrap().unwrap(), b"1");

    // A read is repeated.
    let (port, armed) = cutting_proxy(server.port, b"single", true);
    let store = open(&Server::tcp_url(&url, &format!("127.0.0.1:{port}"), ""));
    armed.store(true, Ordering::SeqCst);
    assert_eq!(store.get("n", "single").unwrap().unwrap(), b"1");
    assert!(!armed.load(Ordering::SeqCst));
}

//! The database store against a real PostgreSQL: kills, restarts, lost answers, TLS, foreign tables.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cocoon_stage::Code;

use super::testing::{PASSWORD, Server, options, shared_server};
use super::*;
use crate::{Change, Condition, PutMode, RestoreMode, Store, backup, restore};

fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, options()).unwrap()
}

fn refused(url: &str, options: PostgresOptions) -> Error {
    let error = PostgresStore::open(url, options).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    error
}

#[test]
fn a_killed_server_loses_nothing_acknowledged_and_a_restarted_one_is_found_again() {
    let Some(server) = Server::start() else { return };
    let url = server.new_database();
    let store = open(&url);
    let killed = AtomicBool::new(false);
    let confirmed = AtomicUsize::new(0);
    let acknowledged: Vec<Vec<String>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (store, killed, confirmed) = (&store, &killed, &confirmed);
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for i in 0.. {
                        let key = format!("{writer}/{i}");
                        let absent = [Condition { ns: "n", key: &key, value: None }];
                        let put = [Change::Put { ns: "n", key: &key, value: &[7; 3000] }];
                        let done = if writer % 2 == 0 {
                            store.put_if_absent("n", &key, &[7; 3000])
                        } else {
                            store.apply_if(&absent, &put)
                        };
                        match done {
                            Ok(true) => acknowledged.push(key),
                            Ok(false) => panic!("{key} was there already"),
                            Err(error) => {
                                assert_eq!(error.code(), Code::StoreUnavailable, "{error}");
                                if killed.load(Ordering::SeqCst) {
                                    break;
                                }
                            }
                        }
                        confirmed.fetch_add(1, Ordering::SeqCst);
                    }
                    acknowledged
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        while confirmed.load(Ordering::SeqCst) < 100 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.kill();
        killed.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert!(matches!(store.get("n", "k"), Err(Error::Unavailable(_))));
    server.run(&[]);
    // The same store, without being opened anew.
    assert!(acknowledged.iter().flatten().count() >= 90);
    for key in acknowledged.iter().flatten() {
        assert_eq!(store.get("n", key).unwrap().as_deref(), Some(&[7u8; 3000][..]), "{key} was acknowledged");
    }
    store.put("n", "after", b"", PutMode::Create).unwrap();

    // An orderly restart under an idle store: reads and writes go on.
    server.run(&[]);
    assert!(store.get("n", "after").unwrap().is_some());
    server.run(&[]);
    assert!(
        store
            .apply_if(
                &[],
                &[Change::Put { ns: "n", key: "a", value: b"" }, Change::Delete { ns: "n", key: "after" }]
            )
            .unwrap()
    );

    server.run(&["fsync=off"]);
    assert!(matches!(refused(&url, options()), Error::Settings(_)));
}

#[test]
fn only_tables_of_our_version_and_shape_are_used() {
    let Some(server) = shared_server() else { return };
    let url = server.new_database();
    // Several replicas that start at once create the tables once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| open(&url));
        }
    });
    assert_eq!(server.sql(&url, "SELECT count(*) FROM cocoon_schema").unwrap(), "1");
    for (change, undo) in [
        ("UPDATE cocoon_schema SET version = 2", "UPDATE cocoon_schema SET version = 1"),
        (
            "INSERT INTO cocoon_schema VALUES (1)",
            "DELETE FROM cocoon_schema; INSERT INTO cocoon_schema VALUES (1)",
        ),
        ("DELETE FROM cocoon_schema", "INSERT INTO cocoon_schema VALUES (1)"),
        ("ALTER TABLE cocoon_state ADD more integer", "ALTER TABLE cocoon_state DROP more"),
        (
            "ALTER TABLE cocoon_state ALTER key TYPE text COLLATE \"default\"",
            "ALTER TABLE cocoon_state ALTER key TYPE text COLLATE \"C\"",
        ),
        ("ALTER TABLE cocoon_state SET UNLOGGED", "ALTER TABLE cocoon_state SET LOGGED"),
        ("ALTER TABLE cocoon_schema RENAME TO other", "ALTER TABLE other RENAME TO cocoon_schema"),
    ] {
        server.sql(&url, change);
        assert_eq!(refused(&url, options()).code(), Code::StoreCorrupt, "{change}");
        server.sql(&url, undo);
        open(&url);
    }
    let latin = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'";
    server.sql("postgres", latin);
    assert!(matches!(
        refused(&format!("{}/latin", url.rsplit_once('/').unwrap().0), options()),
        Error::Settings(_)
    ));
}

#[test]
fn unsafe_defaults_of_the_role_are_overridden() {
    let Some(server) = shared_server() else { return };
    let url = server.new_database();
    server.sql("postgres", "DROP ROLE IF EXISTS lax");
    server.sql("postgres", &format!("CREATE ROLE lax LOGIN SUPERUSER PASSWORD '{PASSWORD}'"));
    for unsafe_default in [
        "synchronous_commit = off",
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = 0",
    ] {
        server.sql("postgres", &format!("ALTER ROLE lax SET {unsafe_default}"));
    }
    let store = open(&url.replace("//cocoon:", "//lax:"));
    let shown = store.block_on(store.pool.read(async |s| {
        let shown = s.client.query_one(
            "SELECT concat_ws(' ', current_setting('synchronous_commit'), \
             current_setting('transaction_isolation'), current_setting('statement_timeout'))",
            &[],
        );
        shown.await?.try_get::<_, String>(0)
    }));
    assert_eq!(shown.unwrap(), "on read committed 15s");
    // A stronger setting is kept.
    server.sql("postgres", "ALTER ROLE lax SET synchronous_commit = remote_apply");
    let store = open(&url.replace("//cocoon:", "//lax:"));
    let shown =
        store.block_on(store.pool.read(async |s| {
            s.client.query_one("SHOW synchronous_commit", &[]).await?.try_get::<_, String>(0)
        }));
    assert_eq!(shown.unwrap(), "remote_apply");
}

#[test]
fn tls_verifies_the_server_and_binds_the_password_to_the_channel() {
    let Some(server) = shared_server() else { return };
    let url = server.new_database();
    let with_ca = || PostgresOptions { ca: Some(server.certificate.clone()), ..options() };
    let host = format!("localhost:{}", server.port);
    let encrypted = |store: &PostgresStore| {
        store.put("n", "k", b"v", PutMode::Upsert).unwrap();
        store.block_on(store.pool.read(async |s| {
            s.client
                .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
                .await?
                .try_get::<_, bool>(0)
        }))
    };
    for query in ["?sslmode=require", "?sslmode=verify-full&channel_binding=require", "?sslmode=prefer", ""] {
        let store = PostgresStore::open(&Server::tcp_url(&url, &host, query), with_ca()).unwrap();
        assert!(encrypted(&store).unwrap(), "{query}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &server.certificate).unwrap();
    let query = format!("?sslmode=require&sslrootcert={}", file.display());
    assert!(encrypted(&open(&Server::tcp_url(&url, &host, &query))).unwrap());
    assert!(!encrypted(&open(&Server::tcp_url(&url, &host, "?sslmode=prefer"))).unwrap());

    // Another authority, another name, and a password that is wrong.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let wrong = PostgresOptions { ca: Some(other.cert.pem()), ..options() };
    let required = Server::tcp_url(&url, &host, "?sslmode=require");
    let error = refused(&required, wrong.clone());
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("certificate")), "{error}");
    let error = refused(&Server::tcp_url(&url, &host, ""), wrong);
    assert!(
        matches!(error, Error::Unavailable(_)),
        "an offered but unverified TLS is no reason for plain text"
    );
    let by_address = Server::tcp_url(&url, &format!("127.0.0.1:{}", server.port), "?sslmode=require");
    let error = refused(&by_address, with_ca());
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("certificate")), "{error}");
    let wrong = PostgresOptions { password: Some(Zeroizing::new("wrong".into())), ..with_ca() };
    let error = refused(&required, wrong);
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("28P01")), "{error}");
}

#[test]
fn nobody_answers_within_bounded_time() {
    // Accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let quick = PostgresOptions {
        connect_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_millis(100),
        ..options()
    };
    let begun = Instant::now();
    let error = refused(&Server::tcp_url("/d", &host, ""), quick.clone());
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(8));
    drop(silent);
    let error = refused(&Server::tcp_url("/d", &host, ""), quick);
    assert_eq!(error.code(), Code::StoreUnavailable);
}

#[test]
fn waits_for_connections_and_locks_are_bounded() {
    let Some(server) = shared_server() else { return };
    let url = server.new_database();
    let short = Duration::from_millis(200);
    let store =
        PostgresStore::open(&url, PostgresOptions { connections: 1, wait: short, ..options() }).unwrap();
    store.put("n", "k", b"1", PutMode::Create).unwrap();
    let mut inner = None;
    store
        .snapshot(&mut |_| {
            inner = Some(store.get("n", "k"));
            Ok(())
        })
        .unwrap();
    assert!(matches!(inner, Some(Err(Error::Unavailable(text))) if text.contains("busy")));
    assert!(store.get("n", "k").unwrap().is_some(), "the connection is free again");

    let store = PostgresStore::open(&url, PostgresOptions { statement_timeout: short, ..options() }).unwrap();
    let other = open(&url);
    let held = other.block_on(other.pool.lease()).unwrap();
    let lock = "BEGIN; SELECT * FROM cocoon_state FOR UPDATE";
    other.block_on(held.session.client.batch_execute(lock)).unwrap();
    let error = store.put("n", "k", b"2", PutMode::Upsert).unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    let put =
        [Change::Put { ns: "n", key: "k", value: b"3" }, Change::Put { ns: "n", key: "l", value: b"3" }];
    assert!(matches!(store.apply(&put), Err(Error::Unavailable(_))));
    other.block_on(held.session.client.batch_execute("ROLLBACK")).unwrap();
    held.keep();
    assert_eq!(store.get("n", "k").unwrap().unwrap(), b"1");
    store.apply(&put).unwrap();
}

#[test]
fn a_server_that_became_a_standby_is_left_for_one_that_takes_writes() {
    let Some(server) = shared_server() else { return };
    let store = open(&server.new_database());
    let demote = || {
        let lease = store.block_on(store.pool.lease()).unwrap();
        store.block_on(lease.session.client.batch_execute("SET default_transaction_read_only = on")).unwrap();
        lease.keep();
    };
    demote();
    store.put("n", "a", b"", PutMode::Create).unwrap();
    demote();
    store
        .apply(&[Change::Put { ns: "n", key: "b", value: b"" }, Change::Delete { ns: "n", key: "a" }])
        .unwrap();
    assert_eq!(store.list("n", "", 9).unwrap(), ["b"]);
}

#[test]
fn it_works_in_blocking_threads_and_even_in_an_async_context() {
    let Some(server) = shared_server() else { return };
    let url = server.new_database();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let inside = url.clone();
        let store = tokio::task::spawn_blocking(move || Arc::new(open(&inside))).await.unwrap();
        let blocking = store.clone();
        tokio::task::spawn_blocking(move || blocking.put("n", "k", b"v", PutMode::Create))
            .await
            .unwrap()
            .unwrap();
        let here = open(&url);
        assert_eq!(here.get("n", "k").unwrap().unwrap(), b"v");
        drop(here);
        drop(store);
    });
}

#[test]
fn a_snapshot_shows_one_moment_and_its_backup_comes_back() {
    let Some(server) = shared_server() else { return };
    let store = open(&server.new_database());
    let keys: Vec<_> = (0..500).map(|i| format!("{i:03}")).collect();
    let value = vec![9; 20_000];
    let changes: Vec<_> = keys.iter().map(|key| Change::Put { ns: "n", key, value: &value }).collect();
    store.apply(&changes).unwrap();
    let mut seen = Vec::new();
    store
        .snapshot(&mut |record| {
            if seen.len() == 10 {
                // Others go on meanwhile; what they do is not in this snapshot.
                store.delete("n", "499").unwrap();
                store.put("n", "zzz", b"", PutMode::Create).unwrap();
            }
            seen.push(record.key);
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, keys);
    store.delete("n", "zzz").unwrap();

    let mut bytes = Vec::new();
    let summary = backup(&store, &mut bytes, None).unwrap();
    assert_eq!(summary.records, 499);
    let other = open(&server.new_database());
    other.put("old", "k", b"", PutMode::Create).unwrap();
    let mut input = std::io::Cursor::new(&bytes);
    assert!(matches!(restore(&mut input, &other, RestoreMode::EmptyOnly, None), Err(Error::NotEmpty)));
    let mut input = std::io::Cursor::new(&bytes);
    assert_eq!(restore(&mut input, &other, RestoreMode::Replace, None).unwrap(), summary);
    let mut again = Vec::new();
    backup(&other, &mut again, None).unwrap();
    assert!(again == bytes);
}

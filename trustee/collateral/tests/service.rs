//! The service against vendors that behave, and against those that do not.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_collateral::{AmdKds, Config, Endpoint, Pace, Service, Source, Sources, State};
use cocoon_evidence::collateral::{Need, Vendor};
use support::{
    DAY, Hands, IDENTITY, JUNE, Reply, Server, body, chip, config, crl, folder, identity, identity_reply,
    one, online, service, times, until, vcek,
};

fn good(note: &'static str) -> impl Fn(&str) -> Reply + Send + 'static {
    move |_: &str| identity_reply(identity(JUNE, JUNE + 30 * DAY, note))
}

#[tokio::test]
async fn a_hundred_callers_make_one_request() {
    let server =
        Server::start(|path| Reply::Late(Duration::from_millis(150), Box::new(good("a")(path)))).await;
    let hands = Hands::at(JUNE + 60);
    let dir = tempfile::tempdir().unwrap();
    let first = service(&server, Some(folder(dir.path())), &hands);
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let service = first.clone();
            tokio::spawn(async move { body(&one(&service, &IDENTITY).await, &IDENTITY).is_some() })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.unwrap());
    }
    assert_eq!(server.hits(), ["/tdx/certification/v4/qe/identity?update=standard"]);
    let second = service(&server, Some(folder(dir.path())), &hands);
    let gathered = one(&second, &IDENTITY).await;
    assert!(body(&gathered, &IDENTITY).is_some());
    assert_eq!(gathered.notes[0].state, Some(State::Fresh));
    assert_eq!(server.hits().len(), 1, "what one process fetched the next one finds");
}

#[tokio::test]
async fn a_caller_who_leaves_takes_nobody_along() {
    let server =
        Server::start(|path| Reply::Late(Duration::from_millis(300), Box::new(good("a")(path)))).await;
    let service = service(&server, None, &Hands::at(JUNE));
    let hasty = service.gather(&[IDENTITY], Duration::from_millis(20)).await;
    assert!(body(&hasty, &IDENTITY).is_none());
    assert!(hasty.notes[0].reason.as_ref().unwrap().contains("still being fetched"));
    assert!(body(&one(&service, &IDENTITY).await, &IDENTITY).is_some());
    assert_eq!(server.hits().len(), 1);
}

#[tokio::test]
async fn what_a_vendor_does_not_have_is_not_asked_for_again_soon() {
    let server = Server::start(|_| Reply::Status(404, vec![])).await;
    let hands = Hands::at(JUNE);
    let service = service(&server, None, &hands);
    for _ in 0..50 {
        let gathered = one(&service, &chip(1)).await;
        assert!(gathered.notes[0].reason.as_ref().unwrap().contains("no such document"));
    }
    assert_eq!(server.hits().len(), 1);
    hands.forward(601);
    one(&service, &chip(1)).await;
    assert_eq!(server.hits().len(), 2);
    hands.forward(601);
    one(&service, &chip(1)).await;
    assert_eq!(server.hits().len(), 2, "the second time it lasts longer");
}

fn kds(server: &Server, pace: Pace, hands: &Hands, patience: Duration) -> Service {
    let kds = AmdKds::new(&Endpoint::new(server.url.clone()), times()).unwrap();
    let sources = Sources::none().with(Vendor::Amd, Source::remote(Arc::new(kds), pace));
    Service::new(Config { patience, ..config(None, sources, hands) })
}

#[tokio::test]
async fn strange_chips_neither_hammer_the_vendor_nor_keep_lists_from_coming() {
    let list = crl();
    let server = Server::start(move |path| match path.ends_with("/crl") {
        true => Reply::Ok(vec![], list.clone()),
        false => Reply::Status(404, vec![]),
    })
    .await;
    let hands = Hands::at(JUNE);
    let service = kds(&server, Pace::AMD, &hands, Duration::ZERO);
    for number in 0..100 {
        one(&service, &chip(number)).await;
    }
    assert_eq!(server.hits().len(), 2, "the burst");
    let refused = one(&service, &chip(200)).await;
    assert!(refused.notes[0].reason.as_ref().unwrap().contains("may be asked again in"), "{refused:?}");
    let list = Need::AmdCrl { product: "Milan".into(), vlek: false };
    assert!(body(&one(&service, &list).await, &list).is_some());
    hands.forward(10);
    for number in 0..100 {
        one(&service, &chip(number)).await;
    }
    assert_eq!(server.hits().len(), 4);
}

#[tokio::test]
async fn a_turn_is_waited_for_where_there_is_time() {
    let server = Server::start(|_| Reply::Status(404, vec![])).await;
    let kds = AmdKds::new(&Endpoint::new(server.url.clone()), times()).unwrap();
    let pace = Pace { burst: 1, every: Duration::from_millis(200) };
    let sources = Sources::none().with(Vendor::Amd, Source::remote(Arc::new(kds), pace));
    let service = Service::new(Config { patience: Duration::from_secs(5), ..Config::new(None, sources) });
    let start = Instant::now();
    service.gather(&[chip(1), chip(2), chip(3)], Duration::from_secs(5)).await;
    assert_eq!(server.hits().len(), 3);
    assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_vendor_that_asks_for_patience_gets_it() {
    let server = Server::start(|_| Reply::Status(429, vec![("retry-after", "30".into())])).await;
    let hands = Hands::at(JUNE);
    let service = kds(&server, Pace::MODEST, &hands, Duration::ZERO);
    for number in 0..20 {
        let gathered = one(&service, &chip(number)).await;
        assert!(gathered.notes[0].reason.as_ref().unwrap().contains("30 s"), "{gathered:?}");
    }
    assert_eq!(server.hits().len(), 1);
    server.answer(|path| {
        let number =
            u8::from_str_radix(&path.split('?').next().unwrap()[path.find('?').unwrap() - 2..], 16).unwrap();
        Reply::Ok(vec![], vcek(&chip(number)))
    });
    hands.forward(31);
    assert!(
        body(&one(&service, &chip(1)).await, &chip(1)).is_some(),
        "it was not remembered against the chip"
    );
    let path = &server.hits()[1];
    assert!(
        path.starts_with("/vcek/v1/Milan/0707")
            && path.ends_with("?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115")
    );
}

#[tokio::test]
async fn a_document_is_served_while_the_next_one_is_fetched() {
    let server = Server::start(good("first")).await;
    let hands = Hands::at(JUNE);
    let service = service(&server, None, &hands);
    let first = body(&one(&service, &IDENTITY).await, &IDENTITY).unwrap();
    hands.forward(DAY - 1);
    one(&service, &IDENTITY).await;
    assert_eq!(server.hits().len(), 1);
    hands.forward(2);
    let second = identity(JUNE + DAY, JUNE + 31 * DAY, "second");
    let next = second.clone();
    server.answer(move |_| Reply::Late(Duration::from_millis(300), Box::new(identity_reply(next.clone()))));
    let start = Instant::now();
    let gathered = one(&service, &IDENTITY).await;
    assert!(start.elapsed() < Duration::from_millis(250), "it waited");
    assert_eq!(gathered.notes[0].state, Some(State::Due));
    assert_eq!(body(&gathered, &IDENTITY), Some(first));
    until(|| async { body(&one(&service, &IDENTITY).await, &IDENTITY) == Some(second.clone()) }).await;
    assert_eq!(server.hits().len(), 2);
}

#[tokio::test]
async fn an_outage_ends_nothing_before_the_documents_do() {
    let server = Server::start(good("a")).await;
    let hands = Hands::at(JUNE);
    let dir = tempfile::tempdir().unwrap();
    let first = service(&server, Some(folder(dir.path())), &hands);
    one(&first, &IDENTITY).await;
    server.stop().await;
    hands.forward(25 * DAY);
    for service in [first.clone(), service(&server, Some(folder(dir.path())), &hands)] {
        for _ in 0..3 {
            let gathered = one(&service, &IDENTITY).await;
            assert!(body(&gathered, &IDENTITY).is_some());
            assert_eq!(gathered.notes[0].state, Some(State::Due));
        }
        until(|| async { one(&service, &IDENTITY).await.notes[0].reason.is_some() }).await;
    }
    hands.forward(6 * DAY);
    for service in [first, service(&server, Some(folder(dir.path())), &hands)] {
        let gathered = one(&service, &IDENTITY).await;
        assert!(body(&gathered, &IDENTITY).is_some(), "the verifier judges dates");
        assert_eq!(gathered.notes[0].state, Some(State::Expired));
        assert!(gathered.notes[0].reason.as_ref().unwrap().contains("cannot be reached"), "{gathered:?}");
    }
}

#[tokio::test]
async fn known_documents_are_renewed_without_being_asked_for() {
    let server = Server::start(good("a")).await;
    let hands = Hands::at(JUNE);
    let service = service(&server, None, &hands);
    one(&service, &IDENTITY).await;
    service.renew();
    hands.forward(DAY + 1);
    service.renew();
    until(|| async { server.hits().len() == 2 }).await;
}

#[tokio::test]
async fn bad_answers_are_no_documents_and_end_in_time() {
    let elsewhere = Server::start(good("elsewhere")).await;
    let away = elsewhere.url.clone();
    let server = Server::start(|_| Reply::Hang).await;
    let valid = || identity(JUNE, JUNE + 30 * DAY, "x");
    let other = String::from_utf8(valid()).unwrap().replace("TD_QE", "QE").into_bytes();
    let cases: Vec<(Reply, &str)> = vec![
        (Reply::Hang, "cannot be reached"),
        (Reply::Drip, "cannot be reached"),
        (Reply::Endless, "longer than"),
        (Reply::Cut, "cannot be reached"),
        (Reply::NotHttp, "cannot be reached"),
        (Reply::Status(301, vec![("location", format!("{away}/x"))]), "redirect"),
        (Reply::Status(307, vec![("location", format!("{away}/x"))]), "redirect"),
        (Reply::Status(500, vec![]), "status 500"),
        (Reply::Status(403, vec![]), "status 403"),
        (Reply::Status(204, vec![]), "status 204"),
        (Reply::Ok(vec![], b"<html>hello</html>".to_vec()), "issuer chain"),
        (identity_reply(b"<html>\x1b[31m</html>".to_vec()), "not the document it should be"),
        (identity_reply(other), "another enclave"),
        (identity_reply(identity(JUNE + 2 * DAY, JUNE + 30 * DAY, "")), "in the future"),
        (Reply::Ok(vec![("SGX-Enclave-Identity-Issuer-Chain", "%zz".into())], valid()), "issuer chain"),
        (
            Reply::Ok(
                vec![("SGX-Enclave-Identity-Issuer-Chain", "-----BEGIN CERTIFICATE-----".into())],
                valid(),
            ),
            "not the document",
        ),
    ];
    for (reply, expected) in cases {
        let service = service(&server, None, &Hands::at(JUNE));
        server.answer({
            let reply = reply.clone();
            move |_| reply.clone()
        });
        let start = Instant::now();
        let gathered = one(&service, &IDENTITY).await;
        assert!(start.elapsed() < Duration::from_millis(2500), "{reply:?}");
        assert!(body(&gathered, &IDENTITY).is_none(), "{reply:?}");
        assert_eq!(gathered.notes[0].state, None);
        let reason = gathered.notes[0].reason.clone().unwrap();
        assert!(reason.contains(expected), "{reply:?}: {reason}");
        assert!(reason.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{reason:?}");
    }
    assert_eq!(elsewhere.hits().len(), 0, "no redirect was followed");
}

#[tokio::test]
async fn evidence_chooses_no_url() {
    let server = Server::start(good("a")).await;
    let service = service(&server, None, &Hands::at(JUNE));
    let needs = [
        Need::NvidiaRim { id: "../../x".into() },
        Need::NvidiaRim { id: "ids".into() },
        Need::HygonCertificates { chip_id: "a&b\r\nhost: x".into() },
        Need::AmdCrl { product: "Milan/x?".into(), vlek: false },
    ];
    let gathered = service.gather(&needs, Duration::from_secs(2)).await;
    assert_eq!(gathered.collateral.iter().count(), 0);
    assert_eq!(gathered.notes.len(), 4);
    assert!(gathered.notes.iter().all(|note| !note.need.contains("..") && !note.need.contains('\n')));
    assert_eq!(server.hits().len(), 0);
    let many: Vec<Need> = (0..=255).map(chip).collect();
    let gathered = service.gather(&many, Duration::from_secs(5)).await;
    assert_eq!(gathered.notes.len(), cocoon_collateral::MAX_NEEDS + 1);
    assert!(server.hits().len() <= cocoon_collateral::MAX_NEEDS);
}

#[tokio::test]
async fn an_older_document_takes_no_newer_ones_place_unless_that_does_not_verify() {
    let newer = identity(JUNE, JUNE + 30 * DAY, "newer");
    let older = identity(JUNE - DAY, JUNE + 29 * DAY, "older");
    let first = newer.clone();
    let server = Server::start(move |_| identity_reply(first.clone())).await;
    let hands = Hands::at(JUNE);
    let dir = tempfile::tempdir().unwrap();
    let service = service(&server, Some(folder(dir.path())), &hands);
    one(&service, &IDENTITY).await;
    hands.forward(2 * DAY);
    let second = older.clone();
    server.answer(move |_| identity_reply(second.clone()));
    one(&service, &IDENTITY).await;
    until(|| async { server.hits().len() == 2 }).await;
    let gathered = one(&service, &IDENTITY).await;
    assert_eq!(body(&gathered, &IDENTITY), Some(newer));

    service.doubt(&IDENTITY);
    hands.forward(60);
    let gathered = one(&service, &IDENTITY).await;
    assert_eq!(body(&gathered, &IDENTITY), Some(older.clone()));
    assert_eq!(folder(dir.path()).read(&IDENTITY).unwrap().document.body, older);

    service.doubt(&IDENTITY);
    let hits = server.hits().len();
    for _ in 0..20 {
        assert!(body(&one(&service, &IDENTITY).await, &IDENTITY).is_some());
    }
    assert_eq!(server.hits().len(), hits + 1, "a vendor that gives the same again is not hammered");
}

#[tokio::test]
async fn a_mirror_that_is_behind_is_not_asked_at_every_use() {
    let server = Server::start(good("a")).await;
    let hands = Hands::at(JUNE + 31 * DAY);
    let service = service(&server, None, &hands);
    for _ in 0..50 {
        let gathered = one(&service, &IDENTITY).await;
        assert!(body(&gathered, &IDENTITY).is_some());
        assert_eq!(gathered.notes[0].state, Some(State::Expired));
        assert!(gathered.notes[0].reason.as_ref().unwrap().contains("over by its own dates"));
    }
    assert_eq!(server.hits().len(), 1);
    server.answer(|_| identity_reply(identity(JUNE + 30 * DAY, JUNE + 60 * DAY, "next")));
    hands.forward(6);
    assert_eq!(one(&service, &IDENTITY).await.notes[0].state, Some(State::Fresh));
}

#[tokio::test]
async fn sources_are_asked_in_order() {
    let empty = Server::start(|_| Reply::Status(404, vec![])).await;
    let full = Server::start(|_| Reply::Ok(vec![], vcek(&chip(1)))).await;
    let source = |server: &Server| {
        let kds = AmdKds::new(&Endpoint::new(server.url.clone()), times()).unwrap();
        Source::remote(Arc::new(kds), Pace::MODEST)
    };
    let sources = Sources::none().with(Vendor::Amd, source(&empty)).with(Vendor::Amd, source(&full));
    let service = Service::new(config(None, sources, &Hands::at(JUNE)));
    assert!(body(&one(&service, &chip(1)).await, &chip(1)).is_some());
    let other = one(&service, &chip(2)).await;
    assert!(body(&other, &chip(2)).is_none(), "a certificate of another chip");
    assert!(other.notes[0].reason.as_ref().unwrap().contains("another chip"), "{other:?}");
    let nobody = one(&service, &IDENTITY).await;
    assert!(nobody.notes[0].reason.as_ref().unwrap().contains("no source of intel documents"));
    assert_eq!(online(&full).amd.url, full.url);
}

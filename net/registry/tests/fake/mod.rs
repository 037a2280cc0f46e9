//! A registry on loopback that can lie, stall and break off. It speaks just enough HTTP/1.1 for the client.
#![allow(dead_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cocoon_image::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong with an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A web page with status 200.
    Html,
    /// Another status, with an empty body.
    Status(u16),
    /// This many bytes of the body, then silence.
    Stall(usize),
    /// This many bytes of the body, then the connection closes.
    Cut(usize),
    /// Another body, honestly framed.
    Body(Vec<u8>),
    /// A redirect.
    Redirect(String),
    /// Ranges are ignored: always the whole, with status 200.
    NoRanges,
    /// Another header field in the answer.
    Field(&'static str, String),
    /// A status with header fields and an empty body.
    Answer(u16, Vec<(&'static str, String)>),
    /// The body a byte at a time, with this many milliseconds between.
    Drip(u64),
    /// A range that was not asked for.
    WrongRange,
}

struct Rule {
    path: String,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (String, Vec<u8>)>,
    rules: Vec<Rule>,
    log: Vec<String>,
    /// `Authorization` value demanded, and the challenge sent without it.
    demand: Option<(String, String)>,
    token: Option<(String, String)>,
    upload: Vec<u8>,
    /// Answers by path with query, and the referrers API's presence.
    pages: HashMap<String, Page>,
    keeps_referrers: bool,
    last_body: Vec<u8>,
}

/// Content type, `Link` field and body.
type Page = (String, Option<String>, Vec<u8>);

/// The registry; it ends with its runtime.
#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Fake { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = fake.state.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move {
                    let _ = serve(tcp, state).await;
                });
            }
        });
        fake
    }

    /// `127.0.0.1:PORT/REPOSITORY`
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    pub fn blob(&self, content: impl Into<Vec<u8>>) -> Digest {
        let content = content.into();
        let digest = Digest::sha256(&content);
        self.state.lock().unwrap().blobs.insert(digest.to_string(), content);
        digest
    }

    pub fn manifest(&self, tag: &str, kind: &str, content: impl Into<Vec<u8>>) -> Digest {
        let content = content.into();
        let digest = Digest::sha256(&content);
        let mut state = self.state.lock().unwrap();
        for name in [tag.to_owned(), digest.to_string()] {
            state.manifests.insert(name, (kind.to_owned(), content.clone()));
        }
        digest
    }

    /// The next `times` answers for paths that contain `path` go wrong.
    pub fn fault(&self, path: impl ToString, fault: Fault, times: usize) {
        self.state.lock().unwrap().rules.push(Rule { path: path.to_string(), fault, times });
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    pub fn demand(&self, authorization: &str, challenge: &str) {
        self.state.lock().unwrap().demand = Some((authorization.to_owned(), challenge.to_owned()));
    }

    /// Nobody is asked for credentials any more.
    pub fn demand_nothing(&self) {
        self.state.lock().unwrap().demand = None;
    }

    /// The body of the latest request that had one.
    pub fn last_body(&self) -> String {
        String::from_utf8(self.state.lock().unwrap().last_body.clone()).unwrap()
    }

    /// `/token` gives this answer to requests with this `Authorization` (empty: any).
    pub fn token(&self, authorization: &str, answer: &str) {
        self.state.lock().unwrap().token = Some((authorization.to_owned(), answer.to_owned()));
    }

    /// Request lines and the header fields that matter, in order.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    /// `GET path` (with its query) gives this, with a `Link` field where given.
    pub fn page(&self, path: &str, kind: &str, link: Option<String>, body: impl Into<Vec<u8>>) {
        let page = (kind.to_owned(), link, body.into());
        self.state.lock().unwrap().pages.insert(path.to_owned(), page);
    }

    /// From now on it says of pushed manifests that it keeps them as referrers.
    pub fn keep_referrers(&self) {
        self.state.lock().unwrap().keeps_referrers = true;
    }

    pub fn stored_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.state.lock().unwrap().blobs.get(&digest.to_string()).cloned()
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn answer(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new() }
}

async fn serve(mut tcp: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if tcp.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let field = |name: &str| {
            head.lines().find_map(|l| {
                let (k, v) = l.split_once(':')?;
                k.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
            })
        };
        let length: usize = field("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        while buffer.len() < length {
            if tcp.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body: Vec<u8> = buffer.drain(..length).collect();
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
        let (range, authorization) = (field("range"), field("authorization"));
        let kind = field("content-type").unwrap_or_default();

        let (mut a, fault) = {
            let mut s = state.lock().unwrap();
            if !body.is_empty() {
                s.last_body = body.clone();
            }
            s.log.push(format!(
                "{method} {path} {} {}",
                range.as_deref().unwrap_or("-"),
                authorization.as_deref().unwrap_or("-")
            ));
            let fault = s.rules.iter_mut().find(|r| r.times > 0 && path.contains(&r.path)).map(|r| {
                r.times -= 1;
                r.fault.clone()
            });
            (route(&mut s, &method, &path, authorization.as_deref(), &kind, body), fault)
        };
        let whole = a.body.len();
        if let (Some(range), false, 200) = (&range, matches!(fault, Some(Fault::NoRanges)), a.status) {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            if from >= whole {
                a = answer(416);
            } else {
                a.status = 206;
                a.headers.push(("content-range", format!("bytes {from}-{}/{whole}", whole - 1)));
                a.body.drain(..from);
            }
        }
        let (mut stop, mut drip) = (None, None);
        match fault {
            Some(Fault::Html) => {
                a = answer(200);
                a.headers.push(("content-type", "text/html; charset=utf-8".into()));
                a.body = b"<html>It works!</html>".to_vec();
            }
            Some(Fault::Status(status)) => a = answer(status),
            Some(Fault::Redirect(to)) => {
                a = answer(307);
                a.headers.push(("location", to));
            }
            Some(Fault::Body(body)) => a.body = body,
            Some(Fault::Stall(n)) => stop = Some((n, true)),
            Some(Fault::Cut(n)) => stop = Some((n, false)),
            Some(Fault::Field(name, value)) => {
                a.headers.retain(|(n, _)| *n != name);
                a.headers.push((name, value));
            }
            Some(Fault::Answer(status, headers)) => a = Answer { headers, ..answer(status) },
            Some(Fault::Drip(ms)) => drip = Some(std::time::Duration::from_millis(ms)),
            Some(Fault::WrongRange) => {
                a.headers.retain(|(n, _)| *n != "content-range");
                a.headers.push(("content-range", format!("bytes 0-{}/{whole}", whole.saturating_sub(1))));
            }
            Some(Fault::NoRanges) | None => {}
        }
        let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", a.status, a.body.len());
        for (k, v) in &a.headers {
            head.push_str(&format!("{k}: {v}\r\n"));
        }
        head.push_str("\r\n");
        tcp.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            let n = stop.map_or(a.body.len(), |(n, _)| n.min(a.body.len()));
            match drip {
                None => tcp.write_all(&a.body[..n]).await?,
                Some(pause) => {
                    for byte in &a.body[..n] {
                        tcp.write_all(&[*byte]).await?;
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
        match stop {
            // Silent until the client gives up and closes.
            Some((_, true)) => {
                let _ = tcp.read_buf(&mut buffer).await;
                return Ok(());
            }
            Some((_, false)) => return Ok(()),
            None => {}
        }
    }
}

fn route(
    s: &mut State,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    kind: &str,
    body: Vec<u8>,
) -> Answer {
    if let Some((kind, link, body)) = s.pages.get(path)
        && method == "GET"
    {
        let mut headers = vec![("content-type", kind.clone())];
        headers.extend(link.clone().map(|l| ("link", l)));
        return Answer { status: 200, headers, body: body.clone() };
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path == "/token" {
        let Some((wanted, text)) = &s.token else { return answer(404) };
        if !wanted.is_empty() && authorization != Some(wanted) {
            return answer(401);
        }
        return Answer { body: text.clone().into_bytes(), ..answer(200) };
    }
    if let Some((wanted, challenge)) = &s.demand
        && authorization != Some(wanted)
    {
        return Answer { headers: vec![("www-authenticate", challenge.clone())], ..answer(401) };
    }
    let location =
        |status| Answer { headers: vec![("location", "/v2/upload/1?state=x".into())], ..answer(status) };
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    match method {
        "GET" | "HEAD" if path.contains("/manifests/") => match s.manifests.get(&name) {
            Some((kind, body)) => {
                Answer { status: 200, headers: vec![("content-type", kind.clone())], body: body.clone() }
            }
            None => answer(404),
        },
        "GET" if path.contains("/referrers/") => answer(404),
        "GET" | "HEAD" if path.contains("/blobs/") => match s.blobs.get(&name) {
            Some(body) => Answer { body: body.clone(), ..answer(200) },
            None => answer(404),
        },
        "POST" => {
            s.upload.clear();
            location(202)
        }
        "GET" if path.contains("/upload/") => {
            let last = s.upload.len().saturating_sub(1);
            let mut answer = location(204);
            answer.headers.push(("range", format!("0-{last}")));
            answer
        }
        "PATCH" => {
            s.upload.extend(body);
            location(202)
        }
        "PUT" if path.contains("/upload/") => {
            s.upload.extend(body);
            let content = std::mem::take(&mut s.upload);
            let digest = Digest::sha256(&content).to_string();
            if !query.contains(&format!("digest={digest}")) {
                return answer(400);
            }
            s.blobs.insert(digest, content);
            answer(201)
        }
        "PUT" if path.contains("/manifests/") => {
            let digest = Digest::sha256(&body).to_string();
            for n in [name, digest] {
                s.manifests.insert(n, (kind.to_owned(), body.clone()));
            }
            let keeps = s.keeps_referrers && String::from_utf8_lossy(&body).contains("\"subject\"");
            Answer {
                headers: keeps.then(|| ("oci-subject", "x".into())).into_iter().collect(),
                ..answer(201)
            }
        }
        _ => answer(405),
    }
}

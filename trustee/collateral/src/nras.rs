//! NVIDIA's remote attestation service (NRAS): asked about devices, its answers verified.
//!
//! One request for each architecture with all its devices, all requests at once. An answer is believed by the service's keys
//! alone, which come from its own address through TLS and are kept for some hours; they are fetched again when an answer
//! names one that is not among them, once in a minute at most. What goes wrong becomes a failed check of each device that
//! was asked about: never a device without a verdict, never a good verdict without an answer. Nothing of an answer is kept:
//! it is for one challenge.

use std::sync::Arc;
use std::time::Duration;

use cocoon_evidence::nvidia::nras::{self, Answer, ISSUER, Jwks, Request};
use cocoon_evidence::nvidia::{Device, Evidence};
use cocoon_evidence::{Check, Verdict};
use cocoon_stage::{Code, Failure};
use futures::future::join_all;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Clock;
use crate::error::printable;
use crate::pace::Turns;
use crate::transport::Transport;
use crate::{Endpoint, Error, Pace, Times};

/// Longest answer: a token of some 4 kB for each of at most 64 devices, and the overall one.
const MAX_ANSWER: usize = 1024 * 1024;
/// Longest list of keys.
const MAX_KEYS: usize = 256 * 1024;
/// For how long keys are used, milliseconds.
const KEYS_LIFE: u64 = 6 * 3600 * 1000;
/// Not before this are keys fetched again because of an unknown one, milliseconds.
const KEYS_AGAIN: u64 = 60 * 1000;
/// For how long it is not tried again to fetch keys that could not be had, milliseconds.
const KEYS_FAILED: u64 = 5 * 1000;
/// Longest wait for a turn, milliseconds.
const PATIENCE: u64 = 3000;
/// Attestations come in bursts when machines start.
const PACE: Pace = Pace { burst: 64, every: Duration::from_millis(50) };

/// A client of the service, or of a proxy that passes its answers on unchanged.
pub struct Nras {
    transport: Transport,
    clock: Clock,
    turns: Turns,
    keys: Mutex<Keys>,
}

/// The service's keys as they were last had, and the last failure to get them, each with its time in milliseconds.
#[derive(Default)]
struct Keys {
    known: Option<(Arc<Jwks>, u64)>,
    failed: Option<(Error, u64)>,
}

impl std::fmt::Debug for Nras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nras").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl Nras {
    /// Where NVIDIA runs it.
    pub const URL: &'static str = "https://nras.attestation.nvidia.com";

    /// How long one request may take: the service looks up revocation and manifests for each device.
    pub const TIMES: Times = Times {
        connect: Duration::from_secs(4),
        idle: Duration::from_secs(12),
        total: Duration::from_secs(12),
    };

    /// A client that knows no keys yet.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn new(endpoint: &Endpoint, times: Times, clock: Clock) -> Result<Self, Error> {
        let transport = Transport::new(endpoint, times)?;
        Ok(Nras { transport, clock, turns: Turns::new(PACE), keys: Mutex::default() })
    }

    /// Asks about all devices of the evidence, within `budget`. Gives one verdict for each, by its place in the evidence:
    /// good where the service says that the report is genuine and for this challenge, with the service's claims.
    ///
    /// Only evidence that verified here is to be sent: the service is not there for what anybody makes up.
    pub async fn verify(
        &self,
        evidence: &Evidence,
        report_data: &[u8],
        now_unix: u64,
        budget: Duration,
    ) -> Vec<Device> {
        let deadline = Instant::now() + budget;
        let requests = match nras::requests(evidence, report_data) {
            Ok(requests) => requests,
            Err(error) => {
                let places = evidence.devices.iter().enumerate();
                let devices = places.map(|(index, device)| (device.architecture.class(), index));
                return failed(devices, &Failure::new(Code::AttestReportDataMismatch, error.to_string()));
            }
        };
        let one = async |request: &Request| {
            let late = |_| Error::Unreachable {
                at: self.transport.name().to_owned(),
                problem: format!("no whole answer within {budget:?}"),
            };
            match timeout_at(deadline, self.ask(request)).await.map_err(late).flatten() {
                Ok((answer, keys)) => nras::verify(request, &answer, &keys, ISSUER, now_unix),
                Err(error) => {
                    tracing::info!(%error, devices = request.devices.len(), "no answer of NVIDIA's service");
                    let devices = request.devices.iter().map(|index| (request.endpoint, *index));
                    failed(devices, &failure(&error))
                }
            }
        };
        join_all(requests.iter().map(one)).await.into_iter().flatten().collect()
    }

    /// The answer to one request, and keys to verify it with.
    async fn ask(&self, request: &Request) -> Result<(Answer, Arc<Jwks>), Error> {
        let limited = |millis: u64| self.limited(millis);
        let wait = self.turns.take((self.clock)(), PATIENCE).map_err(limited)?;
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
            if let Some(more) = self.turns.paused((self.clock)()) {
                return Err(self.limited(more));
            }
        }
        let path = format!("/v4/attest/{}", request.endpoint);
        let body = request.body.to_string().into_bytes();
        let answer = self.heeded(self.transport.post(&path, body, MAX_ANSWER).await)?;
        let answer = Answer::parse(&answer.body).map_err(|e| self.transport.wrong(e.to_string()))?;
        let keys = self.keys(&answer.key_ids()).await?;
        Ok((answer, keys))
    }

    /// The service's keys, with these among them if it has them.
    async fn keys(&self, wanted: &[&str]) -> Result<Arc<Jwks>, Error> {
        // Whoever comes meanwhile waits for this fetch instead of making another.
        let mut keys = self.keys.lock().await;
        let now = (self.clock)();
        let since = |then: u64| now.abs_diff(then);
        if let Some((known, fetched)) = &keys.known {
            let complete = wanted.iter().all(|id| known.knows(id));
            if since(*fetched) < if complete { KEYS_LIFE } else { KEYS_AGAIN } {
                return Ok(known.clone());
            }
        }
        if let Some((error, failed)) = &keys.failed
            && since(*failed) < KEYS_FAILED
        {
            return Err(error.clone());
        }
        let fetched = self.heeded(self.transport.get("/.well-known/jwks.json", MAX_KEYS).await);
        let parsed = fetched
            .and_then(|answer| Jwks::parse(&answer.body).map_err(|e| self.transport.wrong(e.to_string())));
        match parsed {
            Ok(jwks) => {
                let jwks = Arc::new(jwks);
                *keys = Keys { known: Some((jwks.clone(), now)), failed: None };
                Ok(jwks)
            }
            Err(error) => {
                keys.failed = Some((error.clone(), now));
                Err(error)
            }
        }
    }

    /// Where the service asked for patience, nobody asks it for so long.
    fn heeded<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Limited { seconds, .. }) = &result {
            self.turns.pause((self.clock)(), seconds.saturating_mul(1000));
        }
        result
    }

    fn limited(&self, millis: u64) -> Error {
        Error::Limited { at: self.transport.name().to_owned(), seconds: millis.div_ceil(1000) }
    }
}

/// What a guest is told: that the service was not to be had, or that it gave something else than an answer.
fn failure(error: &Error) -> Failure {
    let code = match error {
        Error::Answer { .. } => Code::AttestCollateralInvalid,
        _ => Code::AttestCollateralMissing,
    };
    Failure::new(code, error.to_string())
}

/// Verdicts that say why there is no answer on these devices.
fn failed(devices: impl Iterator<Item = (&'static str, usize)>, failure: &Failure) -> Vec<Device> {
    let check = Check {
        name: "nras.answer",
        expected: "an answer of NVIDIA's remote attestation service".into(),
        got: printable(&failure.reason),
        source: "NRAS API v4".into(),
        code: Some(failure.code),
    };
    let device = |(class, index)| {
        let verdict = Verdict { checks: vec![check.clone()], claims: Value::Null, simulated: false };
        Device { class, index: Some(index), verdict }
    };
    devices.map(device).collect()
}

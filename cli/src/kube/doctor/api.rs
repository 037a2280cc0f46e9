//! The cluster's API: whether it answers, its version, its clock.

use cocoon_stage::Failure;
use http::{Request, header};
use k8s_openapi::jiff::fmt::rfc2822;
use kube::client::Body;
use serde_json::Value;

use super::super::cluster::{Cluster, failure};
use super::super::pods::at;
use super::findings::Findings;
use crate::embedded::now;

/// The oldest minor version of Kubernetes 1 whose admission policies keep nodes from reporting on each other.
const OLDEST: u64 = 30;
/// By how many seconds clocks may differ: certificates of guests are a day old at the most when they are first seen.
pub const MAX_DIFFERENCE: u64 = 60;

/// Looks; whether there is an API at all.
pub async fn look(cluster: &Cluster, findings: &mut Findings) -> bool {
    let version = match cluster.get("/version", "version").await {
        Ok(version) => version.unwrap_or_default(),
        Err(failure) => {
            findings.fail("API", &failure.reason, failure.next_step());
            return false;
        }
    };
    let words = format!("it answers; Kubernetes {}", at(&version, "/gitVersion"));
    match minor(&version) {
        Some(minor) if minor < OLDEST => findings.warn(
            "API",
            words,
            "Cocoon's admission policy needs Kubernetes 1.30; before it a node's process could report on other nodes",
        ),
        _ => findings.ok("API", words),
    }
    match date(cluster).await {
        Ok(Some(theirs)) => clock("clock of the API", theirs, findings),
        Ok(None) => {}
        Err(failure) => findings.unknown("clock of the API", &failure),
    }
    true
}

/// Says how far a clock is from this machine's.
pub fn clock(about: &str, theirs: u64, findings: &mut Findings) {
    let difference = theirs.abs_diff(now());
    let words = format!("{difference} s from this machine's");
    match difference <= MAX_DIFFERENCE {
        true => findings.ok(about, words),
        false => findings.fail(
            about,
            words,
            "set both by NTP: certificates, tokens and registrations are judged by the time",
        ),
    }
}

fn minor(version: &Value) -> Option<u64> {
    let minor: String = at(version, "/minor").chars().take_while(char::is_ascii_digit).collect();
    minor.parse().ok().filter(|_| at(version, "/major") == "1")
}

async fn date(cluster: &Cluster) -> Result<Option<u64>, Failure> {
    let request = Request::get("/version").body(Body::empty());
    let request = request.map_err(|e| Failure::new(cocoon_stage::Code::Internal, e.to_string()))?;
    let answer = cluster.client.send(request).await.map_err(|e| failure("version", &e))?;
    Ok(answer.headers().get(header::DATE).and_then(|v| seconds(v.to_str().ok()?)))
}

/// A header's `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970.
pub fn seconds(date: &str) -> Option<u64> {
    u64::try_from(rfc2822::parse(date).ok()?.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::findings::State;
    use super::*;

    #[test]
    fn dates_and_versions() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("yesterday"), None);
        assert_eq!(minor(&serde_json::json!({"major": "1", "minor": "34+"})), Some(34));
        assert_eq!(minor(&serde_json::json!({"major": "2", "minor": "0"})), None);
        let mut findings = Findings::default();
        clock("a", now(), &mut findings);
        clock("b", now() + 3600, &mut findings);
        assert_eq!(findings.states(), [("a", State::Ok), ("b", State::Fail)]);
    }
}

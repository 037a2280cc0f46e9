//! `cocoon audit follow`: entries as they are written. There is no push: the log is asked once a second.

use std::time::Duration;

use cocoon_audit::{Logged, MAX_PAGE, Outcome};
use cocoon_stage::{Code, Failure};
use serde_json::json;

use super::audit::{head, parse};
use super::say;
use crate::args::Common;
use crate::client::AdminClient;
use crate::moments;

const PAUSE: Duration = Duration::from_secs(1);

pub async fn follow(from: Option<u64>, common: &Common) -> Result<(), Failure> {
    let client = AdminClient::open(common)?;
    let interrupted = tokio::signal::ctrl_c();
    let follow = async {
        let mut next = match from {
            Some(from) => from,
            None => head(&client).await?.size,
        };
        loop {
            let path = format!("audit/entries?from={next}&limit={MAX_PAGE}");
            let page: Vec<Logged> = parse(client.get(&path, "entries of the audit log").await?)?;
            let full = page.len() >= MAX_PAGE;
            for logged in &page {
                say(&line(logged, common.json));
                next = logged.index.saturating_add(1);
            }
            if !full {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    tokio::select! {
        outcome = follow => outcome,
        ended = interrupted => ended.map_err(|e| Failure::new(Code::Internal, format!("signals: {e}"))),
    }
}

fn line(logged: &Logged, as_json: bool) -> String {
    if as_json {
        return json!(logged).to_string();
    }
    let entry = &logged.entry;
    let kind = json!(entry.kind);
    let outcome = match entry.outcome {
        Outcome::Granted => "granted".to_owned(),
        Outcome::Refused(code) => format!("refused {}", code.map_or("", Code::as_str)),
    };
    let line = format!(
        "{}  {}  {}  {}  {}  {}",
        logged.index,
        moments::shown(entry.at_unix),
        kind.as_str().unwrap_or_default(),
        entry.actor,
        entry.subject,
        outcome.trim_end()
    );
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_audit::{Entry, Kind};

    #[test]
    fn a_line_for_people_speaks_to_no_terminal() {
        let entry = Entry::new(0, Kind::Release, Outcome::Refused(Some(Code::ReleaseDenied)))
            .actor("guest")
            .subject("a/b/\u{1b}[2Jc");
        let logged = Logged { index: 7, entry };
        assert_eq!(
            line(&logged, false),
            "7  1970-01-01T00:00:00Z  release  guest  a/b/ [2Jc  refused RELEASE-DENIED"
        );
        assert!(line(&logged, true).starts_with(r#"{"index":7"#));
    }
}

//! The part of QEMU's machine protocol that stopping a VM needs (QEMU, docs/interop/qmp-spec).
//!
//! One JSON object a line. QEMU's lines are bounded: a QEMU that a guest has taken over cannot grow this process.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Error;

/// Longest line taken from QEMU.
pub const MAX_LINE: usize = 64 * 1024;

/// Most events skipped while waiting for an answer.
const MAX_EVENTS: usize = 1000;

/// How long QEMU may take for a command.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection in command mode.
pub struct Qmp<S> {
    stream: S,
    received: Vec<u8>,
    limit: Duration,
    /// A command has no answer yet: one that comes late must not be taken for the next one's.
    unanswered: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Qmp<S> {
    /// Reads the greeting and enters command mode.
    ///
    /// # Errors
    /// [`Error::Qmp`] where the peer closes, says too much or is not QEMU.
    pub async fn handshake(stream: S) -> Result<Self, Error> {
        Self::handshake_within(stream, LIMIT).await
    }

    async fn handshake_within(stream: S, limit: Duration) -> Result<Self, Error> {
        let mut qmp = Qmp { stream, received: Vec::new(), limit, unanswered: false };
        let greeting = tokio::time::timeout(limit, qmp.line()).await;
        let greeting = greeting.map_err(|_| Error::Qmp("no greeting in time".into()))??;
        if greeting.get("QMP").is_none() {
            return Err(Error::Qmp("no greeting".into()));
        }
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Runs a command without arguments and gives its `return` value; events in between are skipped.
    ///
    /// # Errors
    /// [`Error::Qmp`] where QEMU refuses, closes or babbles.
    pub async fn execute(&mut self, command: &str) -> Result<Value, Error> {
        self.execute_with(command, json!({})).await
    }

    /// Runs a command with these arguments, an object. After one that was not answered, within 30 seconds or because it was
    /// cancelled, the connection is of no use any more.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        if self.unanswered {
            return Err(Error::Qmp(format!("{command}: an earlier command has no answer")));
        }
        self.unanswered = true;
        let limit = self.limit;
        let answer = tokio::time::timeout(limit, self.converse(command, arguments)).await;
        let late = |_| Error::Qmp(format!("{command}: no answer within {} s", limit.as_secs()));
        let mut answer = answer.map_err(late)??;
        self.unanswered = false;
        if let Some(value) = answer.get_mut("return") {
            return Ok(value.take());
        }
        let reason = answer.pointer("/error/desc").and_then(Value::as_str).unwrap_or("refused");
        Err(Error::Qmp(format!("{command}: {}", reason.escape_debug())))
    }

    /// Sends a command; gives QEMU's answer, `return` or `error`.
    async fn converse(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let empty = arguments.as_object().is_none_or(serde_json::Map::is_empty);
        let asked = json!({ "execute": command, "arguments": arguments });
        let mut text = if empty { json!({ "execute": command }) } else { asked }.to_string();
        text.push('\n');
        self.stream.write_all(text.as_bytes()).await.map_err(|e| Error::Qmp(e.to_string()))?;
        for _ in 0..MAX_EVENTS {
            let answer = self.line().await?;
            if answer.get("return").is_some() || answer.get("error").is_some() {
                return Ok(answer);
            }
        }
        Err(Error::Qmp(format!("{command}: events but no answer")))
    }

    /// Ends QEMU at once. QEMU may close before or after it answers; both are success.
    ///
    /// # Errors
    /// [`Error::Qmp`] where QEMU refuses.
    pub async fn quit(&mut self) -> Result<(), Error> {
        self.execute("quit").await.map(drop)
    }

    /// Presses the guest's power button.
    ///
    /// # Errors
    /// [`Error::Qmp`] as [`Qmp::execute`].
    pub async fn system_powerdown(&mut self) -> Result<(), Error> {
        self.execute("system_powerdown").await.map(drop)
    }

    /// QEMU's run state, e.g. `running`, `shutdown`, `guest-panicked`.
    ///
    /// # Errors
    /// [`Error::Qmp`] as [`Qmp::execute`].
    pub async fn query_status(&mut self) -> Result<String, Error> {
        let answer = self.execute("query-status").await?;
        let status = answer.get("status").and_then(Value::as_str);
        status.map(str::to_owned).ok_or_else(|| Error::Qmp("query-status: no status".into()))
    }

    async fn line(&mut self) -> Result<Value, Error> {
        loop {
            if let Some(end) = self.received.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|e| Error::Qmp(format!("not JSON: {e}")));
            }
            if self.received.len() > MAX_LINE {
                return Err(Error::Qmp(format!("a line longer than {MAX_LINE} bytes")));
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => return Err(Error::Qmp("closed".into())),
                Ok(_) => {}
                Err(e) => return Err(Error::Qmp(e.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

    /// A QEMU that gives these lines, one answer a command.
    async fn against(answers: &[String]) -> Result<String, Error> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let answers = answers.to_vec();
        let qemu = tokio::spawn(async move {
            let (reader, mut writer) = tokio::io::split(theirs);
            let mut commands = BufReader::new(reader).lines();
            for answer in answers {
                if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                    return;
                }
                let _ = commands.next_line().await;
            }
        });
        let result = async { Qmp::handshake(ours).await?.query_status().await }.await;
        qemu.abort();
        result
    }

    #[tokio::test]
    async fn events_are_skipped_and_the_answer_is_found() {
        let ready = "{\"event\":\"RESUME\"}\n{\"return\": {}}".to_owned();
        let status = r#"{"return": {"running": true, "status": "running"}}"#.to_owned();
        assert_eq!(against(&[GREETING.into(), ready, status]).await.unwrap(), "running");
    }

    #[tokio::test]
    async fn hostile_answers_are_errors() {
        let ok = r#"{"return": {}}"#.to_owned();
        let cases = [
            (vec!["{}".into()], "no greeting"),
            (vec!["not json".into()], "not JSON"),
            (vec!["x".repeat(MAX_LINE * 2)], "longer"),
            (vec![GREETING.into(), r#"{"error": {"desc": "no\u0007"}}"#.into()], r"no\u{7}"),
            (vec![GREETING.into(), ok.clone(), ok], "no status"),
            (vec![GREETING.into(), "{\"event\":1}\n".repeat(MAX_EVENTS + 1)], "no answer"),
            (vec![], "closed"),
        ];
        for (answers, expected) in cases {
            let error = against(&answers).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }
    #[tokio::test]
    async fn a_qemu_that_does_not_answer_is_given_up() {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (reader, mut writer) = tokio::io::split(theirs);
        let mut commands = BufReader::new(reader).lines();
        let ready = format!("{GREETING}\n{{\"return\": {{}}}}\n");
        writer.write_all(ready.as_bytes()).await.unwrap();
        let mut qmp = Qmp::handshake_within(ours, Duration::from_millis(50)).await.unwrap();
        commands.next_line().await.unwrap();
        let late = qmp.execute("blockdev-add").await.unwrap_err().to_string();
        assert!(late.contains("no answer within"), "{late}");
        // Its answer, late, is not that of the next command, which is not even sent.
        writer.write_all(b"{\"return\": {\"status\": \"running\"}}\n").await.unwrap();
        let next = qmp.query_status().await.unwrap_err().to_string();
        assert!(next.contains("earlier"), "{next}");
        commands.next_line().await.unwrap();
        let sent = tokio::time::timeout(Duration::from_millis(20), commands.next_line()).await;
        assert!(sent.is_err());
    }
}

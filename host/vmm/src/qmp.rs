//! The part of QEMU's machine protocol that stopping a VM needs (QEMU, docs/interop/qmp-spec).
//!
//! One JSON object a line. QEMU's lines are bounded: a QEMU that a guest has taken over cannot grow this process.

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Error;

/// Longest line taken from QEMU.
pub const MAX_LINE: usize = 64 * 1024;

/// Most events skipped while waiting for an answer.
const MAX_EVENTS: usize = 1000;

/// A connection in command mode.
pub struct Qmp<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Qmp<S> {
    /// Reads the greeting and enters command mode.
    ///
    /// # Errors
    /// [`Error::Qmp`] where the peer closes, says too much or is not QEMU.
    pub async fn handshake(stream: S) -> Result<Self, Error> {
        let mut qmp = Qmp { stream, received: Vec::new() };
        let greeting = qmp.line().await?;
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

    /// Runs a command with these arguments, an object.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let empty = arguments.as_object().is_none_or(serde_json::Map::is_empty);
        let asked = json!({ "execute": command, "arguments": arguments });
        let mut text = if empty { json!({ "execute": command }) } else { asked }.to_string();
        text.push('\n');
        self.stream.write_all(text.as_bytes()).await.map_err(|e| Error::Qmp(e.to_string()))?;
        for _ in 0..MAX_EVENTS {
            let mut answer = self.line().await?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let reason = error.get("desc").and_then(Value::as_str).unwrap_or("refused");
                return Err(Error::Qmp(format!("{command}: {}", reason.escape_debug())));
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
}

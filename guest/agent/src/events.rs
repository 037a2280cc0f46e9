//! What the guest tells the host about its progress, and about containers in which memory ran out: one JSON object a line.

use cocoon_sandbox_api::{MAX_EVENT_LINE, OutOfMemory};
use cocoon_stage::{Failure, Mark, Stage, StageEvent};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// A line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Line {
    /// Progress.
    Stage(StageEvent),
    /// Memory ran out.
    OutOfMemory(OutOfMemory),
}

/// Where the guest's parts report their progress. Never blocks; the number of lines is bounded by the plan and by what the
/// host asks for.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<Line>);

impl Events {
    /// A reporter and the end from which its events are taken.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Line>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Events(sender), receiver)
    }

    /// The stage began, for this subject (empty: as a whole).
    pub fn begin(&self, stage: Stage, subject: &str) {
        self.send(stage, Mark::Begin, subject);
    }

    /// The stage ended well.
    pub fn end(&self, stage: Stage, subject: &str) {
        self.send(stage, Mark::End, subject);
    }

    /// The stage failed: the host learns stage and code, the console the reason.
    pub fn fail(&self, failure: &Failure, subject: &str) {
        crate::console::report(failure);
        self.send(failure.stage, Mark::Fail(failure.code), subject);
    }

    /// Reports the end or failure of a stage that began.
    pub fn finish<T>(&self, stage: Stage, subject: &str, result: &Result<T, Failure>) {
        match result {
            Ok(_) => self.end(stage, subject),
            Err(failure) => {
                let mut failure = failure.clone();
                failure.stage = stage;
                self.fail(&failure, subject);
            }
        }
    }

    fn send(&self, stage: Stage, mark: Mark, subject: &str) {
        // Fails only where the stream's end is gone, and then the VM goes down.
        let _ = self.0.send(Line::Stage(StageEvent { stage, mark, subject: subject.to_owned() }));
    }

    /// Memory ran out in the container of this id.
    pub fn out_of_memory(&self, id: &str) {
        let _ = self.0.send(Line::OutOfMemory(OutOfMemory { oom: id.to_owned() }));
    }
}

/// Writes events to the host until it closes the stream, which means that the host is gone.
pub(crate) async fn forward(
    mut events: mpsc::UnboundedReceiver<Line>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        while let Some(event) = events.recv().await {
            let Ok(mut line) = serde_json::to_vec(&event) else { continue };
            line.push(b'\n');
            if line.len() <= MAX_EVENT_LINE && writer.write_all(&line).await.is_err() {
                return;
            }
        }
    };
    let closed = async {
        // The host has nothing to say here; what it sends is not looked at.
        let mut ignored = [0; 64];
        while reader.read(&mut ignored).await.is_ok_and(|n| n > 0) {}
    };
    tokio::select! { () = write => {}, () = closed => {} }
}

#[cfg(test)]
mod tests {
    use cocoon_stage::Code;

    use super::*;

    #[tokio::test]
    async fn events_are_lines_and_the_host_closing_ends_it() {
        let (events, receiver) = Events::channel();
        let (mut host, guest) = tokio::io::duplex(4096);
        let task = tokio::spawn(forward(receiver, guest));
        events.begin(Stage::Boot, "");
        events.fail(&Failure::new(Code::InitdataMissing, "secret reason"), "main");
        events.out_of_memory("0f");
        let mut text = String::new();
        while text.lines().count() < 3 || !text.ends_with('\n') {
            let mut buffer = [0; 256];
            let n = host.read(&mut buffer).await.unwrap();
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        assert_eq!(
            text,
            "{\"stage\":\"boot\",\"mark\":\"begin\"}\n\
             {\"stage\":\"boot\",\"mark\":{\"fail\":\"INITDATA-MISSING\"},\"subject\":\"main\"}\n\
             {\"oom\":\"0f\"}\n"
        );
        drop(host);
        task.await.unwrap();
    }
}

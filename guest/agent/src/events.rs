//! What the guest tells the host about its progress, and about containers in which memory ran out: one JSON object a line.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_sandbox_api::{MAX_EVENT_LINE, OutOfMemory};
use cocoon_stage::{Failure, Mark, Stage, StageEvent};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// How many lines may wait for a host that does not take them before the oldest lines of progress are given up.
const MAX_WAITING: usize = 1024;
/// How many may wait at the very most, when all are failures and containers without memory, each another.
const MAX_GRAVE: usize = 16 * 1024;

/// A line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Line {
    /// Progress.
    Stage(StageEvent),
    /// Memory ran out.
    OutOfMemory(OutOfMemory),
}

impl Line {
    /// Whether it only tells of progress, which the host can do without.
    fn is_progress(&self) -> bool {
        matches!(self, Line::Stage(StageEvent { mark: Mark::Begin | Mark::End, .. }))
    }
}

#[derive(Debug, Default)]
struct Queue {
    lines: Mutex<VecDeque<Line>>,
    filled: Notify,
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line. Where too many wait already the oldest progress goes, else the same line said before: no failure and
    /// no container without memory is left unsaid.
    fn push(&self, line: Line) {
        let mut lines = self.lines();
        if lines.len() >= MAX_WAITING {
            let spare = lines.iter().position(Line::is_progress);
            match spare.or_else(|| lines.iter().position(|l| *l == line)) {
                Some(at) => drop(lines.remove(at)),
                None if line.is_progress() || lines.len() >= MAX_GRAVE => return,
                None => {}
            }
        }
        lines.push_back(line);
        self.filled.notify_one();
    }
}

/// Where the guest's parts report their progress. Never blocks, and holds a bounded number of lines for a host that does
/// not take them.
#[derive(Clone, Debug)]
pub struct Events(Arc<Queue>);

/// The end from which events are taken, in their order.
#[derive(Debug)]
pub struct Lines(Arc<Queue>);

impl Lines {
    /// The next line; waits for it.
    pub async fn next(&mut self) -> Line {
        loop {
            if let Some(line) = self.take() {
                return line;
            }
            // One that came in between has left its word.
            self.0.filled.notified().await;
        }
    }

    /// The next line, where there is one.
    pub fn take(&mut self) -> Option<Line> {
        self.0.lines().pop_front()
    }
}

impl Events {
    /// A reporter and the end from which its events are taken.
    pub fn channel() -> (Self, Lines) {
        let queue = Arc::<Queue>::default();
        (Events(Arc::clone(&queue)), Lines(queue))
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
        self.0.push(Line::Stage(StageEvent { stage, mark, subject: subject.to_owned() }));
    }

    /// Memory ran out in the container of this id.
    pub fn out_of_memory(&self, id: &str) {
        self.0.push(Line::OutOfMemory(OutOfMemory { oom: id.to_owned() }));
    }
}

/// Writes events to the host until it closes the stream, which means that the host is gone.
pub(crate) async fn forward(mut events: Lines, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        loop {
            let Ok(mut line) = serde_json::to_vec(&events.next().await) else { continue };
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

    #[test]
    fn a_host_that_takes_nothing_costs_bounded_memory_and_misses_no_failure() {
        let (events, mut lines) = Events::channel();
        let failure = Failure::new(Code::ImagePullFailed, "");
        events.fail(&failure, "first");
        events.out_of_memory("first");
        for i in 0..10 * MAX_WAITING {
            events.begin(Stage::Start, &i.to_string());
            events.end(Stage::Start, &i.to_string());
        }
        let waiting: Vec<_> = std::iter::from_fn(|| lines.take()).collect();
        assert_eq!(waiting.len(), MAX_WAITING);
        assert!(matches!(&waiting[0], Line::Stage(e) if e.mark == Mark::Fail(Code::ImagePullFailed)));
        assert!(matches!(&waiting[1], Line::OutOfMemory(o) if o.oom == "first"));
        let last = (10 * MAX_WAITING - 1).to_string();
        assert!(matches!(waiting.last(), Some(Line::Stage(e)) if e.subject == last && e.mark == Mark::End));

        // Grave lines take the place of progress, and of themselves, but not of one another.
        for i in 0..2 * MAX_WAITING {
            events.begin(Stage::Start, "main");
            events.out_of_memory(&i.to_string());
            events.fail(&failure, "main");
        }
        let waiting: Vec<_> = std::iter::from_fn(|| lines.take()).collect();
        let oom = waiting.iter().filter(|l| matches!(l, Line::OutOfMemory(_))).count();
        assert_eq!(oom, 2 * MAX_WAITING);
        assert!(waiting.iter().any(|l| matches!(l, Line::Stage(e) if matches!(e.mark, Mark::Fail(_)))));
        assert!(waiting.len() < 4 * MAX_WAITING, "{}", waiting.len());
        for i in 0..MAX_GRAVE + 10 {
            events.out_of_memory(&i.to_string());
        }
        assert_eq!(std::iter::from_fn(|| lines.take()).count(), MAX_GRAVE);
    }
}

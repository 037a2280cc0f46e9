use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncBufReadExt;

fn fifo(dir: &tempfile::TempDir, name: &str) -> String {
    let path = dir.path().join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_reader_that_comes_back_finds_what_was_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let mut sink = sink(&path).unwrap();
    let first = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    sink.write_all(b"one\n").await.unwrap();
    let mut first = tokio::io::BufReader::new(first).lines();
    assert_eq!(first.next_line().await.unwrap().unwrap(), "one");
    drop(first);
    sink.write_all(b"two\n").await.unwrap();
    let mut second = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    let mut text = [0; 4];
    second.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"two\n");
    drop(sink);
    assert_eq!(second.read(&mut text).await.unwrap(), 0, "the stream ends with the process");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_writer_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let mut sink = sink(&path).unwrap();
    let flood = vec![b'x'; 1 << 20];
    let written = tokio::time::timeout(Duration::from_millis(100), sink.write_all(&flood)).await;
    assert!(written.is_err(), "a megabyte fits no pipe");
}

#[tokio::test]
async fn input_ends_when_it_is_closed_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "in");
    let (mut receiver, keeper) = input(Path::new(&path)).unwrap();
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut writer, b"abc").unwrap();
    drop(writer);
    let mut text = [0; 8];
    assert_eq!(receiver.read(&mut text).await.unwrap(), 3);
    let early = tokio::time::timeout(Duration::from_millis(100), receiver.read(&mut text)).await;
    assert!(early.is_err(), "a writer that went away is no end");
    drop(keeper);
    assert_eq!(receiver.read(&mut text).await.unwrap(), 0);
}

#[tokio::test]
async fn files_are_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for text in ["a\n", "b\n"] {
        let mut sink = sink(&format!("file://{}", path.display())).unwrap();
        sink.write_all(text.as_bytes()).await.unwrap();
        sink.flush().await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
    assert!(sink("/proc/cocoon/nothing").is_err());
}

#[tokio::test]
async fn a_logger_gets_both_streams_and_its_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let (program, out) = (dir.path().join("logger"), dir.path().join("out"));
    let script = format!(
        "#!/bin/sh\nexec 5>&-\n(echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $*\"; cat <&3; cat <&4) > {}.new\nmv {0}.new {0}\n",
        out.display()
    );
    std::fs::write(&program, script.replace("{0}", &out.display().to_string())).unwrap();
    rustix::fs::chmod(&program, Mode::from_raw_mode(0o700)).unwrap();
    let paths = Paths { stdout: format!("binary://{}?size=10m&x", program.display()), ..Paths::default() };
    let (stdout, stderr) = sinks(&paths, ("c1", "k8s.io")).await.unwrap();
    for (sink, text) in [(stdout, "out\n"), (stderr, "err\n")] {
        let mut sink = sink.unwrap();
        sink.write_all(text.as_bytes()).await.unwrap();
        sink.shutdown().await.unwrap();
    }
    let done = async {
        while !out.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "k8s.io/c1 size 10m x\nout\nerr\n");
}

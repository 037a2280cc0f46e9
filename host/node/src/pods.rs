//! Pods of Cocoon that run on this node.

use std::fs;
use std::path::Path;

/// The shim's file name.
pub const SHIM: &str = "containerd-shim-cocoon-v2";

/// One line for each pod that still runs: processes of the program `shim`, and sockets of shims below `pods` on which someone
/// listens.
pub fn running(pods: &Path, shim: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else { continue };
        // The link of a program that was replaced ends in " (deleted)".
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let program = program.to_string_lossy();
        let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
        if Path::new(program) == shim && is_of_this_root(pid) {
            found.push(format!("process {pid} ({})", pod_of(pid).unwrap_or_else(|| "a shim".into())));
        }
    }
    for entry in fs::read_dir(pods.join("s")).into_iter().flatten().flatten() {
        if std::os::unix::net::UnixStream::connect(entry.path()).is_ok() {
            found.push(format!("the shim at {}", entry.path().display()));
        }
    }
    found
}

/// A shim in a container has another root, and is another node's.
fn is_of_this_root(pid: &str) -> bool {
    let root = |pid: &str| fs::read_link(Path::new("/proc").join(pid).join("root")).ok();
    root(pid) == root("self")
}

/// The pod's id on a shim's command line, after `-id`.
fn pod_of(pid: &str) -> Option<String> {
    let line = fs::read(Path::new("/proc").join(pid).join("cmdline")).ok()?;
    let words: Vec<String> =
        line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let at = words.iter().position(|w| w == "-id" || w == "--id")?;
    words.get(at + 1).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_counts_while_someone_listens_on_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("s")).unwrap();
        let ours = |found: Vec<String>| found.into_iter().filter(|l| l.contains("0a1b.sock")).count();
        assert_eq!(ours(running(dir.path(), &dir.path().join(SHIM))), 0);
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join("s/0a1b.sock")).unwrap();
        assert_eq!(ours(running(dir.path(), &dir.path().join(SHIM))), 1);
        drop(socket);
        assert_eq!(
            ours(running(dir.path(), &dir.path().join(SHIM))),
            0,
            "a socket that nobody listens on is rubbish of a crash"
        );
    }

    #[test]
    fn a_shim_is_found_by_its_program() {
        let dir = tempfile::tempdir().unwrap();
        let shim = dir.path().join(SHIM);
        // Not by this process: a file that another test's child inherits open for writing cannot be executed.
        assert!(std::process::Command::new("cp").arg("/bin/sleep").arg(&shim).status().unwrap().success());
        let mut child = std::process::Command::new(&shim).arg("60").spawn().unwrap();
        let pid = format!("process {} ", child.id());
        let found = running(dir.path(), &dir.path().join(SHIM));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|l| l.starts_with(&pid)), "{found:?}");
        assert!(!running(dir.path(), &dir.path().join(SHIM)).iter().any(|l| l.starts_with(&pid)));
    }
}

//! `delete`: what containerd runs when a shim is gone or does not answer.

use std::path::Path;
use std::time::Duration;

use cocoon_network::PodNetwork;
use containerd_shim_protos::api::DeleteResponse;
use protobuf::Message;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::args::Args;
use crate::cgroup::Cgroups;
use crate::process::{Exit, KILLED};
use crate::state::{self, Record};

/// How long what was killed may take to leave its control groups.
const LEAVING: Duration = Duration::from_secs(3);

/// Ends what is left of the shim, removes what it had made, and gives containerd's answer: a DeleteResponse. Only the
/// bundle of a pod has a shim of its own; of its containers nothing is on this host.
pub fn delete(args: &Args, bundle: &Path) -> Vec<u8> {
    if let Some(record) = Record::read(bundle) {
        end(args, bundle);
        // QEMU has gone with the shim: it asks the kernel to be killed with its parent.
        let _ = std::fs::remove_file(&record.socket);
        if let Some(name) = record.run_dir.file_name().filter(|_| record.run_dir.is_absolute()) {
            let _ = std::fs::remove_dir_all(&record.run_dir);
            // As it is called until it is whole.
            let unnamed = format!(".{}", name.to_string_lossy());
            let _ = std::fs::remove_dir_all(record.run_dir.with_file_name(unnamed));
        }
        if let Err(error) = PodNetwork::clean(Path::new(&record.netns)) {
            eprintln!("{}: the pod's network: {error}", crate::PROGRAM);
        }
        if let Some(cgroups) = Cgroups::of(&record.cgroups_path) {
            cgroups.remove_within(LEAVING);
        }
    }
    let exit = Exit::now(KILLED);
    let response = DeleteResponse {
        exit_status: exit.status,
        exited_at: Some(exit.at).into(),
        ..DeleteResponse::default()
    };
    response.write_to_bytes().unwrap_or_default()
}

/// Kills the shim and waits until it is gone, where its process id still is a shim's of this container.
fn end(args: &Args, bundle: &Path) {
    let pid = std::fs::read_to_string(bundle.join(state::PID)).ok().and_then(|text| text.trim().parse().ok());
    let Some(pid) = pid.and_then(Pid::from_raw) else { return };
    // First the descriptor, then the look: what is looked at is then what is killed.
    let Ok(descriptor) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    let number = pid.as_raw_nonzero();
    let command = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    let mut words = command.split(|b| *b == 0);
    let program = words.next().unwrap_or_default();
    let ours = program.ends_with(crate::PROGRAM.as_bytes()) && words.any(|word| word == args.id.as_bytes());
    if !ours || rustix::process::pidfd_send_signal(&descriptor, Signal::KILL).is_err() {
        return;
    }
    // A descriptor of a process becomes readable with its end.
    let mut polled = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut polled, Some(&limit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_shim_left_is_removed_and_the_answer_says_killed() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, run_dir) = (dir.path().join("x.sock"), dir.path().join("pod-1"));
        std::fs::write(&socket, "").unwrap();
        std::fs::create_dir(&run_dir).unwrap();
        std::fs::write(run_dir.join("vsock.sock"), "").unwrap();
        std::fs::create_dir(dir.path().join(".pod-1")).unwrap();
        let record = Record { socket: socket.clone(), run_dir: run_dir.clone(), ..Record::default() };
        record.write(dir.path()).unwrap();
        // A process id that is somebody else's by now.
        std::fs::write(dir.path().join(state::PID), std::process::id().to_string()).unwrap();
        let args = Args { id: "c1".into(), ..Args::default() };
        let response = DeleteResponse::parse_from_bytes(&delete(&args, dir.path())).unwrap();
        assert!(response.exit_status == 137 && response.exited_at.is_some());
        assert!(!socket.exists() && !run_dir.exists() && !dir.path().join(".pod-1").exists());
        let container = tempfile::tempdir().unwrap();
        assert!(!delete(&args, container.path()).is_empty());
    }
}

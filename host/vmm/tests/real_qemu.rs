//! Starting, asking and stopping a real QEMU. Needs `qemu-system-x86_64` and, in `COCOON_TEST_KERNEL_ROOT`, an
//! unpacked kernel package; where one is absent the tests say so and pass.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cocoon_network::PodNetwork;
use cocoon_stage::{Code, Failure};
use cocoon_vmm::{
    Accel, Console, Disk, Error, KvmProbe, MAX_DISKS, Machine, NetArg, PROBE_LIMIT, Platform, Qemu, Tap, Vm,
    VmSpec, VsockArg, probe_kvm,
};
use cocoon_vsock::Vsock;

fn kernel() -> Option<PathBuf> {
    let root = PathBuf::from(std::env::var_os("COCOON_TEST_KERNEL_ROOT")?);
    let mut files = std::fs::read_dir(root.join("boot")).ok()?.flatten().map(|f| f.path());
    files.find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz")))
}

/// A VM whose guest has an empty initrd: the kernel boots, finds no init and panics. `None` says why it cannot be.
fn spec(dir: &Path) -> Option<(VmSpec, Vsock)> {
    let (Ok(qemu), Some(kernel)) = (Qemu::find(), kernel()) else {
        println!("skipped: no QEMU, or COCOON_TEST_KERNEL_ROOT names no unpacked kernel package");
        return None;
    };
    for file in ["initrd", "initdata"] {
        std::fs::write(dir.join(file), [0; 512]).unwrap();
    }
    let vsock = Vsock::user(&dir.join("vsock")).unwrap();
    let spec = VmSpec {
        qemu: qemu.path().into(),
        platform: Platform::Sim,
        accel: Accel::Tcg,
        machine: Machine::Q35,
        cpus: 1,
        memory_mib: 256,
        kernel,
        initrd: Some(dir.join("initrd")),
        cmdline: "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable".into(),
        firmware: None,
        initdata_disk: dir.join("initdata"),
        ports: 0,
        disks: Vec::new(),
        vsock: VsockArg::User(dir.join("vsock")),
        network: NetArg::User,
        console: Console::Copy(dir.join("console")),
        qmp_socket: dir.join("qmp"),
        run_dir: dir.into(),
    };
    Some((spec, vsock))
}

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_running_vm_answers_and_quits() {
    let dir = tempfile::tempdir().unwrap();
    let Some((spec, _vsock)) = spec(dir.path()) else { return };
    let mut vm = Vm::start(spec).await.unwrap();
    assert_eq!(vm.qmp().await.unwrap().query_status().await.unwrap(), "running", "{}", vm.stderr_tail());
    vm.quit().await;
    assert!(vm.ended().unwrap().success(), "quit, not killed: {:?}", vm.ended());
    assert!(gone(vm.pid()));
    assert!(vm.qmp().await.unwrap().query_status().await.is_err());
}

#[tokio::test]
async fn a_guest_without_init_panics_and_ends_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let Some((spec, _vsock)) = spec(dir.path()) else { return };
    let mut vm = Vm::start(spec).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(120), vm.wait()).await;
    assert!(ended.is_ok(), "{}", vm.console_tail());
    assert!(vm.console_tail().contains("Kernel panic"), "{}", vm.console_tail());
    let copy = std::fs::read(dir.path().join("console")).unwrap();
    assert!(String::from_utf8_lossy(&copy).contains("Kernel panic"));
}

#[tokio::test]
async fn a_killed_or_dropped_vm_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some((spec, _vsock)) = spec(dir.path()) else { return };
    let mut vm = Vm::start(spec).await.unwrap();
    vm.kill().await;
    assert!(!vm.ended().unwrap().success());
    let failure = Failure::from(vm.ended_error());
    assert_eq!(failure.code, Code::BootQemuFailed);
    assert!(failure.reason.contains("signal: 9"), "{failure}");
    assert!(gone(vm.pid()));
}

#[tokio::test]
async fn what_qemu_finds_wrong_is_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let Some((spec, _vsock)) = spec(dir.path()) else { return };
    let nonsense = VmSpec { vsock: VsockArg::User(dir.path().join("nobody")), ..spec };
    let mut vm = Vm::start(nonsense).await.unwrap();
    assert!(!vm.wait().await.unwrap().success());
    assert!(vm.ended_error().to_string().contains("nobody"), "{}", vm.ended_error());
    assert!(vm.qmp().await.is_err());
    // Quitting what has ended is no error and does not hang.
    vm.quit().await;
}

#[tokio::test]
async fn missing_files_are_named_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let Some((spec, _vsock)) = spec(dir.path()) else { return };
    let missing: PathBuf = dir.path().join("missing");
    let starts = [
        (VmSpec { kernel: missing.clone(), ..spec.clone() }, Code::BootGuestImageMissing),
        (VmSpec { firmware: Some(missing.clone()), ..spec.clone() }, Code::BootQemuMissing),
        (VmSpec { qemu: missing.clone(), ..spec.clone() }, Code::BootQemuMissing),
        (VmSpec { disks: vec![disk(&missing, "a")], ..spec.clone() }, Code::ImageCacheFailed),
        (VmSpec { cpus: 0, ..spec.clone() }, Code::PlanInvalid),
        (
            VmSpec {
                platform: Platform::Snp { cbitpos: 51, policy: 0, host_data: [0; 32], identity: None },
                ..spec.clone()
            },
            Code::PlanInvalid,
        ),
        (VmSpec { qmp_socket: missing.join("qmp"), ..spec }, Code::HostUnsupported),
    ];
    for (spec, code) in starts {
        let error: Error = Vm::start(spec).await.err().unwrap();
        let text = error.to_string();
        assert_eq!(Failure::from(error).code, code, "{text}");
    }
}

fn disk(path: &Path, serial: &str) -> Disk {
    Disk { path: path.into(), serial: serial.into(), read_only: true }
}

#[tokio::test]
async fn serials_that_a_guest_could_confuse_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some((spec, _vsock)) = spec(dir.path()) else { return };
    let file = spec.kernel.clone();
    let long = "a".repeat(21);
    let many: Vec<String> = (0..=MAX_DISKS).map(|n| format!("d{n}")).collect();
    let cases: [Vec<&str>; 8] = [
        vec![""],
        vec![&long],
        vec!["A"],
        vec!["a,read-only=off"],
        vec!["ä"],
        vec!["a", "b", "a"],
        vec!["initdata"],
        many.iter().map(String::as_str).collect(),
    ];
    for serials in cases {
        let disks = serials.iter().map(|s| disk(&file, s)).collect();
        let error = Vm::start(VmSpec { cpus: 2, disks, ..spec.clone() }).await.err().unwrap();
        assert_eq!(Failure::from(error).code, Code::PlanInvalid, "{serials:?}");
    }
    let disks = many.iter().take(97).map(|s| disk(&file, s)).collect();
    let error = Vm::start(VmSpec { cpus: 1, disks, ..spec }).await.err().unwrap();
    assert!(error.to_string().contains("two CPUs"), "{error}");
}

/// How the process has the file open (open(2)'s access mode; 0 is reading only), once it has.
fn access(pid: u32, file: &Path) -> Option<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let found = entries.flatten().find(|e| std::fs::read_link(e.path()).is_ok_and(|l| l == file))?;
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", found.file_name().display())).ok()?;
    let flags = info.lines().find_map(|l| l.strip_prefix("flags:"))?;
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & 3)
}

#[tokio::test]
async fn one_layer_serves_several_vms_and_none_can_write_it() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (Some((first, _a)), Some((second, _b))) = (spec(one.path()), spec(two.path())) else { return };
    let layer = one.path().join("layer,1");
    std::fs::write(&layer, [0; 8192]).unwrap();
    let scratch = one.path().join("scratch");
    std::fs::write(&scratch, [0; 8192]).unwrap();
    let writable = Disk { read_only: false, ..disk(&scratch, "scratch") };
    // A file without a name, as scratch disks are.
    let nameless = tempfile::tempfile().unwrap();
    nameless.set_len(8192).unwrap();
    let held = format!("/proc/{}/fd/{}", std::process::id(), nameless.as_raw_fd());
    let nameless = Disk { read_only: false, ..disk(Path::new(&held), "nameless") };

    let disks = vec![disk(&layer, "layer"), writable.clone(), nameless];
    let mut first = Vm::start(VmSpec { disks, ..first }).await.unwrap();
    assert_eq!(
        first.qmp().await.unwrap().query_status().await.unwrap(),
        "running",
        "{}",
        first.stderr_tail()
    );
    let disks = vec![disk(&layer, "layer")];
    let mut again = Vm::start(VmSpec { disks, ..second }).await.unwrap();
    assert_eq!(
        again.qmp().await.unwrap().query_status().await.unwrap(),
        "running",
        "{}",
        again.stderr_tail()
    );
    for vm in [&first, &again] {
        assert_eq!(access(vm.pid(), &layer), Some(0), "open for reading only");
    }
    assert_eq!(access(first.pid(), &scratch), Some(2));
    again.kill().await;

    // A scratch disk is one VM's, and a layer that is read cannot be another's scratch disk.
    for taken in [writable, Disk { read_only: false, ..disk(&layer, "scratch") }] {
        let dir = tempfile::tempdir().unwrap();
        let Some((third, _c)) = spec(dir.path()) else { return };
        let mut vm = Vm::start(VmSpec { disks: vec![taken], ..third }).await.unwrap();
        assert!(!vm.wait().await.unwrap().success());
        assert!(vm.stderr_tail().contains("lock"), "{}", vm.stderr_tail());
    }
    first.quit().await;
}

/// A network namespace with two devices, which ends with its process's standard input. `None` says why there is none.
fn namespace() -> Option<std::process::Child> {
    let script = "ip link add eth0 type veth peer name eth1 && ip link set eth0 up && ip link set eth1 up mtu 9000 \
                  && echo ready && read end";
    let spawned = Command::new("unshare")
        .args(["-n", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut line = String::new();
    let mut child = spawned.ok()?;
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    if line != "ready\n" || !Path::new("/dev/net/tun").exists() {
        println!("skipped: network namespaces or taps are not allowed here");
        child.wait().ok()?;
        return None;
    }
    Some(child)
}

#[tokio::test]
async fn a_vm_has_its_taps_and_nothing_else_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let Some((spec, _vsock)) = spec(dir.path()) else { return };
    let Some(mut space) = namespace() else { return };
    let network = PodNetwork::attach(Path::new(&format!("/proc/{}/ns/net", space.id()))).unwrap();
    let tap = |tap: &cocoon_network::Tap| Tap {
        mac: tap.mac,
        mtu: tap.mtu,
        fd: tap.fd.clone().into(),
        vhost: tap.vhost.clone().map(Into::into),
    };
    let taps: Vec<Tap> = network.taps().iter().map(tap).collect();
    assert_eq!(taps.len(), 2);
    let mut vm = Vm::start(VmSpec { network: NetArg::Taps(taps), ..spec }).await.unwrap();
    assert_eq!(vm.qmp().await.unwrap().query_status().await.unwrap(), "running", "{}", vm.stderr_tail());
    let open: Vec<PathBuf> = std::fs::read_dir(format!("/proc/{}/fd", vm.pid()))
        .unwrap()
        .flatten()
        .filter_map(|e| std::fs::read_link(e.path()).ok())
        .collect();
    assert_eq!(open.iter().filter(|l| *l == Path::new("/dev/net/tun")).count(), 2, "{open:?}");
    assert!(
        !open.iter().any(|l| l.to_string_lossy().starts_with("net:[")),
        "the namespace is ours: {open:?}"
    );
    vm.quit().await;
    drop(network);
    drop(space.stdin.take());
    space.wait().unwrap();
}

#[tokio::test]
async fn the_kvm_probe_ends_in_time_with_an_answer() {
    let (Ok(qemu), Some(kernel)) = (Qemu::find(), kernel()) else {
        return println!("skipped: no QEMU, or COCOON_TEST_KERNEL_ROOT names no unpacked kernel package");
    };
    let limit = PROBE_LIMIT + Duration::from_secs(10);
    let probe = tokio::time::timeout(limit, probe_kvm(qemu.path(), &kernel, PROBE_LIMIT)).await.unwrap();
    println!("{probe:?}");
    if let KvmProbe::Fails { reason } = probe {
        assert!(!reason.is_empty());
    }
}

#[tokio::test]
async fn qemu_tells_its_version_and_devices() {
    let Ok(qemu) = Qemu::find() else { return println!("skipped: no QEMU") };
    assert!(qemu.version().await.unwrap().major >= 5);
    assert!(qemu.has_device("virtio-blk-pci").await.unwrap());
    assert!(!qemu.has_device("no-such-device").await.unwrap());
    assert!(qemu.has_object("memory-backend-memfd").await.unwrap());
    assert!(!qemu.has_object("no-such-object").await.unwrap());
    assert!(qemu.has_netdev("user").await.unwrap());
}

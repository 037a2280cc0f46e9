//! A guest with as many disks as an image may have layers. Needs QEMU and, in `COCOON_GUEST_IMAGE`, a guest image;
//! where one is absent the test says so and passes. Prints what the disks cost: `--nocapture` shows it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cocoon_vmm::{Accel, Console, Disk, MAX_DISKS, Machine, NetArg, Platform, Qemu, Vm, VmSpec, VsockArg};
use cocoon_vsock::Vsock;

/// The guest's event stream; its opening says that the guest is ready.
const EVENTS_PORT: u32 = 1025;
/// Emulated, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// Boots the guest with so many disks and gives the time until it announces itself.
async fn boot(image: &Path, qemu: &Qemu, disks: usize) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("initdata"), [0; 4096]).unwrap();
    let disk = |n: usize| {
        let file = path(&format!("disk{n}"));
        std::fs::write(&file, vec![0; 64 << 10]).unwrap();
        Disk { path: file, serial: format!("{n:020x}"), read_only: n != 0 }
    };
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(image.join("manifest.json")).unwrap()).unwrap();
    let text = |key: &str| manifest.get(key).and_then(|v| v.as_str()).unwrap().to_owned();
    let vsock = Vsock::user(&path("vsock")).unwrap();
    let mut events = vsock.listen(EVENTS_PORT).unwrap();
    let spec = VmSpec {
        qemu: qemu.path().into(),
        platform: Platform::Sim,
        accel: Accel::Tcg,
        machine: Machine::Q35,
        cpus: 2,
        memory_mib: 512,
        kernel: image.join("vmlinuz"),
        initrd: Some(image.join("initrd.img")),
        cmdline: text("cmdline"),
        firmware: None,
        initdata_disk: path("initdata"),
        disks: (0..disks).map(disk).collect(),
        vsock: VsockArg::User(path("vsock")),
        network: NetArg::User,
        console: Console::Tail,
        qmp_socket: path("qmp"),
        run_dir: dir.path().into(),
    };
    let began = Instant::now();
    let mut vm = Vm::start(spec).await.unwrap();
    let ready = tokio::select! {
        stream = events.accept() => stream.is_some(),
        _ = vm.wait() => false,
        () = tokio::time::sleep(LIMIT) => false,
    };
    let took = began.elapsed();
    assert!(ready, "{disks} disks: {}\n{}", vm.stderr_tail(), vm.console_tail());
    vm.kill().await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_boots_with_as_many_disks_as_an_image_may_have_layers() {
    let (Ok(qemu), Some(image)) = (Qemu::find(), std::env::var_os("COCOON_GUEST_IMAGE").map(PathBuf::from))
    else {
        return println!("skipped: no QEMU, or COCOON_GUEST_IMAGE names no guest image");
    };
    let none = boot(&image, &qemu, 0).await;
    for disks in [1, 8, 32, MAX_DISKS] {
        let took = boot(&image, &qemu, disks).await;
        let more = took.saturating_sub(none);
        println!("{disks:>4} disks: ready after {took:.2?}, {more:.2?} more than with none ({none:.2?})");
    }
}

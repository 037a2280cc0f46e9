//! The device against a real Linux guest under QEMU's emulation.
//!
//! Needs `qemu-system-x86_64`, `rustc`, and in `COCOON_TEST_KERNEL_ROOT` an unpacked Debian cloud kernel package
//! (`dpkg-deb -x linux-image-…-cloud-amd64.deb DIR`). Where one is absent the test says so and passes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cocoon_vsock::{Error, Stream, Vsock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// In load order; those that a kernel has built in are simply not found.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
];

struct Guest(Child, PathBuf);

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("console:\n{}", std::fs::read_to_string(&self.1).unwrap_or_default());
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name)) {
            return Some(path);
        }
    }
    None
}

/// One file of a "newc" cpio archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
fn cpio(out: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
    let (major, minor) = device;
    let fields = [1, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, major, minor, name.len() as u32 + 1, 0];
    out.extend(b"070701");
    fields.iter().for_each(|f| out.extend(format!("{f:08x}").bytes()));
    out.extend(name.bytes().chain([0]));
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn initrd(root: &Path, dir: &Path) -> PathBuf {
    let init = dir.join("init");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/init.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let built = Command::new(rustc)
        .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Copt-level=2", "-Cstrip=symbols", "-o"])
        .args([&init, &source])
        .status()
        .unwrap();
    assert!(built.success());
    let mut archive = Vec::new();
    cpio(&mut archive, "init", 0o100_755, (0, 0), &std::fs::read(init).unwrap());
    cpio(&mut archive, "dev", 0o040_755, (0, 0), &[]);
    cpio(&mut archive, "dev/console", 0o020_600, (5, 1), &[]);
    cpio(&mut archive, "modules", 0o040_755, (0, 0), &[]);
    for (n, name) in MODULES.iter().enumerate() {
        if let Some(path) = find(&root.join("lib/modules"), &format!("{name}.ko")) {
            cpio(
                &mut archive,
                &format!("modules/{n}-{name}"),
                0o100_644,
                (0, 0),
                &std::fs::read(path).unwrap(),
            );
        }
    }
    cpio(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    let path = dir.join("initrd");
    std::fs::write(&path, archive).unwrap();
    path
}

fn start(root: &Path, dir: &Path, socket: &Path) -> Option<Guest> {
    let kernel = find(&root.join("boot"), "vmlinuz")?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-nographic",
        "-no-reboot",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "512",
    ])
    .args(["-accel", "tcg", "-machine", "q35,memory-backend=mem0"])
    .args(["-object", "memory-backend-memfd,id=mem0,size=512M,share=on"])
    .arg("-chardev")
    .arg(format!("socket,id=vsock0,path={}", socket.display()))
    .args(["-device", "vhost-user-vsock-pci,chardev=vsock0"])
    .arg("-serial")
    .arg(format!("file:{}", dir.join("console").display()))
    .arg("-kernel")
    .arg(kernel)
    .arg("-initrd")
    .arg(initrd(root, dir))
    .args(["-append", "console=ttyS0 panic=-1 quiet no_timer_check tsc=reliable"])
    .stdin(Stdio::null());
    qemu.spawn().ok().map(|child| Guest(child, dir.join("console")))
}

async fn command(vsock: &Vsock, command: &[u8]) -> Stream {
    let mut stream = vsock.connect(1024).await.unwrap();
    stream.write_all(command).await.unwrap();
    stream
}

fn report(what: &str, bytes: usize, since: Instant) {
    let rate = bytes as f64 / since.elapsed().as_secs_f64() / 1e6;
    println!("{what}: {rate:.0} MB/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_guest_talks_both_ways() {
    let Some(root) = std::env::var_os("COCOON_TEST_KERNEL_ROOT").map(PathBuf::from) else {
        return println!("skipped: COCOON_TEST_KERNEL_ROOT names no unpacked kernel package");
    };
    if Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("skipped: qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vsock.sock");
    let vsock = Vsock::user(&socket).unwrap();
    let mut announce = vsock.listen(1025).unwrap();
    let began = Instant::now();
    let Some(mut guest) = start(&root, dir.path(), &socket) else {
        return println!("skipped: no boot/vmlinuz-* in COCOON_TEST_KERNEL_ROOT");
    };
    let limit = Duration::from_secs(180);
    tokio::time::timeout(limit, story(&vsock, &mut announce, began)).await.expect("ended in time");
    // The guest powers off; everything that waited on it ends.
    assert!(announce.accept().await.is_none());
    assert!(matches!(vsock.connect(1024).await, Err(Error::Closed)));
    assert!(guest.0.wait().unwrap().success());
    drop(vsock);
    assert!(!socket.exists());
}

async fn story(vsock: &Vsock, announce: &mut cocoon_vsock::Listener, began: Instant) {
    let mut ready = announce.accept().await.unwrap();
    let mut line = [0; 6];
    ready.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"ready\n");
    println!("boot to ready: {:?}", began.elapsed());

    // Nobody listens there.
    assert!(matches!(vsock.connect(4).await, Err(Error::Refused(4))));

    // Echo with half close: the guest sees our end and still says its last words.
    let mut echo = command(vsock, b"ehello ").await;
    echo.write_all(b"guest").await.unwrap();
    echo.shutdown().await.unwrap();
    let mut answer = String::new();
    echo.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "hello guestbye");

    // Large transfers, checked by sum and pattern.
    const LARGE: usize = 64 << 20;
    let block: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut expected = 0_u64;
    let mut sink = command(vsock, b"s").await;
    let since = Instant::now();
    for _ in 0..LARGE / block.len() {
        sink.write_all(&block).await.unwrap();
        expected = block.iter().fold(expected, |s, b| s.wrapping_mul(31).wrapping_add(u64::from(*b)));
    }
    sink.shutdown().await.unwrap();
    assert_eq!(sink.read_u64_le().await.unwrap(), LARGE as u64);
    assert_eq!(sink.read_u64_le().await.unwrap(), expected);
    report("host to guest", LARGE, since);

    let mut source = command(vsock, &[&b"g"[..], &(LARGE as u64).to_le_bytes()].concat()).await;
    let since = Instant::now();
    let (mut got, mut buf) = (0, vec![0; 1 << 16]);
    loop {
        let n = source.read(&mut buf).await.unwrap();
        if n == 0 {
            break;
        }
        assert!(buf[..n].iter().enumerate().all(|(i, b)| *b == ((got + i) % (1 << 18) % 251) as u8));
        got += n;
    }
    assert_eq!(got, LARGE);
    report("guest to host", LARGE, since);

    // Many streams at once.
    let many = (0..50_u32).map(|n| async move {
        let mut echo = command(vsock, b"e").await;
        let data = vec![n as u8; 20_000];
        let (mut reader, mut writer) = tokio::io::split(&mut echo);
        let send = async {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (_, read) = tokio::join!(send, reader.read_to_end(&mut back));
        read.unwrap();
        assert!(back.ends_with(b"bye") && back[..20_000] == data);
    });
    futures_join(many).await;

    // The guest connects out: refused where nobody listens, served where somebody does.
    let mut refused = command(vsock, &[&b"c"[..], &5999_u32.to_le_bytes()].concat()).await;
    assert_eq!(refused.read_i32_le().await.unwrap(), 104, "ECONNRESET");
    let mut listener = vsock.listen(5000).unwrap();
    assert!(matches!(vsock.listen(5000), Err(Error::PortInUse(5000))));
    let mut served = command(vsock, &[&b"c"[..], &5000_u32.to_le_bytes()].concat()).await;
    let mut stream = listener.accept().await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "from guest");
    stream.write_all(b"from host").await.unwrap();
    drop(stream);
    assert_eq!(served.read_i32_le().await.unwrap(), 0);

    // A flood of connections that nobody accepts meets the backlog.
    let mut flood = command(vsock, &[&b"f"[..], &5000_u32.to_le_bytes()].concat()).await;
    assert_eq!(flood.read_u32_le().await.unwrap(), 128);

    // A guest that writes into a stream nobody holds is cut off, and the device goes on.
    drop(command(vsock, &[&b"g"[..], &(1_u64 << 40).to_le_bytes()].concat()).await);
    let mut echo = command(vsock, b"e").await;
    echo.shutdown().await.unwrap();
    let mut answer = String::new();
    echo.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "bye");

    drop(command(vsock, b"q").await);
}

async fn futures_join(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|f| f.as_mut().poll(cx).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

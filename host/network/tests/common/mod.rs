//! Real network namespaces, CNI plugins and a guest that is a namespace too.
//!
//! Everything hangs on processes that end when their standard input closes: whatever becomes of the test, nothing stays.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cocoon_network::{PodNetwork, Tap};
use cocoon_sandbox_api::sandbox::ConfigureRequest;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

const PLUGINS: &str = "/usr/lib/cni";
/// Nothing here takes long; this is for what never comes.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A network namespace that lives as long as this.
pub struct Space {
    child: Child,
}

impl Space {
    /// `None`, with a word to the reader, where the machine gives none.
    pub fn new() -> Option<Space> {
        let spawned = Command::new("unshare")
            .args(["-n", "--", "sh", "-c", "ip link set lo up && echo ready && read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(e) => {
                println!("skipped: unshare(1) does not run: {e}");
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let space = Space { child };
        if line != "ready\n" || !Path::new("/dev/net/tun").exists() {
            println!("skipped: network namespaces or taps are not allowed here");
            return None;
        }
        Some(space)
    }

    pub fn several<const N: usize>() -> Option<[Space; N]> {
        let spaces: Vec<Space> = (0..N).map(|_| Space::new()).collect::<Option<_>>()?;
        spaces.try_into().ok()
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.child.id()).into()
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// What the program prints; it must succeed.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let output = self.command(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// On a thread inside.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(self.path()).unwrap();
        std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    /// The names of its devices.
    pub fn devices(&self) -> Vec<String> {
        let list = self.run("ip -o link");
        let name = |l: &str| l.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
        list.lines().map(name).collect()
    }

    /// Whether the device has traffic control at its ingress.
    pub fn redirected(&self, device: &str) -> bool {
        self.run(&format!("tc qdisc show dev {device}")).contains("ingress")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub fn has_plugins(names: &[&str]) -> bool {
    let all = names.iter().all(|n| Path::new(PLUGINS).join(n).exists());
    if !all {
        println!("skipped: no CNI plugins {names:?} in {PLUGINS}");
    }
    all
}

/// Runs a CNI plugin on the node for a device of the pod. Returns its result.
pub fn cni(
    node: &Space,
    pod: &Space,
    action: &str,
    device: &str,
    config: &serde_json::Value,
) -> serde_json::Value {
    let plugin = format!("{PLUGINS}/{}", config["type"].as_str().unwrap());
    let mut child = node
        .command(&plugin)
        .envs([
            ("CNI_COMMAND", action),
            ("CNI_CONTAINERID", "pod"),
            ("CNI_IFNAME", device),
            ("CNI_PATH", PLUGINS),
        ])
        .env("CNI_NETNS", pod.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{action} {device}: {text} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_default()
}

/// What a guest does, done by a namespace: it has a device of the right hardware address for each tap, set up as the
/// description says, and frames pass between the two.
pub struct Guest {
    pub space: Space,
    // In this order: the frames stop, then taps and wires go.
    pump: JoinSet<()>,
    largest: Arc<AtomicUsize>,
    _far: PodNetwork,
    _wire: Space,
}

impl Guest {
    /// Must run in a runtime of several threads.
    pub fn boot(pod: &PodNetwork) -> Guest {
        let [space, wire] = Space::several().unwrap();
        for (n, tap) in pod.taps().iter().enumerate() {
            let mac = tap.mac.map(|b| format!("{b:02x}")).join(":");
            let (pid, mtu) = (wire.child.id(), tap.mtu);
            space.run(&format!(
                "ip link add nic{n} address {mac} mtu {mtu} type veth peer wire{n} mtu {mtu} netns {pid}"
            ));
            wire.run(&format!("ip link set wire{n} up"));
        }
        configure(&space, pod);
        // Our own taps again, this time as cables between frames and a device.
        let far = PodNetwork::attach(&wire.path()).unwrap();
        let mut pump = JoinSet::new();
        let largest = Arc::new(AtomicUsize::new(0));
        for (near, far) in pod.taps().iter().zip(far.taps()) {
            let (near, far) = (queue(near), queue(far));
            pump.spawn(pass(near.clone(), far.clone(), largest.clone()));
            pump.spawn(pass(far, near, largest.clone()));
        }
        Guest { space, pump, largest, _far: far, _wire: wire }
    }

    /// The longest frame so far, in bytes.
    pub fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }
}

fn configure(guest: &Space, pod: &PodNetwork) {
    let mut request = ConfigureRequest::default();
    pod.describe(&mut request);
    for (n, interface) in request.interfaces.iter().enumerate() {
        let name = &interface.name;
        guest.run(&format!("ip link set nic{n} name {name}"));
        guest.run(&format!("ip link set {name} addrgenmode none"));
        guest.run(&format!("ip link set {name} up"));
        for address in &interface.addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            guest.run(&format!("ip addr add {address} dev {name} noprefixroute{nodad}"));
        }
    }
    for neighbour in &request.neighbours {
        let (address, mac, device) = (&neighbour.address, &neighbour.hw_addr, &neighbour.device);
        guest.run(&format!("ip neigh add {address} lladdr {mac} dev {device} nud permanent"));
    }
    for route in &request.routes {
        let family = if route.destination.contains(':') { "-6" } else { "-4" };
        let mut line = format!("ip {family} route append");
        let parts = [
            ("", &route.kind),
            ("", &route.destination),
            ("via ", &route.gateway),
            ("dev ", &route.device),
            ("src ", &route.source),
            ("scope ", &route.scope),
        ];
        for (word, value) in parts {
            if !value.is_empty() {
                line += &format!(" {word}{value}");
            }
        }
        for (word, value) in [("metric", route.metric), ("mtu", route.mtu), ("advmss", route.advmss)] {
            if value != 0 {
                line += &format!(" {word} {value}");
            }
        }
        if route.on_link {
            line += " onlink";
        }
        guest.run(&line);
    }
}

type Queue = Arc<AsyncFd<Arc<OwnedFd>>>;

// The newer constructor is unsafe for the sake of descriptors that others close; this one is shared and nobody does.
#[allow(deprecated)]
fn queue(tap: &Tap) -> Queue {
    let fd = tap.fd.clone();
    fcntl_setfl(&fd, fcntl_getfl(&fd).unwrap() | OFlags::NONBLOCK).unwrap();
    Arc::new(AsyncFd::new(fd).unwrap())
}

/// Both taps put the same virtio header before each frame.
async fn pass(from: Queue, to: Queue, largest: Arc<AtomicUsize>) {
    let mut frame = vec![0; 70_000];
    loop {
        let read = from.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut frame)?)).await;
        let Ok(length) = read else { return };
        largest.fetch_max(length, Ordering::Relaxed);
        let _ = to.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, &frame[..length])?)).await;
    }
}

/// Whether a connection from one namespace to an address of the other carries a mebibyte there and a word back.
pub fn reaches(from: &Space, to: &Space, address: &str) {
    let (tell, told) = std::sync::mpsc::channel();
    let bound: SocketAddr = address.parse().unwrap();
    let server = to.inside(move || {
        let listener = TcpListener::bind(SocketAddr::new(bound.ip(), 0)).unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(b"thanks").unwrap();
        received.len()
    });
    let server_address = told.recv_timeout(LIMIT).unwrap();
    let client = from.inside(move || {
        let mut stream = TcpStream::connect_timeout(&server_address, LIMIT)
            .unwrap_or_else(|e| panic!("no way to {server_address}: {e}"));
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&vec![7; 1 << 20]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert_eq!(client.join().unwrap(), "thanks", "{address}");
    assert_eq!(server.join().unwrap(), 1 << 20, "{address}");
}

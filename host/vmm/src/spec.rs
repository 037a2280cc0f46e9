//! What a pod VM is made of.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::Descriptor;

/// Most disks beside the initdata: the layers that an image may have (128), and a scratch disk.
pub const MAX_DISKS: usize = 129;
/// Most disks that a guest with one CPU can serve: each takes two of its interrupt vectors.
const MAX_DISKS_ONE_CPU: usize = 96;
/// Most taps: two PCI slots with eight functions each.
pub const MAX_TAPS: usize = 16;
/// Longest serial number, in bytes (virtio 1.2, 5.2.6.1: VIRTIO_BLK_T_GET_ID).
const MAX_SERIAL: usize = 20;

/// How the guest is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Not at all: the simulated TEE, for machines without one.
    Sim,
    /// AMD SEV-SNP.
    Snp {
        /// Position of the C-bit: CPUID 0x8000001F, EBX bits 5:0.
        cbitpos: u8,
        /// Guest policy (SEV-SNP ABI, 56860, table 9); `0x30000` is the strictest in use.
        policy: u64,
    },
    /// Intel TDX.
    Tdx {
        /// MRCONFIGID: the initdata digest, zero padded or cut to 48 bytes.
        mr_config_id: [u8; 48],
        /// Where the host's quote generation service listens.
        quotes: QuoteGeneration,
    },
}

/// The address of Intel's quote generation service on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuoteGeneration {
    /// A unix socket, usually `/var/run/tdx-qgs/qgs.socket`.
    Unix(PathBuf),
    /// A vsock port of the host.
    Vsock(u32),
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The kernel's hypervisor.
    Kvm,
    /// QEMU's emulation: slow, works everywhere.
    Tcg,
}

/// The machine model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// PCIe chipset; every TEE uses it, so the simulated one does too.
    #[default]
    Q35,
}

/// How the guest's vsock reaches this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VsockArg {
    /// A vhost-user device listening on this socket (`cocoon_vsock::Vsock::user`).
    User(PathBuf),
    /// The kernel's vhost-vsock with this guest context id (3 or more).
    Kernel(u32),
}

/// The guest's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetArg {
    /// QEMU's user networking: guest 10.0.2.15/24, gateway and host loopback 10.0.2.2, DNS 10.0.2.3. Nothing
    /// reaches in.
    User,
    /// A device for each of these, at most [`MAX_TAPS`], in this order.
    Taps(Vec<Tap>),
    /// No network device.
    None,
}

/// A network device of the guest, whose packets go through a tap of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// The device's hardware address, by which the guest knows it; no group's, and no other tap's.
    pub mac: [u8; 6],
    /// The MTU that the guest is told, 68 to 65535.
    pub mtu: u32,
    /// The open tap: one queue, with `IFF_VNET_HDR` and without packet information.
    pub fd: Descriptor,
    /// An open `/dev/vhost-net` of its own, where the kernel is to move the packets.
    pub vhost: Option<Descriptor>,
}

/// Where the guest's serial console goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Console {
    /// Only the last 16 KiB are kept, for [`crate::Vm::console_tail`].
    Tail,
    /// Also copied to this file (`/dev/stderr` works), at most 16 MiB.
    Copy(PathBuf),
}

/// A disk of the host's, as the guest sees it by its serial number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file with the disk's raw content, in whole blocks of 512 bytes.
    pub path: PathBuf,
    /// By which the guest finds it: 1 to 20 bytes of `a-z`, `0-9` and `-`, each only once in a VM.
    pub serial: String,
    /// Whether the guest cannot write to it. One file may then be a disk of several VMs.
    pub read_only: bool,
}

/// A pod VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSpec {
    /// The QEMU binary; see [`crate::Qemu::find`].
    pub qemu: PathBuf,
    /// How the guest is protected.
    pub platform: Platform,
    /// What executes it. TEEs need [`Accel::Kvm`].
    pub accel: Accel,
    /// The machine model.
    pub machine: Machine,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Memory in MiB, at least 64.
    pub memory_mib: u32,
    /// The kernel (bzImage).
    pub kernel: PathBuf,
    /// The initrd.
    pub initrd: PathBuf,
    /// The kernel command line, the guest image's constant: it is measured, nothing may be added to it.
    pub cmdline: String,
    /// The firmware (`-bios`). Required for TEEs; an explicit file lets the simulated one measure it.
    pub firmware: Option<PathBuf>,
    /// The initdata disk, attached read-only with serial `initdata`.
    pub initdata_disk: PathBuf,
    /// Further disks, at most [`MAX_DISKS`]; at most 96 for a guest with one CPU.
    pub disks: Vec<Disk>,
    /// vsock to the host.
    pub vsock: VsockArg,
    /// The network.
    pub network: NetArg,
    /// The serial console.
    pub console: Console,
    /// SNP's HOST_DATA: the initdata digest, cut or zero padded to 32 bytes. Unused elsewhere.
    pub host_data: [u8; 32],
    /// Where [`crate::Vm`] listens for QEMU's control connection. Its folder must be private (0700).
    pub qmp_socket: PathBuf,
    /// QEMU's working folder: private, the caller makes and removes it.
    pub run_dir: PathBuf,
}

impl VmSpec {
    /// Refuses what QEMU would misunderstand or what would run unprotected by mistake.
    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        let tee = self.platform != Platform::Sim;
        let wrong = if tee && self.accel != Accel::Kvm {
            Some("a TEE needs KVM")
        } else if tee && self.firmware.is_none() {
            Some("a TEE needs its firmware")
        } else if self.cpus == 0 {
            Some("at least one CPU")
        } else if self.memory_mib < 64 {
            Some("at least 64 MiB of memory")
        } else if matches!(self.vsock, VsockArg::Kernel(cid) if cid < 3) {
            Some("guest context ids begin at 3")
        } else if self.disks.len() > MAX_DISKS {
            Some("at most 129 disks")
        } else if self.disks.len() > MAX_DISKS_ONE_CPU && self.cpus < 2 {
            Some("more than 96 disks need at least two CPUs")
        } else if !self.disks.iter().all(|disk| good_serial(&disk.serial)) {
            Some("a disk's serial number has 1 to 20 characters a-z, 0-9 and -")
        } else if !distinct(&self.disks) {
            Some("two disks have the same serial number")
        } else {
            self.network.wrong()
        };
        wrong.map_or(Ok(()), |reason| Err(crate::Error::Spec(reason)))
    }
}

impl NetArg {
    /// The taps and what moves their packets: what QEMU inherits.
    pub(crate) fn descriptors(&self) -> Vec<Descriptor> {
        let NetArg::Taps(taps) = self else { return Vec::new() };
        taps.iter().flat_map(|tap| [Some(&tap.fd), tap.vhost.as_ref()]).flatten().cloned().collect()
    }

    fn wrong(&self) -> Option<&'static str> {
        let NetArg::Taps(taps) = self else { return None };
        let (mut macs, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        if taps.len() > MAX_TAPS {
            Some("at most 16 taps")
        } else if !taps.iter().all(|tap| tap.mac != [0; 6] && tap.mac.first().is_some_and(|b| b & 1 == 0)) {
            Some("a tap's hardware address is that of one device")
        } else if !taps.iter().all(|tap| macs.insert(tap.mac)) {
            Some("two taps have the same hardware address")
        } else if !taps.iter().all(|tap| (68..=65_535).contains(&tap.mtu)) {
            Some("a tap's MTU is 68 to 65535")
        } else if !self.descriptors().iter().all(|d| d.number() > 2 && numbers.insert(d.number())) {
            Some("a tap needs descriptors of its own")
        } else {
            None
        }
    }
}

fn good_serial(serial: &str) -> bool {
    (1..=MAX_SERIAL).contains(&serial.len())
        && serial.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Also tells that none takes the initdata's.
fn distinct(disks: &[Disk]) -> bool {
    let mut seen = BTreeSet::from(["initdata"]);
    disks.iter().all(|disk| seen.insert(disk.serial.as_str()))
}

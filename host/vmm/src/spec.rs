//! What a pod VM is made of.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
        /// HOST_DATA: the initdata digest, cut or zero padded ([`host_field`]).
        host_data: [u8; 32],
        /// Who signed for this launch, if anybody did.
        identity: Option<SnpIdentity>,
    },
    /// Intel TDX.
    Tdx {
        /// MRCONFIGID: the initdata digest, zero padded or cut to 48 bytes.
        mr_config_id: [u8; 48],
        /// Where the host's quote generation service listens.
        quotes: QuoteGeneration,
    },
    /// Not from this host: a software TPM beside a measured boot. What it protects from is whoever does not control the TPM.
    Tpm {
        /// Unix socket on which the TPM (`swtpm socket --ctrl`) waits for QEMU.
        socket: PathBuf,
        /// The VM's own copy of the firmware's variable store. [`VmSpec::firmware`] is its code.
        vars: PathBuf,
    },
    /// IBM Secure Execution. Kernel, initrd and command line are in one encrypted image, [`VmSpec::kernel`]; it takes
    /// nothing from the host that would be measured.
    Se,
    /// Arm CCA.
    Cca {
        /// Hash of the realm's measurements.
        hash: RealmHash,
        /// Realm personalization value: the initdata digest, zero padded.
        personalization: [u8; 64],
    },
}

impl Platform {
    /// Whether the guest's memory is out of this host's reach.
    pub fn private_memory(&self) -> bool {
        !matches!(self, Platform::Sim | Platform::Tpm { .. })
    }

    /// The machine model that it runs on.
    pub fn machine(&self) -> Machine {
        match self {
            Platform::Se => Machine::S390Ccw,
            Platform::Cca { .. } => Machine::Virt,
            _ => Machine::Q35,
        }
    }
}

/// What a TEE's field of N bytes holds of an initdata digest: its beginning, or all of it and zeros. SNP's HOST_DATA has 32
/// bytes, TDX's MRCONFIGID 48, CCA's personalization value 64; a TPM extends register 8 with the digest instead.
pub fn host_field<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut field = [0; N];
    field.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    field
}

/// Length of an ID block (SEV-SNP ABI, 56860, table 75).
pub const ID_BLOCK: usize = 96;
/// Length of an ID authentication information structure (table 76).
pub const ID_AUTH: usize = 4096;

/// An ID block with its signatures: the processor launches the guest only if its launch digest and policy are those of the
/// block, and reports the keys that signed.
#[derive(Clone, PartialEq, Eq)]
pub struct SnpIdentity {
    /// The ID block.
    pub block: [u8; ID_BLOCK],
    /// The ID authentication information structure.
    pub auth: Box<[u8; ID_AUTH]>,
}

impl SnpIdentity {
    /// Reads both from base64.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] where one is not base64 of 96 and 4096 bytes.
    pub fn from_base64(block: &str, auth: &str) -> Result<Self, crate::Error> {
        let decode = |text: &str| STANDARD.decode(text.trim()).ok();
        let block = decode(block).and_then(|bytes| bytes.try_into().ok());
        let block = block.ok_or(crate::Error::Spec("an ID block is base64 of 96 bytes"))?;
        let auth = decode(auth).and_then(|bytes| bytes.into_boxed_slice().try_into().ok());
        let auth = auth.ok_or(crate::Error::Spec("an ID authentication block is base64 of 4096 bytes"))?;
        Ok(SnpIdentity { block, auth })
    }

    /// Whether an author key signed the ID key: AUTH_KEY_ALGO, four bytes at offset 4, is not zero.
    pub fn has_author_key(&self) -> bool {
        self.auth.get(4..8).is_some_and(|algorithm| algorithm.iter().any(|byte| *byte != 0))
    }
}

impl std::fmt::Debug for SnpIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnpIdentity").field("author_key", &self.has_author_key()).finish_non_exhaustive()
    }
}

/// Hash of a realm's measurements (Arm RMM specification, `RmiHashAlgorithm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RealmHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    #[default]
    Sha512,
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
    /// PCIe chipset of x86; every TEE of x86 uses it, so the simulated one does too.
    #[default]
    Q35,
    /// IBM Z with channel devices.
    S390Ccw,
    /// QEMU's own board for Arm.
    Virt,
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
    /// The initrd. None for Secure Execution, whose image has its own.
    pub initrd: Option<PathBuf>,
    /// The kernel command line, the guest image's constant: it is measured, nothing may be added to it. Empty for Secure
    /// Execution.
    pub cmdline: String,
    /// The firmware (`-bios`). Required for SNP and TDX, and as flash for a TPM's measured boot; an explicit file lets the
    /// simulated platform measure it. None for Secure Execution.
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
    /// Where [`crate::Vm`] listens for QEMU's control connection. Its folder must be private (0700).
    pub qmp_socket: PathBuf,
    /// QEMU's working folder: private, the caller makes and removes it.
    pub run_dir: PathBuf,
}

impl VmSpec {
    /// Refuses what QEMU would misunderstand or what would run unprotected by mistake.
    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        self.machine_fault()
            .or_else(|| self.boot_fault())
            .or_else(|| self.disk_fault())
            .or_else(|| self.network.wrong())
            .map_or(Ok(()), |reason| Err(crate::Error::Spec(reason)))
    }

    fn machine_fault(&self) -> Option<&'static str> {
        let private = self.platform.private_memory();
        let faults = [
            (private && self.accel != Accel::Kvm, "a TEE needs KVM"),
            (self.machine != self.platform.machine(), "the platform is not of this machine model"),
            (
                private && matches!(self.vsock, VsockArg::User(_)),
                "the in-process vsock device cannot reach a TEE's private memory",
            ),
            (self.cpus == 0, "at least one CPU"),
            (self.memory_mib < 64, "at least 64 MiB of memory"),
            (
                matches!(self.platform, Platform::Tpm { .. }) && self.memory_mib < crate::TPM_MEMORY_MIB,
                "measured boot needs at least 256 MiB of memory",
            ),
            (matches!(self.vsock, VsockArg::Kernel(cid) if cid < 3), "guest context ids begin at 3"),
        ];
        first(&faults)
    }

    fn boot_fault(&self) -> Option<&'static str> {
        let one_image = self.platform == Platform::Se;
        let firmware =
            matches!(self.platform, Platform::Snp { .. } | Platform::Tdx { .. } | Platform::Tpm { .. });
        let faults = [
            (firmware && self.firmware.is_none(), "this platform needs its firmware"),
            (one_image && self.firmware.is_some(), "Secure Execution has no firmware of the host's"),
            (one_image && self.initrd.is_some(), "a Secure Execution image has its own initrd"),
            (one_image && !self.cmdline.is_empty(), "a Secure Execution image has its own command line"),
            (!one_image && self.initrd.is_none(), "the guest needs its initrd"),
        ];
        first(&faults)
    }

    fn disk_fault(&self) -> Option<&'static str> {
        let disks = &self.disks;
        let faults = [
            (disks.len() > MAX_DISKS, "at most 129 disks"),
            (disks.len() > MAX_DISKS_ONE_CPU && self.cpus < 2, "more than 96 disks need at least two CPUs"),
            (
                !disks.iter().all(|disk| good_serial(&disk.serial)),
                "a disk's serial number has 1 to 20 characters a-z, 0-9 and -",
            ),
            (!distinct(disks), "two disks have the same serial number"),
        ];
        first(&faults)
    }
}

fn first(faults: &[(bool, &'static str)]) -> Option<&'static str> {
    faults.iter().find(|(wrong, _)| *wrong).map(|(_, reason)| *reason)
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

//! QEMU's command line for a [`VmSpec`]. Pure; its results are golden files in `tests/golden/`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::spec::{
    Accel, Disk, Machine, NetArg, Platform, QuoteGeneration, RealmHash, Tap, VmSpec, VsockArg,
};

/// The first PCI slot of further disks. QEMU gives the devices before them the lowest free ones, 1 to 3.
const FIRST_DISK_SLOT: usize = 8;
/// The first PCI slot of taps, of which there may be two slots full.
const FIRST_TAP_SLOT: usize = 4;
/// PCI functions of a slot. A slot for each disk would not do: q35's root bus has 32.
const FUNCTIONS: usize = 8;
/// A full or failing host disk is the guest's I/O error. By default QEMU would pause the VM where space is short, and
/// nobody would hear why.
const ON_ERROR: &str = "werror=report,rerror=report";

/// QEMU's arguments, without the program itself.
pub fn command_line(spec: &VmSpec) -> Vec<OsString> {
    let mut args = Args::default();
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        args.flag(flag);
    }
    args.pair("-display", "none");
    // QEMU meets hostile input from the guest; it needs neither new privileges nor other programs.
    args.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    args.pair("-machine", machine(spec));
    args.pair("-cpu", cpu(spec));
    args.pair("-smp", spec.cpus.to_string());
    args.pair("-m", format!("{}M", spec.memory_mib));
    args.pair("-object", memory(spec));
    platform(&mut args, spec);
    firmware(&mut args, spec);
    args.path("-kernel", "", &spec.kernel, Quote::No);
    if let Some(initrd) = &spec.initrd {
        args.path("-initrd", "", initrd, Quote::No);
        args.pair("-append", spec.cmdline.as_str());
    }
    vsock(&mut args, spec);
    args.path(
        "-blockdev",
        "driver=raw,node-name=initdata,read-only=on,file.driver=file,file.filename=",
        &spec.initdata_disk,
        Quote::Commas,
    );
    let bus = bus(spec);
    args.pair(
        "-device",
        format!("virtio-blk-{bus},drive=initdata,serial=initdata,{ON_ERROR}{}", virtio(spec)),
    );
    network(&mut args, spec);
    for (index, disk) in spec.disks.iter().enumerate() {
        further_disk(&mut args, spec, index, disk);
    }
    args.pair("-chardev", "stdio,id=console0,signal=off");
    args.pair("-serial", "chardev:console0");
    // QEMU connects to us: no waiting for its socket to appear.
    args.path("-chardev", "socket,id=qmp0,server=off,path=", &spec.qmp_socket, Quote::Commas);
    args.pair("-mon", "chardev=qmp0,mode=control");
    args.0
}

/// Plain raw files through the host's page cache: pods that share a layer share its pages. QEMU's own locks on the file
/// let several VMs read it, and one write.
///
/// A guest probes eight of them in a twentieth of a second and 32 in half a second, emulated, but 129 in over ten: each
/// change of the PCI map costs QEMU the more the more there is in it. One virtio-scsi controller would take three, at
/// the price of half a second for everybody and of a driver more in the guest.
fn further_disk(args: &mut Args, spec: &VmSpec, index: usize, disk: &Disk) {
    let access = if disk.read_only {
        "read-only=on"
    } else {
        // Nothing on it outlives the pod, so nothing needs to reach the medium.
        "cache.no-flush=on"
    };
    let prefix = format!("driver=raw,node-name=disk{index},{access},file.driver=file,file.filename=");
    args.path("-blockdev", &prefix, &disk.path, Quote::Commas);
    let (slot, function) = (FIRST_DISK_SLOT + index / FUNCTIONS, index % FUNCTIONS);
    let first = if function == 0 { ",multifunction=on" } else { "" };
    let address = match spec.machine {
        // Channel devices are numbered in the order of the command line.
        Machine::S390Ccw => String::new(),
        Machine::Q35 | Machine::Virt => format!("addr={slot:#x}.{function}{first},"),
    };
    // One queue each: a queue for each CPU would use up the guest's interrupt vectors.
    let device = format!(
        "virtio-blk-{},drive=disk{index},serial={},{address}num-queues=1,{ON_ERROR}{}",
        bus(spec),
        disk.serial,
        virtio(spec)
    );
    args.pair("-device", device);
}

fn machine(spec: &VmSpec) -> String {
    let accel = match spec.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    };
    let mut text = match spec.machine {
        Machine::Q35 => format!("q35,accel={accel},memory-backend=mem0,vmport=off,usb=off,graphics=off"),
        Machine::S390Ccw => format!("s390-ccw-virtio,accel={accel},memory-backend=mem0"),
        Machine::Virt => format!("virt,accel={accel},gic-version=3,memory-backend=mem0"),
    };
    text.push_str(match spec.platform {
        // Controllers that no guest of ours uses; the firmware and the kernel would look for drives on them.
        Platform::Sim => ",sata=off,smbus=off",
        Platform::Snp { .. } => ",kernel_irqchip=split,confidential-guest-support=snp0",
        Platform::Tdx { .. } => ",kernel_irqchip=split,confidential-guest-support=tdx0",
        // QEMU writes the initrd's address into the kernel's header, which the firmware measures. The address is that of
        // the end of memory below 4 GiB, so that end is made the same for VMs of all sizes.
        Platform::Tpm { .. } => ",sata=off,smbus=off,smm=off,max-ram-below-4g=256M,pflash0=code,pflash1=vars",
        Platform::Se => ",confidential-guest-support=pv0",
        Platform::Cca { .. } => ",confidential-guest-support=rme0",
    });
    text
}

/// Flash where the firmware keeps variables, else read-only memory.
fn firmware(args: &mut Args, spec: &VmSpec) {
    let Some(firmware) = &spec.firmware else { return };
    let Platform::Tpm { vars, .. } = &spec.platform else {
        return args.path("-bios", "", firmware, Quote::No);
    };
    let flash = "driver=raw,node-name=";
    let code = format!("{flash}code,read-only=on,file.driver=file,file.filename=");
    args.path("-blockdev", &code, firmware, Quote::Commas);
    args.path("-blockdev", &format!("{flash}vars,file.driver=file,file.filename="), vars, Quote::Commas);
}

/// How virtio devices are attached.
fn bus(spec: &VmSpec) -> &'static str {
    match spec.machine {
        Machine::S390Ccw => "ccw",
        Machine::Q35 | Machine::Virt => "pci",
    }
}

/// No option ROM: nobody boots from the network, and it would be one more thing to measure.
fn no_rom(spec: &VmSpec) -> &'static str {
    match spec.machine {
        Machine::S390Ccw => "",
        Machine::Q35 | Machine::Virt => ",romfile=",
    }
}

fn cpu(spec: &VmSpec) -> &'static str {
    match (&spec.platform, spec.accel) {
        // The model is measured into the VMSA.
        (Platform::Snp { .. }, _) => "EPYC-v4",
        (_, Accel::Kvm) => "host",
        (_, Accel::Tcg) => "max",
    }
}

fn memory(spec: &VmSpec) -> String {
    match spec.vsock {
        // The device in this process must see the guest's memory.
        VsockArg::User(_) => format!("memory-backend-memfd,id=mem0,size={}M,share=on", spec.memory_mib),
        VsockArg::Kernel(_) => format!("memory-backend-ram,id=mem0,size={}M", spec.memory_mib),
    }
}

/// Options of every virtio device: modern only, and in a TEE through shared bounce buffers.
fn virtio(spec: &VmSpec) -> &'static str {
    match (spec.machine, spec.platform.private_memory()) {
        (Machine::S390Ccw, true) => ",iommu_platform=on",
        (Machine::S390Ccw, false) => "",
        (_, true) => ",disable-legacy=on,iommu_platform=on",
        (_, false) => ",disable-legacy=on",
    }
}

fn platform(args: &mut Args, spec: &VmSpec) {
    match &spec.platform {
        Platform::Sim => {}
        Platform::Snp { cbitpos, policy, host_data, identity } => {
            let mut object = format!(
                "sev-snp-guest,id=snp0,cbitpos={cbitpos},reduced-phys-bits=1,kernel-hashes=on,\
                 policy={policy:#x},host-data={}",
                STANDARD.encode(host_data)
            );
            if let Some(identity) = identity {
                let (block, auth) =
                    (STANDARD.encode(identity.block), STANDARD.encode(identity.auth.as_slice()));
                object.push_str(&format!(",id-block={block},id-auth={auth}"));
                if identity.has_author_key() {
                    object.push_str(",author-key-enabled=on");
                }
            }
            args.pair("-object", object);
        }
        Platform::Tpm { socket, .. } => {
            args.path("-chardev", "socket,id=tpm0,path=", socket, Quote::Commas);
            args.pair("-tpmdev", "emulator,id=tpm0,chardev=tpm0");
            args.pair("-device", "tpm-crb,tpmdev=tpm0");
        }
        Platform::Se => args.pair("-object", "s390-pv-guest,id=pv0"),
        Platform::Cca { hash, personalization } => {
            let hash = match hash {
                RealmHash::Sha256 => "sha256",
                RealmHash::Sha512 => "sha512",
            };
            let value = STANDARD.encode(personalization);
            let object =
                format!("rme-guest,id=rme0,measurement-algorithm={hash},personalization-value={value}");
            args.pair("-object", object);
        }
        Platform::Tdx { mr_config_id, quotes } => {
            let socket = match quotes {
                QuoteGeneration::Unix(path) => {
                    serde_json::json!({ "type": "unix", "path": path.to_string_lossy() })
                }
                QuoteGeneration::Vsock(port) => {
                    serde_json::json!({ "type": "vsock", "cid": "2", "port": port.to_string() })
                }
            };
            let object = serde_json::json!({
                "qom-type": "tdx-guest",
                "id": "tdx0",
                "sept-ve-disable": true,
                "mrconfigid": STANDARD.encode(mr_config_id),
                "quote-generation-socket": socket,
            });
            args.pair("-object", object.to_string());
        }
    }
}

fn vsock(args: &mut Args, spec: &VmSpec) {
    match &spec.vsock {
        VsockArg::User(socket) => {
            args.path("-chardev", "socket,id=vsock0,path=", socket, Quote::Commas);
            args.pair("-device", format!("vhost-user-vsock-{},chardev=vsock0{}", bus(spec), virtio(spec)));
        }
        VsockArg::Kernel(cid) => {
            args.pair("-device", format!("vhost-vsock-{},guest-cid={cid}{}", bus(spec), virtio(spec)));
        }
    }
}

/// No option ROMs: nobody boots from the network, and they would be one more thing to measure.
fn network(args: &mut Args, spec: &VmSpec) {
    match &spec.network {
        NetArg::None => {}
        NetArg::User => {
            args.pair(
                "-netdev",
                "user,id=net0,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15",
            );
            args.pair("-device", format!("virtio-net-{},netdev=net0{}{}", bus(spec), no_rom(spec), virtio(spec)));
        }
        NetArg::Taps(taps) => {
            for (index, tap) in taps.iter().enumerate() {
                tap_device(args, spec, index, tap);
            }
        }
    }
}

fn tap_device(args: &mut Args, spec: &VmSpec, index: usize, tap: &Tap) {
    let vhost = match &tap.vhost {
        Some(vhost) => format!(",vhost=on,vhostfd={}", vhost.number()),
        None => String::new(),
    };
    args.pair("-netdev", format!("tap,id=net{index},fd={}{vhost}", tap.fd.number()));
    let mac = tap.mac.map(|byte| format!("{byte:02x}")).join(":");
    let (slot, function) = (FIRST_TAP_SLOT + index / FUNCTIONS, index % FUNCTIONS);
    let first = if function == 0 { ",multifunction=on" } else { "" };
    let device = format!(
        "virtio-net-pci,netdev=net{index},mac={mac},host_mtu={},addr={slot:#x}.{function}{first},romfile={}",
        tap.mtu,
        virtio(spec)
    );
    args.pair("-device", device);
}

/// Whether a comma ends the value in that option's syntax and must be doubled.
#[derive(Clone, Copy, PartialEq)]
enum Quote {
    No,
    Commas,
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn path(&mut self, name: &str, prefix: &str, path: &Path, quote: Quote) {
        let mut value = prefix.as_bytes().to_vec();
        for byte in OsStr::as_bytes(path.as_os_str()) {
            value.push(*byte);
            if *byte == b',' && quote == Quote::Commas {
                value.push(b',');
            }
        }
        self.pair(name, OsString::from_vec(value));
    }
}

//! The command lines, byte for byte. A changed golden file must be a decision: with a TEE it changes what is
//! measured. `UPDATE_GOLDEN=1 cargo test` writes them anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use std::os::fd::{AsFd, BorrowedFd};

use cocoon_vmm::{
    Accel, Console, Descriptor, Disk, MAX_DISKS, MAX_TAPS, Machine, NetArg, Platform, QuoteGeneration,
    RealmHash, SnpIdentity, Tap, VmSpec, VsockArg, command_line, host_field,
};

fn spec() -> VmSpec {
    VmSpec {
        qemu: "qemu-system-x86_64".into(),
        platform: Platform::Sim,
        accel: Accel::Tcg,
        machine: Machine::Q35,
        cpus: 2,
        memory_mib: 1024,
        kernel: "/guest/vmlinuz".into(),
        initrd: Some("/guest/initrd".into()),
        cmdline: "console=ttyS0 quiet panic=-1".into(),
        firmware: Some("/usr/share/seabios/bios-256k.bin".into()),
        initdata_disk: "/run/pod,1/initdata".into(),
        disks: Vec::new(),
        vsock: VsockArg::User("/run/pod,1/vsock".into()),
        network: NetArg::User,
        console: Console::Tail,
        qmp_socket: "/run/pod,1/qmp".into(),
        run_dir: "/run/pod,1".into(),
    }
}

fn golden(name: &str, spec: &VmSpec) {
    let lines: Vec<String> =
        command_line(spec).iter().map(|arg| arg.to_str().unwrap().to_owned() + "\n").collect();
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = lines.concat();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

fn snp_platform(identity: Option<SnpIdentity>) -> Platform {
    Platform::Snp { cbitpos: 51, policy: 0x30000, host_data: [0xab; 32], identity }
}

#[test]
fn sim_under_emulation() {
    golden("sim-tcg.txt", &spec());
}

#[test]
fn sim_under_kvm() {
    golden("sim-kvm.txt", &VmSpec { accel: Accel::Kvm, vsock: VsockArg::Kernel(42), ..spec() });
}

#[test]
fn snp() {
    golden(
        "snp.txt",
        &VmSpec {
            platform: snp_platform(None),
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: Some("/usr/share/ovmf/OVMF.amdsev.fd".into()),
            ..spec()
        },
    );
}

/// Nine layers, so that the second slot begins, and a scratch disk.
fn disks() -> Vec<Disk> {
    let layer = |n: usize| Disk {
        path: format!("/cache,1/layers/{n}").into(),
        serial: format!("{n:020x}"),
        read_only: true,
    };
    let scratch = Disk { path: "/run/pod,1/scratch".into(), serial: "scratch".into(), read_only: false };
    (0..9).map(layer).chain([scratch]).collect()
}

#[test]
fn sim_with_disks() {
    golden("sim-disks.txt", &VmSpec { disks: disks(), ..spec() });
}

#[test]
fn snp_with_disks() {
    golden(
        "snp-disks.txt",
        &VmSpec {
            platform: snp_platform(None),
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: Some("/usr/share/ovmf/OVMF.amdsev.fd".into()),
            disks: disks(),
            ..spec()
        },
    );
}

/// An open descriptor of this number, so that the command line is the same each time.
fn numbered(number: i32) -> Descriptor {
    let null = std::fs::File::open("/dev/null").unwrap();
    let null: BorrowedFd<'_> = null.as_fd();
    let fd = Descriptor::from(rustix::io::fcntl_dupfd_cloexec(null, number).unwrap());
    assert_eq!(fd.number(), number);
    fd
}

/// Ten, so that the second slot begins; with a packet mover each where `vhost` says so.
fn taps(first: i32, vhost: bool) -> Vec<Tap> {
    let tap = |n: u8| {
        let fd = numbered(first + 2 * i32::from(n));
        let vhost = vhost.then(|| numbered(first + 2 * i32::from(n) + 1));
        Tap { mac: [2, 0, 0, 0xab, 0xcd, n], mtu: if n == 0 { 1500 } else { 9000 }, fd, vhost }
    };
    (0..10).map(tap).collect()
}

#[test]
fn sim_with_taps() {
    golden("sim-taps.txt", &VmSpec { network: NetArg::Taps(taps(600, false)), ..spec() });
}

#[test]
fn snp_with_taps() {
    golden(
        "snp-taps.txt",
        &VmSpec {
            platform: Platform::Snp { cbitpos: 51, policy: 0x30000, host_data: [0xab; 32], identity: None },
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: Some("/usr/share/ovmf/OVMF.amdsev.fd".into()),
            network: NetArg::Taps(taps(640, true)),
            ..spec()
        },
    );
}

#[test]
fn without_network() {
    let with = |network| command_line(&VmSpec { network, ..spec() });
    assert_eq!(with(NetArg::None), with(NetArg::Taps(Vec::new())));
    assert!(with(NetArg::None).iter().all(|arg| !arg.to_str().unwrap().contains("net")));
}

#[test]
fn taps_that_a_guest_could_confuse_are_refused() {
    let refused = |spoil: &dyn Fn(&mut Vec<Tap>)| {
        let mut taps: Vec<Tap> = (0..2)
            .map(|n| {
                let fd = std::fs::File::open("/dev/null").unwrap();
                let fd = Descriptor::from(std::os::fd::OwnedFd::from(fd));
                Tap { mac: [2, 0, 0, 0, 0, n], mtu: 1500, fd, vhost: None }
            })
            .collect();
        spoil(&mut taps);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started =
            runtime.block_on(cocoon_vmm::Vm::start(VmSpec { network: NetArg::Taps(taps), ..spec() }));
        started.err().unwrap().to_string()
    };
    assert!(refused(&|_| {}).contains("vmlinuz"), "two good ones are not what is wrong");
    assert!(refused(&|t| t[1].mac = t[0].mac).contains("the same hardware address"));
    assert!(refused(&|t| t[1].mac = [1, 0, 0, 0, 0, 1]).contains("one device"));
    assert!(refused(&|t| t[1].mac = [0; 6]).contains("one device"));
    assert!(refused(&|t| t[1].mtu = 65_536).contains("MTU"));
    assert!(refused(&|t| t[1].fd = t[0].fd.clone()).contains("of its own"));
    assert!(refused(&|t| t[1].vhost = Some(t[1].fd.clone())).contains("of its own"));
    assert!(refused(&|t| *t = vec![t[0].clone(); MAX_TAPS + 1]).contains("at most 16"));
}

#[test]
fn each_disk_has_an_address_of_its_own() {
    let disk = |n: usize| Disk { path: "/d".into(), serial: format!("d{n}"), read_only: true };
    let full = VmSpec { disks: (0..MAX_DISKS).map(disk).collect(), ..spec() };
    let lines: Vec<String> = command_line(&full).iter().map(|a| a.to_str().unwrap().to_owned()).collect();
    let addresses: BTreeSet<&str> = lines
        .iter()
        .filter_map(|l| l.split("addr=").nth(1))
        .map(|rest| rest.split(',').next().unwrap())
        .collect();
    assert_eq!(addresses.len(), MAX_DISKS);
    // Slot 31 is the chipset's.
    let slot = |a: &str| u8::from_str_radix(&a[2..a.find('.').unwrap()], 16).unwrap();
    assert!(addresses.iter().all(|a| (8..31).contains(&slot(a))), "{addresses:?}");
}

#[test]
fn tdx() {
    golden(
        "tdx.txt",
        &VmSpec {
            platform: Platform::Tdx {
                mr_config_id: [0xcd; 48],
                quotes: QuoteGeneration::Unix("/var/run/tdx-qgs/qgs.socket".into()),
            },
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: Some("/usr/share/ovmf/OVMF.inteltdx.fd".into()),
            ..spec()
        },
    );
}

#[test]
fn tdx_with_quotes_over_vsock() {
    golden(
        "tdx-vsock.txt",
        &VmSpec {
            platform: Platform::Tdx {
                mr_config_id: host_field(&[0xcd; 32]),
                quotes: QuoteGeneration::Vsock(4050),
            },
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: Some("/usr/share/ovmf/OVMF.inteltdx.fd".into()),
            ..spec()
        },
    );
}

#[test]
fn snp_with_an_id_block_and_an_author() {
    let mut auth = Box::new([0; 4096]);
    (auth[0], auth[4], auth[4095]) = (1, 1, 0xff);
    golden(
        "snp-id-block.txt",
        &VmSpec {
            platform: snp_platform(Some(SnpIdentity { block: [0x1d; 96], auth })),
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: Some("/usr/share/ovmf/OVMF.amdsev.fd".into()),
            ..spec()
        },
    );
}

#[test]
fn a_tpm_beside_a_measured_boot() {
    golden(
        "tpm.txt",
        &VmSpec {
            platform: Platform::Tpm {
                socket: "/run/pod,1/tpm.sock".into(),
                vars: "/run/pod,1/vars.fd".into(),
            },
            firmware: Some("/usr/share/OVMF/OVMF_CODE_4M.fd".into()),
            ..spec()
        },
    );
}

#[test]
fn secure_execution() {
    golden(
        "se.txt",
        &VmSpec {
            qemu: "qemu-system-s390x".into(),
            platform: Platform::Se,
            machine: Machine::S390Ccw,
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            kernel: "/guest/se.img".into(),
            initrd: None,
            cmdline: String::new(),
            firmware: None,
            disks: disks(),
            ..spec()
        },
    );
}

#[test]
fn realm() {
    golden(
        "cca.txt",
        &VmSpec {
            qemu: "qemu-system-aarch64".into(),
            platform: Platform::Cca { hash: RealmHash::Sha512, personalization: host_field(&[0xef; 32]) },
            machine: Machine::Virt,
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: None,
            ..spec()
        },
    );
}

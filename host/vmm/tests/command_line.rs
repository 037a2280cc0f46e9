//! The command lines, byte for byte. A changed golden file must be a decision: with a TEE it changes what is
//! measured. `UPDATE_GOLDEN=1 cargo test` writes them anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cocoon_vmm::{
    Accel, Console, Disk, MAX_DISKS, Machine, NetArg, Platform, QuoteGeneration, RealmHash, SnpIdentity,
    VmSpec, VsockArg, command_line, host_field,
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

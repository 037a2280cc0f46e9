//! The command lines, byte for byte. A changed golden file must be a decision: with a TEE it changes what is
//! measured. `UPDATE_GOLDEN=1 cargo test` writes them anew.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use cocoon_vmm::{
    Accel, Console, Machine, NetArg, Platform, QuoteGeneration, VmSpec, VsockArg, command_line,
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
        initrd: "/guest/initrd".into(),
        cmdline: "console=ttyS0 quiet panic=-1".into(),
        firmware: Some("/usr/share/seabios/bios-256k.bin".into()),
        initdata_disk: "/run/pod,1/initdata".into(),
        vsock: VsockArg::User("/run/pod,1/vsock".into()),
        network: NetArg::User,
        console: Console::Tail,
        host_data: [0xab; 32],
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
            platform: Platform::Snp { cbitpos: 51, policy: 0x30000 },
            accel: Accel::Kvm,
            vsock: VsockArg::Kernel(42),
            firmware: Some("/usr/share/ovmf/OVMF.amdsev.fd".into()),
            ..spec()
        },
    );
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

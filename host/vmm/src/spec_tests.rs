//! What a specification may not say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::*;

fn spec() -> VmSpec {
    VmSpec {
        qemu: "qemu".into(),
        platform: Platform::Sim,
        accel: Accel::Tcg,
        machine: Machine::Q35,
        cpus: 1,
        memory_mib: 512,
        kernel: "/k".into(),
        initrd: Some("/i".into()),
        cmdline: "quiet".into(),
        firmware: Some("/f".into()),
        initdata_disk: "/d".into(),
        disks: Vec::new(),
        vsock: VsockArg::User("/s".into()),
        network: NetArg::None,
        console: Console::Tail,
        qmp_socket: "/q".into(),
        run_dir: "/r".into(),
    }
}

fn real(platform: Platform) -> VmSpec {
    let machine = platform.machine();
    let base = VmSpec { accel: Accel::Kvm, vsock: VsockArg::Kernel(3), machine, platform, ..spec() };
    match base.platform {
        Platform::Se => VmSpec { initrd: None, cmdline: String::new(), firmware: None, ..base },
        Platform::Cca { .. } => VmSpec { firmware: None, ..base },
        _ => base,
    }
}

fn snp() -> Platform {
    Platform::Snp { cbitpos: 51, policy: 0x30000, host_data: [0; 32], identity: None }
}

fn tdx() -> Platform {
    Platform::Tdx { mr_config_id: [0; 48], quotes: QuoteGeneration::Vsock(4050) }
}

fn cca() -> Platform {
    Platform::Cca { hash: RealmHash::Sha256, personalization: [0; 64] }
}

fn tpm() -> Platform {
    Platform::Tpm { socket: "/t".into(), vars: "/v".into() }
}

fn refused(spec: VmSpec, why: &str) {
    let error = spec.check().unwrap_err().to_string();
    assert!(error.contains(why), "{why}: {error}");
}

#[test]
fn every_platform_has_a_specification_that_is_good() {
    assert!(spec().check().is_ok());
    assert!(VmSpec { platform: tpm(), ..spec() }.check().is_ok());
    for platform in [snp(), tdx(), cca(), Platform::Se] {
        let spec = real(platform);
        assert!(spec.check().is_ok(), "{spec:?}");
    }
}

#[test]
fn nothing_runs_unprotected_by_mistake() {
    for platform in [snp(), tdx(), cca(), Platform::Se] {
        refused(VmSpec { accel: Accel::Tcg, ..real(platform.clone()) }, "KVM");
        refused(VmSpec { vsock: VsockArg::User("/s".into()), ..real(platform.clone()) }, "vsock");
        let wrong = if platform.machine() == Machine::Virt { Machine::Q35 } else { Machine::Virt };
        refused(VmSpec { machine: wrong, ..real(platform) }, "machine model");
    }
    refused(VmSpec { machine: Machine::Virt, ..spec() }, "machine model");
    for platform in [snp(), tdx()] {
        refused(VmSpec { firmware: None, ..real(platform) }, "firmware");
    }
    refused(VmSpec { firmware: None, platform: tpm(), ..spec() }, "firmware");
    refused(VmSpec { memory_mib: 255, platform: tpm(), ..spec() }, "256 MiB");
    refused(VmSpec { vsock: VsockArg::Kernel(2), ..real(snp()) }, "context ids");
}

#[test]
fn a_secure_execution_image_is_all_that_boots() {
    refused(VmSpec { firmware: Some("/f".into()), ..real(Platform::Se) }, "firmware");
    refused(VmSpec { initrd: Some("/i".into()), ..real(Platform::Se) }, "initrd");
    refused(VmSpec { cmdline: "quiet".into(), ..real(Platform::Se) }, "command line");
    refused(VmSpec { initrd: None, ..real(cca()) }, "needs its initrd");
    refused(VmSpec { initrd: None, ..spec() }, "needs its initrd");
}

#[test]
fn id_blocks_have_their_length() {
    let block = STANDARD.encode([1; 96]);
    let auth = STANDARD.encode([0; 4096]);
    let identity = SnpIdentity::from_base64(&block, &format!("{auth}\n")).unwrap();
    assert!(!identity.has_author_key());
    let mut signed = vec![0; 4096];
    signed[4] = 1;
    assert!(SnpIdentity::from_base64(&block, &STANDARD.encode(signed)).unwrap().has_author_key());
    for (block, auth, why) in [
        (STANDARD.encode([1; 95]), auth.clone(), "96"),
        ("?".to_owned(), auth.clone(), "96"),
        (block.clone(), STANDARD.encode([0; 4097]), "4096"),
        (block.clone(), String::new(), "4096"),
    ] {
        let error = SnpIdentity::from_base64(&block, &auth).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn fields_hold_a_digest_cut_or_padded() {
    assert_eq!(host_field::<4>(&[1, 2, 3]), [1, 2, 3, 0]);
    assert_eq!(host_field::<2>(&[1, 2, 3]), [1, 2]);
    assert_eq!(host_field::<48>(&[7; 48]), [7; 48]);
}

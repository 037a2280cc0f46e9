//! Whole builds from a made-up kernel package, so that no network and no real kernel is needed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cocoon_stage::{Code, Failure};

use crate::modinfo::fake_module;
use crate::{BuildOptions, CMDLINE, Error, GuestImage, MAX_VCPUS, build};

struct Parts {
    dir: tempfile::TempDir,
    options: BuildOptions,
}

/// A package with the folders of a real one, and a program that passes for a static one.
fn parts() -> Parts {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("package");
    let put = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(
        "DEBIAN/control",
        b"Package: linux-image-9.9-cloud-amd64\nVersion: 9.9.1-1\nArchitecture: amd64\n\
          Maintainer: Nobody <nobody@example.org>\nDescription: test\n",
    );
    put("boot/vmlinuz-9.9-cloud-amd64", &[7; 40_000]);
    let modules = "lib/modules/9.9-cloud-amd64";
    let built_in = "kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/overlayfs/overlay.ko\nkernel/fs/ext4/ext4.ko\n\
                    kernel/crypto/xts.ko\nkernel/crypto/ecb.ko\nkernel/crypto/authenc.ko\n\
                    kernel/drivers/block/loop.ko\n";
    put(&format!("{modules}/modules.builtin"), built_in.as_bytes());
    for (name, depends) in [
        ("virtio_blk", ""),
        ("virtio_net", "net-failover"),
        ("net_failover", ""),
        ("vmw_vsock_virtio_transport", "vsock"),
        ("vsock", ""),
        ("sev-guest", ""),
        ("erofs", ""),
        ("dm-mod", ""),
        ("dm-verity", "dm-mod"),
        ("dm-crypt", "dm-mod"),
        ("dm-integrity", "dm-mod"),
        ("aesni-intel", ""),
    ] {
        let module = fake_module(format!("depends={depends}\0").as_bytes());
        put(&format!("{modules}/kernel/{name}.ko"), &module);
    }
    let deb = dir.path().join("kernel.deb");
    let made = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "-b"])
        .args([&root, &deb])
        .output()
        .expect("dpkg-deb, which every Debian machine has");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut guest = vec![0_u8; 64];
    guest[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    guest[0x10] = 2;
    guest[0x12] = 62;
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let options = BuildOptions {
        kernel_deb: Some(deb),
        suite: None,
        guest_binary: file("guest", &guest),
        out_dir: dir.path().join("data/image"),
        ca_bundle: Some(file("roots.pem", b"-----BEGIN CERTIFICATE-----\n")),
        firmware: file("bios.bin", &[0x90; 8192]),
        developer: false,
    };
    Parts { dir, options }
}

fn bytes_of(image: &GuestImage) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(&image.dir)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn code(result: Result<GuestImage, Error>) -> Code {
    Failure::from(result.unwrap_err()).code
}

#[test]
fn building_twice_gives_the_same_bytes() {
    let parts = parts();
    let mut said = Vec::new();
    let first = build(&parts.options, &mut |line| said.push(line.to_owned())).unwrap();
    assert!(said.iter().any(|l| l.contains("linux-image-9.9-cloud-amd64 9.9.1-1")), "{said:?}");
    let elsewhere = BuildOptions { out_dir: parts.dir.path().join("other"), ..parts.options.clone() };
    let second = build(&elsewhere, &mut |_| {}).unwrap();
    assert_eq!(bytes_of(&first), bytes_of(&second));
    assert_eq!(first.manifest, second.manifest);
    let names: Vec<_> = bytes_of(&first).into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["firmware.bin", "initrd.img", "manifest.json", "reference-values.json", "vmlinuz"]);
    assert_eq!(
        fs::read_dir(parts.options.out_dir.parent().unwrap()).unwrap().count(),
        1,
        "nothing beside it"
    );
}

#[test]
fn the_manifest_says_what_is_inside() {
    let parts = parts();
    let image = build(&parts.options, &mut |_| {}).unwrap();
    let manifest = &image.manifest;
    assert_eq!(manifest.kernel_release, "9.9-cloud-amd64");
    assert_eq!(manifest.kernel_package.version, "9.9.1-1");
    assert_eq!(manifest.kernel_package.sha256.len(), 64);
    assert_eq!(
        manifest.modules,
        ["virtio_blk", "net_failover", "virtio_net", "vsock", "vmw_vsock_virtio_transport"]
    );
    assert_eq!(manifest.optional_modules, ["sev_guest"]);
    assert_eq!(image.cmdline, CMDLINE);
    let initrd = fs::read(&image.initrd).unwrap();
    let holds = |text: &[u8]| initrd.windows(text.len()).any(|w| w == text);
    assert!(holds(b"00-virtio_blk.ko\n01-net_failover.ko\n02-virtio_net.ko\n"));
    assert_eq!(manifest.module_sets["layers"], ["erofs", "dm_mod", "dm_verity"]);
    assert!(holds(b"06-erofs.ko\n07-dm_mod.ko\n08-dm_verity.ko\n"));
    assert!(holds(b"07-dm_mod.ko\n09-dm_crypt.ko\n?10-aesni_intel.ko aes\n"));
    assert!(holds(b"05-sev_guest.ko\n") && holds(b"BEGIN CERTIFICATE"));
}

#[test]
fn every_input_changes_the_measurement() {
    let parts = parts();
    let values = |options: &BuildOptions| {
        build(options, &mut |_| {}).unwrap().reference_values().unwrap()["sim_launch_measurement"].clone()
    };
    let before = values(&parts.options);
    assert_eq!(before.len(), MAX_VCPUS as usize);
    assert!(before.iter().all(|v| v.len() == 96 && v.bytes().all(|b| b.is_ascii_hexdigit())));
    assert!(before.windows(2).all(|w| w[0] != w[1]), "the number of vCPUs counts");
    let no_roots = values(&BuildOptions { ca_bundle: None, ..parts.options.clone() });
    fs::write(&parts.options.firmware, [0x91; 8192]).unwrap();
    let firmware = values(&parts.options);
    assert!(before[0] != no_roots[0] && before[0] != firmware[0] && no_roots[0] != firmware[0]);
}

#[test]
fn a_developers_image_says_so_and_measures_to_other_values() {
    let parts = parts();
    let usual = build(&parts.options, &mut |_| {}).unwrap();
    let holds = |image: &GuestImage| {
        let initrd = fs::read(&image.initrd).unwrap();
        initrd.windows(10).any(|w| w == b"developer\0")
    };
    assert!(!usual.manifest.developer && !holds(&usual));
    let text = fs::read_to_string(parts.options.out_dir.join("manifest.json")).unwrap();
    assert!(!text.contains("developer"), "what programs before read stays as it was");
    let before = usual.reference_values().unwrap();
    let developers = build(&BuildOptions { developer: true, ..parts.options.clone() }, &mut |_| {}).unwrap();
    assert!(developers.manifest.developer && holds(&developers));
    let after = developers.reference_values().unwrap();
    assert!(before["sim_launch_measurement"].iter().all(|v| !after["sim_launch_measurement"].contains(v)));
    assert!(GuestImage::open(&parts.options.out_dir).unwrap().manifest.developer);
}

#[test]
fn a_changed_or_missing_file_is_refused() {
    let parts = parts();
    assert_eq!(code(GuestImage::open(&parts.options.out_dir)), Code::BootGuestImageMissing);
    let image = build(&parts.options, &mut |_| {}).unwrap();
    for file in [&image.kernel, &image.initrd, &image.firmware, &image.dir.join("reference-values.json")] {
        let good = fs::read(file).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(file, &bad).unwrap();
        assert_eq!(code(GuestImage::open(&image.dir)), Code::BootGuestImageCorrupt, "{file:?}");
        fs::write(file, &good[..good.len() - 1]).unwrap();
        assert_eq!(code(GuestImage::open(&image.dir)), Code::BootGuestImageCorrupt, "{file:?}");
        fs::remove_file(file).unwrap();
        assert_eq!(code(GuestImage::open(&image.dir)), Code::BootGuestImageCorrupt, "{file:?}");
        fs::write(file, &good).unwrap();
        GuestImage::open(&image.dir).unwrap();
    }
    let manifest = image.dir.join("manifest.json");
    for bad in ["", "[]", "{\"version\":1}"] {
        fs::write(&manifest, bad).unwrap();
        assert_eq!(code(GuestImage::open(&image.dir)), Code::BootGuestImageCorrupt);
    }
    fs::remove_file(&manifest).unwrap();
    assert_eq!(code(GuestImage::open(&image.dir)), Code::BootGuestImageMissing);
}

#[test]
fn a_failed_build_leaves_the_old_image_and_nothing_else() {
    let parts = parts();
    let before = bytes_of(&build(&parts.options, &mut |_| {}).unwrap());
    let try_with = |change: &dyn Fn(&mut BuildOptions)| {
        let mut options = parts.options.clone();
        change(&mut options);
        code(build(&options, &mut |_| {}))
    };
    let text = parts.dir.path().join("text");
    fs::write(&text, "#!/bin/sh\n").unwrap();
    for refused in [
        try_with(&|o| o.guest_binary = text.clone()),
        try_with(&|o| o.guest_binary = PathBuf::from("/nonexistent")),
        try_with(&|o| o.kernel_deb = Some(text.clone())),
        try_with(&|o| o.firmware = PathBuf::from("/nonexistent")),
        try_with(&|o| o.ca_bundle = Some(PathBuf::from("/nonexistent"))),
    ] {
        assert_eq!(refused, Code::BootGuestBuildFailed);
    }
    assert_eq!(bytes_of(&GuestImage::open(&parts.options.out_dir).unwrap()), before);
    assert_eq!(fs::read_dir(parts.options.out_dir.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_folder_with_other_things_is_not_replaced() {
    let parts = parts();
    let precious = parts.options.out_dir.join("thesis.txt");
    fs::create_dir_all(&parts.options.out_dir).unwrap();
    build(&parts.options, &mut |_| {}).expect("an empty folder may be taken");
    fs::remove_dir_all(&parts.options.out_dir).unwrap();
    fs::create_dir_all(&parts.options.out_dir).unwrap();
    fs::write(&precious, "years of work").unwrap();
    assert_eq!(code(build(&parts.options, &mut |_| {})), Code::BootGuestBuildFailed);
    assert!(precious.exists());
}

#[test]
fn two_builds_at_once_leave_one_whole_image() {
    let parts = parts();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let options = parts.options.clone();
            scope.spawn(move || {
                for _ in 0..3 {
                    build(&options, &mut |_| {}).unwrap();
                }
            });
        }
    });
    GuestImage::open(&parts.options.out_dir).unwrap();
    assert_eq!(fs::read_dir(parts.options.out_dir.parent().unwrap()).unwrap().count(), 1);
}

/// The real thing, where a kernel package is at hand (`COCOON_KERNEL_DEB`).
#[test]
fn a_real_kernel_package_gives_an_image() {
    let Some(deb) = std::env::var_os("COCOON_KERNEL_DEB") else {
        println!("skipped: COCOON_KERNEL_DEB names no kernel package");
        return;
    };
    let parts = parts();
    let options = BuildOptions { kernel_deb: Some(deb.into()), ..parts.options.clone() };
    let image = build(&options, &mut |_| {}).unwrap();
    assert!(image.manifest.modules.iter().any(|m| m == "vmw_vsock_virtio_transport"));
    let scratch = &image.manifest.module_sets["scratch"];
    assert!(["dm_mod", "dm_crypt", "dm_integrity", "authenc"].iter().all(|m| scratch.iter().any(|s| s == m)));
    let magic = fs::read(&image.kernel).unwrap()[0x202..0x206].to_vec();
    assert_eq!(magic, b"HdrS", "a bzImage (Linux x86 boot protocol)");
}

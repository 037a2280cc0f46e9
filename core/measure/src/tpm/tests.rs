use proptest::prelude::*;

use super::*;

/// A small EFI application that is a Linux kernel too: headers, two sections out of order, a tail and a certificate.
fn kernel() -> Vec<u8> {
    let mut image = vec![0u8; 0x800];
    let put =
        |image: &mut Vec<u8>, at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut image, 0, b"MZ");
    put(&mut image, 0x3c, &0x40u32.to_le_bytes());
    put(&mut image, 0x40, b"PE\0\0");
    put(&mut image, 0x46, &2u16.to_le_bytes());
    put(&mut image, 0x54, &160u16.to_le_bytes());
    put(&mut image, 0x58, &PLUS.to_le_bytes());
    // Size of headers, checksum, number of directories, certificate table.
    put(&mut image, 0x58 + 60, &0x400u32.to_le_bytes());
    put(&mut image, 0x58 + 64, &0x1234_5678u32.to_le_bytes());
    put(&mut image, 0x58 + 108, &6u32.to_le_bytes());
    put(&mut image, CERTIFICATES, &0x780u32.to_le_bytes());
    put(&mut image, CERTIFICATES + 4, &0x80u32.to_le_bytes());
    for (n, (size, from)) in [(0x100u32, 0x500u32), (0x100, 0x400)].into_iter().enumerate() {
        let section = 0x58 + 160 + 40 * n;
        put(&mut image, section + 16, &size.to_le_bytes());
        put(&mut image, section + 20, &from.to_le_bytes());
    }
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x020fu16.to_le_bytes());
    put(&mut image, 0x236, &2u16.to_le_bytes());
    for (at, byte) in image.iter_mut().enumerate().skip(0x400) {
        *byte = u8::try_from(at % 251).unwrap();
    }
    image
}

const PLUS: u16 = 0x20b;
const CERTIFICATES: usize = 0x58 + 112 + 32;

fn files<'a>(kernel: &'a [u8], initrd: &'a [u8]) -> BootFiles<'a> {
    BootFiles { kernel, initrd, cmdline: "console=ttyS0" }
}

#[test]
fn checksum_and_certificates_do_not_count_and_everything_else_does() {
    let kernel = kernel();
    let base = pe::authenticode(&kernel).unwrap();
    let plain: Vec<&[u8]> =
        vec![&kernel[..0x58 + 64], &kernel[0x58 + 68..CERTIFICATES], &kernel[CERTIFICATES + 8..0x780]];
    assert_eq!(base, sha256(&plain.concat()));
    for at in (0..0x780).chain([0x7ff]) {
        let mut changed = kernel.clone();
        changed[at] ^= 1;
        let same = pe::authenticode(&changed).ok() == Some(base);
        let left_out = (0x58 + 64..0x58 + 68).contains(&at)
            || (CERTIFICATES..CERTIFICATES + 4).contains(&at)
            || at >= 0x780;
        // The table of directories says its own number, the sections their places: what does not parse is no kernel.
        assert_eq!(same, left_out, "byte {at:#x}");
    }
}

#[test]
fn registers_tell_kernel_initrd_and_command_line_apart() {
    let kernel = kernel();
    let base = files(&kernel, b"initrd");
    let [patched, raw] = register_4(&base).unwrap();
    assert_ne!(patched, raw);
    // The initrd's size is in the kernel's header, its bytes are not.
    assert_eq!(register_4(&files(&kernel, b"initrx")).unwrap(), [patched, raw]);
    assert_ne!(register_4(&files(&kernel, &[0; 5000])).unwrap()[0], patched);
    assert_ne!(register_9(&files(&kernel, b"initrx")), register_9(&base));
    assert_ne!(register_9(&BootFiles { cmdline: "console=ttyS1", ..base }), register_9(&base));
    let values = reference_values(&base).unwrap();
    assert_eq!(values["tpm_pcr04"], [hex::encode(patched), hex::encode(raw)]);
    assert_eq!(values["tpm_pcr09"].len(), 1);
    assert_eq!(values["tpm_pcr02"], ["3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"]);
    assert_eq!(register_8(&[7; 32]), sha256(&[[0; 32], [7; 32]].concat()));
}

/// What a real boot left in the registers of swtpm: Debian 12's OVMF 2022.11 and QEMU 7.2, `console=ttyS0 quiet`, an initrd of
/// that digest. The kernel's digest is told by the event log.
#[test]
fn the_events_of_a_real_boot_lead_to_its_registers() {
    let digest = |text: &str| -> [u8; 32] { hex::decode(text).unwrap().try_into().unwrap() };
    let kernel = digest("bebda7e8f337f09ed9d97a891470030f12df02e5a94c189fcba2bbb50a3233fd");
    assert_eq!(
        hex::encode(replay(&[kernel, sha256(CALLING), sha256(SEPARATOR)])),
        "927702d0ad168a6555ab9457a5ee6d2f0d94756737f60e42ea6db0fd8d1eb89e"
    );
    let initrd = digest("a4711c1ccdfbcb6ca96db9e6f7fdfe08cf7ef6789c18ca150fad1373ccef0790");
    let options: Vec<u8> =
        "console=ttyS0 quiet initrd=initrd\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        hex::encode(replay(&[sha256(&options), initrd])),
        "10c1e6719e5f55e94e00411075e825d3183e411c3dc128d688648a671abcee72"
    );
}

#[test]
fn what_is_no_kernel_is_refused() {
    let kernel = kernel();
    for length in [0, 1, 2, 0x40, 0x58, 0x202, 0x3ff, 0x5ff] {
        assert!(register_4(&files(&kernel[..length], b"i")).is_err(), "{length:#x}");
    }
    for (at, byte) in [(0, b'X'), (0x40, b'X'), (0x59, 9), (0x202, b'x'), (0x207, 1), (0x236, 0)] {
        let mut changed = kernel.clone();
        changed[at] = byte;
        assert!(register_4(&files(&changed, b"i")).is_err(), "{at:#x}");
    }
    let large = vec![0; usize::try_from(LOW_MEMORY).unwrap()];
    assert!(register_4(&files(&kernel, &large)).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_measured_or_refused(at in 0usize..0x780, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut image = kernel();
        for (place, byte) in image.iter_mut().skip(at).zip(&bytes) {
            *place = *byte;
        }
        let _ = register_4(&files(&image, b"initrd"));
        let _ = register_4(&files(&bytes, b"initrd"));
    }
}

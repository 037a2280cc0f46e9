//! The cipher beside Python's `cryptography`, and on files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod common;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use cocoon_erofs::cipher::{Xts, encrypt_file};

fn key() -> [u8; 64] {
    std::array::from_fn(|i| (i * 37 + 11) as u8)
}

/// dm-crypt's own words for it: the n-th 4096-byte sector, `plain64`, is one XTS data unit.
const PEER: &str = "
import sys
try:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
except ImportError:
    sys.exit(77)
key, first = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
data = sys.stdin.buffer.read()
for i in range(0, len(data), 4096):
    tweak = (first + i // 4096).to_bytes(16, 'little')
    e = Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor()
    sys.stdout.buffer.write(e.update(data[i:i + 4096]) + e.finalize())
";

fn peer(first: u64, data: &[u8]) -> Option<Vec<u8>> {
    let started = Command::new("python3")
        .args(["-c", PEER, &hex(&key()), &first.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        println!("skipped: python3 is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(data).unwrap_or_default();
    let out = child.wait_with_output().unwrap();
    if out.status.code() == Some(77) {
        println!("skipped: python3 has no cryptography module");
        return None;
    }
    assert!(out.status.success());
    Some(out.stdout)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn blocks_are_ciphered_as_another_implementation_does() {
    let plain: Vec<u8> = (0..3 * 4096_u32).map(|i| (i * 7 + i / 251) as u8).collect();
    for first in [0, 1, u64::from(u32::MAX), u64::MAX / 2] {
        let mut data = plain.clone();
        Xts::new(&key()).encrypt_blocks(first, &mut data);
        let Some(theirs) = peer(first, &plain) else { return };
        assert!(data == theirs, "{first}");
        Xts::new(&key()).decrypt_blocks(first, &mut data);
        assert!(data == plain);
    }
}

#[test]
fn a_file_is_ciphered_block_by_block() {
    let blocks = 150;
    let file = tempfile::tempfile().unwrap();
    let mut plain = vec![5_u8; blocks * 4096];
    file.write_all_at(&plain, 0).unwrap();
    file.write_all_at(b"behind", (blocks * 4096) as u64).unwrap();
    encrypt_file(&file, blocks as u64, &Xts::new(&key())).unwrap();
    let mut ciphered = vec![0; blocks * 4096 + 6];
    file.read_exact_at(&mut ciphered, 0).unwrap();
    assert_eq!(&ciphered[blocks * 4096..], b"behind");
    Xts::new(&key()).encrypt_blocks(0, &mut plain);
    assert!(ciphered[..blocks * 4096] == plain);
    assert_ne!(plain[..4096], plain[4096..8192], "the same block elsewhere is another");
    assert!(encrypt_file(&file, blocks as u64 + 1, &Xts::new(&key())).is_err());
}

//! PID 1 of the test guest: loads the vsock modules, serves port 1024 and reports on host port 1025.
//! Built by the test with plain rustc, statically, so it declares the few C functions that it needs.
//!
//! Commands on port 1024, one a connection: `e` echoes to the end, then says "bye"; `s` counts what it gets and
//! answers with count and sum after the end; `g` + u64 sends so many bytes; `c` + u32 connects to that host port and
//! answers with its errno; `f` + u32 opens 300 connections to a host port at once and answers how many were accepted;
//! `q` powers off.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const Address, len: u32) -> c_int;
    fn listen(fd: c_int, backlog: c_int) -> c_int;
    fn accept(fd: c_int, address: *mut c_void, len: *mut u32) -> c_int;
    fn connect(fd: c_int, address: *const Address, len: u32) -> c_int;
    fn shutdown(fd: c_int, how: c_int) -> c_int;
    fn syscall(number: i64, ...) -> i64;
    fn reboot(what: c_int) -> c_int;
}

const AF_VSOCK: c_int = 40;
const FINIT_MODULE: i64 = 313;

fn address(cid: u32, port: u32) -> Address {
    Address { family: AF_VSOCK as u16, reserved: 0, port, cid, zero: [0; 4] }
}

fn vsock() -> RawFd {
    // SAFETY: socket(2) takes plain integers.
    let fd = unsafe { socket(AF_VSOCK, 1, 0) };
    assert!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
    fd
}

fn dial(port: u32) -> std::io::Result<File> {
    // SAFETY: the descriptor is ours alone; the address outlives the call.
    unsafe {
        let file = File::from_raw_fd(vsock());
        match connect(file.as_raw_fd(), &address(2, port), size_of::<Address>() as u32) {
            0 => Ok(file),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

fn power_off() -> ! {
    // SAFETY: reboot(2) with RB_POWER_OFF, then RB_AUTOBOOT where there is no power switch.
    unsafe {
        reboot(0x4321_fedc);
        reboot(0x0123_4567);
    }
    loop {
        std::thread::park();
    }
}

fn serve(mut peer: File) -> std::io::Result<()> {
    let mut command = [0];
    peer.read_exact(&mut command)?;
    let mut block = vec![0; 1 << 18];
    match command[0] {
        b'e' => loop {
            match peer.read(&mut block)? {
                0 => return peer.write_all(b"bye"),
                n => peer.write_all(&block[..n])?,
            }
        },
        b's' => {
            let (mut count, mut sum) = (0_u64, 0_u64);
            loop {
                let n = peer.read(&mut block)?;
                if n == 0 {
                    break;
                }
                count += n as u64;
                sum = block[..n].iter().fold(sum, |s, b| s.wrapping_mul(31).wrapping_add(u64::from(*b)));
            }
            peer.write_all(&count.to_le_bytes())?;
            peer.write_all(&sum.to_le_bytes())
        }
        b'g' => {
            let mut length = [0; 8];
            peer.read_exact(&mut length)?;
            block.iter_mut().enumerate().for_each(|(i, b)| *b = (i % 251) as u8);
            let mut left = u64::from_le_bytes(length);
            while left > 0 {
                let n = left.min(block.len() as u64) as usize;
                peer.write_all(&block[..n])?;
                left -= n as u64;
            }
            Ok(())
        }
        b'c' => {
            let mut port = [0; 4];
            peer.read_exact(&mut port)?;
            let errno = match dial(u32::from_le_bytes(port)) {
                Ok(mut file) => {
                    file.write_all(b"from guest")?;
                    // SAFETY: a descriptor of ours; half close, then wait for the answer's end.
                    unsafe { shutdown(file.as_raw_fd(), 1) };
                    let mut answer = Vec::new();
                    file.read_to_end(&mut answer)?;
                    if answer == b"from host" { 0 } else { -1 }
                }
                Err(e) => e.raw_os_error().unwrap_or(-1),
            };
            peer.write_all(&errno.to_le_bytes())
        }
        b'f' => {
            let mut port = [0; 4];
            peer.read_exact(&mut port)?;
            let open: Vec<File> = (0..300).filter_map(|_| dial(u32::from_le_bytes(port)).ok()).collect();
            peer.write_all(&(open.len() as u32).to_le_bytes())
        }
        _ => power_off(),
    }
}

fn main() {
    let mut modules: Vec<_> = std::fs::read_dir("/modules").unwrap().map(|e| e.unwrap().path()).collect();
    modules.sort();
    for path in modules {
        let file = File::open(&path).unwrap();
        let none = CString::default();
        // SAFETY: finit_module(2) reads an open file and a C string that both outlive the call.
        let rc = unsafe { syscall(FINIT_MODULE, file.as_raw_fd(), none.as_ptr() as *const c_char, 0) };
        if rc != 0 {
            println!("{}: {}", path.display(), std::io::Error::last_os_error());
        }
    }
    let listener = vsock();
    // SAFETY: plain socket calls on our descriptor; the address outlives the call.
    unsafe {
        assert_eq!(bind(listener, &address(u32::MAX, 1024), size_of::<Address>() as u32), 0);
        assert_eq!(listen(listener, 64), 0);
    }
    let mut ready = dial(1025).unwrap();
    ready.write_all(b"ready\n").unwrap();
    loop {
        // SAFETY: accept(2) without an address; the new descriptor is ours alone.
        let peer = unsafe {
            match accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) {
                fd if fd >= 0 => File::from_raw_fd(fd),
                _ => continue,
            }
        };
        std::thread::spawn(move || {
            if let Err(e) = serve(peer) {
                println!("serve: {e}");
            }
        });
    }
}

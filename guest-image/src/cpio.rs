//! A deterministic writer of "newc" cpio archives, the format of a Linux initrd.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`. Every entry belongs to
//! root, has time stamp 0 and an inode number that follows from its place in the sorted list.

use std::collections::BTreeMap;

use crate::Error;

/// Type bits of a mode, `stat(2)`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The longest path accepted (the kernel's `PATH_MAX`).
const MAX_NAME: usize = 4095;

enum Content {
    Directory,
    File(Vec<u8>),
    Device { major: u32, minor: u32 },
}

struct Entry {
    mode: u32,
    content: Content,
}

/// An archive under construction. Paths are relative to the root, without a leading `/`; parents of what is
/// added come into being with mode 0755.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Archive::default()
    }

    /// Adds a folder with these permission bits; replaces the permissions of one that exists.
    ///
    /// # Errors
    /// A path that is empty, absolute, too long, or has `.`, `..` or empty parts.
    pub fn directory(&mut self, path: &str, permissions: u32) -> Result<(), Error> {
        self.add(path, Entry { mode: DIRECTORY | permissions & 0o7777, content: Content::Directory })
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// As [`Archive::directory`]; also a file of 4 GiB or more, which the format cannot hold, and a path
    /// that is already taken.
    pub fn file(&mut self, path: &str, permissions: u32, data: Vec<u8>) -> Result<(), Error> {
        if u32::try_from(data.len()).is_err() {
            return Err(Error::Initrd { name: path.into(), reason: "it is larger than 4 GiB" });
        }
        self.add(path, Entry { mode: REGULAR | permissions & 0o7777, content: Content::File(data) })
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// As [`Archive::directory`]; also a path that is already taken.
    pub fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        major: u32,
        minor: u32,
    ) -> Result<(), Error> {
        let mode = CHARACTER_DEVICE | permissions & 0o7777;
        self.add(path, Entry { mode, content: Content::Device { major, minor } })
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<(), Error> {
        let fail = |reason| Error::Initrd { name: path.into(), reason };
        if path.len() > MAX_NAME || path.contains('\0') {
            return Err(fail("its path is too long or holds a NUL"));
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(fail("its path is not a plain relative one"));
        }
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default();
            let folder = Entry { mode: DIRECTORY | 0o755, content: Content::Directory };
            let there = self.entries.entry(parent.into()).or_insert(folder);
            if !matches!(there.content, Content::Directory) {
                return Err(fail("a part of its path is not a folder"));
            }
        }
        match self.entries.get(path).map(|there| &there.content) {
            None => {}
            Some(Content::Directory) if matches!(entry.content, Content::Directory) => {}
            Some(_) => return Err(fail("there are two of that path")),
        }
        self.entries.insert(path.into(), entry);
        Ok(())
    }

    /// The archive's bytes, padded to 512.
    pub fn finish(self) -> Vec<u8> {
        let size: usize = self.entries.iter().map(|(name, e)| name.len() + e.data().len() + 120).sum();
        let mut out = Vec::with_capacity(size + 1024);
        // Sorted by path, so that a folder always comes before what is in it.
        for (inode, (name, entry)) in (1_u32..).zip(&self.entries) {
            entry.write(&mut out, inode, name);
        }
        let trailer = Entry { mode: 0, content: Content::Directory };
        trailer.write(&mut out, 0, "TRAILER!!!");
        pad(&mut out, 512);
        out
    }
}

impl Entry {
    fn data(&self) -> &[u8] {
        match &self.content {
            Content::File(data) => data,
            Content::Directory | Content::Device { .. } => &[],
        }
    }

    fn write(&self, out: &mut Vec<u8>, inode: u32, name: &str) {
        let (major, minor) = match self.content {
            Content::Device { major, minor } => (major, minor),
            Content::Directory | Content::File(_) => (0, 0),
        };
        let links = if matches!(self.content, Content::Directory) && inode != 0 { 2 } else { 1 };
        // Both fit: `add` and `file` bound them.
        let size = u32::try_from(self.data().len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        out.extend_from_slice(b"070701");
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        for field in [inode, self.mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            out.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        pad(out, 4);
        out.extend_from_slice(self.data());
        pad(out, 4);
    }
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::new();
        archive.file("init", 0o755, b"#!program".to_vec()).unwrap();
        archive.directory("tmp", 0o1777).unwrap();
        archive.character_device("dev/console", 0o600, 5, 1).unwrap();
        archive.file("etc/ssl/certs/ca-certificates.crt", 0o644, vec![b'x'; 4097]).unwrap();
        archive.file("etc-first", 0o600, Vec::new()).unwrap();
        archive
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let mut other = Archive::new();
        other.file("etc-first", 0o600, Vec::new()).unwrap();
        other.file("etc/ssl/certs/ca-certificates.crt", 0o644, vec![b'x'; 4097]).unwrap();
        other.directory("tmp", 0o1777).unwrap();
        other.file("init", 0o755, b"#!program".to_vec()).unwrap();
        other.character_device("dev/console", 0o600, 5, 1).unwrap();
        assert_eq!(sample().finish(), other.finish());
    }

    #[test]
    fn bytes_are_as_the_format_says() {
        let mut archive = Archive::new();
        archive.file("ab", 0o644, b"hello".to_vec()).unwrap();
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        let expected = b"070701\
            00000001000081A40000000000000000000000010000000000000005\
            0000000000000000000000000000000000000003\
            00000000ab\0\0\0\0hello\0\0\x00070701";
        assert_eq!(&bytes[..expected.len()], expected);
        assert!(bytes.windows(11).any(|w| w == b"TRAILER!!!\0"));
    }

    #[test]
    fn bad_paths_are_refused() {
        for path in ["", "/init", "a//b", "../x", "a/./b", "a/..", "a\0b"] {
            assert!(Archive::new().file(path, 0o644, Vec::new()).is_err(), "{path:?}");
        }
        assert!(Archive::new().file(&"a/".repeat(3000), 0o644, Vec::new()).is_err());
        let mut archive = sample();
        assert!(archive.file("init", 0o755, Vec::new()).is_err());
        assert!(archive.file("init/x", 0o755, Vec::new()).is_err());
        assert!(archive.file("dev", 0o755, Vec::new()).is_err());
        archive.directory("dev", 0o700).unwrap();
    }

    #[test]
    fn the_cpio_program_reads_it_back() {
        let mut cpio = Command::new("cpio");
        cpio.args(["-t", "-v", "-n", "--quiet"]).env("LC_ALL", "C").env("TZ", "UTC");
        let Ok(mut child) = cpio.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        else {
            println!("skipped: the cpio program is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(&sample().finish()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listing = String::from_utf8(output.stdout).unwrap();
        let rows: Vec<Vec<&str>> = listing.lines().map(|l| l.split_whitespace().collect()).collect();
        let names: Vec<&str> = rows.iter().map(|r| *r.last().unwrap()).collect();
        assert_eq!(
            names,
            [
                "dev",
                "dev/console",
                "etc",
                "etc-first",
                "etc/ssl",
                "etc/ssl/certs",
                "etc/ssl/certs/ca-certificates.crt",
                "init",
                "tmp"
            ]
        );
        assert!(rows.iter().all(|r| r[2] == "0" && r[3] == "0"), "all is root's: {listing}");
        assert_eq!(rows[1][0], "crw-------");
        assert_eq!(rows[8][0], "drwxrwxrwt");
        assert_eq!(rows[6][4], "4097");
        assert!(listing.contains("1970"), "{listing}");
    }
}

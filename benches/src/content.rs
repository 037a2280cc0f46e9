//! What images hold that benches pull: real programs and libraries, text, noise, and many small files, in tars.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use tar::{Builder, EntryType, Header};

/// Bytes of a MiB.
pub const MIB: u64 = 1 << 20;
/// Files larger than this are left out of what is taken from this machine.
const LARGEST: u64 = 64 * MIB;
/// Bytes that a small file takes in a tar, on average, with its header.
const SMALL: u64 = 3072;

/// MiB that an image of a bench has unpacked: `COCOON_BENCH_MIB`, else the bench's own full size.
pub fn mib(full: u64) -> u64 {
    let given = std::env::var("COCOON_BENCH_MIB").ok().and_then(|n| n.parse().ok());
    given.unwrap_or(full).max(16)
}

/// A small generator (xorshift), so that every run has the same text and noise.
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Random(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }

    fn text(&mut self, length: usize) -> Vec<u8> {
        const SYLLABLES: [&str; 16] = [
            "ka", "ro", "mi", "ten", "sol", "ver", "an", "du", "pli", "gor", "es", "tu", "wan", "lo", "ri",
            "be",
        ];
        let mut text = Vec::with_capacity(length + 64);
        while text.len() < length {
            // Squared, so that some words are frequent, as in real text.
            let word = (self.next() % 64) * (self.next() % 64);
            for shift in [0, 4, 8] {
                let syllable = usize::try_from(word >> shift & 15).unwrap_or(0);
                text.extend_from_slice(SYLLABLES.get(syllable).unwrap_or(&"x").as_bytes());
            }
            text.push(if self.next().is_multiple_of(12) { b'\n' } else { b' ' });
        }
        text.truncate(length);
        text
    }
}

/// A tar being written to a file.
pub struct Tar {
    tar: Builder<BufWriter<File>>,
    path: PathBuf,
}

impl Tar {
    /// An empty one at `path`.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(Tar { tar: Builder::new(file), path: path.to_owned() })
    }

    /// Its end; gives its path.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn finish(self) -> Result<PathBuf> {
        self.tar.into_inner()?.flush()?;
        Ok(self.path)
    }

    /// A file.
    ///
    /// # Errors
    /// Where the tar cannot be written.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(u64::try_from(content.len())?);
        self.tar.append_data(&mut header, name, content)?;
        Ok(())
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// Where the tar cannot be written.
    pub fn link(&mut self, name: &str, target: &str) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        self.tar.append_link(&mut header, name, target)?;
        Ok(())
    }

    /// Debian's static busybox as the programs that a container of a bench runs.
    ///
    /// # Errors
    /// Where it is not installed, or the tar cannot be written.
    pub fn busybox(&mut self) -> Result<()> {
        self.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
        self.file("bin/busybox", 0o755, &std::fs::read("/bin/busybox")?)?;
        self.link("bin/sh", "busybox")?;
        self.link("bin/echo", "busybox")?;
        self.link("bin/cat", "busybox")
    }

    /// Real files of this machine below `/usr/lib`, in the order of their names, up to `mib` MiB; what is missing to
    /// it is made up.
    ///
    /// # Errors
    /// Where the tar cannot be written.
    pub fn programs(&mut self, mib: u64, random: &mut Random) -> Result<()> {
        let mut waiting = vec![PathBuf::from("/usr/lib")];
        let mut have = 0_u64;
        while let Some(folder) = waiting.pop() {
            let mut entries: Vec<_> = std::fs::read_dir(&folder)?.filter_map(Result::ok).collect();
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let (Ok(kind), Ok(found)) = (entry.file_type(), entry.metadata()) else { continue };
                if kind.is_dir() {
                    waiting.push(entry.path());
                } else if kind.is_file() && have < mib * MIB && found.len() < LARGEST {
                    let Ok(content) = std::fs::read(entry.path()) else { continue };
                    let name = entry.path().to_string_lossy().trim_start_matches('/').to_owned();
                    self.file(&name, 0o755, &content)?;
                    have += u64::try_from(content.len())?;
                }
            }
        }
        let mut n = 0;
        while have < mib * MIB {
            let half = usize::try_from(MIB / 2)?;
            let content = [random.text(half), random.noise(half)].concat();
            self.file(&format!("usr/lib/made-up/{n}"), 0o644, &content)?;
            (have, n) = (have + MIB, n + 1);
        }
        Ok(())
    }

    /// Text in files of 4 MiB; packs well.
    ///
    /// # Errors
    /// Where the tar cannot be written.
    pub fn text(&mut self, mib: u64, random: &mut Random) -> Result<()> {
        for n in 0..mib.div_ceil(4) {
            self.file(&format!("srv/text/{n}.txt"), 0o644, &random.text(4 << 20))?;
        }
        Ok(())
    }

    /// Noise in files of 8 MiB; does not pack, as media and models.
    ///
    /// # Errors
    /// Where the tar cannot be written.
    pub fn noise(&mut self, mib: u64, random: &mut Random) -> Result<()> {
        for n in 0..mib.div_ceil(8) {
            self.file(&format!("srv/noise/{n}.bin"), 0o644, &random.noise(8 << 20))?;
        }
        Ok(())
    }

    /// Small files, as of scripts and documentation.
    ///
    /// # Errors
    /// Where the tar cannot be written.
    pub fn small(&mut self, mib: u64, random: &mut Random) -> Result<()> {
        for n in 0..mib * MIB / SMALL {
            let length = 256 + usize::try_from(random.next() % 4096)?;
            self.file(&format!("srv/small/{}/{n}", n % 200), 0o644, &random.text(length))?;
        }
        Ok(())
    }
}

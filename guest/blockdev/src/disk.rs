//! Finds the host's disks by their serial.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// What virtio-blk has room for (`VIRTIO_BLK_ID_BYTES`, linux/virtio_blk.h).
const MAX_SERIAL: usize = 20;
/// How often the kernel is asked for a disk that is not there yet.
const INTERVAL: Duration = Duration::from_millis(20);

/// A disk of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its node, `/dev/vdX`.
    pub path: PathBuf,
    /// Its device number, `major:minor`, as device-mapper takes it.
    pub number: String,
    /// Its size in bytes, a multiple of 512.
    pub bytes: u64,
    /// Whether the host offers it for reading only.
    pub read_only: bool,
}

/// The virtio-blk disk of that serial (1 to 20 bytes; `/sys/block/vd*/serial`). Waits up to `limit` for it.
///
/// # Errors
/// [`Error::DiskMissing`] where there is none by then (also where the host never answers the question for a serial),
/// [`Error::DiskAmbiguous`] where several have it, [`Error::Invalid`] for a serial that no disk can have.
pub fn find_disk(serial: &str, limit: Duration) -> Result<Disk, Error> {
    find_in(Path::new("/sys/block"), Path::new("/dev"), serial, limit)
}

/// One look for the virtio-blk disk of that serial, as [`find_disk`] but without waiting; `None` where there is none. The
/// host answers for the serial and may take its time: a caller that cannot wait calls it on a thread.
///
/// # Errors
/// [`Error::DiskAmbiguous`], [`Error::Invalid`], and what reading the disk's size answers.
pub fn look_for_disk(serial: &str) -> Result<Option<Disk>, Error> {
    check(serial)?;
    scan(Path::new("/sys/block"), Path::new("/dev"), serial)
}

fn check(serial: &str) -> Result<(), Error> {
    if serial.is_empty() || serial.len() > MAX_SERIAL || !serial.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::Invalid(format!(
            "{serial:?} is no serial of a disk: 1 to {MAX_SERIAL} characters"
        )));
    }
    Ok(())
}

fn find_in(block: &Path, dev: &Path, serial: &str, limit: Duration) -> Result<Disk, Error> {
    check(serial)?;
    let (sender, receiver) = mpsc::channel();
    let (block, dev, wanted) = (block.to_owned(), dev.to_owned(), serial.to_owned());
    let deadline = Instant::now() + limit;
    // The kernel asks the device for its serial at each read, without a limit: on a thread, so that we have one.
    thread::spawn(move || {
        loop {
            let found = scan(&block, &dev, &wanted);
            let last = Instant::now() >= deadline;
            if last || !matches!(found, Ok(None)) {
                let _ = sender.send(found);
                return;
            }
            thread::sleep(INTERVAL);
        }
    });
    match receiver.recv_timeout(limit + 2 * INTERVAL) {
        Ok(Ok(Some(disk))) => Ok(disk),
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) | Err(_) => Err(Error::DiskMissing { serial: serial.to_owned(), waited: limit }),
    }
}

fn scan(block: &Path, dev: &Path, serial: &str) -> Result<Option<Disk>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(block).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let read = fs::read(entry.path().join("serial"));
        if name.starts_with("vd") && read.is_ok_and(|s| trimmed(&s) == serial.as_bytes()) {
            names.push(name);
        }
    }
    names.sort();
    let [name] = names.as_slice() else {
        let none = names.is_empty();
        let ambiguous = || Error::DiskAmbiguous { serial: serial.to_owned(), disks: names.join(", ") };
        return if none { Ok(None) } else { Err(ambiguous()) };
    };
    let path = dev.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let attribute = |attribute: &str| {
        let step = format!("read {attribute} of disk {name}");
        fs::read_to_string(block.join(name).join(attribute)).map_err(Error::io(step))
    };
    let sectors: Option<u64> = attribute("size")?.trim().parse().ok();
    let bytes = sectors.and_then(|s| s.checked_mul(512));
    Ok(Some(Disk {
        path,
        number: attribute("dev")?.trim().to_owned(),
        bytes: bytes.ok_or_else(|| Error::Invalid(format!("disk {name} has no size")))?,
        read_only: attribute("ro")?.trim() != "0",
    }))
}

fn trimmed(serial: &[u8]) -> &[u8] {
    let end = serial.iter().position(|b| matches!(b, 0 | b'\n')).unwrap_or(serial.len());
    serial.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Machine(tempfile::tempdir().unwrap());
            fs::create_dir(machine.0.path().join("block")).unwrap();
            fs::create_dir(machine.0.path().join("dev")).unwrap();
            machine
        }

        fn attach(&self, name: &str, serial: &str) {
            let folder = self.0.path().join("block").join(name);
            fs::create_dir(&folder).unwrap();
            for (attribute, value) in
                [("size", "16\n"), ("ro", "1\n"), ("dev", "254:0\n"), ("serial", serial)]
            {
                fs::write(folder.join(attribute), value).unwrap();
            }
            fs::write(self.0.path().join("dev").join(name), "").unwrap();
        }

        fn find(&self, serial: &str, limit: u64) -> Result<Disk, Error> {
            let (block, dev) = (self.0.path().join("block"), self.0.path().join("dev"));
            find_in(&block, &dev, serial, Duration::from_millis(limit))
        }
    }

    #[test]
    fn a_disk_is_found_by_its_whole_serial() {
        let machine = Machine::new();
        machine.attach("vda", "layer-1");
        machine.attach("vdb", "layer-12");
        machine.attach("sda", "layer-1");
        let disk = machine.find("layer-1", 0).unwrap();
        assert_eq!((disk.path.file_name().unwrap(), disk.bytes), ("vda".as_ref(), 8192));
        assert!(disk.read_only && disk.number == "254:0");
        assert_eq!(machine.find("layer-12", 0).unwrap().path.file_name().unwrap(), "vdb");
    }

    #[test]
    fn what_is_absent_twice_there_or_no_serial_is_refused() {
        let machine = Machine::new();
        assert!(matches!(machine.find("x", 30), Err(Error::DiskMissing { .. })));
        machine.attach("vda", "x");
        machine.attach("vdb", "x\n");
        let error = machine.find("x", 0).unwrap_err();
        assert!(matches!(&error, Error::DiskAmbiguous { disks, .. } if disks == "vda, vdb"), "{error}");
        for bad in ["", "a b", "123456789012345678901", "ä"] {
            assert!(matches!(machine.find(bad, 0), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn a_late_disk_is_waited_for() {
        let machine = Machine::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(60));
                // The node comes last, as the kernel does it.
                machine.attach("vdc", "late");
            });
            machine.find("late", 5000).unwrap();
        });
    }
}

//! What an audit entry costs: CPU of all threads and time per entry, one at a time and from many threads, on the
//! embedded store, without and with a journal.
//! `cargo run --release -p cocoon-audit --example cost [FOLDER]`; the folder is for a temporary state file.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cocoon_audit::HeadSigner as _;
use cocoon_audit::{AuditLog, Entry, Kind, LogKey, Options, Outcome, verify};
use cocoon_store::{PutMode, RedbStore, Store as _};
use rustix::time::{ClockId, clock_gettime};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn entry(number: u64) -> Entry {
    Entry::new(1_800_000_000 + number, Kind::Handshake, Outcome::Granted)
        .request_id("01J9Z3V5W8K4M2N6P7Q8R9S0T1")
        .actor("guest")
        .subject("snp")
        .init_data("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
        .detail("status", "affirming")
}

/// User and system time of this process in microseconds.
fn cpu() -> u128 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)).as_micros()
}

fn report(what: &str, entries: u64, run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let (begun, before) = (Instant::now(), cpu());
    run()?;
    let (wall, used) = (begun.elapsed().as_micros(), cpu() - before);
    println!(
        "{what}: {} µs wall, {} µs CPU per entry",
        wall / u128::from(entries),
        used / u128::from(entries)
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let path = folder.join(format!("cocoon-audit-cost-{}", std::process::id()));
    [false, true].into_iter().try_for_each(|journal| {
        println!("{}", if journal { "With a journal" } else { "Without a journal" });
        let outcome = measure(&path, journal);
        for end in ["", ".lock", ".journal", ".bare"] {
            drop(std::fs::remove_file(format!("{}{end}", path.display())));
        }
        outcome
    })
}

fn measure(path: &Path, journal: bool) -> Result<(), Failure> {
    let store = Arc::new(RedbStore::open_exclusive(path)?);
    let value = entry(0).to_bytes()?;
    report("a bare commit of the store", 1000, || {
        (0..1000)
            .try_for_each(|number| store.put("bare", &format!("{number:016x}"), &value, PutMode::Create))?;
        Ok(())
    })?;
    // What the kernel and the disk take for one durable write, whoever does it.
    let file = std::fs::File::create(format!("{}.bare", path.display()))?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    report("a bare write and flush of a file", 1000, || {
        (0..1000).try_for_each(|number| {
            file.write_all_at(&value, number * 512)?;
            file.sync_data()
        })?;
        Ok(())
    })?;
    let key = Arc::new(LogKey::generate()?);
    let clock = Arc::new(|| SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()));
    let options = Options {
        journal: journal.then(|| PathBuf::from(format!("{}.journal", path.display()))),
        ..Options::default()
    };
    let log = Arc::new(AuditLog::open_with(store.clone(), key.clone(), clock, options)?);
    report("one at a time", 5000, || {
        (0..5000).try_for_each(|number| log.append(entry(number)).map(drop))?;
        Ok(())
    })?;
    report("16 threads", 32_000, || {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let log = log.clone();
                std::thread::spawn(move || {
                    (0..2000).try_for_each(|number| log.append(entry(number)).map(drop))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread ended")?.map_err(Into::into))
    })?;
    report("512 at once", 102_400, || {
        for _ in 0..200 {
            let pending: Vec<_> = (0..512).map(|number| log.submit(entry(number))).collect();
            pending.into_iter().try_for_each(|pending| pending.wait().map(drop))?;
        }
        Ok(())
    })?;
    let size = log.size()?;
    report("inclusion proof", 200, || {
        (0..200).try_for_each(|number| log.inclusion_proof(number * 500, size).map(drop))?;
        Ok(())
    })?;
    report("signed head", 200, || Ok((0..200).try_for_each(|_| log.head().map(drop))?))?;
    drop(log);
    report("verification", size, || Ok(verify(&*store, &key.public_key(), None, &mut |_, _| ()).map(drop)?))
}

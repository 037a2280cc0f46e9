//! What a process takes: memory, and requests to the API server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cocoon_tests::containerd::Process;

/// Says what a process takes now, and at its highest.
pub fn memory(name: &str, process: &Process, goal_mib: u64) -> Result<()> {
    let (anon, file) = process.memory()?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let line = |key: &str| status.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned();
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "{name}: {:.1} MiB (RssAnon {:.1}, RssFile {:.1}), goal {goal_mib}; {}; {}",
        mib(anon + file),
        mib(anon),
        mib(file),
        line("VmHWM").replace('\t', " "),
        line("Threads").replace('\t', " "),
    );
    Ok(())
}

/// A figure of the operator's.
fn metric(address: SocketAddr, name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find(|l| l.split(' ').next() == Some(name)).context("no such metric")?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}

/// Requests to the API server so far.
pub fn requests(address: SocketAddr) -> Result<f64> {
    metric(address, "cocoon_operator_requests_total")
}

/// Requests a minute while nothing is to be done.
pub fn steady(address: SocketAddr, over: Duration) -> Result<()> {
    let (began, before) = (Instant::now(), requests(address)?);
    sleep(over);
    let count = requests(address)? - before;
    println!(
        "operator in steady state: {:.1} requests a minute",
        count * 60.0 / began.elapsed().as_secs_f64()
    );
    Ok(())
}

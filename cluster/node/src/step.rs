//! The child: enters the node's file system, does one thing, says what came of it.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cocoon_cluster_api::NodeSettings;
use cocoon_node::Labels;
use cocoon_node::install::{CLASSES, Class, Install, Places, Store, Uninstall, choose, install, uninstall};
use cocoon_node::{containerd::Containerd, pods};
use cocoon_stage::{Code, Failure};

use crate::place;
use crate::protocol::{Action, Outcome, Reply, Request, State};
use crate::versions;

/// Longest request, in bytes.
const MOST: u64 = 1024 * 1024;

/// Reads a request from standard input, writes the reply to standard output. The end of standard input asks it to stop: what it
/// has changed is put back then.
///
/// # Errors
/// Where it cannot read, enter the node's file system, or write.
pub fn main() -> io::Result<()> {
    let mut line = String::new();
    io::BufReader::new(io::stdin().lock().take(MOST)).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        asked.store(true, Ordering::Relaxed);
    });
    let payload = enter(&request)?;
    let reply = perform(&request, &payload, &|| stop.load(Ordering::Relaxed));
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    io::stdout().write_all(&text)
}

/// Enters the node's file system. The payload stays in reach: the path goes through a descriptor that was opened before.
fn enter(request: &Request) -> io::Result<PathBuf> {
    if request.root == Path::new("/") {
        return Ok(request.payload.clone());
    }
    let payload = std::fs::File::open(&request.payload)?;
    rustix::process::chroot(&request.root)?;
    std::env::set_current_dir("/")?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", payload.as_raw_fd()));
    // Open for as long as the process lives.
    std::mem::forget(payload);
    Ok(path)
}

fn perform(request: &Request, payload: &Path, stop: &dyn Fn() -> bool) -> Reply {
    let settings = &request.settings;
    let done = match request.action {
        Action::Look => Ok(Outcome::default()),
        Action::Install => put(settings, payload, request.guest.as_deref(), stop),
        Action::Uninstall { force } => take(settings, force, stop),
    };
    let outcome = done.unwrap_or_else(|failure| Outcome::Failed {
        code: failure.code.as_str().to_owned(),
        reason: failure.reason,
    });
    Reply { outcome, state: state(settings) }
}

fn put(
    settings: &NodeSettings,
    payload: &Path,
    pulled: Option<&Path>,
    stop: &dyn Fn() -> bool,
) -> Result<Outcome, Failure> {
    let shim = payload.join("bin").join(pods::SHIM);
    let named = pulled.or(settings.guest_image.host_path.as_deref().map(Path::new));
    let guest = named.map_or_else(|| payload.join("guest"), PathBuf::from);
    let lacking =
        |e: io::Error| Failure::new(Code::HostUnsupported, format!("the node's image is not whole: {e}"));
    let version =
        versions::name(env!("CARGO_PKG_VERSION"), &shim, &guest.join("manifest.json")).map_err(lacking)?;
    let prefix = Path::new(&settings.paths.prefix);
    let others = versions::others(prefix, &version);
    let pods_run = || !pods::running(Path::new(&settings.paths.pods), &shim).is_empty();
    let keep = versions::to_keep(Path::new("/proc"), &others, &prefix.join(&version), pods_run);
    let wish = Install {
        places: place::places(settings, &version),
        containerd: settings.containerd.program.as_ref().map(PathBuf::from),
        shim,
        guest_image: Some(guest),
        classes: place::choice(settings),
        // What a person changes in class files belongs into the CocoonRuntime.
        reset_classes: true,
        restart: Some(place::restart(settings)),
        settings: place::class_settings(settings),
        keep: keep.clone(),
        ..Install::default()
    };
    let done = install(&wish, stop)?;
    for folder in others.iter().filter(|folder| !keep.contains(folder)) {
        versions::prune(folder);
    }
    Ok(Outcome::Done { changed: done.changed, notes: done.notes })
}

fn take(settings: &NodeSettings, force: bool, stop: &dyn Fn() -> bool) -> Result<Outcome, Failure> {
    let version = installed(settings).0.unwrap_or_else(|| "none".into());
    let wish = Uninstall {
        places: place::places(settings, &version),
        containerd: settings.containerd.program.as_ref().map(PathBuf::from),
        force,
        restart: Some(place::restart(settings)),
    };
    let done = uninstall(&wish, stop)?;
    Ok(Outcome::Done { changed: done.changed, notes: done.notes })
}

/// The version and the classes that are installed, and all installed files.
fn installed(settings: &NodeSettings) -> (Option<String>, Vec<Class>, Vec<PathBuf>) {
    let places = place::places(settings, "");
    let Ok((Some(manifest), _)) = Store::look(&places.state) else { return (None, Vec::new(), Vec::new()) };
    let files: Vec<PathBuf> = manifest.entries.iter().map(|e| e.path.clone()).collect();
    let there: Vec<Class> = CLASSES.into_iter().filter(|c| files.contains(&places.class(c.name))).collect();
    // On a node without a TEE the best class is a simulated one, and is to be called so.
    let chosen = choose(&place::choice(settings), &places.root, true).unwrap_or_default();
    let classes =
        there.into_iter().map(|c| chosen.iter().find(|o| o.name == c.name).copied().unwrap_or(c)).collect();
    // The class files say which version new pods get.
    let image = class_file(&places, &files).and_then(|file| cocoon_runtime::RuntimeConfig::read(&file).ok());
    let version = image.and_then(|config| {
        let below = config.guest_image.strip_prefix(&settings.paths.prefix).ok()?.to_path_buf();
        Some(below.components().next()?.as_os_str().to_str()?.to_owned())
    });
    (version, classes, files)
}

/// The first class file that is installed.
fn class_file(places: &Places, files: &[PathBuf]) -> Option<PathBuf> {
    files.iter().find(|f| f.parent() == Some(places.classes.as_path())).cloned()
}

fn state(settings: &NodeSettings) -> State {
    let (version, classes, files) = installed(settings);
    let prefix = Path::new(&settings.paths.prefix);
    let shim = prefix.join(version.as_deref().unwrap_or("none")).join("bin").join(pods::SHIM);
    let labels = if classes.is_empty() { Labels::default() } else { Labels::of(Path::new("/"), &classes) };
    let capacity = |tee: &str| labels.0.get(&format!("cocoon.dev/capacity.{tee}"))?.parse().ok();
    let program = settings.containerd.program.as_ref().map(PathBuf::from);
    State {
        older: version
            .iter()
            .flat_map(|v| versions::others(prefix, v))
            .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
            .collect(),
        containerd: Containerd::find(program.as_deref()).ok().map(|c| c.version().to_string()),
        classes: classes.iter().map(|c| c.name.to_owned()).collect(),
        slots: capacity("snp").or(capacity("tdx")),
        pods: u32::try_from(pods::running(Path::new(&settings.paths.pods), &shim).len()).unwrap_or(u32::MAX),
        labels: labels.0,
        version,
        files,
    }
}

//! PID 1: from the kernel's first user-space process to a guest that serves, and the end of the VM.
//!
//! Order: leave the initramfs, load modules (on a thread) while mounts are made, find initdata, listen on vsock,
//! and only then tell the host.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cocoon_protocol::initdata::InitData;
use cocoon_sandbox_api::sandbox_ttrpc;
use cocoon_stage::{Code, Failure, Stage};
use containerd_shim_protos::shim_async::create_task;
use rustix::system::{RebootCommand, reboot};
use ttrpc::asynchronous::Server;

use crate::container::Settings;
use crate::events::{self, Events};
use crate::pod::{Pod, plan_of};
use crate::reaper::Reaper;
use crate::sandbox_service::{ETC, SandboxService};
use crate::task_service::TaskService;
use crate::{Error, console, forward, glue, images, modules, mounts, network, open, syscalls, vsock};

/// How long the last answer to the host may take before the VM is switched off regardless.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// What a disk with initdata begins with.
const MAGIC: &[u8; 8] = b"initdata";

/// Runs the VM until it is switched off.
pub(crate) fn run() -> ExitCode {
    syscalls::limit_arenas();
    console::init();
    let served =
        set_up().and_then(|(settings, initdata)| serve(settings, initdata).map_err(Error::boot("serve")));
    if let Err(e) = served {
        console::report(&e.into());
    }
    power_off()
}

fn set_up() -> Result<(Settings, Result<InitData, Failure>), Error> {
    mounts::leave_initramfs()?;
    let loading = thread::spawn(|| modules::load(Path::new(modules::FOLDER)));
    mounts::mount_all()?;
    mounts::delegate_controllers()?;
    network::loopback_up()?;
    let exe = mounts::own_program()?;
    adjust_kernel();
    let loaded = loading.join();
    loaded.unwrap_or_else(|_| Err(Error::boot("load modules")(io::Error::other("the thread panicked"))))?;
    mounts::mount_optional();
    let initdata = find_initdata(Path::new("/sys/block"), Path::new("/dev")).and_then(load_for_plan);
    modules::seal();
    let settings = Settings {
        exe,
        work: PathBuf::from(mounts::WORK).join("containers"),
        etc: ETC.into(),
        cgroups: Some(mounts::CGROUPS.into()),
        reaper: Arc::new(Reaper::default()),
    };
    Ok((settings, initdata))
}

/// Loads what this plan needs and others do not, before module loading closes. A plan that cannot be read is
/// refused later, with its own code.
fn load_for_plan(initdata: InitData) -> Result<InitData, Failure> {
    if let Ok(plan) = plan_of(&initdata) {
        for set in images::module_sets(&plan) {
            cocoon_blockdev::load_modules(Path::new(modules::FOLDER), set)
                .map_err(|e| Failure::new(Code::BootGuestFailed, e.to_string()))?;
        }
    }
    Ok(initdata)
}

/// Settings that pods expect, and doors that nobody needs.
fn adjust_kernel() {
    let settings = [
        ("kernel/kexec_load_disabled", "1"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/core_pattern", "core"),
        // As container engines set it: any user of the pod may use any port, and ping.
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("net/ipv4/ping_group_range", "0 2147483647"),
    ];
    for (name, value) in settings {
        if let Err(e) = fs::write(Path::new("/proc/sys").join(name), value) {
            tracing::debug!("{name}: {e}");
        }
    }
}

fn serve(settings: Settings, initdata: Result<InitData, Failure>) -> io::Result<()> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(serve_until_end(settings, initdata))
}

async fn serve_until_end(settings: Settings, initdata: Result<InitData, Failure>) -> io::Result<()> {
    let (events, receiver) = Events::channel();
    let reaper = Arc::clone(&settings.reaper);
    tokio::spawn(async move { reaper.sweep_orphans().await });

    let reporter = events.clone();
    let connect = Box::new(move |initdata, plan, loopback| -> futures::future::BoxFuture<'static, _> {
        Box::pin(glue::backend(initdata, plan, loopback, reporter.clone()))
    });
    let pod = Arc::new(Pod::new(
        settings,
        mounts::ROOTS.into(),
        events.clone(),
        connect,
        initdata,
        open::is_developer(),
    ));
    if pod.is_open() {
        tracing::warn!("a developer's guest without a plan: the host decides what runs here");
    }
    let mut server = Server::new()
        .add_listener(vsock::listen()?)
        .register_service(create_task(Arc::new(TaskService(Arc::clone(&pod)))))
        .register_service(sandbox_ttrpc::create_sandbox(Arc::new(SandboxService(Arc::clone(&pod)))));
    server.start().await.map_err(io::Error::other)?;

    let forwards = vsock::listen_forward()?;
    let ports = Arc::clone(&pod);
    tokio::spawn(async move {
        if let Err(e) = forward::serve(forwards, ports).await {
            tracing::warn!("no further connections are forwarded: {e}");
        }
    });

    events.begin(Stage::Boot, "");
    match pod.refusal() {
        None => events.end(Stage::Boot, ""),
        Some(failure) => events.fail(&failure, ""),
    }
    let stream = vsock::connect_events().await?;
    let told = events::forward(receiver, stream);
    tokio::pin!(told);
    tokio::select! {
        // The host is gone: so is everybody who could look after the workload.
        () = &mut told => pod.shut_down().await,
        () = pod.off() => {
            let _ = tokio::time::timeout(LAST_WORDS, told).await;
        }
    }
    Ok(())
}

/// The initdata on the first disk that holds any.
fn find_initdata(block: &Path, dev: &Path) -> Result<InitData, Failure> {
    let mut disks: Vec<_> =
        fs::read_dir(block).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    disks.sort();
    for disk in disks {
        let name = disk.to_string_lossy();
        if !(name.starts_with("vd") || name.starts_with("sd")) {
            continue;
        }
        let Ok(mut file) = File::open(dev.join(&disk)) else { continue };
        let mut magic = [0; 8];
        if file.read_exact(&mut magic).is_ok() && &magic == MAGIC {
            let whole = magic.as_slice().chain(io::BufReader::new(file));
            return InitData::from_disk(whole).map_err(|e| {
                Failure::new(Code::InitdataMalformed, format!("disk {name}: {e}")).at(Stage::Boot)
            });
        }
    }
    Err(Failure::new(Code::InitdataMissing, "no disk holds initdata"))
}

fn power_off() -> ExitCode {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    // Where that fails, PID 1 ends, the kernel panics and so stops the VM.
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cocoon_protocol::HashAlgorithm;

    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(disks: &[(&str, Vec<u8>)]) -> Self {
            let machine = Machine(tempfile::tempdir().unwrap());
            fs::create_dir(machine.block()).unwrap();
            fs::create_dir(machine.dev()).unwrap();
            for (name, content) in disks {
                fs::create_dir(machine.block().join(name)).unwrap();
                fs::write(machine.dev().join(name), content).unwrap();
            }
            machine
        }

        fn block(&self) -> PathBuf {
            self.0.path().join("block")
        }

        fn dev(&self) -> PathBuf {
            self.0.path().join("dev")
        }

        fn find(&self) -> Result<InitData, Failure> {
            find_initdata(&self.block(), &self.dev())
        }
    }

    fn sample() -> InitData {
        let files = BTreeMap::from([("plan.json".to_owned(), "{}".to_owned())]);
        InitData::new(HashAlgorithm::Sha256, files)
    }

    #[test]
    fn initdata_is_found_among_other_disks() {
        let disk = sample().to_disk().unwrap();
        let machine = Machine::new(&[("loop0", disk.clone()), ("vda", vec![0; 4096]), ("vdb", disk)]);
        assert_eq!(machine.find().unwrap().digest(), sample().digest());
    }

    #[test]
    fn absent_or_broken_initdata_has_its_code() {
        assert_eq!(Machine::new(&[]).find().unwrap_err().code, Code::InitdataMissing);
        assert_eq!(Machine::new(&[("vda", vec![7; 5])]).find().unwrap_err().code, Code::InitdataMissing);
        let disk = sample().to_disk().unwrap();
        for broken in [disk[..20].to_vec(), [MAGIC.as_slice(), &[0xff; 600]].concat()] {
            let failure = Machine::new(&[("vda", broken)]).find().unwrap_err();
            assert_eq!(failure.code, Code::InitdataMalformed, "{failure}");
        }
    }
}

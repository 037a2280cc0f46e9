//! `cocoon run`: the main job, stage by stage.

mod annotation;
mod plan;

pub use annotation::print as plan;

use std::time::{Duration, Instant};

use cocoon_evidence::x509::Certificate;
use cocoon_guest_image::GuestImage;
use cocoon_plan::TrusteeConfig;
use cocoon_sandbox::{
    Adversary, Container, Network, Observed, Pod, PodSpec, Setup, Stdio, TeePlatform, TpmAuthority,
};
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure, Mark, Stage, StageEvent, Timeline};
use cocoon_trustee::Registration;
use serde_json::json;
use tokio::io::{stderr, stdin, stdout};
use tokio::sync::mpsc;

use crate::args::RunArgs;
use crate::embedded::{Embedded, now, simulated_references, tpm_references};
use crate::output::Output;
use crate::registrar::Registrar;
use crate::signals::{Signals, Stop};
use crate::terminal::RawTerminal;
use crate::{delivery, dirs, platform};

/// How long the guest may take to announce itself; emulation on a loaded machine is slow.
const BOOT_TIMEOUT: Duration = Duration::from_secs(180);
/// So many different events are told; a guest could invent more.
const MAX_TOLD: usize = 256;
/// How long a workload may take to end after it was asked to.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// A run's registration ends by itself after this many seconds, should this process die before it can remove it.
const REGISTRATION_LIFETIME: u64 = 30 * 24 * 3600;

/// Runs the command; gives the container's exit status.
pub async fn main(args: RunArgs) -> Result<u8, Failure> {
    let output = Output { json: args.json, quiet: args.quiet };
    let began = Instant::now();
    let (observer, mut events) = mpsc::unbounded_channel();
    let collector = tokio::spawn(async move {
        let mut timeline = Timeline::default();
        let mut told = Vec::new();
        while let Some(Observed { at, event }) = events.recv().await {
            // Host and guest both mark the boot; people hear of each step once.
            if told.len() < MAX_TOLD && !told.contains(&event) {
                narrate(output, &event);
                told.push(event.clone());
            }
            timeline.record(at, event);
        }
        timeline
    });
    let mut run = Run {
        args,
        output,
        began,
        observer: Some(observer),
        registrar: None,
        registered: None,
        leases: Vec::new(),
    };
    let mut signals = Signals::new()?;
    let result = run.job(&mut signals).await;
    let registrar = run.clean_up().await;

    let timeline = match tokio::time::timeout(Duration::from_secs(1), collector).await {
        Ok(Ok(timeline)) => timeline,
        _ => Timeline::default(),
    };
    if run.args.timings {
        if run.args.json {
            output.line(&json!({"type": "timings", "timeline": timeline}));
        } else {
            eprint!("{}", timeline.render());
        }
    }
    match result {
        Ok(status) => Ok(status),
        Err(failure) => {
            let verdict = match (&registrar, &failure.request_id) {
                (Some(registrar), Some(id)) => registrar.explain(id).await,
                _ => None,
            };
            output.failure(&failure, verdict.as_ref());
            Ok(crate::output::exit_status(&failure))
        }
    }
}

fn narrate(output: Output, event: &StageEvent) {
    if let Mark::Fail(Code::ImageLayerTampered) = event.mark {
        let code = Code::ImageLayerTampered;
        output.warn(&format!("{code}: {} Layer {}. {}", code.summary(), event.subject, code.next_step()));
        return;
    }
    let text = match (event.stage, event.mark) {
        (Stage::Boot, Mark::Begin) => "starting the pod VM",
        (Stage::Boot, Mark::End) => "the guest is up",
        (Stage::Attest, Mark::Begin) => "the guest collects evidence and asks Trustee for a token",
        (Stage::Attest, Mark::End) => "Trustee verified the evidence",
        (Stage::Fetch, Mark::End) => "secrets released to the guest",
        (Stage::Pull, Mark::Begin) => "the guest takes the image",
        (Stage::Pull, Mark::End) => "image verified and in place",
        (Stage::Start, Mark::End) => "container started",
        _ => return,
    };
    output.progress(event.stage, text);
}

struct Run {
    args: RunArgs,
    output: Output,
    began: Instant,
    observer: Option<mpsc::UnboundedSender<Observed>>,
    registrar: Option<Registrar>,
    registered: Option<String>,
    /// Shared layers in use: the node's cache evicts none of them.
    leases: Vec<cocoon_layers::Lease>,
}

/// Whose word a pod's evidence rests on.
struct Guarantors<'a> {
    processor: Option<&'a SecureProcessor>,
    /// Whether there is a TPM; `true` where Trustee knows it for a simulated one.
    tpms: Option<bool>,
    firmware: &'a std::path::Path,
}

impl Run {
    fn tell(&self, stage: Stage, mark: Mark) {
        if let Some(observer) = &self.observer {
            let event = StageEvent::new(stage, mark);
            let _ = observer.send(Observed { at: self.began.elapsed(), event });
        }
    }

    /// Marks a stage's begin and end around its work.
    async fn stage<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.tell(stage, Mark::Begin);
        let result = work.await;
        self.tell(stage, result.as_ref().map_or_else(|f| Mark::Fail(f.code), |_| Mark::End));
        result
    }

    async fn job(&mut self, signals: &mut Signals) -> Result<u8, Failure> {
        let prepared = tokio::select! {
            prepared = self.prepare() => prepared?,
            stop = signals.next() => {
                delivery::settle().await;
                return Ok(stop.status());
            }
        };
        let terminal = self.args.tty;
        let boot = Pod::boot(
            prepared,
            self.began,
            self.observer.clone().unwrap_or_else(|| mpsc::unbounded_channel().0),
        );
        let mut pod = tokio::select! {
            pod = boot => pod?,
            stop = signals.next() => return Ok(stop.status()),
        };
        let stdio = Stdio {
            stdin: self.args.interactive.then(|| Box::new(stdin()) as _),
            stdout: Some(Box::new(stdout())),
            stderr: Some(Box::new(stderr())),
            terminal,
        };
        let mut container = tokio::select! {
            container = pod.start_container("main", stdio) => match container {
                Ok(container) => container,
                Err(failure) => {
                    pod.stop().await;
                    return Err(failure);
                }
            },
            stop = signals.next() => {
                pod.kill().await;
                return Ok(stop.status());
            }
        };
        let raw = if terminal { RawTerminal::enter() } else { None };
        if let Some((columns, rows)) = raw.as_ref().and_then(RawTerminal::size) {
            pod.resize_container("main", columns, rows).await?;
        }
        let result = self.serve(&mut pod, &mut container, signals).await;
        drop(raw);
        if self.args.timings
            && let Ok((rss, peak)) = pod.guest_memory().await
        {
            let mib = |bytes: u64| bytes >> 20;
            self.output.progress(
                Stage::Serve,
                &format!("guest daemon memory {} MiB, peak {} MiB", mib(rss), mib(peak)),
            );
        }
        pod.stop().await;
        result
    }

    /// Waits for the container's end; a signal asks it to stop, a second one or a time limit kills it.
    async fn serve(
        &self,
        pod: &mut Pod,
        container: &mut Container,
        signals: &mut Signals,
    ) -> Result<u8, Failure> {
        let mut asked: Option<Stop> = None;
        loop {
            let grace = async {
                match asked {
                    Some(_) => tokio::time::sleep(STOP_GRACE).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                status = pod.wait_container(container) => {
                    return status.map(|s| u8::try_from(s & 0xff).unwrap_or(u8::MAX));
                }
                stop = signals.next() => {
                    if asked.is_some() {
                        return Ok(stop.status());
                    }
                    asked = Some(stop);
                    // A container's first process only sees signals that it handles; the limit covers the rest.
                    if pod.signal_container("main", stop.signal()).await.is_err() {
                        return Ok(stop.status());
                    }
                }
                () = grace => return Ok(asked.map_or(143, Stop::status)),
            }
        }
    }

    /// Plan and register; gives what to boot.
    async fn prepare(&mut self) -> Result<PodSpec, Failure> {
        let id = dirs::random_hex(6)?;
        let guest_dir = dirs::guest_dir()?;
        let chosen = platform::choose(self.args.platform, &guest_dir)?;
        let guest = tokio::task::spawn_blocking(move || GuestImage::open(&guest_dir));
        let qemu = cocoon_vmm::Qemu::find_for(chosen.machine)?;
        let tee = chosen.platform;
        match (self.args.adversary, &tee) {
            (None, _) | (_, TeePlatform::Sim { .. }) => {}
            (Some(Adversary::ReplayedEvidence), _) | (_, TeePlatform::Snp { .. } | TeePlatform::Tdx(_)) => {
                return Err(Failure::new(Code::UsageInvalid, "--adversary needs --platform sim"));
            }
            _ => {}
        }
        let processor = match &tee {
            TeePlatform::Sim { dir } => Some(SecureProcessor::open_or_create(dir)?),
            _ => None,
        };
        if processor.is_some() {
            self.output.warn(
                "platform sim: this machine's TEE is simulated; the workload is NOT protected from this host",
            );
        }
        let authority = match &tee {
            TeePlatform::Tpm { dir, .. } => Some(TpmAuthority::open_or_create(dir).await?),
            _ => None,
        };
        if authority.is_some() {
            self.output.warn(
                "platform tpm: the TPM is software of this machine's; the workload is NOT protected from this host",
            );
        }
        let trustee = self.open_trustee(processor.as_ref(), authority.as_ref()).await?;
        // The Trustee in this process takes this machine's TPMs for what they are; another trusts them or does not.
        let simulated = processor.is_some() || (authority.is_some() && self.args.trustee.is_none());
        let planned = self.stage(Stage::Plan, self.plan(&id, &trustee, simulated)).await?;
        let guest = guest.await.map_err(|e| Failure::new(Code::Internal, e.to_string()))??;
        let accel = platform::accelerator(self.args.accel, &qemu, &guest.kernel, self.output).await?;

        let known = Guarantors {
            processor: processor.as_ref(),
            tpms: authority.is_some().then_some(simulated),
            firmware: &chosen.firmware,
        };
        self.register(&planned.registration, &guest, &tee, &known).await?;
        self.output.progress(Stage::Register, "plan registered with Trustee");

        // On a disk: the runtime folder is often in memory.
        let scratch_dir = dirs::data_dir()?.join("scratch");
        if self.args.delivery.scratch.is_some() {
            std::fs::create_dir_all(&scratch_dir)
                .map_err(|e| Failure::new(Code::BootDiskFull, format!("{}: {e}", scratch_dir.display())))?;
        }
        let (disks, leases) = planned.shared.map(|s| (s.disks, s.leases)).unwrap_or_default();
        self.leases = leases;
        Ok(PodSpec {
            qemu: qemu.path().to_owned(),
            kernel: guest.kernel.clone(),
            initrd: guest.initrd.clone(),
            firmware: chosen.firmware,
            cmdline: guest.cmdline.clone(),
            initdata: Some(planned.initdata),
            platform: tee,
            accel,
            cpus: self.args.cpus,
            memory_mib: self.args.memory,
            network: Network::User,
            disks,
            ports: 0,
            scratch_bytes: self.args.delivery.scratch,
            scratch_dir: Some(scratch_dir),
            setup: Setup::default(),
            run_dir: dirs::run_dir(&id),
            console: self.args.console.clone(),
            boot_timeout: BOOT_TIMEOUT,
            adversary: self.args.adversary,
        })
    }

    /// Tells Trustee of the guest image and of the workload.
    async fn register(
        &mut self,
        registration: &Registration,
        guest: &GuestImage,
        tee: &TeePlatform,
        known: &Guarantors<'_>,
    ) -> Result<(), Failure> {
        self.tell(Stage::Register, Mark::Begin);
        // Before it is asked for: an interrupted registration must be taken back as well.
        self.registered = Some(registration.digest_hex.clone());
        let result = async {
            let registrar =
                self.registrar.as_ref().ok_or_else(|| Failure::new(Code::Internal, "no Trustee"))?;
            let mut references = std::collections::BTreeMap::new();
            if let Some(processor) = known.processor {
                references = simulated_references(processor, &guest.reference_values()?);
            }
            if let TeePlatform::Snp { .. } = tee {
                let values = guest.snp_reference_values(known.firmware)?;
                references
                    .extend(values.into_iter().map(|(n, v)| (n, v.into_iter().map(Into::into).collect())));
            }
            if let Some(simulated) = known.tpms {
                references = tpm_references(&guest.tpm_reference_values()?, simulated);
            }
            let source = format!("guest-image {}", guest.manifest.guest_sha256.get(..16).unwrap_or_default());
            let expires = now().saturating_add(REGISTRATION_LIFETIME);
            registrar.put_references(&source, &references, expires).await?;
            registrar.register(registration).await
        }
        .await;
        self.tell(Stage::Register, result.as_ref().map_or_else(|f| Mark::Fail(f.code), |()| Mark::End));
        result
    }

    async fn open_trustee(
        &mut self,
        processor: Option<&SecureProcessor>,
        tpms: Option<&TpmAuthority>,
    ) -> Result<TrusteeConfig, Failure> {
        if let Some(url) = self.args.trustee.clone() {
            let (registrar, config) = Registrar::remote(&url, &self.args)?;
            self.registrar = Some(registrar);
            return Ok(config);
        }
        let tpms = tpms.map(TpmAuthority::certificates).transpose()?.unwrap_or_default();
        let tpms = tpms.iter().map(|pem| Certificate::parse(pem)).collect::<Result<Vec<_>, _>>()?;
        let simulated = processor.is_some() || !tpms.is_empty();
        let embedded = Embedded::open_with(processor, tpms)?;
        // The server ends with this process at the latest.
        let (address, certificate) = embedded.serve(std::future::pending()).await?;
        self.registrar = Some(Registrar::embedded(embedded));
        if simulated {
            self.output.progress(
                Stage::Register,
                &format!("embedded Trustee on {address}; it accepts simulated evidence"),
            );
        } else {
            self.output.progress(Stage::Register, &format!("embedded Trustee on {address}"));
        }
        Ok(TrusteeConfig {
            url: format!("https://127.0.0.1:{}", address.port()),
            certificate: Some(certificate),
        })
    }

    /// Takes back the registration; gives the registrar for questions that remain.
    async fn clean_up(&mut self) -> Option<Registrar> {
        self.observer = None;
        let registrar = self.registrar.take()?;
        if let Some(digest) = self.registered.take()
            && let Err(failure) = registrar.unregister(&digest).await
        {
            self.output.warn(&format!("the workload's registration stays behind: {}", failure.reason));
        }
        Some(registrar)
    }
}

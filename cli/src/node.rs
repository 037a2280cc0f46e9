//! `cocoon node`: a node's containerd learns Cocoon's runtimes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cocoon_guest_image::GuestImage;
use cocoon_node::install::{Choice, Done, Install, Places, Restart, Uninstall, install, uninstall};
use cocoon_node::{Look, check};
use cocoon_stage::{Code, Failure};

use crate::args::{NodeCheckArgs, NodeCommand, NodeInstallArgs, NodePlaces, NodeRestart};
use crate::signals::Signals;
use crate::{operator, snapshotter};

/// Runs a subcommand. The status is 1 where `check` finds that something is missing.
pub async fn main(command: NodeCommand) -> Result<u8, Failure> {
    match command {
        NodeCommand::Check(args) => look(&args).await,
        NodeCommand::Snapshotter(args) => snapshotter::main(&args).await.map(|()| 0),
        NodeCommand::Serve(args) => operator::serve(args).await.map(|()| 0),
        NodeCommand::Step => {
            let done = tokio::task::spawn_blocking(cocoon_cluster_node::step).await;
            done.map_err(std::io::Error::other)
                .flatten()
                .map(|()| 0)
                .map_err(|e| Failure::new(Code::Internal, e.to_string()))
        }
        NodeCommand::Install(args) => {
            let wish = wish(&args)?;
            let played = |name: &String| name == "cocoon-sim" || name == "cocoon-tpm";
            let simulated = wish.classes.simulated || wish.classes.named.iter().any(played);
            let warning = simulated.then_some(
                "simulated classes protect workloads from nobody: this host can read and change them",
            );
            let done = interruptible(move |stop| install(&wish, stop)).await?;
            tell(&done, args.places.json, warning)
        }
        NodeCommand::Uninstall(args) => {
            let wish = Uninstall {
                places: places(&args.places)?,
                containerd: args.places.containerd.clone(),
                force: args.force,
                restart: restart(&args.restart),
            };
            let done = interruptible(move |stop| uninstall(&wish, stop)).await?;
            tell(&done, args.places.json, None)
        }
    }
}

/// Runs `work` on a thread; a signal asks it to stop, and it puts back what it has changed.
async fn interruptible<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let mut signals = Signals::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let mut work = tokio::task::spawn_blocking(move || work(&|| asked.load(Ordering::Relaxed)));
    loop {
        tokio::select! {
            done = &mut work => return done.map_err(|e| Failure::new(Code::Internal, e.to_string()))?,
            _ = signals.next() => stop.store(true, Ordering::Relaxed),
        }
    }
}

fn wish(args: &NodeInstallArgs) -> Result<Install, Failure> {
    let beside = || {
        let program = std::env::current_exe().unwrap_or_default();
        program.with_file_name(cocoon_node::pods::SHIM)
    };
    Ok(Install {
        places: places(&args.places)?,
        containerd: args.places.containerd.clone(),
        shim: args.shim.clone().unwrap_or_else(beside),
        guest_image: args.guest_image.clone(),
        classes: Choice { simulated: args.simulated, named: args.classes.clone() },
        snapshotter: args.snapshotter,
        features: args.nfd,
        reset_classes: args.reset_classes,
        restart: restart(&args.restart),
        ..Install::default()
    })
}

fn restart(args: &NodeRestart) -> Option<Restart> {
    let limit = std::time::Duration::from_secs(args.restart_timeout.into());
    let wished = args.restart || args.restart_command.is_some();
    wished.then(|| Restart { command: args.restart_command.clone(), limit })
}

fn places(args: &NodePlaces) -> Result<Places, Failure> {
    for path in [&args.config, &args.prefix, &args.root] {
        if !path.is_absolute() {
            return Err(Failure::new(
                Code::UsageInvalid,
                format!("{} is not an absolute path", path.display()),
            ));
        }
    }
    Ok(Places {
        root: args.root.clone(),
        config: args.config.clone(),
        prefix: args.prefix.clone(),
        ..Places::default()
    })
}

fn tell(done: &Done, json: bool, warning: Option<&str>) -> Result<u8, Failure> {
    let mut done = done.clone();
    done.notes.extend(warning.map(str::to_owned));
    if json {
        print_json(&done)?;
        return Ok(0);
    }
    for line in &done.changed {
        println!("{line}");
    }
    for note in &done.notes {
        println!("note: {note}");
    }
    if done.restarted {
        println!("containerd was restarted and answers");
    } else if done.to_restart {
        println!(
            "containerd takes it up when it is restarted (running pods go on): systemctl restart containerd"
        );
    }
    Ok(0)
}

async fn look(args: &NodeCheckArgs) -> Result<u8, Failure> {
    let verify = |dir: &Path| verify_image(dir);
    let look = Look {
        places: places(&args.places)?,
        containerd: args.places.containerd.clone(),
        verify_image: &verify,
    };
    let seen = check(&look).await;
    match (args.labels, args.places.json) {
        (true, true) => print_json(&seen.labels)?,
        (true, false) => print!("{}", seen.labels.feature_file()),
        (false, true) => print_json(&seen)?,
        (false, false) => print!("{}", seen.report.render()),
    }
    Ok(u8::from(seen.report.anything_missing() && !args.labels))
}

fn verify_image(dir: &Path) -> Result<String, String> {
    let image = GuestImage::open(dir).map_err(|e| e.to_string())?;
    let shown: PathBuf = image.dir;
    Ok(shown.display().to_string())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    println!("{text}");
    Ok(())
}

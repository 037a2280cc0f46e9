//! The `cocoon` program: everything that a workload's owner does, and Trustee.
//!
//! It runs on the owner's machine and is trusted by the owner. On one machine it also starts the pod VM; that part
//! (`cocoon-sandbox`) is host code and gets no secret.

mod admin;
mod args;
mod client;
mod collateral;
mod delivery;
mod dirs;
mod doctor;
mod embedded;
mod evidence;
mod guest;
mod guest_push;
mod image;
mod kube;
mod layers;
mod logging;
mod moments;
mod node;
mod operator;
mod output;
mod platform;
mod registrar;
mod registry;
mod run;
mod signals;
mod snapshotter;
mod terminal;
mod trustee;
mod wishes;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use cocoon_stage::{Code, Failure};

use crate::args::{Cli, Command};
use crate::output::Output;

/// By which name it was started: as a plugin kubectl starts it as `kubectl-cocoon`, and asks `kubectl_complete-cocoon` for what
/// may come next.
fn own_name() -> &'static str {
    let name = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = name.as_deref().and_then(std::path::Path::file_name).and_then(std::ffi::OsStr::to_str);
    [kube::PLUGIN, kube::COMPLETION].into_iter().find(|known| name == Some(known)).unwrap_or("cocoon")
}

/// Whether it was started as kubectl's plugin.
fn is_plugin() -> bool {
    own_name() == kube::PLUGIN
}

/// The command line under this name.
fn named(name: &'static str) -> clap::Command {
    let shown = if name == "cocoon" { name } else { "kubectl cocoon" };
    Cli::command().name(name).bin_name(shown)
}

/// The command line, with `plan explain` as the one command that it is.
fn arguments() -> Vec<OsString> {
    let mut all: Vec<OsString> = std::env::args_os().collect();
    if let [_, plan, explain, ..] = all.as_slice()
        && plan == "plan"
        && explain == "explain"
    {
        all.splice(1..3, [OsString::from(args::PLAN_EXPLAIN)]);
    }
    all
}

fn main() -> ExitCode {
    if own_name() == kube::COMPLETION {
        let words: Vec<String> =
            std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
        print!("{}", kube::complete(&named(kube::PLUGIN), &words));
        return ExitCode::SUCCESS;
    }
    let matches = named(own_name()).get_matches_from(arguments());
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    logging::start();
    let output = Output { json: cli.command.wants_json(), quiet: false };

    let mut builder = match cli.command.idles() {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    if !cli.command.serves() {
        builder.worker_threads(2);
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            output.failure(&Failure::new(Code::HostUnsupported, e.to_string()), None);
            return ExitCode::from(125);
        }
    };
    let result = runtime.block_on(dispatch(cli.command));
    // A thread that still reads standard input must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            output.failure(&failure, None);
            ExitCode::from(output::exit_status(&failure))
        }
    }
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    let done = |result: Result<(), Failure>| result.map(|()| 0);
    match command {
        Command::Run(args) => run::main(*args).await,
        Command::Plan(args) => done(run::plan(*args).await),
        Command::PlanExplain(args) => kube::explain_plan(*args).await,
        Command::Apply(args) => kube::apply(*args).await,
        Command::Status(args) => kube::status(*args).await,
        Command::Verify(args) => kube::verify(*args).await,
        Command::Guest(command) => done(guest::main(command).await),
        Command::Doctor(args) if args.whole || is_plugin() => kube::doctor(&args).await,
        Command::Doctor(args) => doctor::main(&args).await,
        Command::Logs(args) => kube::kubectl(kube::Wish::Logs, &args).await,
        Command::Exec(args) => kube::kubectl(kube::Wish::Exec, &args).await,
        Command::Secret(command) => done(admin::secret(command).await),
        Command::Workload(command) => done(admin::workload(command).await),
        Command::Policy(command) => done(admin::policy(command).await),
        Command::Reference(command) => done(admin::reference(command).await),
        Command::Explain(args) => match args.request.as_deref().and_then(|r| kube::is_pod(r, is_plugin())) {
            Some(pod) => kube::explain_pod(pod, &args.cluster, args.common.json).await,
            None => done(admin::explain(&args).await),
        },
        Command::Audit(command) => done(admin::audit(command).await),
        Command::Tenant(command) => done(admin::tenant(command).await),
        Command::Collateral(command) => done(collateral::main(command).await),
        Command::Evidence(command) => evidence::main(command),
        Command::Image(command) => done(image::main(command).await),
        Command::Layers(command) => done(layers::main(command).await),
        Command::Node(command) => node::main(command).await,
        Command::Operator(command) => done(operator::main(command).await),
        Command::Trustee(command) => done(trustee::main(command).await),
        Command::Errors => {
            print!("{}", cocoon_stage::render_errors_page());
            Ok(0)
        }
        Command::Krew(args) => done(kube::krew(&args)),
        Command::Completion { shell } => {
            let name = own_name();
            clap_complete::generate(shell, &mut named(name), name, &mut std::io::stdout());
            Ok(0)
        }
    }
}

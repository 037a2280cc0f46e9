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
mod image;
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

use std::process::ExitCode;

use clap::Parser;
use cocoon_stage::{Code, Failure};

use crate::args::{Cli, Command};
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start();
    let output = Output { json: cli.command.wants_json(), quiet: false };

    let mut builder = tokio::runtime::Builder::new_multi_thread();
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
        Command::Guest(command) => done(guest::main(command)),
        Command::Doctor(args) => doctor::main(&args).await,
        Command::Secret(command) => done(admin::secret(command).await),
        Command::Workload(command) => done(admin::workload(command).await),
        Command::Policy(command) => done(admin::policy(command).await),
        Command::Reference(command) => done(admin::reference(command).await),
        Command::Explain(args) => done(admin::explain(&args).await),
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
    }
}

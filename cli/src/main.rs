//! The `cocoon` program: everything that a workload's owner does, and Trustee.
//!
//! It runs on the owner's machine and is trusted by the owner. On one machine it also starts the pod VM; that part
//! (`cocoon-sandbox`) is host code and gets no secret.

mod args;
mod dirs;
mod doctor;
mod embedded;
mod encrypt;
mod guest;
mod image;
mod output;
mod platform;
mod registrar;
mod registry;
mod run;
mod serve;
mod signals;
mod state;
mod terminal;
mod wishes;

use std::process::ExitCode;

use clap::Parser;
use cocoon_stage::{Code, Failure};

use crate::args::{Cli, Command};
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("COCOON_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let output = Output { json: wants_json(&cli.command), quiet: false };

    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
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

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Run(args) => args.json,
        Command::Doctor(args) => args.json,
        _ => false,
    }
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    let done = |result: Result<(), Failure>| result.map(|()| 0);
    match command {
        Command::Run(args) => run::main(*args).await,
        Command::Guest(command) => done(guest::main(command)),
        Command::Doctor(args) => doctor::main(&args).await,
        Command::Secret(command) => done(state::secret(command)),
        Command::Workload(command) => done(state::workload(command)),
        Command::Reference(command) => done(state::reference(command)),
        Command::Explain(args) => done(state::explain(&args)),
        Command::Image(command) => done(image::main(command).await),
        Command::Trustee(args::TrusteeCommand::Serve(args)) => done(serve::main(args).await),
        Command::Errors => {
            print!("{}", cocoon_stage::render_errors_page());
            Ok(0)
        }
    }
}

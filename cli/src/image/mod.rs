//! `cocoon image`: encrypting, decrypting, inspecting and signing images, and the key provider that other tools call.

mod copy;
mod decrypt;
mod encrypt;
mod inspect;
mod keyprovider;
mod keys;
mod layout;
mod listen;
mod place;
mod progress;
mod provider;
mod shared;
mod shared_config;
mod shared_seal;
pub mod sign;
mod signatures;
mod spool;
mod stream;
mod verify;

use cocoon_stage::{Code, Failure, Stage};

use crate::args::ImageCommand;

/// Does what the command says. Reasons of failures may quote a registry, so they are made fit for terminals.
pub async fn main(command: ImageCommand) -> Result<(), Failure> {
    run(command).await.map_err(|failure| {
        let lines: Vec<String> = failure.reason.lines().map(progress::plain).collect();
        Failure { reason: lines.join("\n"), ..failure }
    })
}

async fn run(command: ImageCommand) -> Result<(), Failure> {
    match command {
        ImageCommand::Keygen { name } => sign::keygen(&name),
        ImageCommand::Sign(args) => sign::main(&args).await,
        ImageCommand::Verify(args) => verify::main(&args).await,
        ImageCommand::Encrypt(args) => encrypt::main(*args).await,
        ImageCommand::Decrypt(args) => decrypt::main(*args).await,
        ImageCommand::Inspect { image, json } => inspect::main(&image, json).await,
        ImageCommand::Keyprovider(args) => keyprovider::main(*args).await,
    }
}

fn usage(reason: String) -> Failure {
    Failure::new(Code::UsageInvalid, reason)
}

fn internal(e: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, e.to_string()).at(Stage::Plan)
}

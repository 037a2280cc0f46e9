//! This repository's pull as a child process.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use cocoon_benches::push::{Image, KEK};
use cocoon_image::encryption::unwrap_key;
use cocoon_image::{AnnotationPacket, Reference};
use cocoon_pull::{KeyProvider, PullRequest, Store};
use cocoon_registry::{Auth, Client};
use cocoon_stage::Failure;
use zeroize::Zeroizing;

use crate::watch::{self, Run};

/// First argument of the child that pulls: then reference, digest, folder.
pub const MODE: &str = "--pull";

/// Pulls in a child.
pub fn run(image: &Image, target: &Path) -> Result<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(MODE).arg(&image.reference).arg(image.digest.to_string()).arg(target.join("images"));
    let run = watch::run(&mut command)?;
    let whole = format!("{} layers", image.layers);
    ensure!(run.output.starts_with(&whole), "of {whole} it pulled: {}", run.output);
    Ok(run)
}

struct Keys;

#[async_trait]
impl KeyProvider for Keys {
    async fn unwrap(&self, packet: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Failure> {
        unwrap_key(&KEK, packet).map_err(Failure::from)
    }
}

/// The child's whole life.
pub fn child(arguments: Vec<String>) -> Result<()> {
    let [reference, digest, folder] = arguments.try_into().ok().context("three arguments")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let client =
            Client::new(cocoon_http::Client::new(cocoon_http::Options::default())?, Auth::anonymous());
        let store = Store::open(Path::new(&folder), 16 << 30)?;
        let request = PullRequest::new(Reference::parse(&reference)?, digest.parse()?);
        let pulled = store.pull(request, &client, &Keys, Arc::new(|_| {})).await?;
        println!("{} layers, {} bytes", pulled.layers.len(), pulled.unpacked_bytes);
        Ok(())
    })
}

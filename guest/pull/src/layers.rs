//! Layers in flight: downloads and decoders run ahead while one thread unpacks in order.
//!
//! ```text
//! task: registry ──Bytes──▶ thread: digest, decrypt, decompress, diff id ──Vec──▶ thread: tar → directory
//! └──────────── one pair per layer, at most three layers ahead ────────┘          (one for the whole image)
//! ```
//! Back-pressure alone keeps it bounded: a slow unpacker stops decoders, those stop downloads, and TCP the registry.
//! A failure anywhere closes channels, which ends everything before and after it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc as sync;

use bytes::Bytes;
use cocoon_image::{Budget, Descriptor, LayerPipeline, MediaType, Reference, UnpackOptions, unpack};
use cocoon_registry::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::keys::Job;
use crate::partial::Partial;
use crate::stream::{CompressedReader, PIECE, PIECES, PlainReader, Step, pump};
use crate::{Error, OnProgress, Progress, PullRequest};

/// Layers being downloaded, decoded or unpacked at the same time.
const IN_FLIGHT: usize = 3;

/// A decoded layer on its way to the unpacker. The permit goes with it: when it is unpacked another may start.
struct Feed {
    index: usize,
    encrypted: bool,
    reader: PlainReader,
    _permit: OwnedSemaphorePermit,
}

/// Unpacks all layers into the directory and gives it back, with the bytes used.
pub(crate) async fn unpack_all(
    request: &PullRequest,
    registry: &Client,
    jobs: Vec<Job>,
    partial: Partial,
    progress: OnProgress,
) -> Result<(Partial, u64), Error> {
    let (feeds, queue) = mpsc::channel(IN_FLIGHT);
    let options = UnpackOptions { preserve_owner: request.preserve_owner };
    let budget = Budget::new(request.limits);
    let heard = progress.clone();
    // The thread owns the directory, so that it is deleted after the last write to it, however the pull ends.
    let unpacker = tokio::task::spawn_blocking(move || unpack_feeds(partial, queue, options, budget, &heard));

    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    // Dropping the set stops downloads; their channels close and the threads behind them end.
    let mut downloads = JoinSet::new();
    for (index, job) in jobs.into_iter().enumerate() {
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        let encrypted = matches!(job.descriptor.kind(), MediaType::Layer { encrypted: true, .. });
        let reader = start(registry, &request.reference, job, &mut downloads, progress.clone());
        // Refused where the unpacker has ended: its result says why.
        if feeds.send(Feed { index, encrypted, reader, _permit: permit }).await.is_err() {
            break;
        }
    }
    drop(feeds);
    match unpacker.await {
        Ok(result) => result,
        Err(_) => Err(Error::Interrupted("the unpacker ended without a result")),
    }
}

/// Starts a layer's download task and decoder thread.
fn start(
    registry: &Client,
    reference: &Reference,
    job: Job,
    downloads: &mut JoinSet<()>,
    progress: OnProgress,
) -> PlainReader {
    let (compressed_in, compressed_out) = mpsc::channel(PIECES);
    let (plain_in, plain_out) = mpsc::channel(PIECES);
    let (used_in, used_out) = sync::channel();
    let Job { descriptor, diff_id, key } = job;
    let (registry, reference, wanted) = (registry.clone(), reference.clone(), descriptor.clone());
    downloads.spawn(async move {
        let result = download(&registry, &reference, &wanted, &compressed_in, &progress).await;
        let last = match result {
            Ok(()) => Step::End,
            Err(e) => Step::Failed(std::io::Error::other(e)),
        };
        // Nobody listens where the decoder has ended.
        let _ = compressed_in.send(last).await;
    });
    tokio::task::spawn_blocking(move || {
        match LayerPipeline::new(CompressedReader::new(compressed_out), &descriptor, diff_id, key) {
            Ok(pipeline) => pump(pipeline, &plain_in, &used_out),
            Err(e) => {
                let _ = plain_in.blocking_send(Step::Failed(e.into_io()));
            }
        }
    });
    PlainReader::new(plain_out, used_in)
}

async fn download(
    registry: &Client,
    reference: &Reference,
    layer: &Descriptor,
    to: &mpsc::Sender<Step<Bytes>>,
    progress: &OnProgress,
) -> Result<(), cocoon_registry::Error> {
    let mut blob = registry.blob(reference, layer, 0).await?;
    while let Some(mut chunk) = blob.chunk().await? {
        progress(Progress::Downloaded { bytes: u64::try_from(chunk.len()).unwrap_or(u64::MAX) });
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(PIECE));
            if to.send(Step::Data(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn unpack_feeds(
    partial: Partial,
    mut queue: mpsc::Receiver<Feed>,
    options: UnpackOptions,
    mut budget: Budget,
    progress: &OnProgress,
) -> Result<(Partial, u64), Error> {
    let root = partial.open()?;
    while let Some(feed) = queue.blocking_recv() {
        match unpack(feed.reader, root.as_fd(), &options, &mut budget) {
            Ok(_) => progress(Progress::LayerDone { index: feed.index }),
            // Before the HMAC is known, whatever is wrong with decrypted data can be a wrong key or an altered
            // ciphertext. Naming it would tell whoever altered it about the plaintext.
            Err(e)
                if feed.encrypted
                    && !matches!(
                        e,
                        cocoon_image::Error::DigestMismatch { .. }
                            | cocoon_image::Error::SizeMismatch { .. }
                            | cocoon_image::Error::TooLarge(_)
                    ) =>
            {
                tracing::debug!("an encrypted layer could not be unpacked");
                return Err(
                    cocoon_image::Error::Undecryptable("an encrypted layer is damaged".to_owned()).into()
                );
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok((partial, budget.used_bytes()))
}

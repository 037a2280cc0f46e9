//! One layer on its way into the store: a task and three threads.
//!
//! ```text
//! task: registry ─▶ thread: size, digest, decrypt ─▶ thread: decompress ─▶ thread: diff id, tar → directory
//!        1 MiB                    0.5 MiB                      2 MiB
//! ```
//! Decompression is what takes longest; all else goes on beside it on another core. (One gzip member inflated speculatively on
//! two cores was measured and left: it costs twice the processor time a byte, 50 MiB, and random access to the blob.) Back-pressure alone keeps memory
//! bounded: a slow unpacker stops the decoder, that the download, and TCP the registry. A failure anywhere closes
//! channels, which ends everything before and after it.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use cocoon_image::layer::{ZSTD_WINDOW_LOG_USUAL, peek_zstd_window};
use cocoon_image::unpack::overlay;
use cocoon_image::{
    Account, Budget, Compression, Decompressor, Descriptor, DiffIdReader, Limits, MediaType, Reference,
    UnpackOptions, open_blob, unpack_layer,
};
use cocoon_registry::Client;
use tokio::sync::{mpsc, oneshot};

use crate::keys::Job;
use crate::partial::Partial;
use crate::space::Reservation;
use crate::store::{Claim, Layer, Store, Stored};
use crate::stream::{Downloaded, PIECE, PIECES, PipeIn, PipeOut, Step, pipe};
use crate::total::Total;
use crate::{Error, OnProgress, Progress};

/// Buffers between the first thread and the second.
const PACKED: (usize, usize) = (64 * 1024, 6);
/// Buffers between the second and the third. Longer, because inflating into short ones costs time, and because they
/// become `write` calls.
const PLAIN: (usize, usize) = (256 * 1024, 6);
/// How often somebody who waits for memory looks whether the pull still lives.
const LOOK: Duration = Duration::from_millis(20);

/// Everything that fetching layers of one image shares.
pub(crate) struct Shared {
    pub(crate) registry: Client,
    pub(crate) reference: Reference,
    pub(crate) options: UnpackOptions,
    pub(crate) limits: Limits,
    pub(crate) total: Arc<Total>,
    pub(crate) progress: OnProgress,
    /// Its last clone goes when the last thread has ended and cleaned up.
    pub(crate) alive: mpsc::Sender<()>,
}

/// Fetches and unpacks a layer under a claim. `mirror_lied` is set where it failed and a mirror gave wrong content.
pub(crate) async fn fetch(
    claim: Claim,
    job: Job,
    shared: Arc<Shared>,
    mirror_lied: &mut bool,
) -> Result<Layer, Error> {
    let (bytes_in, bytes_out) = mpsc::channel(PIECES);
    let wanted = job.descriptor.clone();
    let wanting = Arc::new(());
    let mut result = start(claim, job, shared.clone(), bytes_out, Arc::downgrade(&wanting))?;
    // In this very task, so that dropping it ends the download.
    let feed = async move {
        let (last, lied) = match download(&shared, &wanted, &bytes_in).await {
            Ok(()) => (Step::End, false),
            Err(e) => {
                let lied = matches!(e, cocoon_registry::Error::Image(_));
                (Step::Failed(io::Error::other(e)), lied)
            }
        };
        // Nobody listens where the threads have ended: their result says why.
        let _ = bytes_in.send(last).await;
        lied
    };
    tokio::pin!(feed);
    let ended = |r: Result<_, _>| r.unwrap_or(Err(Error::Interrupted("the unpacker ended without a result")));
    tokio::select! {
        early = &mut result => {
            let early = ended(early);
            // What is refused is not waited for, unless it may be a mirror's fault.
            if early.as_ref().is_err_and(is_of_content) {
                *mirror_lied = feed.await;
            }
            return early;
        }
        lied = &mut feed => *mirror_lied = lied,
    }
    ended(result.await)
}

/// Whether a layer was refused for what is in it, which another source may have right.
fn is_of_content(e: &Error) -> bool {
    use cocoon_image::Error as Image;
    let Error::Image(e) = e else { return false };
    !matches!(e, Image::Source(_) | Image::Filesystem { .. } | Image::Key(_))
}

async fn download(
    shared: &Shared,
    layer: &Descriptor,
    to: &mpsc::Sender<Step<Bytes>>,
) -> Result<(), cocoon_registry::Error> {
    let mut blob = shared.registry.blob(&shared.reference, layer, 0).await?;
    while let Some(mut chunk) = blob.chunk().await? {
        let bytes = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        (shared.progress)(Progress::Downloaded { bytes });
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(PIECE));
            if to.send(Step::Data(piece)).await.is_ok() {
                continue;
            }
            // The threads have ended. Of a mirror's blob the rest is read all the same, to learn whether it lied.
            if blob.is_last() {
                return Ok(());
            }
            while blob.chunk().await?.is_some() {}
            return Ok(());
        }
    }
    Ok(())
}

/// Starts the three threads. They are the layer's own and not a pool's: each waits for the one before it, so that in a
/// pool too small for all of them nothing would move.
fn start(
    claim: Claim,
    job: Job,
    shared: Arc<Shared>,
    blob: mpsc::Receiver<Step<Bytes>>,
    wanted: Weak<()>,
) -> Result<oneshot::Receiver<Result<Layer, Error>>, Error> {
    let encrypted = matches!(job.descriptor.kind(), MediaType::Layer { encrypted: true, .. });
    let Job { descriptor, diff_id, key } = job;
    let (packed, compression) = open_blob(Downloaded::new(blob), &descriptor, key)?;
    let (packed_in, packed_out) = pipe(PACKED.0, PACKED.1);
    let (plain_in, plain_out) = pipe(PLAIN.0, PLAIN.1);
    let store = claim.store().clone();
    let (done, result) = oneshot::channel();
    thread("layer-blob", move || packed_in.pump(packed))?;
    let alive = shared.alive.clone();
    thread("layer-decode", move || {
        let _alive = alive;
        decode(packed_out, compression, &store, &wanted, plain_in);
    })?;
    thread("layer-unpack", move || {
        let tar = DiffIdReader::new(plain_out, diff_id);
        let result = unpack(claim, tar, diff_id, encrypted, &shared);
        let _ = done.send(result);
    })?;
    Ok(result)
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    match std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Interrupted("no thread could be started")),
    }
}

fn decode(packed: PipeOut, compression: Compression, store: &Store, wanted: &Weak<()>, to: PipeIn) {
    let mut window = ZSTD_WINDOW_LOG_USUAL;
    let mut _alone = None;
    let packed: Box<dyn Read> = match compression {
        Compression::Zstd => match peek_zstd_window(packed) {
            Ok((asked, packed)) => {
                if let Some(asked) = asked
                    && asked > window
                {
                    window = asked;
                    // One at a time, so that several such layers do not add up.
                    _alone = loop {
                        match store.big_window.try_acquire() {
                            Ok(permit) => break Some(permit),
                            Err(_) if wanted.strong_count() == 0 => return,
                            Err(_) => std::thread::sleep(LOOK),
                        }
                    };
                }
                Box::new(packed)
            }
            Err(e) => return to.fail(e),
        },
        _ => Box::new(packed),
    };
    match Decompressor::new(packed, compression, window) {
        Ok(tar) => to.pump(tar),
        Err(e) => to.fail(e.into_io()),
    }
}

/// Charges what is unpacked to the store and to the image.
struct Charge {
    reservation: Arc<Mutex<Reservation>>,
    total: Arc<Total>,
}

impl Account for Charge {
    fn take(&mut self, bytes: u64) -> Result<(), cocoon_image::Error> {
        self.total.take(bytes, 1)?;
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner).take(bytes)
    }
}

fn unpack(
    claim: Claim,
    tar: DiffIdReader<PipeOut>,
    diff_id: cocoon_image::Digest,
    encrypted: bool,
    shared: &Shared,
) -> Result<Layer, Error> {
    // Before the directory, so that on failure the room is returned when it is free indeed.
    let reservation = Arc::new(Mutex::new(claim.reservation()));
    let partial: Partial = claim.partial()?;
    let root = partial.open()?;
    let charge = Charge { reservation: reservation.clone(), total: shared.total.clone() };
    let mut budget = Budget::with_account(shared.limits, Box::new(charge));
    unpack_layer(tar, root.as_fd(), &shared.options, &mut budget).map_err(|e| hide(e, encrypted))?;
    let path = claim.path();
    let opaque = overlay::is_opaque(&root).map_err(|e| crate::partial::fail(&path, e))?;
    let (bytes, entries) = (budget.used_bytes(), budget.used_entries());
    drop(budget);
    let Some(mut reservation) = Arc::into_inner(reservation).and_then(|r| r.into_inner().ok()) else {
        return Err(Error::Interrupted("the layer's reservation is still in use"));
    };
    reservation.written();
    claim.keep(partial, Stored { path, diff_id, bytes, entries, opaque, _reservation: reservation })
}

/// Before the HMAC is known, whatever is wrong with decrypted data can be a wrong key or an altered ciphertext. Naming
/// it would tell whoever altered it about the plaintext.
fn hide(e: cocoon_image::Error, encrypted: bool) -> Error {
    use cocoon_image::Error as Image;
    let outside = matches!(e, Image::DigestMismatch { .. } | Image::SizeMismatch { .. } | Image::Source(_));
    if !encrypted || outside {
        return e.into();
    }
    if matches!(e, Image::TooLarge(_)) {
        let why = "there is no room for an encrypted layer, or it is larger than images may be";
        return Image::TooLarge(why.to_owned()).into();
    }
    tracing::debug!("an encrypted layer could not be unpacked");
    Image::Undecryptable("an encrypted layer is damaged".to_owned()).into()
}

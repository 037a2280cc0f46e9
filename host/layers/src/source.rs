//! Where a layer's bytes come from.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use cocoon_image::{Descriptor, Reference};
use cocoon_registry::Client;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::Error;
use crate::prepare::{OnProgress, Progress};

/// Pieces of the blob that may wait to be converted, each at most 64 KiB: 1 MiB for a layer.
const PIECES: usize = 16;
const PIECE: usize = 64 << 10;

/// A layer's blob, of unproven content.
#[async_trait]
pub trait Source: Send + Sync {
    /// The layer's descriptor in its manifest: media type, digest and size of the blob.
    fn descriptor(&self) -> &Descriptor;

    /// Begins to read the blob. The reader is used on a thread that may wait.
    ///
    /// # Errors
    /// Where it cannot be reached.
    async fn open(&self) -> Result<Box<dyn Read + Send>, Error>;

    /// Whether what was read last came from a place that gave wrong content and is not asked again: reading anew is worth
    /// a try. To be asked where the content was refused.
    async fn lied(&self) -> bool {
        false
    }
}

/// Most places that may give a wrong blob before it is given up.
pub(crate) const MAX_LIARS: usize = 8;

/// A blob in a registry.
pub struct RegistrySource {
    client: Client,
    reference: Reference,
    descriptor: Descriptor,
    progress: OnProgress,
    /// The reading under way; gives whether a mirror lied.
    reading: Mutex<Option<JoinHandle<bool>>>,
}

impl RegistrySource {
    /// The blob of `descriptor` in the reference's repository.
    pub fn new(client: Client, reference: Reference, descriptor: Descriptor, progress: OnProgress) -> Self {
        RegistrySource { client, reference, descriptor, progress, reading: Mutex::default() }
    }
}

#[async_trait]
impl Source for RegistrySource {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    async fn open(&self) -> Result<Box<dyn Read + Send>, Error> {
        let mut blob = self.client.blob(&self.reference, &self.descriptor, 0).await?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let progress = self.progress.clone();
        // Ends where the reader is dropped.
        let reading = tokio::spawn(async move {
            loop {
                let step = match blob.chunk().await {
                    Ok(Some(mut chunk)) => {
                        progress(Progress::Downloaded {
                            bytes: u64::try_from(chunk.len()).unwrap_or(u64::MAX),
                        });
                        while !chunk.is_empty() {
                            let piece = chunk.split_to(chunk.len().min(PIECE));
                            if sender.send(Step::Data(piece)).await.is_err() {
                                return !blob.is_last() && rest_is_wrong(blob).await;
                            }
                        }
                        continue;
                    }
                    Ok(None) => Step::End,
                    Err(e) => Step::Failed(e),
                };
                let lied = matches!(step, Step::Failed(cocoon_registry::Error::Image(_)));
                // Nobody listens where the conversion has failed.
                let _ = sender.send(step).await;
                return lied;
            }
        });
        *self.reading.lock().await = Some(reading);
        Ok(Box::new(BlobReader { receiver, current: Bytes::new(), ended: false }))
    }

    async fn lied(&self) -> bool {
        match self.reading.lock().await.take() {
            Some(reading) => reading.await.unwrap_or(false),
            None => false,
        }
    }
}

/// Reads a mirror's blob to its end, where it shows whether the mirror lied.
async fn rest_is_wrong(mut blob: cocoon_registry::BlobStream) -> bool {
    loop {
        match blob.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(e) => return matches!(e, cocoon_registry::Error::Image(_)),
        }
    }
}

enum Step {
    Data(Bytes),
    End,
    Failed(cocoon_registry::Error),
}

struct BlobReader {
    receiver: mpsc::Receiver<Step>,
    current: Bytes,
    ended: bool,
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Step::Data(bytes)) => self.current = bytes,
                Some(Step::End) => self.ended = true,
                Some(Step::Failed(e)) => return Err(io::Error::other(Error::Registry(e))),
                None => return Err(io::Error::other(Error::Interrupted)),
            }
        }
        let n = self.current.len().min(buf.len());
        self.current.copy_to_slice(buf.get_mut(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Lets a conversion end soon after nobody waits for it any more.
pub(crate) struct Leash(Arc<AtomicBool>);

/// A reader on a [`Leash`].
pub(crate) struct Leashed<R>(R, Arc<AtomicBool>);

impl Leash {
    pub(crate) fn new() -> Leash {
        Leash(Arc::default())
    }

    pub(crate) fn on<R: Read>(&self, reader: R) -> Leashed<R> {
        Leashed(reader, self.0.clone())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<R: Read> Read for Leashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(io::Error::other(Error::Interrupted)),
            false => self.0.read(buf),
        }
    }
}

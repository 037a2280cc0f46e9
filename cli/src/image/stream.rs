//! From a blob that arrives in pieces to a reader on a thread that may wait, and from there into a file.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use cocoon_image::digest::VerifyingReader;
use cocoon_image::{Descriptor, Digest, Error};
use cocoon_stage::{Code, Failure};
use tokio::sync::mpsc;

use super::internal;
use super::place::{Blob, Place};
use super::progress::Meter;
use super::spool::Spool;

/// Pieces on their way between network and thread.
const IN_FLIGHT: usize = 4;

/// Reads what the other end sends. Its end without the word that all was sent is an error.
struct Pieces {
    from: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.from.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                None => return Err(io::Error::other("the transfer broke off")),
            }
        }
        let n = self.piece.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), self.piece.get(..n)) {
            to.copy_from_slice(from);
        }
        self.piece.advance(n);
        Ok(n)
    }
}

/// A blob whose size and digest are checked at its end.
pub type Checked = VerifyingReader<Box<dyn Read + Send>>;

/// Streams a blob of `from` through `work`, which writes a new blob and gives its digest; nothing of it is kept unless
/// the blob was read to an end that is right.
pub async fn through<T: Send + 'static>(
    from: &Place,
    blob: &Descriptor,
    folder: &Path,
    meter: Arc<Meter>,
    work: impl FnOnce(&mut Checked, &mut dyn Write) -> io::Result<(Digest, T)> + Send + 'static,
) -> Result<(Spool, T), Failure> {
    let (digest, size, folder) = (blob.digest, blob.size, folder.to_owned());
    feed(from, blob, meter, move |pieces| {
        let mut checked = VerifyingReader::new(pieces, digest, size, format!("blob {digest}"));
        Spool::write(&folder, |out| {
            let done = work(&mut checked, out)?;
            // The check is made at the end of the file, so somebody must reach it.
            match checked.read(&mut [0; 1])? {
                0 => Ok(done),
                _ => Err(io::Error::other("the blob was not read to its end")),
            }
        })
    })
    .await
}

/// Gives a blob of `from`, of unproven content, to `work` on a thread that may wait.
pub async fn feed<T: Send + 'static>(
    from: &Place,
    blob: &Descriptor,
    meter: Arc<Meter>,
    work: impl FnOnce(Box<dyn Read + Send>) -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let mut stream: Blob = from.blob(blob).await?;
    let (to, receiver) = mpsc::channel(IN_FLIGHT);
    let pieces: Box<dyn Read + Send> = Box::new(Pieces { from: receiver, piece: Bytes::new(), ended: false });
    let worker = tokio::task::spawn_blocking(move || work(pieces));
    let mut broken = None;
    loop {
        match stream.chunk().await {
            Ok(Some(piece)) => {
                meter.add(piece.len());
                // The worker gave up: it says why.
                if to.send(Some(piece)).await.is_err() {
                    break;
                }
            }
            Ok(None) => {
                let _ = to.send(None).await;
                break;
            }
            Err(failure) => {
                broken = Some(failure);
                break;
            }
        }
    }
    drop(to);
    let result = worker.await.map_err(|e| internal(&e))?;
    match (broken, result) {
        (Some(failure), _) => Err(failure),
        (None, Ok(done)) => Ok(done),
        (None, Err(e)) => Err(match Error::from_io(e, Error::Source) {
            // What is not the image's fault is this machine's: most likely the disk is full.
            Error::Source(e) => Failure::new(Code::Internal, format!("layer {}: {e}", blob.digest)),
            e => e.into(),
        }),
    }
}

/// Copies a blob as it is, unless it is there.
pub async fn copy(from: &Place, to: &Place, blob: &Descriptor, meter: Arc<Meter>) -> Result<(), Failure> {
    if to.has(&blob.digest).await? {
        return Ok(());
    }
    let digest = blob.digest;
    let work = move |from: &mut Checked, out: &mut dyn Write| io::copy(from, out).map(|_| (digest, ()));
    let (spool, ()) = through(from, blob, &to.spool(), meter, work).await?;
    to.put(spool).await
}

//! The layer pipeline: a blob as the registry sends it in, a verified tar stream out.
//!
//! Three stages, each a plain reader, so that a caller can run them in one thread ([`LayerPipeline`]) or put a channel
//! between them and run each in its own:
//!
//! ```text
//! blob ─▶ open_blob: size, digest, decrypt, HMAC ─▶ Decompressor: gzip, zstd ─▶ DiffIdReader ─▶ tar
//! ```
//! Each reports end of file only after its own check passed, and passes errors of the stages before it on as they are.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::digest::VerifyingReader;
use crate::encryption::{LayerDecryptor, PrivateOptions, PubOptions};
use crate::{Compression, Descriptor, Digest, Error, Hasher, MediaType};

/// Compressed bytes are read this many at a time.
const BUFFER: usize = 64 * 1024;
/// The largest zstd window accepted, as log2: 128 MiB, what `zstd --long` makes. It bounds the decoder's heap.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The window, as log2, that every decoder must take (RFC 8878 §3.1.1.1.2): 8 MiB. Nearly all layers need no more.
pub const ZSTD_WINDOW_LOG_USUAL: u32 = 23;

/// A stage's output.
pub type Stage = Box<dyn Read + Send>;

/// What opens an encrypted layer.
#[derive(Clone)]
pub struct LayerKey {
    /// Symmetric key and nonce: what the KEK wrapped.
    pub private: PrivateOptions,
    /// Cipher and HMAC: what the layer's annotation says.
    pub public: PubOptions,
}

/// The first stage: the packed layer out of its blob. End of file means that size, digest and HMAC are right.
///
/// # Errors
/// [`Error::Manifest`] where the media type is not a layer's; [`Error::Undecryptable`] where a key is missing
/// or superfluous or its parameters are malformed.
pub fn open_blob(
    blob: impl Read + Send + 'static,
    descriptor: &Descriptor,
    key: Option<LayerKey>,
) -> Result<(Stage, Compression), Error> {
    let MediaType::Layer { compression, encrypted } = descriptor.kind() else {
        return Err(Error::Manifest(match descriptor.kind() {
            MediaType::SharedLayer => {
                let why = "is an encrypted disk, not an archive; run with --layers shared";
                format!("layer {} {why}", descriptor.digest)
            }
            _ => format!("{:?} is not a layer type", descriptor.media_type),
        }));
    };
    let what = format!("layer {}", descriptor.digest);
    let blob = VerifyingReader::new(blob, descriptor.digest, descriptor.size, what);
    let stage: Stage = match (encrypted, key) {
        (false, None) => Box::new(blob),
        (true, Some(key)) => Box::new(LayerDecryptor::new(blob, &key.private, &key.public)?),
        (true, None) => {
            return Err(Error::Undecryptable(format!("layer {} is encrypted", descriptor.digest)));
        }
        (false, Some(_)) => {
            return Err(Error::Undecryptable(format!("layer {} is not encrypted", descriptor.digest)));
        }
    };
    Ok((stage, compression))
}

enum Decoder<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Source<R>>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Source<R>>>),
}

/// The second stage: the tar out of the packed layer, and nothing after it.
pub struct Decompressor<R: Read> {
    decoder: Decoder<R>,
    failed: bool,
}

impl<R: Read> Decompressor<R> {
    /// Decompresses; `window_log` (at most [`ZSTD_WINDOW_LOG_MAX`]) is the largest zstd window accepted, as log2 of
    /// its bytes, which the decoder keeps on the heap.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the decoder cannot be set up.
    pub fn new(packed: R, compression: Compression, window_log: u32) -> Result<Self, Error> {
        let packed = Source(packed);
        let buffered = |packed| BufReader::with_capacity(BUFFER, packed);
        let decoder = match compression {
            Compression::None => Decoder::Plain(packed),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(buffered(packed)))),
            Compression::Zstd => {
                let corrupt = |e| Error::Corrupt(format!("zstd: {e}"));
                let mut d = zstd::stream::read::Decoder::with_buffer(buffered(packed)).map_err(corrupt)?;
                d.window_log_max(window_log.min(ZSTD_WINDOW_LOG_MAX)).map_err(corrupt)?;
                Decoder::Zstd(d)
            }
        };
        Ok(Decompressor { decoder, failed: false })
    }

    fn decode(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (n, name) = match &mut self.decoder {
            Decoder::Plain(s) => (s.read(buf), "tar"),
            Decoder::Gzip(d) => (d.read(buf), "gzip"),
            Decoder::Zstd(d) => (d.read(buf), "zstd"),
        };
        // What does not come from below is the decoder's opinion of the data.
        n.map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            _ => reclassify(e, name),
        })
    }

    /// After the decoder's end: is anything left below it, and did the stages below verify?
    fn check_below(&mut self) -> io::Result<()> {
        match self.below().read(&mut [0; 1]).map_err(|e| reclassify(e, "blob"))? {
            0 => Ok(()),
            _ => Err(Error::Corrupt("data follows the end of the compressed layer".to_owned()).into_io()),
        }
    }

    /// The decoder found damage: was it the blob (digest, size, HMAC) or what was packed into it? Reading the
    /// rest of the blob, bounded by its descriptor's size, tells, and the first cause is the one to report.
    fn first_cause(&mut self, damage: io::Error) -> io::Error {
        if !matches!(damage.get_ref().and_then(|e| e.downcast_ref::<Error>()), Some(Error::Corrupt(_))) {
            return damage;
        }
        let mut sink = vec![0; BUFFER];
        loop {
            match self.below().read(&mut sink) {
                Ok(0) => return damage,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return reclassify(e, "blob"),
            }
        }
    }

    fn below(&mut self) -> &mut dyn Read {
        match &mut self.decoder {
            Decoder::Plain(s) => s,
            Decoder::Gzip(d) => d.get_mut(),
            Decoder::Zstd(d) => d.get_mut(),
        }
    }

    fn step(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.decode(buf) {
            Ok(0) => self.check_below().map(|()| 0),
            Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(self.first_cause(e)),
            other => other,
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(refused());
        }
        let result = self.step(buf);
        self.failed = result.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
        result
    }
}

/// The window that the first zstd frame asks for, as log2 of bytes rounded up, and the stream with nothing lost.
/// `None` for what does not begin with a frame (a skippable one, or damage that the decoder will name).
///
/// # Errors
/// The reader's.
pub fn peek_zstd_window<R: Read>(mut packed: R) -> io::Result<(Option<u32>, impl Read + use<R>)> {
    /// Magic, descriptor, and window or content size (RFC 8878 §3.1.1.1).
    const MAX_HEADER: u64 = 18;
    let mut head = Vec::new();
    packed.by_ref().take(MAX_HEADER).read_to_end(&mut head)?;
    Ok((window_log(&head), io::Cursor::new(head).chain(packed)))
}

fn window_log(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        // Mantissa counts eighths of the power of two.
        let window = rest.first()?;
        return Some(10 + u32::from(window >> 3) + u32::from(window & 7 != 0));
    }
    // A single segment: the window is the content, whose size follows the dictionary's id.
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let length = [1_usize, 2, 4, 8].get(usize::from(descriptor >> 6))?;
    let field = rest.get(*dictionary..)?.get(..*length)?;
    let size = field.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    Some(u64::BITS - size.leading_zeros())
}

/// The third stage: passes the tar on, and reports its end only where its digest is the config's diff id.
pub struct DiffIdReader<R> {
    inner: R,
    diff_id: Digest,
    hasher: Option<Hasher>,
    /// Bytes at the front of the inner buffer that were hashed already.
    hashed: usize,
    failed: bool,
}

impl<R> DiffIdReader<R> {
    /// Checks what `inner` gives.
    pub fn new(inner: R, diff_id: Digest) -> Self {
        let hasher = Some(Hasher::new(diff_id.algorithm()));
        DiffIdReader { inner, diff_id, hasher, hashed: 0, failed: false }
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(got) = self.hasher.take().map(Hasher::finish) else { return Ok(()) };
        if got == self.diff_id {
            return Ok(());
        }
        self.failed = true;
        let what = "the uncompressed layer (diff id)".to_owned();
        let (expected, got) = (self.diff_id.to_string(), got.to_string());
        Err(Error::DigestMismatch { what, expected, got }.into_io())
    }
}

impl<R: Read> Read for DiffIdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(refused());
        }
        let n = match self.inner.read(buf) {
            Ok(n) => n,
            Err(e) => {
                self.failed = e.kind() != io::ErrorKind::Interrupted;
                return Err(e);
            }
        };
        if n == 0 {
            return self.end().map(|()| 0);
        }
        // Bytes may have been hashed when they were looked at through `fill_buf`.
        if let Some(h) = &mut self.hasher {
            h.update(buf.get(self.hashed.min(n)..n).unwrap_or_default());
        }
        self.hashed = self.hashed.saturating_sub(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for DiffIdReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failed {
            return Err(refused());
        }
        let ready = match self.inner.fill_buf() {
            Ok(ready) => ready.len(),
            Err(e) => {
                self.failed = e.kind() != io::ErrorKind::Interrupted;
                return Err(e);
            }
        };
        if ready == 0 {
            self.end()?;
        }
        let ready = self.inner.fill_buf()?;
        if let Some(h) = &mut self.hasher {
            h.update(ready.get(self.hashed..).unwrap_or_default());
        }
        self.hashed = ready.len();
        Ok(ready)
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.hashed = self.hashed.saturating_sub(n);
    }
}

/// All stages in one thread. A consumer that reads to the end has read a layer whose size, digest, HMAC and diff id
/// are right. Everything before the end is **unverified** and must be thrown away on error.
pub struct LayerPipeline(DiffIdReader<Decompressor<Stage>>);

impl LayerPipeline {
    /// A pipeline over a layer's blob.
    ///
    /// # Errors
    /// Those of [`open_blob`].
    pub fn new(
        blob: impl Read + Send + 'static,
        descriptor: &Descriptor,
        diff_id: Digest,
        key: Option<LayerKey>,
    ) -> Result<Self, Error> {
        let (packed, compression) = open_blob(blob, descriptor, key)?;
        let tar = Decompressor::new(packed, compression, ZSTD_WINDOW_LOG_MAX)?;
        Ok(LayerPipeline(DiffIdReader::new(tar, diff_id)))
    }
}

impl Read for LayerPipeline {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

/// An error must not heal by reading on.
fn refused() -> io::Error {
    Error::Corrupt("the layer was already refused".to_owned()).into_io()
}

/// Marks errors of the stages below (the network, a wrong digest), so that they are not taken for the decoder's.
struct Source<R>(R);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            _ => io::Error::other(SourceError(e)),
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SourceError(io::Error);

fn reclassify(e: io::Error, name: &str) -> io::Error {
    match e.downcast::<SourceError>() {
        Ok(SourceError(e)) => e,
        Err(e) => Error::from_io(e, |e| Error::Corrupt(format!("the layer is not valid {name} data: {e}")))
            .into_io(),
    }
}

#[cfg(test)]
mod tests;

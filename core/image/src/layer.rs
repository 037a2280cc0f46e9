//! The layer pipeline: a blob as the registry sends it in, a verified tar stream out.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::digest::VerifyingReader;
use crate::encryption::{LayerDecryptor, PrivateOptions, PubOptions};
use crate::{Compression, Descriptor, Digest, Error, Hasher, MediaType};

/// Compressed bytes are read this many at a time.
const BUFFER: usize = 64 * 1024;
/// The largest zstd window accepted, as log2: 128 MiB, what `zstd --long` makes. It bounds the decoder's heap.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

type Stage = Box<dyn Read + Send>;

/// What opens an encrypted layer.
pub struct LayerKey {
    /// Symmetric key and nonce: what the KEK wrapped.
    pub private: PrivateOptions,
    /// Cipher and HMAC: what the layer's annotation says.
    pub public: PubOptions,
}

enum Decoder {
    Plain(Stage),
    Gzip(Box<MultiGzDecoder<BufReader<Stage>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Stage>>),
}

/// Reads a layer's uncompressed tar. Each stage reports end of file only after its own check passed, so a
/// consumer that reads to the end has read a layer whose size, digest, HMAC and diff id are right. Everything
/// before the end is **unverified** and must be thrown away on error.
pub struct LayerPipeline {
    decoder: Decoder,
    diff_id: Digest,
    hasher: Option<Hasher>,
    failed: bool,
}

impl LayerPipeline {
    /// A pipeline over a layer's blob.
    ///
    /// # Errors
    /// [`Error::Manifest`] where the media type is not a layer's; [`Error::Undecryptable`] where a key is missing
    /// or superfluous or its parameters are malformed.
    pub fn new(
        blob: impl Read + Send + 'static,
        descriptor: &Descriptor,
        diff_id: Digest,
        key: Option<LayerKey>,
    ) -> Result<Self, Error> {
        let MediaType::Layer { compression, encrypted } = descriptor.kind() else {
            return Err(Error::Manifest(format!("{:?} is not a layer type", descriptor.media_type)));
        };
        let what = format!("layer {}", descriptor.digest);
        let blob = VerifyingReader::new(Source(blob), descriptor.digest, descriptor.size, what);
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
        let decoder = match compression {
            Compression::None => Decoder::Plain(stage),
            Compression::Gzip => {
                Decoder::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, stage))))
            }
            Compression::Zstd => {
                let mut d = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER, stage))
                    .map_err(|e| Error::Corrupt(format!("zstd: {e}")))?;
                d.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| Error::Corrupt(format!("zstd: {e}")))?;
                Decoder::Zstd(d)
            }
        };
        Ok(LayerPipeline { decoder, diff_id, hasher: Some(Hasher::new(diff_id.algorithm())), failed: false })
    }

    fn decode(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (n, name) = match &mut self.decoder {
            Decoder::Plain(s) => (s.read(buf), "tar"),
            Decoder::Gzip(d) => (d.read(buf), "gzip"),
            Decoder::Zstd(d) => (d.read(buf), "zstd"),
        };
        // What is not one of our own errors is the decoder's opinion of the data.
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
        let n = match self.decode(buf) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => return Err(self.first_cause(e)),
        };
        if n > 0 {
            if let Some(h) = &mut self.hasher {
                h.update(buf.get(..n).unwrap_or_default());
            }
            return Ok(n);
        }
        self.check_below()?;
        if let Some(got) = self.hasher.take().map(Hasher::finish)
            && got != self.diff_id
        {
            let what = "the uncompressed layer (diff id)".to_owned();
            let (expected, got) = (self.diff_id.to_string(), got.to_string());
            return Err(Error::DigestMismatch { what, expected, got }.into_io());
        }
        Ok(0)
    }
}

impl Read for LayerPipeline {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(Error::Corrupt("the layer was already refused".to_owned()).into_io());
        }
        let result = self.step(buf);
        self.failed = result.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
        result
    }
}

/// Marks errors of the blob's source (the network), so that they are not taken for the decoder's.
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
mod tests {
    use super::*;
    use std::io::Write;

    const OCI: &str = "application/vnd.oci.image.layer.v1.tar";

    fn descriptor(kind: &str, blob: &[u8]) -> Descriptor {
        Descriptor {
            media_type: kind.into(),
            digest: Digest::sha256(blob),
            size: blob.len() as u64,
            annotations: Default::default(),
            platform: None,
        }
    }

    fn read(kind: &str, blob: Vec<u8>, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let d = descriptor(kind, &blob);
        run(LayerPipeline::new(io::Cursor::new(blob), &d, Digest::sha256(plain), None)?)
    }

    fn run(mut p: LayerPipeline) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        match p.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(e) => {
                assert!(p.read(&mut [0]).is_err(), "an error must not heal");
                Err(Error::from_io(e, Error::Source))
            }
        }
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(data).unwrap();
        e.finish().unwrap()
    }

    #[test]
    fn reads_each_compression_with_several_members() {
        let (a, b) = (vec![1_u8; 100_000], vec![2_u8; 77]);
        let both = [a.clone(), b.clone()].concat();
        assert_eq!(read(OCI, both.clone(), &both).unwrap(), both);
        assert_eq!(read(&format!("{OCI}+gzip"), [gzip(&a), gzip(&b)].concat(), &both).unwrap(), both);
        let zstd = |d: &[u8]| zstd::encode_all(d, 1).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9].to_vec();
        let frames = [zstd(&a), skippable, zstd(&b)].concat();
        assert_eq!(read(&format!("{OCI}+zstd"), frames, &both).unwrap(), both);
    }

    #[test]
    fn refuses_lies_and_damage() {
        let plain = vec![7_u8; 50_000];
        assert!(matches!(read(OCI, plain.clone(), b"other"), Err(Error::DigestMismatch { .. })));
        let gz = gzip(&plain);
        let kind = format!("{OCI}+gzip");
        let cut = gz[..gz.len() - 3].to_vec();
        assert!(matches!(read(&kind, cut, &plain), Err(Error::Corrupt(_))));
        assert!(matches!(
            read(&kind, [gz.clone(), b"trailing".to_vec()].concat(), &plain),
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(read(&kind, b"<html>".to_vec(), &plain), Err(Error::Corrupt(_))));
        let zs = zstd::encode_all(&plain[..], 1).unwrap();
        let kind = format!("{OCI}+zstd");
        assert!(matches!(read(&kind, zs[..zs.len() - 2].to_vec(), &plain), Err(Error::Corrupt(_))));
        assert!(matches!(read(&format!("{OCI}+encrypted"), zs, &plain), Err(Error::Undecryptable(_))));

        // Right gzip, wrong blob digest or size: the descriptor's word counts.
        let mut d = descriptor(&format!("{OCI}+gzip"), &gz);
        d.digest = Digest::sha256(b"else");
        let p = LayerPipeline::new(io::Cursor::new(gz.clone()), &d, Digest::sha256(&plain), None).unwrap();
        assert!(matches!(run(p), Err(Error::DigestMismatch { .. })));
        let mut d = descriptor(&format!("{OCI}+gzip"), &gz);
        d.size += 1;
        let p = LayerPipeline::new(io::Cursor::new(gz), &d, Digest::sha256(&plain), None).unwrap();
        assert!(matches!(run(p), Err(Error::SizeMismatch { .. })));
    }

    #[test]
    fn a_huge_zstd_window_is_refused() {
        let mut e = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        e.window_log(28).unwrap();
        e.include_contentsize(false).unwrap();
        e.write_all(&vec![0; 1 << 20]).unwrap();
        let blob = e.finish().unwrap();
        assert!(matches!(read(&format!("{OCI}+zstd"), blob, b""), Err(Error::Corrupt(_))));
    }

    #[test]
    fn network_errors_are_not_taken_for_damage() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset"))
            }
        }
        let d = descriptor(&format!("{OCI}+gzip"), b"");
        let mut p = LayerPipeline::new(Broken, &d, Digest::sha256(b""), None).unwrap();
        let e = p.read(&mut [0; 10]).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionReset);
    }
}

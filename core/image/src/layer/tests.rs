//! The pipeline, honest and lied to.

use super::*;
use std::io::Write;

const OCI: &str = "application/vnd.oci.image.layer.v1.tar";

fn descriptor(kind: &str, blob: &[u8]) -> Descriptor {
    Descriptor {
        media_type: kind.into(),
        digest: Digest::sha256(blob),
        size: blob.len() as u64,
        annotations: Default::default(),
        artifact_type: None,
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

//! Images in a registry, made of tars: packed in each way, plain and encrypted.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use cocoon_image::encryption::{Jwe, LayerEncryptor, ProviderKey, RecipientKey, WrappedKeys, wrap_key};
use cocoon_image::{Algorithm, Descriptor, Digest, Hasher, Platform, Reference};
use cocoon_registry::{Auth, Client};
use cocoon_tests::Registry;
use serde_json::json;

/// The key-encryption key of encrypted layers.
pub const KEK: [u8; 32] = [7; 32];
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// How layers are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, as its programs do where nothing is said (level 6).
    Gzip,
    /// zstd, as its program does where nothing is said (level 3).
    Zstd,
}

impl Packing {
    /// As media types and tags say it.
    pub fn name(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }
}

/// An image in the registry.
pub struct Image {
    /// With a tag.
    pub reference: String,
    /// Of its manifest.
    pub digest: Digest,
    /// How its layers are packed.
    pub packing: Packing,
    /// Whether they are encrypted besides.
    pub encrypted: bool,
    /// Number of layers.
    pub layers: usize,
    /// Bytes of the layers' blobs.
    pub packed: u64,
    /// Bytes of their tars.
    pub unpacked: u64,
}

/// Digest and length of a file.
fn measured(path: &Path) -> Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        size += u64::try_from(n)?;
    }
}

fn pack(tar: &Path, packing: Packing, to: &Path) -> Result<()> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(tar)?);
    let output = BufWriter::with_capacity(1 << 20, File::create(to)?);
    match packing {
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
            std::io::copy(&mut input, &mut encoder)?;
            encoder.finish()?.flush()?;
        }
        Packing::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(output, 3)?;
            std::io::copy(&mut input, &mut encoder)?;
            encoder.finish()?.flush()?;
        }
    }
    Ok(())
}

/// Pushes images of tars.
pub struct Pusher<'a> {
    registry: &'a Registry,
    client: Client,
    runtime: tokio::runtime::Runtime,
    work: &'a Path,
}

impl<'a> Pusher<'a> {
    /// Blobs on their way lie in `work`.
    ///
    /// # Errors
    /// Where a client cannot be made.
    pub fn new(registry: &'a Registry, work: &'a Path) -> Result<Self> {
        let http = cocoon_http::Client::new(cocoon_http::Options::default())?;
        let client = Client::new(http, Auth::anonymous());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Pusher { registry, client, runtime, work })
    }

    fn blob(&self, reference: &Reference, file: &Path, media_type: String) -> Result<Descriptor> {
        let (digest, size) = measured(file)?;
        self.runtime.block_on(self.client.push_blob_from(reference, &digest, &mut File::open(file)?))?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Encrypts a packed layer; its key is wrapped for [`KEK`] and, where there is one, for a JWE recipient: then other
    /// programs open the same blob.
    fn encrypted(
        &self,
        reference: &Reference,
        file: &Path,
        media_type: String,
        recipient: Option<&RecipientKey>,
    ) -> Result<Descriptor> {
        let sealed_file = self.work.join("sealed");
        let mut encryptor = LayerEncryptor::new(BufReader::with_capacity(1 << 20, File::open(file)?))?;
        std::io::copy(&mut encryptor, &mut File::create(&sealed_file)?)?;
        let sealed = encryptor.finish()?;
        let private = sealed.private.to_json()?;
        let packet = wrap_key(&KEK, "kbs:///default/bench/1", &private)?;
        let keys = WrappedKeys {
            public: sealed.public,
            providers: vec![ProviderKey::of_packet(&packet)?],
            jwe: recipient.map(|key| Jwe::seal(key, &private)).into_iter().collect::<Result<_, _>>()?,
            unsupported: Vec::new(),
        };
        let mut descriptor = self.blob(reference, &sealed_file, media_type)?;
        descriptor.annotations = keys.annotations()?;
        std::fs::remove_file(sealed_file)?;
        Ok(descriptor)
    }

    /// An image of these tars as `name:PACKING`, and, where `encrypt` says for whom besides, one as
    /// `name:PACKING-encrypted`. Its containers run `cmd`.
    ///
    /// # Errors
    /// Where a file cannot be read or written, or the registry refuses something.
    pub fn push(
        &self,
        name: &str,
        tars: &[PathBuf],
        packing: Packing,
        cmd: &[&str],
        encrypt: Option<Option<&RecipientKey>>,
    ) -> Result<Vec<Image>> {
        let plain_name = self.registry.reference(&format!("{name}:{}", packing.name()));
        let sealed_name = format!("{plain_name}-encrypted");
        let reference = Reference::parse(&plain_name)?;
        let packed = self.work.join("packed");
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        let (mut diff_ids, mut unpacked) = (Vec::new(), 0);
        for tar in tars {
            let (diff_id, size) = measured(tar)?;
            diff_ids.push(diff_id);
            unpacked += size;
            pack(tar, packing, &packed)?;
            let media_type = format!("{LAYER}+{}", packing.name());
            if let Some(recipient) = encrypt {
                let media_type = format!("{media_type}+encrypted");
                sealed.push(self.encrypted(&reference, &packed, media_type, recipient)?);
            }
            plain.push(self.blob(&reference, &packed, media_type)?);
            std::fs::remove_file(&packed)?;
        }
        let platform = Platform::host();
        let config = json!({"os": platform.os, "architecture": platform.architecture,
            "config": {"Cmd": cmd, "Env": ["PATH=/bin"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes();
        let stored = self.runtime.block_on(self.client.push_blob(&reference, config.clone().into()))?;
        let config = json!({"mediaType": CONFIG, "digest": stored, "size": config.len()});
        let image = |name: &str, layers: &[Descriptor], encrypted| {
            let manifest =
                json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
            let reference = Reference::parse(name)?;
            let push = self.client.push_manifest(&reference, MANIFEST, manifest.to_string().into());
            let digest = self.runtime.block_on(push)?;
            let packed = layers.iter().map(|l| l.size).sum();
            let layers = layers.len();
            anyhow::Ok(Image {
                reference: name.to_owned(),
                digest,
                packing,
                encrypted,
                layers,
                packed,
                unpacked,
            })
        };
        let mut images = vec![image(&plain_name, &plain, false)?];
        if encrypt.is_some() {
            images.push(image(&sealed_name, &sealed, true)?);
        }
        Ok(images)
    }
}

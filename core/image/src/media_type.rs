//! The media types of manifests, configs and layers: OCI, Docker schema 2, and ocicrypt's `+encrypted`.

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Plain tar.
    None,
    /// gzip, one or more members (RFC 1952 §2.2).
    Gzip,
    /// Zstandard, one or more frames (RFC 8878 §3).
    Zstd,
}

impl Compression {
    /// The OCI media type of a layer so compressed.
    pub fn oci_layer_type(self) -> &'static str {
        match self {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// What a media type means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerManifestList,
    /// `application/vnd.oci.image.config.v1+json`
    OciConfig,
    /// `application/vnd.docker.container.image.v1+json`
    DockerConfig,
    /// A file system layer.
    Layer {
        /// Its compression.
        compression: Compression,
        /// Whether it is an ocicrypt ciphertext.
        encrypted: bool,
    },
    /// An encrypted shared layer: the blocks of an EROFS image, encrypted with AES-256-XTS. Cocoon's own; it can be
    /// attached as a disk, not unpacked.
    SharedLayer,
    /// A foreign or non-distributable layer: its bytes live elsewhere, we do not fetch them.
    ForeignLayer,
    /// Docker's obsolete schema 1 (signed or not).
    DockerSchema1,
    /// Anything else.
    Other,
}

/// The media type of [`MediaType::SharedLayer`].
pub const SHARED_ENCRYPTED: &str = "application/vnd.cocoon.image.layer.v1.erofs+encrypted";

/// What a client offers in `Accept` when it asks for a manifest or an index.
pub const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

impl MediaType {
    /// The meaning of a media type's text; parameters after `;` are ignored.
    pub fn parse(text: &str) -> MediaType {
        let text = text.split(';').next().unwrap_or_default().trim();
        match text {
            "application/vnd.oci.image.manifest.v1+json" => MediaType::OciManifest,
            "application/vnd.docker.distribution.manifest.v2+json" => MediaType::DockerManifest,
            "application/vnd.oci.image.index.v1+json" => MediaType::OciIndex,
            "application/vnd.docker.distribution.manifest.list.v2+json" => MediaType::DockerManifestList,
            "application/vnd.oci.image.config.v1+json" => MediaType::OciConfig,
            "application/vnd.docker.container.image.v1+json" => MediaType::DockerConfig,
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => MediaType::DockerSchema1,
            SHARED_ENCRYPTED => MediaType::SharedLayer,
            _ => MediaType::parse_layer(text),
        }
    }

    fn parse_layer(text: &str) -> MediaType {
        if text.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
            || text.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
        {
            return MediaType::ForeignLayer;
        }
        let (base, encrypted) = match text.strip_suffix("+encrypted") {
            Some(base) => (base, true),
            None => (text, false),
        };
        let compression = match base {
            "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
                Compression::None
            }
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Compression::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
            _ => return MediaType::Other,
        };
        MediaType::Layer { compression, encrypted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_layer_type() {
        let oci = "application/vnd.oci.image.layer.v1.tar";
        let docker = "application/vnd.docker.image.rootfs.diff.tar";
        for (text, compression, encrypted) in [
            (oci.to_owned(), Compression::None, false),
            (format!("{oci}+gzip"), Compression::Gzip, false),
            (format!("{oci}+zstd"), Compression::Zstd, false),
            (format!("{oci}+encrypted"), Compression::None, true),
            (format!("{oci}+gzip+encrypted"), Compression::Gzip, true),
            (format!("{oci}+zstd+encrypted"), Compression::Zstd, true),
            (docker.to_owned(), Compression::None, false),
            (format!("{docker}.gzip"), Compression::Gzip, false),
            (format!("{docker}.zstd"), Compression::Zstd, false),
            (format!("{docker}.gzip+encrypted"), Compression::Gzip, true),
        ] {
            assert_eq!(MediaType::parse(&text), MediaType::Layer { compression, encrypted }, "{text}");
        }
    }

    #[test]
    fn foreign_and_artifact_types_are_not_layers() {
        for (text, expected) in [
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", MediaType::ForeignLayer),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", MediaType::ForeignLayer),
            ("application/vnd.in-toto+json", MediaType::Other),
            ("application/vnd.oci.image.layer.v1.tar+encrypted+encrypted", MediaType::Other),
            ("text/html; charset=utf-8", MediaType::Other),
            ("application/vnd.oci.image.index.v1+json; x=y", MediaType::OciIndex),
        ] {
            assert_eq!(MediaType::parse(text), expected, "{text}");
        }
    }
}

//! `cocoon image`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::layers::parse_bytes;
use super::{Common, LayersArg};

/// `cocoon image`. An IMAGE, SOURCE or TARGET is a name in a registry, or `oci:DIR[:TAG]` for an OCI layout in a folder.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Make a signing key pair: NAME.key and NAME.pub.
    Keygen {
        /// The files' name without ending.
        name: PathBuf,
    },
    /// Sign an image in its registry.
    Sign(ImageSignArgs),
    /// Verify an image's signatures. Each kind of flag that is given must be met.
    Verify(Box<ImageVerifyArgs>),
    /// Copy an image, or a whole index of images, with its layers encrypted.
    Encrypt(Box<EncryptArgs>),
    /// Copy an encrypted image with its layers in the clear.
    Decrypt(Box<DecryptArgs>),
    /// Show an image: platforms, layers, who can decrypt them, signatures.
    Inspect {
        /// The image.
        image: String,
        /// Answers and failures as JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Key provider for skopeo, containerd's imgcrypt and other users of ocicrypt: one request on standard input
    /// (`cmd`), or a gRPC service.
    Keyprovider(Box<KeyproviderArgs>),
}

impl ImageCommand {
    /// Whether failures are to be told in JSON.
    pub fn json(&self) -> bool {
        match self {
            ImageCommand::Encrypt(args) => args.common.json,
            ImageCommand::Decrypt(args) => args.common.json,
            ImageCommand::Keyprovider(args) => args.common.json,
            ImageCommand::Inspect { json, .. } => *json,
            ImageCommand::Verify(args) => args.json,
            _ => false,
        }
    }
}

/// `cocoon image encrypt`.
#[derive(Debug, Args)]
pub struct EncryptArgs {
    /// A key of Trustee, kbs:///repository/image-key/tag; made where it does not exist. Without this and --recipient, a
    /// new one. May be given again.
    #[arg(long, value_name = "URI")]
    pub key_id: Vec<String>,
    /// The 32 bytes of the key at --key-id: a Trustee elsewhere keeps them but never gives them out.
    #[arg(long, value_name = "FILE")]
    pub kek: Option<PathBuf>,
    /// Who else can decrypt: jwe:FILE, the holder of the private half of a public key, certificate or JWK; or
    /// provider:NAME:PARAMETERS, a key provider of the file that OCICRYPT_KEYPROVIDER_CONFIG names. May be given again.
    #[arg(long, value_name = "KIND:…")]
    pub recipient: Vec<String>,
    /// How guests will get the layers: they pull archives (ocicrypt), or a node attaches disks (`cocoon run --layers
    /// shared`), for which layers in the clear become encrypted EROFS images. Those take one key, of Trustee.
    #[arg(long, value_enum, default_value_t = LayersArg::Guest, hide_possible_values = true, value_name = "guest|shared")]
    pub layers: LayersArg,
    /// Of an index, encrypt the images of this platform (all, or OS/ARCH); the others stay as they are. May be given
    /// again.
    #[arg(long, value_name = "PLATFORM", default_value = "all")]
    pub platform: Vec<String>,
    /// Encrypt this layer only: 0 is the lowest, -1 the highest. May be given again.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub layer: Vec<i32>,
    /// Publish the image although layers that --layer does not name stay in the clear: with --add-recipient, those that
    /// were so before; of an index, those of what calls itself no image.
    #[arg(long)]
    pub allow_clear: bool,
    /// Let more recipients into layers that are encrypted already, instead of refusing them. What opens them now is
    /// found as by `decrypt`.
    #[arg(long)]
    pub add_recipient: bool,
    /// With --add-recipient: a private key that opens the layers now.
    #[arg(long, value_name = "FILE[:PASSWORD]", requires = "add_recipient")]
    pub key: Vec<String>,
    /// Refuse an image, or an index, whose blobs are larger than this together, packed as they are.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "100G")]
    pub max_size: u64,
    /// The image to encrypt.
    pub source: String,
    /// The name of the encrypted image.
    pub target: String,
    /// Where keys are kept.
    #[command(flatten)]
    pub common: Common,
}

/// `cocoon image decrypt`.
#[derive(Debug, Args)]
pub struct DecryptArgs {
    /// A private key (PEM, DER or JWK) for layers with a JWE recipient. A password follows as file=FILE, env=NAME, fd=N or
    /// pass=TEXT. May be given again.
    #[arg(long, value_name = "FILE[:PASSWORD]")]
    pub key: Vec<String>,
    /// The 32 bytes of the key-encryption key, where this machine's embedded Trustee does not have it.
    #[arg(long, value_name = "FILE")]
    pub kek: Option<PathBuf>,
    /// Use the keys at hand alone and ask no Trustee.
    #[arg(long, conflicts_with = "trustee")]
    pub no_trustee: bool,
    /// Of an index, decrypt the images of this platform (all, or OS/ARCH); the others stay as they are. May be given
    /// again.
    #[arg(long, value_name = "PLATFORM", default_value = "all")]
    pub platform: Vec<String>,
    /// Refuse an image, or an index, whose blobs are larger than this together, packed as they are.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "100G")]
    pub max_size: u64,
    /// The encrypted image.
    pub source: String,
    /// The name of the image in the clear.
    pub target: String,
    /// Where keys are kept.
    #[command(flatten)]
    pub common: Common,
}

/// `cocoon image keyprovider`.
#[derive(Debug, Args)]
pub struct KeyproviderArgs {
    /// Serve gRPC (keyprovider.KeyProviderService) here: 127.0.0.1:PORT, or unix:PATH for a socket that only this user
    /// may use.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Also unwrap keys over gRPC. Whoever reaches the address can then decrypt every image of this Trustee; on a TCP
    /// port that is every user of this machine.
    #[arg(long, requires = "listen")]
    pub allow_unwrap: bool,
    /// Listen on an address that other machines reach. Nothing is authenticated or encrypted there.
    #[arg(long, requires = "listen")]
    pub insecure_listen: bool,
    /// The 32 bytes of the key-encryption key that is used whatever its id.
    #[arg(long, value_name = "FILE")]
    pub kek: Option<PathBuf>,
    /// Where keys are kept.
    #[command(flatten)]
    pub common: Common,
}

/// How a signature is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SignatureFormat {
    /// Under the tag sha256-DIGEST.sig, as cosign 1 and 2 do.
    #[default]
    Cosign,
    /// A Sigstore bundle among the image's referrers, as cosign 3 does.
    Bundle,
}

/// `cocoon image sign`.
#[derive(Debug, Args)]
pub struct ImageSignArgs {
    /// Private key (PEM file), of `cocoon image keygen` or of cosign; one that cosign sealed takes its password from the
    /// variable COSIGN_PASSWORD.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// How the signature is kept.
    #[arg(long, value_enum, default_value_t)]
    pub format: SignatureFormat,
    /// Of an index, sign also each of its images.
    #[arg(long)]
    pub recursive: bool,
    /// The image, in a registry.
    pub image: String,
}

/// `cocoon image verify`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("by").required(true).multiple(true)
    .args(["key", "policy", "certificate_identity", "notation_root", "gpg_key"]))]
pub struct ImageVerifyArgs {
    /// A public key (PEM file): cosign's signatures and bundles. Of several, one must have signed.
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Accept what --key or --certificate-identity asks for where it names no repository or another one, as cosign 3's
    /// bundles: whoever keeps the registry can then offer any image signed so, under any name.
    #[arg(long)]
    pub digest_only: bool,
    /// A signature policy (containers-policy.json(5)).
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Who signed keyless: an e-mail address, or the URI of a workflow.
    #[arg(long, value_name = "ID", requires_all = ["certificate_oidc_issuer", "trust_root"])]
    pub certificate_identity: Option<String>,
    /// Who vouched for that identity.
    #[arg(long, value_name = "URL", requires = "certificate_identity")]
    pub certificate_oidc_issuer: Option<String>,
    /// Sigstore's trusted root (JSON file): certificate authorities and logs. Nothing is fetched.
    #[arg(long, value_name = "FILE", requires = "certificate_identity")]
    pub trust_root: Option<PathBuf>,
    /// A root certificate (PEM file) of Notation's signatures. May be given again.
    #[arg(long, value_name = "FILE", requires = "notation_identity")]
    pub notation_root: Vec<PathBuf>,
    /// Which subject of those certificates may have signed: `x509.subject: C=…`, or `*` for any. Needed with --notation-root.
    #[arg(long, value_name = "SUBJECT", requires = "notation_root")]
    pub notation_identity: Vec<String>,
    /// OpenPGP public keys (file) of simple signing. Of several, one must have signed.
    #[arg(long, value_name = "FILE", requires = "lookaside")]
    pub gpg_key: Vec<PathBuf>,
    /// Where detached signatures lie: a file as in containers' registries.d.
    #[arg(long, value_name = "FILE")]
    pub lookaside: Option<PathBuf>,
    /// Answers and failures as JSON for programs.
    #[arg(long)]
    pub json: bool,
    /// The image, in a registry. Of an index, the index must be signed.
    pub image: String,
}

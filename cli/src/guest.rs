//! `cocoon guest`: the measured guest image.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use cocoon_guest_image::{BuildOptions, DEFAULT_CA_BUNDLE, DEFAULT_FIRMWARE, GuestImage, build};
use cocoon_measure::snp::IdBlock;
use cocoon_stage::{Code, Failure};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::args::{GuestBuildArgs, GuestCommand, IdBlockArgs};
use crate::dirs;

pub async fn main(command: GuestCommand) -> Result<(), Failure> {
    match command {
        GuestCommand::Build(args) => build_image(args),
        GuestCommand::Push(args) => crate::guest_push::main(args).await,
        GuestCommand::IdBlock(args) => id_block(&args),
        GuestCommand::Show => show(&GuestImage::open(&dirs::guest_dir()?)?),
    }
}

fn build_image(args: GuestBuildArgs) -> Result<(), Failure> {
    let guest_binary = match args.guest_binary {
        Some(path) => path,
        None => beside_this_program()?,
    };
    let out_dir = match args.out {
        Some(dir) => dir,
        None => dirs::guest_dir()?,
    };
    let ca_bundle = PathBuf::from(DEFAULT_CA_BUNDLE);
    let options = BuildOptions {
        kernel_deb: args.kernel_deb,
        suite: args.suite,
        guest_binary,
        out_dir,
        ca_bundle: ca_bundle.is_file().then_some(ca_bundle),
        firmware: DEFAULT_FIRMWARE.into(),
        developer: args.developer,
    };
    let image = build(&options, &mut |line| eprintln!("[guest   ] {line}"))?;
    show(&image)
}

fn beside_this_program() -> Result<PathBuf, Failure> {
    let missing = || {
        Failure::new(
            Code::BootGuestImageMissing,
            "cocoon-guest is not beside this program; give --guest-binary",
        )
    };
    let program = std::env::current_exe().map_err(|_| missing())?;
    // Installed beside this program, or where `make build` puts it.
    let built = "../guest/x86_64-unknown-linux-gnu/guest/cocoon-guest";
    let places = [program.with_file_name("cocoon-guest"), program.with_file_name(built)];
    places.into_iter().find(|p| p.is_file()).ok_or_else(missing)
}

fn show(image: &GuestImage) -> Result<(), Failure> {
    let mut values = image.reference_values()?;
    // A kernel without an EFI stub is one that no TPM can measure; that is no fault of the image elsewhere.
    values.extend(image.tpm_reference_values().unwrap_or_default());
    let document = serde_json::json!({
        "folder": image.dir,
        "manifest": image.manifest,
        "reference_values": values,
    });
    let text =
        serde_json::to_string_pretty(&document).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    println!("{text}");
    Ok(())
}

/// Prints `[snp]` of a class whose guests are this image with that many CPUs.
fn id_block(args: &IdBlockArgs) -> Result<(), Failure> {
    let image = GuestImage::open(&dirs::guest_dir()?)?;
    let firmware = match &args.firmware {
        Some(file) => file.clone(),
        None => cocoon_sandbox::platform::snp_firmware()?,
    };
    let policy = cocoon_runtime::SnpConfig::default().policy;
    let block = IdBlock {
        launch_digest: image.snp_launch_digest(&firmware, args.cpus)?,
        family_id: *b"cocoon guest\0\0\0\0",
        image_id: [0; 16],
        guest_svn: args.svn,
        policy,
    };
    let key = private_key(&args.key)?;
    let author = args.author_key.as_deref().map(private_key).transpose()?;
    let auth = block.sign(&key, author.as_ref().map(|key| key.as_slice()))?;
    println!("# ID key digest: {}", hex::encode(auth.id_key_digest));
    if let Some(digest) = auth.author_key_digest {
        println!("# Author key digest: {}", hex::encode(digest));
    }
    println!("[snp]\npolicy = {policy:#x}");
    println!("id_block = \"{}\"", STANDARD.encode(block.to_bytes()));
    println!("id_auth = \"{}\"", STANDARD.encode(auth.bytes.as_slice()));
    Ok(())
}

fn private_key(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let wrong = |reason: String| Failure::new(Code::UsageInvalid, format!("{}: {reason}", file.display()));
    let pem = Zeroizing::new(std::fs::read(file).map_err(|e| wrong(e.to_string()))?);
    let key =
        PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|e| wrong(format!("no PKCS#8 key in PEM: {e}")))?;
    Ok(Zeroizing::new(key.secret_pkcs8_der().to_vec()))
}

//! `cocoon guest`: the measured guest image.

use std::path::PathBuf;

use cocoon_guest_image::{BuildOptions, DEFAULT_CA_BUNDLE, DEFAULT_FIRMWARE, GuestImage, build};
use cocoon_stage::{Code, Failure};

use crate::args::{GuestBuildArgs, GuestCommand};
use crate::dirs;

pub fn main(command: GuestCommand) -> Result<(), Failure> {
    match command {
        GuestCommand::Build(args) => build_image(args),
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
    let values = image.reference_values()?;
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

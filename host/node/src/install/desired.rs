//! The files that an installation consists of.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cocoon_runtime::RuntimeConfig;
use cocoon_stage::{Code, Failure};

use super::classes::{self, Class};
use super::disk::{self, Content, Print};
use super::draft::{Draft, MainFile};
use super::store::{Manifest, failed};
use super::{Done, Install};
use crate::labels::Labels;

/// A file as it shall be.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Where, on this disk.
    pub path: PathBuf,
    /// What it shall hold.
    pub content: Content,
    /// What it shall be.
    pub print: Print,
    /// Whether it is someone else's file with something of ours in it.
    pub edited: bool,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// To be written where they differ, in this order: containerd's main file is the last.
    pub desired: Vec<Desired>,
    /// To be left as a person made them.
    pub kept: Vec<PathBuf>,
}

/// The files.
///
/// # Errors
/// `HOST-UNSUPPORTED` where shim or guest image are not there to be copied.
pub fn files(
    wish: &Install,
    classes: &[Class],
    draft: &Draft,
    main: &MainFile,
    manifest: Option<&Manifest>,
    done: &mut Done,
) -> Result<Files, Failure> {
    let places = &wish.places;
    let mut files = Files::default();
    for (path, content) in guest_image(wish, done)? {
        files.desired.push(desired(path, content, 0o644)?);
    }
    let lacking = |e: &dyn std::fmt::Display| Failure::new(Code::HostUnsupported, format!("the shim: {e}"));
    if !wish.shim.is_file() {
        return Err(lacking(&format!("{} is not there; give --shim", wish.shim.display())));
    }
    files.desired.push(desired(places.on_disk(&places.shim()), Content::CopyOf(wish.shim.clone()), 0o755)?);
    for class in classes {
        let path = places.on_disk(&places.class(class.name));
        if !wish.reset_classes && is_a_persons(&path, manifest) {
            done.notes.push(format!("{} has settings of its own and was left as it is", path.display()));
            files.kept.push(path);
            continue;
        }
        let text = classes::file(class, &places.guest_image(), &wish.settings);
        RuntimeConfig::parse(&text, &path).map_err(|e| Failure::new(Code::UsageInvalid, e.to_string()))?;
        files.desired.push(desired(path, Content::Bytes(text.into()), 0o644)?);
    }
    if wish.features || places.on_disk(&places.features).is_dir() {
        let text = Labels::of(&places.root, classes).feature_file();
        files.desired.push(desired(
            places.on_disk(&places.feature_file()),
            Content::Bytes(text.into()),
            0o644,
        )?);
    }
    if let Some(text) = &draft.drop_in {
        let path = places.on_disk(&places.drop_in());
        files.desired.push(desired(path, Content::Bytes(text.clone().into()), 0o644)?);
    }
    if let Some(text) = &draft.main {
        let content = Content::Bytes(text.clone().into());
        let mut file = desired(main.path.clone(), content, 0o644)?;
        if let Some(print) = &main.print {
            file.print = Print { sha256: file.print.sha256, ..print.clone() };
        }
        files.desired.push(Desired { edited: true, ..file });
    }
    for entry in manifest.iter().flat_map(|m| &m.entries) {
        let stays = wish.keep.iter().any(|folder| entry.path.starts_with(places.on_disk(folder)));
        if stays && !files.desired.iter().any(|f| f.path == entry.path) {
            files.kept.push(entry.path.clone());
        }
    }
    Ok(files)
}

fn desired(path: PathBuf, content: Content, mode: u32) -> Result<Desired, Failure> {
    let sha256 = match &content {
        Content::CopyOf(from) => content.sha256().map_err(|e| failed(&disk::named(from, &e)))?,
        Content::Bytes(_) => content.sha256().map_err(|e| failed(&e))?,
    };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(Desired { path, content, print: Print { sha256, mode, uid, gid }, edited: false })
}

/// A class file that is good and not as it was installed.
fn is_a_persons(path: &Path, manifest: Option<&Manifest>) -> bool {
    let Ok(Some(now)) = Print::of(path) else { return false };
    let installed = manifest.and_then(|m| m.entry(path)).map(|e| &e.installed.sha256);
    installed != Some(&now.sha256) && RuntimeConfig::read(path).is_ok()
}

fn guest_image(wish: &Install, done: &mut Done) -> Result<Vec<(PathBuf, Content)>, Failure> {
    let places = &wish.places;
    let to = places.on_disk(&places.guest_image());
    let from = match &wish.guest_image {
        Some(dir) => dir.clone(),
        // What is there stays what it is, and stays remembered.
        None if to.join("manifest.json").is_file() => to.clone(),
        None => {
            done.notes.push(format!(
                "there is no guest image in {}: pods cannot start until one is there (--guest-image DIR)",
                to.display()
            ));
            return Ok(Vec::new());
        }
    };
    let unsupported = |e: io::Error| {
        Failure::new(Code::HostUnsupported, format!("the guest image: {}", disk::named(&from, &e)))
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&from).map_err(unsupported)? {
        let entry = entry.map_err(unsupported)?;
        let name = entry.file_name();
        if entry.path().is_file() && !name.to_string_lossy().starts_with('.') {
            files.push((to.join(&name), Content::CopyOf(entry.path())));
        }
    }
    if !files.iter().any(|(path, _)| path.ends_with("manifest.json")) {
        let reason = format!("{} is no guest image: it has no manifest.json", from.display());
        return Err(Failure::new(Code::HostUnsupported, reason));
    }
    // The manifest last: a folder without one is no image yet.
    files.sort_by_key(|(path, _)| (path.ends_with("manifest.json"), path.clone()));
    Ok(files)
}

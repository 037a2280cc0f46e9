//! Out of a registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cocoon_guest_image::GuestImage;
use cocoon_http::{Options, Roots};
use cocoon_image::{Descriptor, Digest, Document, Hasher, Reference};
use cocoon_registry::{Auth, Client};
use cocoon_signature::Subject;
use cocoon_signature::policy::Requirement;
use cocoon_signatures::Places;
use cocoon_stage::{Code, Failure};

use super::{ARTIFACT, FILES, MOST_BYTES, TITLE};

/// Images that are kept: the one that is used, and the one before it, so that going back needs no registry.
const KEPT: usize = 2;

/// What is to be pulled.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `NAME@sha256:…`.
    pub reference: String,
    /// The public key (PEM) by which it must be signed as cosign does, if by any.
    pub key: Option<String>,
    /// Whether its registry is asked without TLS.
    pub plain_http: bool,
    /// Credentials, as in `~/.docker/config.json`.
    pub auth: Option<String>,
    /// The file of certificate authorities for registries.
    pub roots: PathBuf,
}

/// Pulls the image into a folder of its own below `store`, unless it is there already; gives that folder.
///
/// # Errors
/// `USAGE-INVALID` for a reference without a digest or a key that is none, the registry's codes (`IMAGE-…`), those of signatures,
/// `IMAGE-MANIFEST-INVALID` where it is no guest image, `IMAGE-TOO-LARGE`, `BOOT-GUEST-IMAGE-CORRUPT`.
pub async fn pull(wish: &Wish, store: &Path) -> Result<PathBuf, Failure> {
    let invalid = |why: String| Failure::new(Code::UsageInvalid, why);
    let reference = Reference::parse(&wish.reference).map_err(|e| invalid(e.to_string()))?;
    let digest = reference.digest.ok_or_else(|| invalid(format!("{} has no digest", wish.reference)))?;
    let folder = store.join(digest.hex());
    // That an image is there says nothing of who signed it; that was found out once for each key.
    let vouched = wish.key.as_deref().map(|key| vouched(store, &digest, key));
    let known = vouched.as_ref().is_none_or(|file| file.is_file());
    let there = opened(&folder).await.is_ok();
    if there && known {
        touch(&folder);
        return Ok(folder);
    }
    let roots = Roots::System(wish.roots.clone());
    let http = cocoon_http::Client::new(Options { roots, ..Options::default() })
        .map_err(|e| Failure::new(Code::ImagePullFailed, e.to_string()))?;
    let auth = wish.auth.as_deref().map(Auth::from_json).transpose()?.unwrap_or_else(Auth::anonymous);
    let plain = wish.plain_http.then(|| reference.registry.clone());
    let client = Client::new(http.clone(), auth).allow_plain_http(plain);
    if let Some(key) = &wish.key {
        let requirement = Requirement::cosign_key(key).map_err(|e| invalid(format!("publicKey: {e}")))?;
        let subject = Subject { reference: &reference, digests: &[digest] };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        cocoon_signatures::check(&client, &http, &Places::default(), &subject, &[requirement], now).await?;
    }
    let failed =
        |e: std::io::Error| Failure::new(Code::NodeInstallFailed, format!("{}: {e}", store.display()));
    if let Some(file) = vouched {
        fs::create_dir_all(store).and_then(|()| fs::write(file, "")).map_err(failed)?;
    }
    if there {
        touch(&folder);
        return Ok(folder);
    }
    let files = files(&client.manifest(&reference, &digest).await?)?;
    let draft = store.join(format!(".{}", digest.hex()));
    let done = fetch(&client, &reference, &files, &draft).await;
    let done = match done {
        Ok(()) => opened(&draft).await,
        failed => failed,
    };
    let done = done.and_then(|()| {
        let _ = fs::remove_dir_all(&folder);
        fs::rename(&draft, &folder).map_err(failed)
    });
    if done.is_err() {
        let _ = fs::remove_dir_all(&draft);
    }
    done?;
    prune(store);
    Ok(folder)
}

/// The empty file that says that a key was found to have signed an image.
fn vouched(store: &Path, digest: &Digest, key: &str) -> PathBuf {
    store.join(format!("{}.{}", digest.hex(), Digest::sha256(key.as_bytes()).hex()))
}

/// Reads and hashes every file.
async fn opened(folder: &Path) -> Result<(), Failure> {
    let folder = folder.to_owned();
    let opened = tokio::task::spawn_blocking(move || GuestImage::open(&folder)).await;
    opened.map_err(|e| Failure::new(Code::Internal, e.to_string()))?.map(drop).map_err(Failure::from)
}

/// The files that a manifest says, by name; all of a guest image and no others.
fn files(manifest: &[u8]) -> Result<BTreeMap<&'static str, Descriptor>, Failure> {
    let wrong = |why: String| Failure::new(Code::ImageManifestInvalid, format!("no guest image: {why}"));
    let Document::Manifest(manifest) = Document::parse(manifest)? else {
        return Err(wrong("it is an index".into()));
    };
    if manifest.artifact_type.as_deref() != Some(ARTIFACT) {
        return Err(wrong(format!("its artifact type is not {ARTIFACT}")));
    }
    let mut files = BTreeMap::new();
    let mut left = MOST_BYTES;
    for layer in manifest.layers {
        let title = layer.annotations.get(TITLE).map(String::as_str).unwrap_or_default();
        let name = FILES.into_iter().find(|f| *f == title);
        let name = name.ok_or_else(|| wrong(format!("it has a file {title:.80?}")))?;
        left = left.checked_sub(layer.size).ok_or_else(|| {
            Failure::new(Code::ImageTooLarge, format!("the guest image has more than {MOST_BYTES} bytes"))
        })?;
        if files.insert(name, layer).is_some() {
            return Err(wrong(format!("it has two files {name}")));
        }
    }
    match FILES.into_iter().find(|f| !files.contains_key(f)) {
        Some(lacking) => Err(wrong(format!("it has no {lacking}"))),
        None => Ok(files),
    }
}

async fn fetch(
    client: &Client,
    reference: &Reference,
    files: &BTreeMap<&'static str, Descriptor>,
    draft: &Path,
) -> Result<(), Failure> {
    let failed =
        |e: std::io::Error| Failure::new(Code::NodeInstallFailed, format!("{}: {e}", draft.display()));
    let _ = fs::remove_dir_all(draft);
    fs::create_dir_all(draft).map_err(failed)?;
    for (name, layer) in files {
        let mut file = fs::File::create_new(draft.join(name)).map_err(failed)?;
        let mut hasher = Hasher::new(layer.digest.algorithm());
        let mut left = layer.size;
        let mut stream = client.blob(reference, layer, 0).await?;
        let wrong = || {
            let why = format!("{name} has not the digest or the size that the manifest says");
            Failure::new(Code::ImageDigestMismatch, why)
        };
        while let Some(chunk) = stream.chunk().await? {
            let size = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(size).ok_or_else(wrong)?;
            hasher.update(&chunk);
            file.write_all(&chunk).map_err(failed)?;
        }
        if left > 0 || hasher.finish() != layer.digest {
            return Err(wrong());
        }
    }
    Ok(())
}

/// Notes that an image was used.
fn touch(folder: &Path) {
    if let Ok(file) = fs::File::open(folder) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Removes all but the images that were used last, and what an earlier run did not finish.
fn prune(store: &Path) {
    let mut images: Vec<(SystemTime, PathBuf)> = Vec::new();
    let mut notes: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            let _ = fs::remove_dir_all(entry.path());
            continue;
        }
        if entry.path().is_file() {
            notes.push(entry.path());
            continue;
        }
        let used = entry.metadata().and_then(|m| m.modified()).unwrap_or(UNIX_EPOCH);
        images.push((used, entry.path()));
    }
    images.sort();
    let many = images.len().saturating_sub(KEPT);
    for (_, folder) in images.into_iter().take(many) {
        let _ = fs::remove_dir_all(folder);
    }
    for note in notes.into_iter().filter(|note| !note.with_extension("").exists()) {
        let _ = fs::remove_file(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn manifest(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let digest = Digest::sha256(b"x").to_string();
        let layer = |name: &&str| json!({"mediaType": super::super::FILE, "digest": digest, "size": 1, "annotations": {TITLE: name}});
        let mut value = json!({
            "schemaVersion": 2, "mediaType": super::super::MANIFEST, "artifactType": ARTIFACT,
            "config": {"mediaType": super::super::EMPTY.0, "digest": digest, "size": 2},
            "layers": FILES.iter().map(layer).collect::<Vec<_>>(),
        });
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn only_a_whole_guest_image_is_one() {
        assert_eq!(files(&manifest(|_| ())).unwrap().len(), FILES.len());
        let code = |change: fn(&mut Value)| files(&manifest(change)).unwrap_err().code;
        for change in [
            (|m| m["artifactType"] = json!("other")) as fn(&mut Value),
            |m| m["layers"][0]["annotations"][TITLE] = json!("../../etc/passwd"),
            |m| m["layers"][0]["annotations"] = json!({}),
            |m| m["layers"][0]["annotations"][TITLE] = json!("vmlinuz"),
            |m| m["layers"].as_array_mut().unwrap().truncate(4),
            |m| m["layers"] = json!([]),
        ] {
            assert_eq!(code(change), Code::ImageManifestInvalid);
        }
        assert_eq!(code(|m| m["layers"][0]["size"] = json!(u64::MAX)), Code::ImageTooLarge);
        assert_eq!(code(|m| m["layers"][0]["size"] = json!(MOST_BYTES)), Code::ImageTooLarge);
    }

    #[test]
    fn the_last_two_images_are_kept() {
        let store = tempfile::tempdir().unwrap();
        for (name, age) in [("a", 3), ("b", 1), ("c", 2), (".d", 0)] {
            fs::create_dir(store.path().join(name)).unwrap();
            let file = fs::File::open(store.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age * 100)).unwrap();
        }
        fs::write(store.path().join("a.key"), "").unwrap();
        fs::write(store.path().join("b.key"), "").unwrap();
        prune(store.path());
        let there = |name: &str| store.path().join(name).exists();
        assert!(there("b") && there("c") && !there("a") && !there(".d"));
        assert!(there("b.key") && !there("a.key"), "what is known of an image goes with it");
    }

    #[tokio::test]
    async fn a_reference_without_a_digest_is_none() {
        let store = tempfile::tempdir().unwrap();
        let wish = Wish {
            reference: "r.example/guest:1".into(),
            key: None,
            plain_http: false,
            auth: None,
            roots: "/nonexistent".into(),
        };
        assert_eq!(pull(&wish, store.path()).await.unwrap_err().code, Code::UsageInvalid);
        let key = Some("no key".into());
        let reference = format!("r.example/guest@{}", Digest::sha256(b"x"));
        let wish = Wish { reference, key, ..wish };
        assert_eq!(pull(&wish, store.path()).await.unwrap_err().code, Code::UsageInvalid);
    }
}

//! The guest image that a node's settings name in a registry.

use std::fs;
use std::path::{Path, PathBuf};

use cocoon_cluster_api::{NodeSettings, PULL_SECRET_FILE};
use cocoon_stage::{Code, Failure};

use crate::guests::{Wish, pull};

/// Certificate authorities of the node, as Debian, Red Hat and SUSE keep them.
const AUTHORITIES: [&str; 3] =
    ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/ca-bundle.pem"];

/// Where pulled images are, below the folder of what outlives pods.
fn store(settings: &NodeSettings) -> PathBuf {
    Path::new(&settings.paths.data).join("guests")
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Pulls it where it is not there yet. The folder as the node itself finds it; `None` where settings name no such image.
///
/// # Errors
/// As [`pull`].
pub async fn guest(settings: &NodeSettings, root: &Path) -> Result<Option<PathBuf>, Failure> {
    let source = &settings.guest_image;
    let Some(reference) = source.reference.clone() else { return Ok(None) };
    let auth = source.pull_secret.is_some().then(|| fs::read_to_string(PULL_SECRET_FILE)).transpose();
    let auth = auth.map_err(|e| {
        Failure::new(Code::ImageUnauthorized, format!("pullSecret has no .dockerconfigjson: {e}"))
    })?;
    let roots = AUTHORITIES.map(|file| root.join(file));
    let [usual, ..] = &roots;
    let wish = Wish {
        reference,
        key: source.public_key.clone(),
        plain_http: source.plain_http,
        auth,
        roots: roots.iter().find(|file| file.is_file()).unwrap_or(usual).clone(),
    };
    let own = store(settings);
    let folder = pull(&wish, &below(root, &own)).await?;
    Ok(folder.file_name().map(|name| own.join(name)))
}

/// Whether a failure of [`guest`] may mend itself: it is a registry's.
pub fn may_mend(code: &str) -> bool {
    [
        Code::ImageRegistryUnreachable,
        Code::ImageRegistryStalled,
        Code::ImageRegistryAnswer,
        Code::ImageUnauthorized,
        Code::ImageNotFound,
        Code::ImagePullFailed,
    ]
    .iter()
    .any(|known| known.as_str() == code)
}

/// Removes all pulled images, and the folder around them where nothing else is in it.
pub fn forget(settings: &NodeSettings, root: &Path) {
    let own = below(root, &store(settings));
    if fs::remove_dir_all(&own).is_ok()
        && let Some(parent) = own.parent()
    {
        let _ = fs::remove_dir(parent);
    }
}

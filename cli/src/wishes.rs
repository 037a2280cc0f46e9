//! What the flags of `cocoon run` mean: secrets, environment, resources.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_plan::SecretPlan;
use cocoon_stage::{Code, Failure};
use cocoon_trustee::ResourcePath;
use zeroize::Zeroizing;

use crate::embedded::resource_path;

/// The resource type whose members only the guest itself uses, never the workload.
pub const IMAGE_KEY_TYPE: &str = "image-key";
/// Where registry credentials of a run are kept.
pub const REGISTRY_AUTH_PATH: &str = "default/registry-auth/auth.json";

/// Largest secret, in bytes.
const MAX_SECRET: usize = 1 << 20;

/// Secrets of a run: what goes to Trustee and what the plan says of it.
#[derive(Default)]
pub struct Secrets {
    /// Values by path, for Trustee only.
    pub values: BTreeMap<ResourcePath, Zeroizing<Vec<u8>>>,
    /// What the guest fetches for the workload.
    pub plans: Vec<SecretPlan>,
}

/// Reads `NAME=@FILE` and `NAME=VALUE` arguments.
pub fn secrets(arguments: &[String]) -> Result<Secrets, Failure> {
    let bad = |reason: String| Failure::new(Code::PlanSecretInvalid, reason);
    let mut secrets = Secrets::default();
    for argument in arguments {
        // Only the name may be printed; what stands behind `=`, or where one is missing, can be the secret itself.
        let (name, value) = argument
            .split_once('=')
            .ok_or_else(|| bad("a --secret has no `=`; write NAME=@FILE or NAME=VALUE".into()))?;
        let path = resource_path(&format!("default/secret/{name}")).map_err(|_| {
            bad(format!("--secret {name}: the name may hold letters, digits, `_`, `-` and `.`, and begins with none of `.`"))
        })?;
        let value = Zeroizing::new(match value.strip_prefix('@') {
            Some(file) => std::fs::read(file).map_err(|e| bad(format!("--secret {name}: {file}: {e}")))?,
            None => value.as_bytes().to_vec(),
        });
        if value.len() > MAX_SECRET {
            return Err(bad(format!(
                "--secret {name}: {} bytes; at most {MAX_SECRET} are allowed",
                value.len()
            )));
        }
        secrets.plans.push(SecretPlan {
            uri: format!("kbs:///{}", path.as_str()),
            file: Some(format!("/run/secrets/{name}")),
        });
        if secrets.values.insert(path, value).is_some() {
            return Err(bad(format!("--secret {name} is given twice")));
        }
    }
    Ok(secrets)
}

/// Environment arguments; a bare `NAME` takes this process's value and is left out where it has none.
pub fn environment(arguments: &[String]) -> Vec<String> {
    arguments
        .iter()
        .filter_map(|a| {
            if a.contains('=') { Some(a.clone()) } else { std::env::var(a).ok().map(|v| format!("{a}={v}")) }
        })
        .collect()
}

/// The shared resources that the workload may have: those asked for, and the image's keys.
///
/// An image comes from an untrusted registry and names its keys itself. So a key id counts only where it is of type
/// `image-key`; otherwise an image could name any secret of its user and hand it to its own workload.
/// And even then only where the owner requires a signature: an unsigned image can carry a layer of somebody's encrypted
/// image beside a program that reads it out.
pub fn allowed(
    asked: &[String],
    key_ids: &[String],
    signed: bool,
) -> Result<BTreeSet<ResourcePath>, Failure> {
    let mut allowed = BTreeSet::new();
    for path in asked {
        allowed.insert(resource_path(path)?);
    }
    for id in key_ids {
        let uri: cocoon_protocol::uri::ResourceUri = id.parse().map_err(|e| {
            Failure::new(Code::ImageKeyUnavailable, format!("the image names {id:?} as key of a layer: {e}"))
        })?;
        let path = resource_path(&uri.path())?;
        let released = signed && uri.type_ == IMAGE_KEY_TYPE;
        if !released && !allowed.contains(&path) {
            return Err(Failure::new(
                Code::ImageKeyUnavailable,
                format!(
                    "the image names {id} as key of a layer; it is released to images with --require-signature where \
                     its type is {IMAGE_KEY_TYPE}, else only with --allow-resource {}",
                    path.as_str()
                ),
            ));
        }
        allowed.insert(path);
    }
    Ok(allowed)
}

/// A plan's name from the image's repository: its last part, of the characters that names may hold.
pub fn workload_name(repository: &str) -> String {
    let last = repository.rsplit('/').next().unwrap_or_default();
    let name: String = last
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.') { c } else { '-' })
        .take(63)
        .collect();
    let name = name.trim_start_matches(['-', '.']);
    if name.is_empty() { "workload".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_from_values_and_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"from file").unwrap();
        let arguments = ["a=1=2".to_owned(), format!("b=@{}", file.path().display())];
        let secrets = secrets(&arguments).unwrap();
        let values: Vec<&[u8]> = secrets.values.values().map(|v| v.as_slice()).collect();
        assert_eq!(values, [b"1=2".as_slice(), b"from file"]);
        assert_eq!(secrets.plans[0].uri, "kbs:///default/secret/a");
        assert_eq!(secrets.plans[1].file.as_deref(), Some("/run/secrets/b"));
    }

    #[test]
    fn bad_secrets_are_refused_without_printing_them() {
        for bad in ["hunter2", "a/b=hunter2", "=hunter2", "../x=hunter2", "a=@/nonexistent"] {
            let failure = secrets(&[bad.to_owned()]).err().unwrap();
            assert_eq!(failure.code, Code::PlanSecretInvalid, "{bad}");
            assert!(!failure.reason.contains("hunter2"), "{}", failure.reason);
        }
        assert!(secrets(&["a=1".into(), "a=2".into()]).is_err());
    }

    #[test]
    fn an_image_cannot_name_any_secret_as_its_key() {
        let keys = ["kbs:///default/image-key/x".to_owned()];
        assert_eq!(allowed(&[], &keys, true).unwrap().len(), 1);
        assert_eq!(allowed(&[], &keys, false).unwrap_err().code, Code::ImageKeyUnavailable);
        let theft = ["kbs:///default/secret/bank".to_owned()];
        assert_eq!(allowed(&[], &theft, true).unwrap_err().code, Code::ImageKeyUnavailable);
        assert_eq!(allowed(&["default/secret/bank".into()], &theft, false).unwrap().len(), 1);
    }

    #[test]
    fn names_of_workloads() {
        assert_eq!(workload_name("library/busybox"), "busybox");
        assert_eq!(workload_name("a/_x_Y"), "x--");
        assert_eq!(workload_name("___"), "workload");
    }
}

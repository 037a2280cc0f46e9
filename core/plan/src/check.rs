//! What the values of a plan must be.

use std::collections::BTreeSet;

use crate::images::MAX_SHARED_LAYERS;
use crate::types::VERSION;
use crate::{ContainerPlan, Error, Plan, pod};

const MAX_CONTAINERS: usize = 64;
const MAX_LIST: usize = 4096;

impl Plan {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.version != VERSION {
            return Err(Error::Version { found: self.version, supported: VERSION });
        }
        check_name("name", &self.name)?;
        if self.instance.len() > 64 || !self.instance.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Error::field("instance", "must be at most 64 hex characters"));
        }
        if self.containers.is_empty() || self.containers.len() > MAX_CONTAINERS {
            return Err(Error::field("containers", format!("must hold 1 to {MAX_CONTAINERS}")));
        }
        let mut names = BTreeSet::new();
        for (i, container) in self.containers.iter().enumerate() {
            let at = format!("containers[{i}]");
            container.check(&at)?;
            if !names.insert(&container.name) {
                return Err(Error::field(format!("{at}.name"), "is used twice"));
            }
        }
        if self.secrets.len() > MAX_LIST {
            return Err(Error::field("secrets", "too many"));
        }
        for (i, secret) in self.secrets.iter().enumerate() {
            check_uri(&format!("secrets[{i}].uri"), &secret.uri)?;
            if let Some(file) = &secret.file {
                check_path(&format!("secrets[{i}].file"), file)?;
            }
        }
        if let Some(uri) = &self.registry_auth {
            check_uri("registry_auth", uri)?;
        }
        self.images.check("images")?;
        pod::check(self)
    }
}

impl ContainerPlan {
    fn check(&self, at: &str) -> Result<(), Error> {
        check_name(&format!("{at}.name"), &self.name)?;
        let digest_ok = self
            .image
            .digest
            .strip_prefix("sha256:")
            .is_some_and(|h| h.len() == 64 && h.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
        if !digest_ok {
            return Err(Error::field(format!("{at}.image.digest"), "must be sha256:<64 lower-case hex>"));
        }
        if self.image.reference.is_empty() || self.image.reference.len() > 512 {
            return Err(Error::field(format!("{at}.image.reference"), "must be 1 to 512 characters"));
        }
        // Two digests would leave open which image is meant: policies are decided on the name.
        if self.image.reference.split_once('@').is_some_and(|(_, digest)| digest != self.image.digest) {
            return Err(Error::field(format!("{at}.image.reference"), "holds another digest than the plan"));
        }
        for (i, layer) in self.image.layers.iter().flatten().enumerate() {
            layer.check(&format!("{at}.image.layers[{i}]"))?;
        }
        if self.image.layers.as_ref().is_some_and(|l| l.is_empty() || l.len() > MAX_SHARED_LAYERS) {
            return Err(Error::field(
                format!("{at}.image.layers"),
                format!("must hold 1 to {MAX_SHARED_LAYERS}"),
            ));
        }
        if self.args.first().is_none_or(String::is_empty) || self.args.len() > MAX_LIST {
            return Err(Error::field(format!("{at}.args"), "must name a program"));
        }
        if self.env.len() > MAX_LIST {
            return Err(Error::field(format!("{at}.env"), "too many"));
        }
        for (i, entry) in self.env.iter().enumerate() {
            if entry.find('=').is_none_or(|p| p == 0) {
                return Err(Error::field(format!("{at}.env[{i}]"), "must be NAME=value"));
            }
        }
        let texts = self.args.iter().chain(&self.env).chain([&self.cwd, &self.user]);
        if texts.into_iter().any(|t| t.contains('\0')) {
            return Err(Error::field(at, "holds a NUL character"));
        }
        check_path(&format!("{at}.cwd"), &self.cwd)?;
        for (i, cap) in self.capabilities.iter().enumerate() {
            if !cap.starts_with("CAP_") {
                return Err(Error::field(format!("{at}.capabilities[{i}]"), "must begin with CAP_"));
            }
        }
        for (i, mount) in self.mounts.iter().enumerate() {
            let target = mount.target();
            check_path(&format!("{at}.mounts[{i}].target"), target)?;
            if target == "/" {
                return Err(Error::field(format!("{at}.mounts[{i}].target"), "must not be the root"));
            }
        }
        if !(1..=64).contains(&self.stop_signal) {
            return Err(Error::field(format!("{at}.stop_signal"), "must be 1 to 64"));
        }
        Ok(())
    }
}

pub(crate) fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let ok = (1..=63).contains(&name.len())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if ok {
        Ok(())
    } else {
        Err(Error::field(field, "must be 1 to 63 of a-z 0-9 - . and begin with a letter or digit"))
    }
}

pub(crate) fn check_path(field: &str, path: &str) -> Result<(), Error> {
    let ok = path.starts_with('/')
        && path.len() <= 4096
        && !path.contains('\0')
        && path.split('/').all(|c| c != "..");
    if ok { Ok(()) } else { Err(Error::field(field, "must be an absolute path without `..`")) }
}

pub(crate) fn check_uri(field: &str, uri: &str) -> Result<(), Error> {
    uri.parse::<cocoon_protocol::uri::ResourceUri>()
        .map(|_| ())
        .map_err(|e| Error::field(field, e.to_string()))
}

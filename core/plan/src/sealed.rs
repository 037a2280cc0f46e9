//! Secrets that come to a container by another way than a file of the guest's: sealed ones, which the cluster keeps without
//! being able to read them, and variables from Trustee.
//!
//! A sealed secret says itself who signed it and what it stands for, and whoever can write a Secret of the cluster can write
//! another one there. So the plan says, for each place where one may be, whose signature it must carry and the one resource
//! that it may stand for: nothing else of what Trustee gives this guest can be brought into that place.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::check::check_uri;
use crate::pod::VolumeSource;
use crate::{Error, Plan};

/// Most sealed secrets, and most variables from Trustee, of a plan.
const MOST: usize = 1024;

/// A sealed secret that a workload may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedPlan {
    /// Where the host hands it over.
    pub place: SealedPlace,
    /// `kbs:///…` of the public key that must have signed it: a JWK for ES256.
    pub signer: String,
    /// `kbs:///…` of what it may stand for: the secret itself (vault form), or the key that it is encrypted with (envelope
    /// form).
    pub resource: String,
}

/// Where a sealed secret is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum SealedPlace {
    /// A variable that the host sets. It must set it.
    Variable {
        /// The container's name.
        container: String,
        /// The variable's name; one of the container's `host_env`, and not of its `env`.
        name: String,
    },
    /// A file of the host's.
    File {
        /// The volume's name; of kind `files`, without digests.
        volume: String,
        /// Path below the volume.
        path: String,
    },
}

/// A variable that every container gets from Trustee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretVariable {
    /// Its name. Neither the plan's `env` nor the host sets one of that name.
    pub name: String,
    /// `kbs:///…` of its value, which must be text.
    pub uri: String,
}

impl Plan {
    /// What may be sealed in a volume's file.
    pub fn sealed_file(&self, volume: &str, path: &str) -> Option<&SealedPlan> {
        self.sealed.iter().find(
            |s| matches!(&s.place, SealedPlace::File { volume: v, path: p } if v == volume && p == path),
        )
    }

    /// The variables of a container that are sealed, with what they may be.
    pub fn sealed_variables<'a>(
        &'a self,
        container: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a SealedPlan)> {
        self.sealed.iter().filter_map(move |sealed| match &sealed.place {
            SealedPlace::Variable { container: c, name } if c == container => Some((name.as_str(), sealed)),
            _ => None,
        })
    }

    /// The resources (`kbs:///…`) that the guest itself needs, beside those that the workload is given: keys of volumes, and
    /// of sealed secrets. Trustee must let this workload have them.
    pub fn own_resources(&self) -> BTreeSet<&str> {
        let volumes = self.volumes.iter().filter_map(|v| match &v.source {
            VolumeSource::Encrypted { key, .. } => Some(key.as_str()),
            _ => None,
        });
        let sealed = self.sealed.iter().flat_map(|s| [s.signer.as_str(), &s.resource]);
        let variables = self.secret_env.iter().map(|v| v.uri.as_str());
        volumes.chain(sealed).chain(variables).collect()
    }
}

/// Whether a program can have a variable of this name.
fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 256
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'=' && b != b'*')
}

pub(crate) fn check(plan: &Plan) -> Result<(), Error> {
    if plan.sealed.len() > MOST || plan.secret_env.len() > MOST {
        return Err(Error::field("sealed", format!("and secret_env must hold at most {MOST} each")));
    }
    let mut places = BTreeSet::new();
    for (i, sealed) in plan.sealed.iter().enumerate() {
        let at = format!("sealed[{i}]");
        check_uri(&format!("{at}.signer"), &sealed.signer)?;
        check_uri(&format!("{at}.resource"), &sealed.resource)?;
        if !places.insert(&sealed.place) {
            return Err(Error::field(format!("{at}.place"), "is there twice"));
        }
        match &sealed.place {
            SealedPlace::Variable { container, name } => {
                let planned = plan.container(container).filter(|_| is_variable(name));
                let own = |c: &crate::ContainerPlan| c.env.iter().any(|e| e.split('=').next() == Some(name));
                if planned.is_none_or(|c| own(c) || !c.host_env.contains(name)) {
                    let problem =
                        "must be a variable that the plan leaves to the host by its full name (host_env)";
                    return Err(Error::field(format!("{at}.place"), problem));
                }
            }
            SealedPlace::File { volume, path } => {
                let source = plan.volumes.iter().find(|v| v.name == *volume).map(|v| &v.source);
                if !matches!(source, Some(VolumeSource::Files { digests: None }))
                    || crate::files::names(path).is_err()
                {
                    let problem = "must be a file of a volume of files without digests";
                    return Err(Error::field(format!("{at}.place"), problem));
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    for (i, variable) in plan.secret_env.iter().enumerate() {
        let at = format!("secret_env[{i}]");
        check_uri(&format!("{at}.uri"), &variable.uri)?;
        let name = variable.name.as_str();
        let taken = |c: &crate::ContainerPlan| {
            c.env.iter().any(|e| e.split('=').next() == Some(name)) || crate::host_env::is_named(c, name)
        };
        if !is_variable(name) || !names.insert(name) || plan.containers.iter().any(taken) {
            return Err(Error::field(
                format!("{at}.name"),
                "is no name of a variable, or one that is set otherwise too",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::VolumePlan;
    use crate::types::tests::sample;

    fn sealed(place: SealedPlace) -> SealedPlan {
        SealedPlan { place, signer: "kbs:///a/key/signer".into(), resource: "kbs:///a/secret/db".into() }
    }

    fn variable(name: &str) -> SealedPlace {
        SealedPlace::Variable { container: sample().containers[0].name.clone(), name: name.into() }
    }

    fn file(path: &str) -> SealedPlace {
        SealedPlace::File { volume: "db".into(), path: path.into() }
    }

    fn plan() -> Plan {
        let mut plan = sample();
        plan.volumes = vec![VolumePlan { name: "db".into(), source: VolumeSource::Files { digests: None } }];
        plan.containers[0].host_env = vec!["DB_PASSWORD".into(), "POD_*".into()];
        plan.sealed = vec![sealed(variable("DB_PASSWORD")), sealed(file("password"))];
        plan.secret_env = vec![SecretVariable { name: "TOKEN".into(), uri: "kbs:///a/secret/token".into() }];
        plan
    }

    #[test]
    fn places_are_known_one_by_one() {
        let plan = Plan::parse(&plan().to_canonical().unwrap()).unwrap();
        assert!(plan.sealed_file("db", "password").is_some() && plan.sealed_file("db", "other").is_none());
        let name = plan.containers[0].name.clone();
        assert_eq!(plan.sealed_variables(&name).map(|(n, _)| n).collect::<Vec<_>>(), ["DB_PASSWORD"]);
        assert_eq!(plan.sealed_variables("x").count(), 0);
        let own: Vec<_> = plan.own_resources().into_iter().collect();
        assert_eq!(own, ["kbs:///a/key/signer", "kbs:///a/secret/db", "kbs:///a/secret/token"]);
    }

    #[test]
    fn a_place_must_be_the_hosts_and_only_there() {
        type Change = fn(&mut Plan);
        let changes: [(&str, Change); 9] = [
            ("sealed[2].place", |p| p.sealed.push(sealed(variable("POD_IP")))),
            ("sealed[2].place", |p| p.sealed.push(sealed(variable("DB_PASSWORD")))),
            ("sealed[0].place", |p| p.containers[0].env.push("DB_PASSWORD=x".into())),
            ("sealed[2].place", |p| p.sealed.push(sealed(file("../x")))),
            ("sealed[1].place", |p| {
                p.volumes[0].source = VolumeSource::Files { digests: Some(Default::default()) }
            }),
            ("sealed[0].signer", |p| p.sealed[0].signer = "file:///x".into()),
            ("sealed[0].resource", |p| p.sealed[0].resource = String::new()),
            ("secret_env[0].name", |p| p.secret_env[0].name = "POD_NAME".into()),
            ("secret_env[1].name", |p| p.secret_env.push(p.secret_env[0].clone())),
        ];
        for (field, change) in changes {
            let mut plan = plan();
            change(&mut plan);
            let said = plan.to_canonical().unwrap_err().to_string();
            assert!(said.contains(field), "{field}: {said}");
        }
    }
}

//! Secrets that the operator makes for a Trustee, and what it reads of others'.

use std::collections::BTreeMap;

use cocoon_cluster_api::{MANAGER, Trustee, labels};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::certificate::{self, Identity};
use super::objects::{self, Names};
use crate::Error;

/// Annotation of the server's certificate: the day from which on it is made anew.
const RENEW: &str = "cocoon.dev/renew-on";
/// Annotation of the server's certificate: a digest of what the Secret holds, by which a change of someone else's is noticed.
const CONTENT: &str = "cocoon.dev/content";
/// Annotation of the server's certificate: the names that it is for.
const FOR: &str = "cocoon.dev/names";

/// What a Secret with a certificate says is to be trusted: its `ca.crt`, else the certificate itself.
pub fn authorities(secret: &Secret) -> Option<String> {
    let data = secret.data.as_ref()?;
    data.get("tls.crt")?;
    let text =
        |key: &str| data.get(key).and_then(|b| String::from_utf8(b.0.clone()).ok()).filter(|t| !t.is_empty());
    text("ca.crt").or_else(|| text("tls.crt"))
}

pub fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Own("no random bytes".into()))?;
    Ok(bytes)
}

pub fn hex_random() -> Result<Vec<u8>, Error> {
    Ok(hex::encode(random()?).into_bytes())
}

/// What its CA is called.
fn certificate_name(trustee: &Trustee) -> String {
    format!("Trustee {} in {}", trustee.name_any(), trustee.namespace().unwrap_or_default())
}

/// A digest of entries in the order of their names.
fn content<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut digest = Sha256::new();
    for (key, value) in entries {
        digest.update(Sha256::digest(key));
        digest.update(Sha256::digest(value));
    }
    hex::encode(digest.finalize())
}

/// Secrets that the operator makes for a Trustee.
pub struct Own<'a> {
    /// Secrets of the namespace.
    pub secrets: &'a Api<Secret>,
    /// Whose.
    pub trustee: &'a Trustee,
    /// Its reference, as owner.
    pub owner: Value,
}

/// What a Secret holds.
pub type Data = BTreeMap<String, Vec<u8>>;

impl Own<'_> {
    fn secret(&self, name: &str, kind: &str, data: Data, annotations: BTreeMap<String, String>) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(name.into()),
                labels: Some(labels("trustee", &self.trustee.name_any())),
                annotations: Some(annotations),
                owner_references: serde_json::from_value(json!([self.owner])).ok(),
                ..ObjectMeta::default()
            },
            type_: Some(kind.into()),
            data: Some(data.into_iter().map(|(k, v)| (k, ByteString(v))).collect()),
            ..Secret::default()
        }
    }

    /// A Secret that is made once and never changed: what it holds could not be made again. `owned`: it goes with the Trustee.
    ///
    /// # Errors
    /// Of the API server.
    pub async fn once(
        &self,
        name: &str,
        owned: bool,
        data: impl FnOnce() -> Result<Data, Error>,
    ) -> Result<Secret, Error> {
        if let Some(secret) = self.secrets.get_opt(name).await? {
            return Ok(secret);
        }
        let mut secret = self.secret(name, "Opaque", data()?, BTreeMap::new());
        if !owned {
            secret.metadata.owner_references = None;
        }
        match self.secrets.create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(self.secrets.get(name).await?),
            other => Ok(other?),
        }
    }

    /// CA and server's certificate; gives the CA's.
    ///
    /// # Errors
    /// Of the API server, or where the CA is damaged.
    pub async fn certificate(&self, names: &Names) -> Result<String, Error> {
        let today = certificate::today();
        let authority = self
            .once(&names.authority, true, || {
                let Identity { certificate, key } =
                    certificate::new_authority(&certificate_name(self.trustee), today)?;
                Ok([("ca.crt".to_owned(), certificate.into_bytes()), ("ca.key".to_owned(), key.into_bytes())]
                    .into())
            })
            .await?;
        let of = |key: &str| {
            let bytes = authority.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.clone());
            let text = bytes.and_then(|b| String::from_utf8(b).ok());
            text.ok_or_else(|| {
                Error::Own(format!("Secret {} has no {key}; delete it to have it made anew", names.authority))
            })
        };
        let (ca, key) = (of("ca.crt")?, of("ca.key")?);
        let wished = objects::dns(self.trustee);
        let live = self.secrets.get_opt(&names.tls).await?;
        let good = live.as_ref().is_some_and(|s| {
            let note = |key: &str| s.annotations().get(key).cloned().unwrap_or_default();
            let same = s.data.as_ref().and_then(|d| d.get("ca.crt")).is_some_and(|b| b.0 == ca.as_bytes());
            same && note(FOR) == wished.join(",")
                && !certificate::is_due(&note(RENEW), today)
                && note(CONTENT)
                    == content(s.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())))
        });
        if !good {
            let server = certificate::new_server(&certificate_name(self.trustee), &key, &wished, today)?;
            let data = [("tls.crt", server.certificate), ("tls.key", server.key), ("ca.crt", ca.clone())];
            let data: Data = data.map(|(k, v)| (k.to_owned(), v.into_bytes())).into();
            let notes = [
                (FOR, wished.join(",")),
                (RENEW, certificate::renewal(today)),
                (CONTENT, content(data.iter().map(|(k, v)| (k.as_str(), v.as_slice())))),
            ];
            let notes = notes.map(|(k, v)| (k.to_owned(), v)).into();
            let secret = self.secret(&names.tls, "kubernetes.io/tls", data, notes);
            let mut object = serde_json::to_value(&secret).unwrap_or_default();
            if let Some(map) = object.as_object_mut() {
                map.insert("apiVersion".into(), json!("v1"));
                map.insert("kind".into(), json!("Secret"));
            }
            self.secrets
                .patch(&names.tls, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object))
                .await?;
        }
        Ok(ca)
    }
}

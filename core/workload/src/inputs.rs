//! What a compilation is handed: images as their registries have them, ConfigMaps and Secrets, and the owner's wishes.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_plan::SecretPlan;
use cocoon_plan::compile::ImageDefaults;
use cocoon_plan::images::ImageSettings;
use serde_json::Value;

use crate::Document;
use crate::log::Problem;

/// An image as its registry has it.
#[derive(Clone, Debug, Default)]
pub struct ImageFacts {
    /// The digest of its manifest or index, `sha256:<64 hex>`.
    pub digest: String,
    /// What its config says.
    pub defaults: ImageDefaults,
}

/// The content of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Texts by key: a ConfigMap's `data`.
    pub text: BTreeMap<String, String>,
    /// Bytes by key: a ConfigMap's `binaryData`, a Secret's `data` and `stringData`.
    pub bytes: BTreeMap<String, Vec<u8>>,
}

impl Content {
    /// What a file of this key holds.
    pub fn file(&self, key: &str) -> Option<&[u8]> {
        self.text.get(key).map(String::as_bytes).or_else(|| self.bytes.get(key).map(Vec::as_slice))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.text.keys().chain(self.bytes.keys()).map(String::as_str)
    }

    /// The content of a ConfigMap or Secret as an object of Kubernetes.
    ///
    /// # Errors
    /// What of it is not as it must be.
    pub fn of(document: &Document) -> Result<Content, Problem> {
        let mut content = Content::default();
        for field in ["data", "stringData", "binaryData"] {
            let members = match document.value.get(field) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(members)) => members,
                Some(_) => return Err(wrong(field.into(), "must be an object")),
            };
            for (key, value) in members {
                let at = || format!("{field}[{key}]");
                let text = match value {
                    Value::String(text) => text.as_str(),
                    Value::Null => "",
                    _ => return Err(wrong(at(), "must be a text")),
                };
                let is_secret = document.kind() == "Secret";
                if field == "data" && !is_secret {
                    content.text.insert(key.clone(), text.to_owned());
                } else if field == "stringData" && is_secret {
                    content.bytes.insert(key.clone(), text.as_bytes().to_vec());
                } else if field == "stringData" || field == "binaryData" && is_secret {
                    return Err(wrong(field.into(), "is no field of this kind"));
                } else {
                    let bytes = decode(text).ok_or_else(|| wrong(at(), "is not base64"))?;
                    // `stringData` comes after `data` here as it does for the API server.
                    content.bytes.insert(key.clone(), bytes);
                }
            }
        }
        Ok(content)
    }
}

fn wrong(field: String, problem: &str) -> Problem {
    Problem { field, problem: problem.into(), unsupported: false }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(plain).ok()
}

/// ConfigMaps, or Secrets, by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Contents(BTreeMap<(String, String), Content>);

impl Contents {
    /// Adds one, in place of one of the same name.
    pub fn insert(&mut self, namespace: &str, name: &str, content: Content) {
        self.0.insert((namespace.to_owned(), name.to_owned()), content);
    }

    /// The one of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Content> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))
    }
}

/// What the owner wants of every workload of one run, beside what annotations say of one.
#[derive(Clone, Debug, Default)]
pub struct OwnerWishes {
    /// Secrets that the guest fetches from Trustee.
    pub secrets: Vec<SecretPlan>,
    /// How images reach the guest, and which it may take.
    pub images: ImageSettings,
    /// `kbs:///…` of registry credentials.
    pub registry_auth: Option<String>,
    /// Public key that must have signed every image, PEM.
    pub signature_key_pem: Option<String>,
    /// Annotations (`cocoon.dev/…`) that hold where a manifest has none of the same name.
    pub annotations: BTreeMap<String, String>,
}

/// Everything that a compilation is handed.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The namespace of objects that name none.
    pub namespace: String,
    /// Images by their names as manifests write them.
    pub images: BTreeMap<String, ImageFacts>,
    /// ConfigMaps that are known.
    pub config_maps: Contents,
    /// Secrets that are known.
    pub secrets: Contents,
    /// Services that are known, by namespace and name: their variables may come from the cluster.
    pub services: BTreeSet<(String, String)>,
    /// The owner's wishes.
    pub wishes: OwnerWishes,
}

impl Inputs {
    /// Takes what manifests say of ConfigMaps, Secrets and Services.
    ///
    /// # Errors
    /// What of a ConfigMap or Secret is not as it must be, with its label.
    pub fn learn(&mut self, documents: &[Document]) -> Result<(), crate::Error> {
        for document in documents.iter().filter(|d| d.api_version() == "v1") {
            let namespace = match document.namespace() {
                "" => self.namespace.clone(),
                namespace => namespace.to_owned(),
            };
            let contents = match document.kind() {
                "ConfigMap" => &mut self.config_maps,
                "Secret" => &mut self.secrets,
                "Service" => {
                    self.services.insert((namespace, document.name().to_owned()));
                    continue;
                }
                _ => continue,
            };
            let content = Content::of(document).map_err(|problem| crate::Error::Fields {
                label: document.label(),
                problems: vec![problem],
            })?;
            contents.insert(&namespace, document.name(), content);
        }
        Ok(())
    }
}

//! The logic of upstream's `provisioner` plugin: a disk key for a VM before it boots, for that VM only.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cocoon_store::{Sealer, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::Error;
use crate::protector::fill_random;

/// Namespace of the store.
const NS: &str = "provisioner";

/// Namespace UUID of VM identities: feab5599-6854-52bc-95f0-0241c03e620a (trustee.md §1.5).
const UUID_NAMESPACE: [u8; 16] =
    [0xfe, 0xab, 0x55, 0x99, 0x68, 0x54, 0x52, 0xbc, 0x95, 0xf0, 0x02, 0x41, 0xc0, 0x3e, 0x62, 0x0a];

/// Key of the initdata claim that binds a VM to its resource.
const CLAIM: &str = "trustee.kbs.resource";

/// Body of `POST provision`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvisionRequest {
    /// Name of the VM: 1–253 letters, digits, `-`, `_`, `.`.
    pub vm_name: String,
    /// Its Kubernetes namespace, of the same form.
    #[serde(default = "default_namespace")]
    pub namespace: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl ProvisionRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let request: Self = serde_json::from_slice(body)
            .map_err(|_| Error::Request("not JSON with `vm_name` and perhaps `namespace`".into()))?;
        for name in [&request.vm_name, &request.namespace] {
            // A slash would let two VMs have the same identity.
            let valid = (1..=253).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !valid {
                return Err(Error::Request(
                    "`vm_name` and `namespace` are names of 1 to 253 characters".into(),
                ));
            }
        }
        Ok(request)
    }
}

/// Answer to `POST provision`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    /// The VM's UUID.
    pub uuid: String,
    /// `default/<uuid>/root`.
    pub resource_path: String,
}

/// A call of the plugin, by method and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisionerCall {
    /// `POST provision`: an administrator's.
    Provision,
    /// `DELETE provision/<uuid>`: an administrator's.
    Delete {
        /// The UUID.
        uuid: String,
    },
    /// `GET default/<uuid>/root`: an attested guest's; the answer is encrypted for it.
    Get {
        /// The UUID.
        uuid: String,
    },
}

impl ProvisionerCall {
    /// The call, given the method and the path's parts after the plugin's name; `None` for any other.
    pub fn of(method: &str, path: &[&str]) -> Option<Self> {
        let canonical = |text: &str| is_uuid(text).then(|| text.to_owned());
        match (method, path) {
            ("POST", ["provision"]) => Some(ProvisionerCall::Provision),
            ("DELETE", ["provision", uuid]) => Some(ProvisionerCall::Delete { uuid: canonical(uuid)? }),
            ("GET", ["default", uuid, "root"]) => Some(ProvisionerCall::Get { uuid: canonical(uuid)? }),
            _ => None,
        }
    }

    /// Whether it is for administrators only; else for attested guests only.
    pub fn is_admin(&self) -> bool {
        !matches!(self, ProvisionerCall::Get { .. })
    }
}

/// Makes, keeps and gives out disk keys of VMs. They are sealed in the store.
pub struct Provisioner {
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    key_length: usize,
}

impl Provisioner {
    /// Keeps keys in this store; `key_length` is in random bytes before they are made text, 16 to 512 (upstream: 32).
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(store: Arc<dyn Store>, sealer: Arc<Sealer>, key_length: usize) -> Result<Self, Error> {
        if !(16..=512).contains(&key_length) {
            return Err(Error::Config(format!("provisioner: key_length {key_length} is not 16 to 512")));
        }
        Ok(Provisioner { store, sealer, key_length })
    }

    /// Makes the VM's key; one that is there already stays, since a disk may be encrypted with it.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Crypto`].
    pub fn provision(&self, request: &ProvisionRequest) -> Result<Provisioned, Error> {
        let uuid = provisioned_uuid(&request.namespace, &request.vm_name);
        let resource_path = resource_path(&uuid);
        if self.store.get(NS, &resource_path)?.is_none() {
            let sealed = self.sealer.seal(NS, &resource_path, self.content()?.as_bytes())?;
            self.store.put_if_absent(NS, &resource_path, &sealed)?;
        }
        Ok(Provisioned { uuid, resource_path })
    }

    /// Removes the VM's key; whether there was one. Upstream answers `{"status":"deleted"}` either way.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn delete(&self, uuid: &str) -> Result<bool, Error> {
        Ok(self.store.delete(NS, &resource_path(uuid))?)
    }

    /// The TOML document with the VM's key, for a guest whose verified initdata names it; `init_data_claims` is the
    /// object of claims that the attestation took from the initdata.
    ///
    /// # Errors
    /// [`Error::NotBound`], [`Error::Store`]. `Ok(None)`: it is bound to this resource, but there is none.
    pub fn get(
        &self,
        uuid: &str,
        init_data_claims: Option<&Value>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let path = resource_path(uuid);
        let bound = init_data_claims.and_then(|claims| claims.get(CLAIM)).and_then(Value::as_str);
        if bound != Some(format!("kbs+provisioner:///{path}").as_str()) {
            return Err(Error::NotBound);
        }
        match self.store.get(NS, &path)? {
            Some(sealed) => Ok(Some(self.sealer.open(NS, &path, &sealed)?)),
            None => Ok(None),
        }
    }

    /// The document of a new key. The key's alphabet, base64url, needs no escapes in TOML.
    fn content(&self) -> Result<Zeroizing<String>, Error> {
        let mut key = Zeroizing::new(vec![0u8; self.key_length]);
        fill_random(&mut key)?;
        let mut text =
            Zeroizing::new(String::with_capacity(self.key_length.saturating_mul(2).saturating_add(128)));
        text.push_str("version = \"0.1.0\"\n\n[data]\n\"io.cryptsetup.key.text.root\" = \"");
        URL_SAFE_NO_PAD.encode_string(key.as_slice(), &mut text);
        text.push_str("\"\n");
        Ok(text)
    }
}

impl std::fmt::Debug for Provisioner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provisioner").field("key_length", &self.key_length).finish_non_exhaustive()
    }
}

fn resource_path(uuid: &str) -> String {
    format!("default/{uuid}/root")
}

/// UUID version 5 (RFC 9562 §5.5) of `namespace/vm_name`.
pub fn provisioned_uuid(namespace: &str, vm_name: &str) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(&UUID_NAMESPACE);
    hash.update(namespace.as_bytes());
    hash.update(b"/");
    hash.update(vm_name.as_bytes());
    let mut bytes = [0u8; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash.finish().as_ref()) {
        *byte = *hashed;
    }
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x50;
    *variant = (*variant & 0x3f) | 0x80;
    let mut text = hex::encode(bytes);
    for dash in [20, 16, 12, 8] {
        text.insert(dash, '-');
    }
    text
}

/// Whether it is a UUID in its one spelling: lower-case hex with dashes.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_store::MemoryStore;
    use serde_json::json;

    fn provisioner() -> (Arc<MemoryStore>, Provisioner) {
        let store = Arc::new(MemoryStore::default());
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        (store.clone(), Provisioner::new(store, sealer, 32).unwrap())
    }

    fn request(name: &str) -> ProvisionRequest {
        ProvisionRequest { vm_name: name.into(), namespace: "default".into() }
    }

    fn claims(uuid: &str) -> Value {
        json!({ "trustee.kbs.resource": format!("kbs+provisioner:///default/{uuid}/root") })
    }

    #[test]
    fn uuids_are_version_5() {
        // Made with another implementation (Python's uuid.uuid5).
        assert_eq!(provisioned_uuid("default", "vm1"), UUID_DEFAULT_VM1);
        assert_eq!(provisioned_uuid("prod", "db-0.a"), UUID_PROD_DB);
        assert!(is_uuid(UUID_DEFAULT_VM1));
        for text in ["", "x", &UUID_DEFAULT_VM1.to_uppercase(), &UUID_DEFAULT_VM1.replace('-', "0")] {
            assert!(!is_uuid(text));
        }
    }
    const UUID_DEFAULT_VM1: &str = "78b1edaf-eba1-5733-85cc-baaa1810211c";
    const UUID_PROD_DB: &str = "89713807-007f-54f5-b412-4422229eab1e";

    #[test]
    fn a_bound_guest_gets_a_sealed_random_key() {
        let (store, provisioner) = provisioner();
        let one = provisioner.provision(&request("vm1")).unwrap();
        assert_eq!(one.resource_path, format!("default/{}/root", one.uuid));
        let content = provisioner.get(&one.uuid, Some(&claims(&one.uuid))).unwrap().unwrap();
        let document: toml::Table = toml::from_str(std::str::from_utf8(&content).unwrap()).unwrap();
        assert_eq!(document["version"].as_str(), Some("0.1.0"));
        let key = document["data"]["io.cryptsetup.key.text.root"].as_str().unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(key).unwrap().len(), 32);
        let stored = store.get(NS, &one.resource_path).unwrap().unwrap();
        assert!(!stored.windows(key.len()).any(|w| w == key.as_bytes()));

        // Again: the same key stays. Another VM: another key.
        assert_eq!(provisioner.provision(&request("vm1")).unwrap(), one);
        assert_eq!(*provisioner.get(&one.uuid, Some(&claims(&one.uuid))).unwrap().unwrap(), *content);
        let two = provisioner.provision(&request("vm2")).unwrap();
        assert_ne!(*provisioner.get(&two.uuid, Some(&claims(&two.uuid))).unwrap().unwrap(), *content);

        assert!(provisioner.delete(&one.uuid).unwrap());
        assert!(!provisioner.delete(&one.uuid).unwrap());
        assert!(provisioner.get(&one.uuid, Some(&claims(&one.uuid))).unwrap().is_none());
    }

    #[test]
    fn nobody_else_gets_it_or_learns_that_it_is_there() {
        let (_, provisioner) = provisioner();
        let one = provisioner.provision(&request("vm1")).unwrap();
        let other = provisioned_uuid("default", "other");
        let path = format!("default/{}/root", one.uuid);
        for claims in [
            None,
            Some(json!({})),
            Some(json!(null)),
            Some(json!([claims(&one.uuid)])),
            Some(claims(&other)),
            Some(json!({ "trustee.kbs.resource": path })),
            Some(json!({ "trustee.kbs.resource": format!("kbs:///{path}") })),
            Some(json!({ "trustee.kbs.resource": [format!("kbs+provisioner:///{path}")] })),
            Some(json!({ "trustee": { "kbs": { "resource": format!("kbs+provisioner:///{path}") } } })),
        ] {
            assert!(
                matches!(provisioner.get(&one.uuid, claims.as_ref()), Err(Error::NotBound)),
                "{claims:?}"
            );
        }
    }

    #[test]
    fn requests() {
        let parsed = ProvisionRequest::parse(br#"{"vm_name":"vm1"}"#).unwrap();
        assert_eq!(parsed, request("vm1"));
        for bad in [
            "",
            "{}",
            r#"{"vm_name":""}"#,
            r#"{"vm_name":"a/b"}"#,
            r#"{"vm_name":"a","namespace":"b/c"}"#,
            r#"{"vm_name":1}"#,
            r#"{"vm_name":"a","key":"b"}"#,
            r#"["a"]x"#,
        ] {
            assert!(matches!(ProvisionRequest::parse(bad.as_bytes()), Err(Error::Request(_))), "{bad}");
        }
    }

    #[test]
    fn calls() {
        let uuid = provisioned_uuid("a", "b");
        assert!(ProvisionerCall::of("POST", &["provision"]).unwrap().is_admin());
        assert!(ProvisionerCall::of("DELETE", &["provision", &uuid]).unwrap().is_admin());
        assert!(!ProvisionerCall::of("GET", &["default", &uuid, "root"]).unwrap().is_admin());
        for (method, path) in [
            ("GET", &["provision"][..]),
            ("POST", &["provision", &uuid]),
            ("PUT", &["provision"]),
            ("DELETE", &["provision"]),
            ("DELETE", &["provision", ".."]),
            ("GET", &["default", "..", "root"]),
            ("GET", &["default", &uuid]),
            ("GET", &["other", &uuid, "root"]),
            ("get", &["default", &uuid, "root"]),
        ] {
            assert!(ProvisionerCall::of(method, path).is_none(), "{method} {path:?}");
        }
    }
}

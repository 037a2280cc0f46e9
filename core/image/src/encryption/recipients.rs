//! For whom a layer's key is wrapped: key providers, JWE recipients, and schemes that are named but not read.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{
    AnnotationPacket, JWE_ANNOTATION, Jwe, KEYS_ANNOTATION_PREFIX, MAX_PACKETS, OpeningKey, PROVIDER,
    PUBOPTS_ANNOTATION, PubOptions,
};
use crate::{Descriptor, Error};

/// Longest annotation of wrapped keys, in characters.
const MAX_ANNOTATION: usize = 1 << 20;
/// Longest wrapped key of a provider, in bytes.
const MAX_WRAPPED: usize = 64 * 1024;
/// Prefix of all annotations of an encrypted layer.
pub const ENC_PREFIX: &str = "org.opencontainers.image.enc.";
/// ocicrypt's schemes that are not supported, by annotation and name.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("org.opencontainers.image.enc.keys.pkcs7", "PKCS#7"),
    ("org.opencontainers.image.enc.keys.pgp", "PGP"),
    ("org.opencontainers.image.enc.keys.pkcs11", "PKCS#11"),
];

/// A layer's key, wrapped by a key provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderKey {
    /// The provider's name: lower-case letters, digits, `.`, `_`, `-`.
    pub provider: String,
    /// What the provider made; of `attestation-agent`, the JSON of an [`AnnotationPacket`].
    pub wrapped: Vec<u8>,
}

impl ProviderKey {
    /// Of Confidential Containers' provider.
    ///
    /// # Errors
    /// As [`AnnotationPacket::to_json`].
    pub fn of_packet(packet: &AnnotationPacket) -> Result<Self, Error> {
        Ok(ProviderKey { provider: PROVIDER.to_owned(), wrapped: packet.to_json()? })
    }

    /// The packet, if it is one, whatever its provider is called.
    pub fn packet(&self) -> Option<AnnotationPacket> {
        AnnotationPacket::parse(&self.wrapped).ok()
    }
}

/// Everything that an encrypted layer's annotations say.
#[derive(Clone, Debug, PartialEq)]
pub struct WrappedKeys {
    /// Cipher and HMAC.
    pub public: PubOptions,
    /// Keys wrapped by providers.
    pub providers: Vec<ProviderKey>,
    /// Keys encrypted to JWE recipients; messages of other kinds are passed over where another recipient is there.
    pub jwe: Vec<Jwe>,
    /// Schemes that are there too but not supported: `PKCS#7`, `PGP`, `PKCS#11`.
    pub unsupported: Vec<&'static str>,
}

/// Whether a name may stand in an annotation.
pub fn is_provider_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

/// The base64 items of an annotation.
pub(super) fn items(value: &str, limit: usize) -> Result<Vec<Vec<u8>>, String> {
    if value.len() > MAX_ANNOTATION {
        return Err("an annotation of wrapped keys is too long".to_owned());
    }
    let mut all = Vec::new();
    for item in value.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        if all.len() >= limit {
            return Err(format!("it has more than {limit} wrapped keys"));
        }
        let bytes = STANDARD.decode(item).map_err(|_| "a wrapped key is not base64".to_owned())?;
        if bytes.len() > MAX_WRAPPED {
            return Err("a wrapped key is too long".to_owned());
        }
        all.push(bytes);
    }
    Ok(all)
}

impl WrappedKeys {
    /// Reads a layer's annotations.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] where an annotation is malformed or too large, or nothing is there that could open the
    /// layer; one that is encrypted to PKCS#7, PGP or PKCS#11 recipients alone is refused by that name.
    pub fn read(layer: &Descriptor) -> Result<Self, Error> {
        let refuse = |why: String| Error::Undecryptable(format!("layer {}: {why}", layer.digest));
        let annotations = &layer.annotations;
        let public = annotations
            .get(PUBOPTS_ANNOTATION)
            .ok_or_else(|| refuse(format!("it is encrypted but has no annotation {PUBOPTS_ANNOTATION}")))?;
        let public = PubOptions::from_annotation(public)?;
        let mut providers = Vec::new();
        for (name, value) in annotations {
            let Some(provider) = name.strip_prefix(KEYS_ANNOTATION_PREFIX) else { continue };
            let left = MAX_PACKETS.saturating_sub(providers.len());
            for wrapped in items(value, left).map_err(refuse)? {
                providers.push(ProviderKey { provider: provider.to_owned(), wrapped });
            }
        }
        let jwe = annotations.get(JWE_ANNOTATION).map(String::as_str).unwrap_or_default();
        let mut read = Vec::new();
        let mut unreadable = None;
        for json in items(jwe, MAX_PACKETS).map_err(refuse)? {
            match Jwe::parse(&json) {
                Ok(jwe) => read.push(jwe),
                Err(e) => unreadable = Some(e),
            }
        }
        let jwe = read;
        let unsupported: Vec<&'static str> =
            UNSUPPORTED.iter().filter(|(name, _)| annotations.contains_key(*name)).map(|(_, n)| *n).collect();
        if providers.is_empty() && jwe.is_empty() {
            return Err(refuse(match (unreadable, unsupported.as_slice()) {
                (Some(e), _) => e.to_string(),
                (None, []) => "no wrapped key is there".to_owned(),
                (None, named) => format!(
                    "its key is encrypted to {} recipients only, which is not supported",
                    named.join(" and ")
                ),
            }));
        }
        Ok(WrappedKeys { public, providers, jwe, unsupported })
    }

    /// The annotations of the layer. Unsupported schemes are not written.
    ///
    /// # Errors
    /// [`Error::Key`] where there is no recipient, there are too many, or a provider has no valid name.
    pub fn annotations(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut all = BTreeMap::from([(PUBOPTS_ANNOTATION.to_owned(), self.public.to_annotation())]);
        self.append_to(&mut all)?;
        Ok(all)
    }

    /// Adds these recipients to a layer's annotations; those that are there stay as they are, read or not.
    ///
    /// # Errors
    /// As [`WrappedKeys::annotations`].
    pub fn append_to(&self, all: &mut BTreeMap<String, String>) -> Result<(), Error> {
        let count = [self.providers.len(), self.jwe.len()];
        if count == [0, 0] || count.iter().any(|n| *n > MAX_PACKETS) {
            return Err(Error::Key(format!("a layer has 1 to {MAX_PACKETS} recipients of each kind")));
        }
        let mut add = |name: String, wrapped: &[u8]| {
            let value: &mut String = all.entry(name).or_default();
            if !value.is_empty() {
                value.push(',');
            }
            value.push_str(&STANDARD.encode(wrapped));
        };
        for key in &self.providers {
            if !is_provider_name(&key.provider) {
                return Err(Error::Key(format!("{:?} is no key provider's name", key.provider)));
            }
            add(format!("{KEYS_ANNOTATION_PREFIX}{}", key.provider), &key.wrapped);
        }
        for jwe in &self.jwe {
            add(JWE_ANNOTATION.to_owned(), jwe.json());
        }
        Ok(())
    }

    /// The private options' JSON, by the first key that opens a JWE; `None` where none does.
    pub fn open_jwe(&self, keys: &[OpeningKey]) -> Option<Zeroizing<Vec<u8>>> {
        self.jwe.iter().find_map(|jwe| jwe.open(keys).ok())
    }

    /// The annotation packets among the providers' keys.
    pub fn packets(&self) -> Vec<AnnotationPacket> {
        self.providers.iter().filter_map(ProviderKey::packet).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::encryption::{annotations, read_annotations, wrap_key};

    fn layer(annotations: BTreeMap<String, String>) -> Descriptor {
        let kind = "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted";
        Descriptor { annotations, ..Descriptor::new(kind, Digest::sha256(b"x"), 1) }
    }

    fn sealed() -> BTreeMap<String, String> {
        let packet = wrap_key(&[1; 32], "kbs:///a/b/c", b"secret").unwrap();
        annotations(&[packet], &PubOptions { hmac: [2; 32] }).unwrap()
    }

    fn refused(annotations: BTreeMap<String, String>) -> String {
        WrappedKeys::read(&layer(annotations)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_read_is_written_again() {
        let mut all = sealed();
        all.insert(format!("{KEYS_ANNOTATION_PREFIX}other"), "AAAA,AQEB".to_owned());
        let keys = WrappedKeys::read(&layer(all.clone())).unwrap();
        assert_eq!((keys.providers.len(), keys.packets().len()), (3, 1));
        assert_eq!(keys.annotations().unwrap(), all);
        assert_eq!(read_annotations(&layer(all)).unwrap().0.len(), 1);
    }

    #[test]
    fn unsupported_schemes_alone_are_refused_by_name() {
        for (name, said) in UNSUPPORTED {
            let mut all = sealed();
            all.insert(name.to_owned(), "AAAA".to_owned());
            assert_eq!(WrappedKeys::read(&layer(all.clone())).unwrap().unsupported, [said]);
            all.retain(|k, _| !k.starts_with(KEYS_ANNOTATION_PREFIX));
            assert!(refused(all.clone()).contains(said));
            assert!(read_annotations(&layer(all)).unwrap_err().to_string().contains(said));
        }
    }

    #[test]
    fn malformed_and_oversized_annotations_are_refused() {
        let provider = format!("{KEYS_ANNOTATION_PREFIX}{PROVIDER}");
        let with = |name: &str, value: String| {
            let mut all = sealed();
            all.insert(name.to_owned(), value);
            all
        };
        assert!(refused(with(&provider, "AAAA,".repeat(MAX_PACKETS + 1))).contains("more than"));
        assert!(refused(with(&provider, "A".repeat(MAX_ANNOTATION + 4))).contains("too long"));
        assert!(refused(with(&provider, "A".repeat(MAX_WRAPPED * 2))).contains("too long"));
        assert!(refused(with(&provider, "?".to_owned())).contains("base64"));
        // A JWE of a kind unknown here does not keep a key provider from opening the layer.
        let mut jwe = with(JWE_ANNOTATION, "e30=".to_owned());
        assert!(WrappedKeys::read(&layer(jwe.clone())).unwrap().jwe.is_empty());
        jwe.remove(&provider);
        assert!(refused(jwe).contains("JWE"));
        let mut none = sealed();
        none.remove(PUBOPTS_ANNOTATION);
        assert!(refused(none).contains("pubopts"));
        let mut nothing = sealed();
        nothing.remove(&provider);
        assert!(refused(nothing).contains("no wrapped key"));
    }

    #[test]
    fn names_that_no_annotation_may_have() {
        let keys = |provider: &str| WrappedKeys {
            public: PubOptions { hmac: [0; 32] },
            providers: vec![ProviderKey { provider: provider.to_owned(), wrapped: vec![1] }],
            jwe: Vec::new(),
            unsupported: Vec::new(),
        };
        assert!(keys("attestation-agent").annotations().is_ok());
        for bad in ["", "A", "a b", "a,b", "ä"] {
            assert!(keys(bad).annotations().is_err(), "{bad:?}");
        }
    }
}

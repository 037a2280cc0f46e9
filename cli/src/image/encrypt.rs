//! `cocoon image encrypt`: a copy with each layer encrypted under a key of its own (ocicrypt).

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_image::encryption::{
    Jwe, LayerEncryptor, OpeningKey, PROVIDER, PrivateOptions, ProviderKey, PubOptions, RecipientKey,
    WrappedKeys, is_provider_name, wrap_key,
};
use cocoon_image::{Descriptor, Digest, MediaType};
use cocoon_protocol::uri::ResourceUri;
use cocoon_stage::{Code, Failure};
use zeroize::Zeroizing;

use super::copy::{Copied, Copy, Platforms, Work};
use super::decrypt::Opener;
use super::keyprovider::key_id;
use super::keys::{KeyStore, opening_key};
use super::place::Place;
use super::progress::Meter;
use super::provider::{self, Provider};
use super::stream::{self, Checked};
use super::{shared, usage};
use crate::args::{EncryptArgs, LayersArg};
use crate::output::Output;

/// For whom layers are encrypted.
struct Recipients {
    keys: Vec<(ResourceUri, Zeroizing<Vec<u8>>)>,
    jwe: Vec<RecipientKey>,
    /// Provider, its name, its parameters.
    providers: Vec<(Provider, String, String)>,
}

impl Recipients {
    async fn of(args: &EncryptArgs, store: &KeyStore) -> Result<Self, Failure> {
        let mut ids = Vec::new();
        for id in &args.key_id {
            ids.push(key_id(format!("keyid={id}").as_bytes())?);
        }
        let (mut jwe, mut providers) = (Vec::new(), Vec::new());
        let mut configured = None;
        for recipient in &args.recipient {
            match recipient.split_once(':') {
                Some(("jwe", file)) => {
                    let content = std::fs::read(file).map_err(|e| usage(format!("{file}: {e}")))?;
                    let key = RecipientKey::parse(&content).map_err(|e| usage(format!("{file}: {e}")))?;
                    jwe.push(key);
                }
                Some(("provider", rest)) => {
                    let (name, parameters) = rest.split_once(':').unwrap_or((rest, ""));
                    if !is_provider_name(name) {
                        return Err(usage(format!("{name:?} is no key provider's name")));
                    }
                    if name == PROVIDER {
                        ids.push(key_id(parameters.as_bytes())?);
                        continue;
                    }
                    let known: &BTreeMap<String, Provider> = match &mut configured {
                        Some(known) => known,
                        none => none.insert(provider::configured()?),
                    };
                    let provider = known.get(name).cloned().ok_or_else(|| {
                        usage(format!(
                            "key provider {name} is not in the file of OCICRYPT_KEYPROVIDER_CONFIG"
                        ))
                    })?;
                    providers.push((provider, name.to_owned(), parameters.to_owned()));
                }
                Some((kind @ ("pkcs7" | "pgp" | "pkcs11"), _)) => {
                    return Err(usage(format!(
                        "{kind} recipients are not supported; jwe takes certificates too"
                    )));
                }
                _ => {
                    return Err(usage(format!(
                        "{recipient:?} is neither jwe:FILE nor provider:NAME:PARAMETERS"
                    )));
                }
            }
        }
        if ids.is_empty() && jwe.is_empty() && providers.is_empty() {
            ids.push(key_id(b"")?);
        }
        let mut keys = Vec::new();
        for id in ids {
            let kek = store.to_wrap(&id).await?;
            keys.push((id, kek));
        }
        Ok(Recipients { keys, jwe, providers })
    }

    /// A layer's key, wrapped for all.
    async fn wrap(&self, private: &PrivateOptions, public: PubOptions) -> Result<WrappedKeys, Failure> {
        let json = private.to_json()?;
        let mut wrapped =
            WrappedKeys { public, providers: Vec::new(), jwe: Vec::new(), unsupported: Vec::new() };
        for (id, kek) in &self.keys {
            let packet = wrap_key(kek, &id.to_string(), &json)?;
            wrapped.providers.push(ProviderKey::of_packet(&packet)?);
        }
        for key in &self.jwe {
            wrapped.jwe.push(Jwe::seal(key, &json)?);
        }
        for (provider, name, parameters) in &self.providers {
            let wrapped_data = provider.wrap(name, parameters, &json).await?;
            wrapped.providers.push(ProviderKey { provider: name.clone(), wrapped: wrapped_data });
        }
        Ok(wrapped)
    }

    /// Who they are, for people.
    fn describe(&self) -> String {
        let keys = self.keys.iter().map(|(id, _)| id.to_string());
        let jwe = self.jwe.iter().map(|key| format!("a {} key", key.describe()));
        let providers = self.providers.iter().map(|(_, name, _)| format!("key provider {name}"));
        keys.chain(jwe).chain(providers).collect::<Vec<_>>().join(", ")
    }
}

struct Encryption {
    recipients: Recipients,
    layers: Vec<i32>,
    /// What opens layers that are encrypted already, if they may be.
    opener: Option<Opener>,
    allow_clear: bool,
    output: Output,
}

/// Whether a position is among those given, which may count from the end.
pub fn chosen(given: &[i32], position: usize, of: usize) -> bool {
    let is = |n: &i32| match usize::try_from(*n) {
        Ok(n) => n == position,
        Err(_) => usize::try_from(n.unsigned_abs()).ok().and_then(|n| of.checked_sub(n)) == Some(position),
    };
    given.is_empty() || given.iter().any(is)
}

/// Checks that an image of so many layers has those given.
pub fn selected(given: &[i32], of: usize) -> Result<(), Failure> {
    let there = |n: &i32| (0..of).any(|position| chosen(&[*n], position, of));
    match given.iter().find(|n| !there(n)) {
        Some(n) => Err(usage(format!("there is no layer {n}: the image has {of}"))),
        None => Ok(()),
    }
}

/// Refuses what would be called encrypted and is not.
pub fn settle(changed: usize, clear: &[Digest], allowed: bool) -> Result<(), Failure> {
    if changed == 0 {
        return Err(usage("the image has no layer to encrypt; nothing was written".to_owned()));
    }
    match clear.first() {
        Some(first) if !allowed => Err(usage(format!(
            "{} layers would stay in the clear ({first} …); --allow-clear leaves them so",
            clear.len()
        ))),
        _ => Ok(()),
    }
}

#[async_trait]
impl Work for Encryption {
    fn wants(&self, layer: &Descriptor, position: usize, of: usize) -> Result<bool, Failure> {
        selected(&self.layers, of)?;
        if !chosen(&self.layers, position, of) {
            return Ok(false);
        }
        if layer.kind() == MediaType::SharedLayer {
            return Err(usage(format!("layer {} is encrypted already, as a shared layer", layer.digest)));
        }
        let encrypted = matches!(layer.kind(), MediaType::Layer { encrypted: true, .. });
        match (encrypted, &self.opener) {
            (true, None) => Err(usage(format!(
                "layer {} is encrypted already; --add-recipient lets more recipients in",
                layer.digest
            ))),
            (true, Some(_)) => Ok(true),
            // Only what is encrypted can get more recipients.
            (false, Some(_)) if self.allow_clear => Ok(false),
            (false, Some(_)) => Err(usage(format!(
                "layer {} is in the clear, and --add-recipient does not encrypt it; --allow-clear leaves it so",
                layer.digest
            ))),
            (false, None) => Ok(true),
        }
    }

    fn settle(&self, changed: usize, clear: &[Digest]) -> Result<(), Failure> {
        settle(changed, clear, !self.layers.is_empty() || self.allow_clear)
    }

    async fn change(&self, from: &Place, to: &Place, layer: &Descriptor) -> Result<Descriptor, Failure> {
        let MediaType::Layer { compression, encrypted } = layer.kind() else {
            let why = format!("layer {} is no layer", layer.digest);
            return Err(Failure::new(Code::ImageManifestInvalid, why));
        };
        if let (true, Some(opener)) = (encrypted, &self.opener) {
            return self.admit(opener, from, to, layer).await;
        }
        let what = format!("encrypting layer {}", layer.digest);
        let meter = Arc::new(Meter::new(self.output, what, layer.size));
        let work = |plain: &mut Checked, out: &mut dyn Write| {
            let mut encryptor = LayerEncryptor::new(BufReader::new(plain)).map_err(|e| e.into_io())?;
            io::copy(&mut encryptor, out)?;
            let sealed = encryptor.finish().map_err(|e| e.into_io())?;
            Ok((sealed.digest, sealed))
        };
        let (spool, sealed) = stream::through(from, layer, &to.spool(), meter, work).await?;
        to.put(spool).await?;
        let wrapped = self.recipients.wrap(&sealed.private, sealed.public).await?;
        let mut annotations = layer.annotations.clone();
        annotations.extend(wrapped.annotations()?);
        let kind = format!("{}+encrypted", compression.oci_layer_type());
        Ok(Descriptor { annotations, ..Descriptor::new(&kind, sealed.digest, sealed.size) })
    }

    fn makes_oci(&self) -> bool {
        true
    }
}

impl Encryption {
    /// More recipients for a layer that stays as it is.
    async fn admit(
        &self,
        opener: &Opener,
        from: &Place,
        to: &Place,
        layer: &Descriptor,
    ) -> Result<Descriptor, Failure> {
        let (private, public) = opener.open(layer).await?;
        let mut annotations = layer.annotations.clone();
        self.recipients.wrap(&private, public).await?.append_to(&mut annotations)?;
        let changed = Descriptor { annotations, ..layer.clone() };
        // What is written must be readable: not more recipients than others accept.
        WrappedKeys::read(&changed)?;
        let meter = Arc::new(Meter::new(self.output, format!("copying layer {}", layer.digest), layer.size));
        stream::copy(from, to, layer, meter).await?;
        Ok(changed)
    }
}

/// Says what was encrypted, for whom, and which layers were not.
pub fn report(output: Output, to: &Place, copied: &Copied, names: &str) {
    if !copied.kept.is_empty() {
        super::progress::say(output, &format!("left as they are: {}", copied.kept.join(", ")));
    }
    if !copied.clear.is_empty() {
        let layers: Vec<String> = copied.clear.iter().map(Digest::to_string).collect();
        super::progress::say(output, &format!("layers in the clear: {}", layers.join(", ")));
    }
    let image = to.pinned(&copied.digest);
    if output.json {
        println!(
            "{}",
            serde_json::json!({"image": image, "digest": copied.digest, "images": copied.changed,
                "kept": copied.kept, "clear": copied.clear, "recipients": names})
        );
    } else {
        let but = match copied.clear.len() {
            0 => String::new(),
            n => format!(" ({n} of its layers stay in the clear)"),
        };
        println!("encrypted {image} under {names}{but}");
    }
}

/// Encrypts an image.
pub async fn main(args: EncryptArgs) -> Result<(), Failure> {
    if args.layers == LayersArg::Shared {
        return shared::main(args).await;
    }
    let output = Output { json: args.common.json, quiet: false };
    let platforms = Platforms::parse(&args.platform)?;
    let keys: Result<Vec<OpeningKey>, Failure> = args.key.iter().map(|k| opening_key(k)).collect();
    let (from, to) = (Arc::new(Place::source(&args.source)?), Arc::new(Place::target(&args.target)?));
    // Found out before keys are made.
    from.resolve().await?;
    let store = Arc::new(KeyStore::new(&args.common, args.kek.as_deref())?);
    let recipients = Recipients::of(&args, &store).await?;
    let names = recipients.describe();
    let opener = match args.add_recipient {
        true => Some(Opener::new(keys?, Some(store))?),
        false => None,
    };
    let allow_clear = args.allow_clear;
    let work = Encryption { recipients, layers: args.layer, opener, allow_clear, output };
    let copied = Copy { from, to: to.clone(), platforms, max_bytes: args.max_size, output }
        .run(Arc::new(work))
        .await?;
    report(output, &to, &copied, &names);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn layers_count_from_either_end() {
        assert!(chosen(&[], 3, 4) && chosen(&[0], 0, 4) && chosen(&[-1], 3, 4) && chosen(&[1, -4], 0, 4));
        assert!(!chosen(&[0], 1, 4) && !chosen(&[-5], 0, 4) && !chosen(&[i32::MIN], 0, 4));
    }
}

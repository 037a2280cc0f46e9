//! `cocoon image inspect`: what an image is, who can decrypt it, and which signatures lie beside it.

use std::fmt::Write;

use cocoon_image::encryption::{PROVIDER, WrappedKeys, shared_packets};
use cocoon_image::{Compression, Config, Descriptor, Document, MAX_CONFIG_BYTES, Manifest, MediaType};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use super::place::Place;
use super::signatures;
use crate::args::LayersArg;
use crate::delivery;

/// Text of a registry, fit for one line.
fn plain(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    super::progress::plain(&cut)
}

/// For whom a layer is encrypted.
fn recipients(layer: &Descriptor) -> Value {
    if layer.kind() == MediaType::SharedLayer {
        return match shared_packets(layer) {
            Ok(packets) => packets.iter().map(|packet| provider(PROVIDER, Some(&packet.kid))).collect(),
            Err(e) => json!([{"kind": "unreadable", "reason": plain(&e.to_string())}]),
        };
    }
    let wrapped = match WrappedKeys::read(layer) {
        Ok(wrapped) => wrapped,
        Err(e) => return json!([{"kind": "unreadable", "reason": plain(&e.to_string())}]),
    };
    let mut all = Vec::new();
    for key in &wrapped.providers {
        all.push(provider(&key.provider, key.packet().as_ref().map(|packet| packet.kid.as_str())));
    }
    for recipient in wrapped.jwe.iter().flat_map(|jwe| jwe.recipients()) {
        all.push(json!({"kind": "jwe", "key": recipient}));
    }
    for scheme in wrapped.unsupported {
        all.push(json!({"kind": "unsupported", "scheme": scheme}));
    }
    all.into()
}

fn provider(name: &str, key: Option<&str>) -> Value {
    json!({"kind": "provider", "provider": plain(name), "key_id": key.map(plain)})
}

fn layer(layer: &Descriptor) -> Value {
    let kind = layer.kind();
    let (compression, encrypted) = match kind {
        MediaType::Layer { compression, encrypted } => (Some(compression), encrypted),
        _ => (None, kind == MediaType::SharedLayer),
    };
    let mut value = json!({
        "digest": layer.digest, "size": layer.size, "media_type": plain(&layer.media_type),
        "compression": compression.map(|c| match c {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }),
        "encrypted": encrypted, "form": if kind == MediaType::SharedLayer { "disk" } else { "archive" },
    });
    if let (true, Some(value)) = (encrypted, value.as_object_mut()) {
        value.insert("recipients".into(), recipients(layer));
    }
    value
}

/// Whether the layers can come to guests this way; else why not.
fn possible(way: LayersArg, manifest: &Manifest) -> Result<(), String> {
    manifest.check_image().map_err(|e| e.to_string())?;
    delivery::check_way(way, manifest).map_err(|e| e.reason)?;
    let keyless = manifest.layers.iter().find(|layer| match layer.kind() {
        MediaType::Layer { encrypted: true, .. } => {
            WrappedKeys::read(layer).map_or(true, |keys| keys.packets().is_empty())
        }
        MediaType::SharedLayer => shared_packets(layer).is_err(),
        _ => false,
    });
    keyless.map_or(Ok(()), |layer| Err(format!("layer {} has no key in a Trustee", layer.digest)))
}

async fn image(
    place: &Place,
    digest: &str,
    manifest: &Manifest,
    platform: Option<String>,
) -> Result<Value, Failure> {
    let config = place.blob_bytes(&manifest.config, MAX_CONFIG_BYTES).await;
    let said = config.ok().and_then(|bytes| Config::parse(&bytes).ok());
    let said = said.map(|c| plain(&format!("{}/{}", c.os, c.architecture)));
    let [pull, share] = [LayersArg::Guest, LayersArg::Shared].map(|way| possible(way, manifest));
    Ok(json!({
        "digest": digest,
        "platform": platform.or(said),
        "media_type": plain(&manifest.media_type),
        "layers": manifest.layers.iter().map(layer).collect::<Vec<_>>(),
        "guest_layers": pull.is_ok(),
        "guest_layers_reason": pull.err().map(|e| plain(&e)),
        "shared_layers": share.is_ok(),
        "shared_layers_reason": share.err().map(|e| plain(&e)),
    }))
}

/// Shows an image.
pub async fn main(name: &str, as_json: bool) -> Result<(), Failure> {
    let place = Place::source(name)?;
    let (digest, bytes) = place.resolve().await?;
    let (mut images, mut others) = (Vec::new(), Vec::new());
    let kind = match Document::parse(&bytes)? {
        Document::Manifest(manifest) => {
            images.push(image(&place, &digest.to_string(), &manifest, None).await?);
            "manifest"
        }
        Document::Index(index) => {
            for entry in &index.manifests {
                let platform = entry.platform.as_ref().map(|p| plain(&p.to_string()));
                let document = Document::parse(&place.manifest(&entry.digest).await?)?;
                let Document::Manifest(manifest) = document else {
                    return Err(Failure::new(Code::ImageManifestInvalid, "an index inside an index"));
                };
                if manifest.check_image().is_ok() {
                    images.push(image(&place, &entry.digest.to_string(), &manifest, platform).await?);
                } else {
                    let kind = manifest.artifact_type.as_deref().unwrap_or(&manifest.config.media_type);
                    others.push(json!({"digest": entry.digest, "platform": platform, "type": plain(kind)}));
                }
            }
            "index"
        }
    };
    let signatures = signatures::found(&place, &digest).await;
    let value = json!({
        "name": plain(place.name()), "digest": digest, "kind": kind, "images": images, "others": others,
        "signatures": signatures,
    });
    if as_json {
        println!("{value:#}");
    } else {
        print!("{}", text(&value));
    }
    Ok(())
}

/// The same for people.
fn text(value: &Value) -> String {
    let str = |value: &Value, name: &str| plain(value.get(name).and_then(Value::as_str).unwrap_or("?"));
    let list =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out = format!("{}\n  digest      {}\n", str(value, "name"), str(value, "digest"));
    for image in list(value, "images") {
        let _ = writeln!(out, "  image       {} {}", str(&image, "platform"), str(&image, "digest"));
        for (number, layer) in list(&image, "layers").iter().enumerate() {
            let size = layer.get("size").and_then(Value::as_u64).unwrap_or_default();
            let encrypted = layer.get("encrypted") == Some(&Value::Bool(true));
            let locked = if encrypted { "encrypted" } else { "in the clear" };
            let disk = layer.get("form").and_then(Value::as_str) == Some("disk");
            let packed = if disk { "disk (EROFS)".to_owned() } else { str(layer, "compression") };
            let _ = writeln!(
                out,
                "    layer {number:<3} {} {size} bytes, {packed}, {locked}",
                str(layer, "digest")
            );
            for recipient in list(layer, "recipients") {
                let who = match str(&recipient, "kind").as_str() {
                    "provider" => format!("{} {}", str(&recipient, "provider"), str(&recipient, "key_id")),
                    "jwe" => format!("JWE {}", str(&recipient, "key")),
                    "unsupported" => format!("{} (not supported)", str(&recipient, "scheme")),
                    _ => format!("unreadable: {}", str(&recipient, "reason")),
                };
                let _ = writeln!(out, "      for     {who}");
            }
        }
        for (way, name) in [("guest", "guest_layers_reason"), ("shared", "shared_layers_reason")] {
            let can = match image.get(name).and_then(Value::as_str) {
                None => "possible".to_owned(),
                Some(reason) => format!("not possible: {reason}"),
            };
            let _ = writeln!(out, "    {way:<9} {can}");
        }
    }
    for other in list(value, "others") {
        let _ = writeln!(out, "  other       {} {}", str(&other, "type"), str(&other, "digest"));
    }
    let signatures = list(value, "signatures");
    if signatures.is_empty() {
        out.push_str("  signatures  none found\n");
    }
    for signature in signatures {
        let count = signature.get("count").and_then(Value::as_u64).unwrap_or_default();
        let hints: Vec<String> =
            list(&signature, "hints").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let hints = if hints.is_empty() { String::new() } else { format!(" ({})", hints.join("; ")) };
        let _ = writeln!(out, "  signatures  {count} {}{hints}", str(&signature, "kind"));
    }
    out
}

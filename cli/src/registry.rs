//! The owner's own look at an image: pin its digest, read its config, find the keys that its layers need.

use std::path::PathBuf;

use bytes::Bytes;
use cocoon_http::Options;
use cocoon_image::{
    Config, Digest, Document, MAX_CONFIG_BYTES, Manifest, MediaType, Platform, Reference, encryption,
};
use cocoon_plan::compile::ImageDefaults;
use cocoon_plan::images::ImageSettings;
use cocoon_registry::{Auth, Client};
use cocoon_stage::{Code, Failure, Stage};
use zeroize::Zeroizing;

/// The `auth.json` that applies: `REGISTRY_AUTH_FILE`, the container tools' one, or Docker's.
pub fn auth_json() -> Option<Zeroizing<String>> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let candidates = [
        var("REGISTRY_AUTH_FILE"),
        var("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
        var("DOCKER_CONFIG").map(|d| d.join("config.json")),
        var("HOME").map(|h| h.join(".config/containers/auth.json")),
        var("HOME").map(|h| h.join(".docker/config.json")),
    ];
    candidates.into_iter().flatten().find_map(|p| std::fs::read_to_string(p).ok()).map(Zeroizing::new)
}

/// A registry client of the owner's machine, with the owner's credentials.
pub fn client(auth: Option<&str>) -> Result<Client, Failure> {
    let http = cocoon_http::Client::new(Options::default())
        .map_err(|e| Failure::new(Code::PlanImageUnavailable, e.to_string()))?;
    let auth = auth.map(Auth::from_json).transpose().map_err(|e| Failure::from(e).at(Stage::Plan))?;
    Ok(Client::new(http, auth.unwrap_or_else(Auth::anonymous)))
}

/// A client that reaches registries as the plan has the guest do it.
pub fn client_for(settings: &ImageSettings, auth: Option<&str>) -> Result<Client, Failure> {
    let http = cocoon_registry::http_for_plan(settings, None)
        .map_err(|e| Failure::new(Code::PlanImageUnavailable, e.to_string()))?;
    let auth = auth.map(Auth::from_json).transpose().map_err(|e| Failure::from(e).at(Stage::Plan))?;
    let auth = auth.unwrap_or_else(Auth::anonymous);
    cocoon_registry::for_plan(settings, http, auth).map_err(|e| Failure::from(e).at(Stage::Plan))
}

/// What the owner learned of an image.
#[derive(Debug)]
pub struct Image {
    /// The digest that pins it (of the index, where there is one).
    pub digest: Digest,
    /// What its config says.
    pub defaults: ImageDefaults,
    /// The manifest for this machine's platform.
    pub manifest: Manifest,
    /// Its config.
    pub config: Config,
    /// `kbs:///…` ids of the keys that encrypt its layers.
    pub key_ids: Vec<String>,
}

/// A reference from the command line.
pub fn reference(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text)
        .map_err(|e| Failure::new(Code::PlanImageReferenceInvalid, format!("{text:?}: {e}")))
}

/// Resolves and reads an image.
pub async fn inspect(client: &Client, reference: &Reference) -> Result<Image, Failure> {
    let unavailable = |e: cocoon_registry::Error| {
        let failure = Failure::from(e);
        match failure.code {
            // The codes for a guest's pull say more about the cause; only the stage differs.
            Code::ImageNotFound | Code::ImageUnauthorized | Code::ImageRegistryAnswer => {
                failure.at(Stage::Plan)
            }
            _ => Failure::new(Code::PlanImageUnavailable, failure.reason),
        }
    };
    let (digest, bytes) = client.resolve(reference).await.map_err(unavailable)?;
    let manifest = match parse(&bytes)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => {
            let chosen = index.select(&Platform::host()).map_err(at_plan)?;
            let bytes = client.manifest(reference, &chosen.digest).await.map_err(unavailable)?;
            match parse(&bytes)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => {
                    return Err(
                        Failure::new(Code::ImageManifestInvalid, "an index inside an index").at(Stage::Plan)
                    );
                }
            }
        }
    };
    manifest.check_image().map_err(at_plan)?;
    let config =
        client.blob_bytes(reference, &manifest.config, MAX_CONFIG_BYTES).await.map_err(unavailable)?;
    let config = Config::parse(&config).map_err(at_plan)?;
    let (key_ids, defaults) = (key_ids(&manifest)?, defaults(&config));
    Ok(Image { digest, defaults, manifest: *manifest, config, key_ids })
}

fn parse(bytes: &Bytes) -> Result<Document, Failure> {
    Document::parse(bytes).map_err(at_plan)
}

fn at_plan(e: cocoon_image::Error) -> Failure {
    Failure::from(e).at(Stage::Plan)
}

fn defaults(config: &Config) -> ImageDefaults {
    let c = config.config.clone();
    ImageDefaults {
        entrypoint: c.entrypoint,
        cmd: c.cmd,
        env: c.env,
        working_dir: c.working_dir,
        user: c.user,
        stop_signal: c.stop_signal,
    }
}

fn key_ids(manifest: &Manifest) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    for layer in &manifest.layers {
        let packets = match layer.kind() {
            MediaType::Layer { encrypted: true, .. } => encryption::read_annotations(layer).map(|(p, _)| p),
            MediaType::SharedLayer => encryption::shared_packets(layer),
            _ => continue,
        };
        let packets = packets.map_err(at_plan)?;
        for packet in packets {
            if !ids.contains(&packet.kid) {
                ids.push(packet.kid);
            }
        }
    }
    Ok(ids)
}

/// An `auth.json` with only the entry that the reference needs, where there is one: a guest gets no other registry's
/// credentials.
pub fn auth_for(auth_json: &str, reference: &Reference) -> Option<Zeroizing<Vec<u8>>> {
    let document: serde_json::Value = serde_json::from_str(auth_json).ok()?;
    let entries = document.get("auths")?.as_object()?;
    let name = reference.name();
    let host = |key: &str| -> String {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let applies = |key: &str| {
        let docker_hub = reference.registry == "docker.io" && host(key) == "index.docker.io";
        docker_hub || host(key) == reference.registry || name == key || name.starts_with(&format!("{key}/"))
    };
    let kept: serde_json::Map<_, _> =
        entries.iter().filter(|(key, _)| applies(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if kept.is_empty() {
        return None;
    }
    Some(Zeroizing::new(serde_json::json!({ "auths": kept }).to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_gets_only_the_credentials_it_needs() {
        let all = r#"{"auths":{"a.example":{"auth":"QTpB"},"b.example":{"auth":"Qzpd"},"https://index.docker.io/v1/":{"auth":"RDpE"}}}"#;
        let kept = auth_for(all, &reference("a.example/x/y:1").unwrap()).unwrap();
        let text = String::from_utf8(kept.to_vec()).unwrap();
        assert!(text.contains("QTpB") && !text.contains("Qzpd") && !text.contains("RDpE"), "{text}");
        let hub = auth_for(all, &reference("busybox").unwrap()).unwrap();
        assert!(String::from_utf8(hub.to_vec()).unwrap().contains("RDpE"));
        assert!(auth_for(all, &reference("localhost:5000/x").unwrap()).is_none());
    }
}

//! `cocoon guest push`: a guest image into a registry, for `spec.guestImage.reference` of a CocoonRuntime.

use cocoon_cluster_node::guests;
use cocoon_stage::{Code, Failure};
use serde_json::json;

use crate::args::GuestPushArgs;
use crate::{dirs, image, registry};

/// Pushes, and prints the reference with the digest.
pub async fn main(args: GuestPushArgs) -> Result<(), Failure> {
    let reference = registry::reference(&args.reference)?;
    let folder = match args.image {
        Some(folder) => folder,
        None => dirs::guest_dir()?,
    };
    let auth = registry::auth_json();
    let plain = args.plain_http.then(|| reference.registry.clone());
    let client = registry::client(auth.as_deref().map(String::as_str))?.allow_plain_http(plain);
    let pushed = guests::push(&client, &reference, &folder).await?;
    if let Some(key) = &args.key {
        image::sign::pushed(&client, &pushed, key).await?;
    }
    if args.json {
        let digest = pushed.digest.map(|d| d.to_string());
        let value = json!({"reference": pushed.to_string(), "digest": digest});
        let text = serde_json::to_string(&value).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        println!("{text}");
    } else {
        println!("{pushed}");
    }
    Ok(())
}

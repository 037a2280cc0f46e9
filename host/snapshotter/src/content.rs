//! Which users images name: asked of containerd's content store.
//!
//! When containerd has unpacked an image it labels the image's config with the snapshot on top
//! (`containerd.io/gc.ref.snapshot.<snapshotter>`), so that the snapshot lives as long as the config. The other way
//! round, that label leads from a container's parent to the configs of all images with these layers.

use std::path::PathBuf;
use std::time::Duration;

use cocoon_grpc::{Client, Code, Status};
use serde::Deserialize;

use crate::Accounts;
use crate::api::content::{ListContentRequest, ListContentResponse, ReadContentRequest, ReadContentResponse};

const LIST: &str = "/containerd.services.content.v1.Content/List";
const READ: &str = "/containerd.services.content.v1.Content/Read";
/// containerd waits for the answer that this is for.
const TIME: Duration = Duration::from_secs(5);
const MAX_MESSAGE: usize = 4 << 20;
const MAX_MESSAGES: usize = 64;
/// Most images of the same layers that are looked at.
const MAX_CONFIGS: usize = 32;
/// Largest config, in bytes.
const MAX_CONFIG: usize = 4 << 20;

/// containerd, as somebody who knows images' configs.
#[derive(Clone, Debug)]
pub struct ImageUsers {
    client: Client,
}

#[derive(Deserialize)]
struct ImageConfig {
    #[serde(default)]
    config: Option<Process>,
}

#[derive(Deserialize)]
struct Process {
    #[serde(default, rename = "User")]
    user: Option<String>,
}

impl ImageUsers {
    /// containerd on this socket.
    pub fn new(containerd: impl Into<PathBuf>) -> Self {
        ImageUsers { client: Client::unix(containerd).with_timeout(TIME) }
    }

    /// The users of those images in a containerd namespace whose layers are `chain`, the chain id of the topmost.
    ///
    /// # Errors
    /// What containerd says.
    pub(crate) async fn of(
        &self,
        namespace: &str,
        snapshotter: &str,
        chain: &str,
    ) -> Result<Accounts, Status> {
        let client = self.client.clone().with_metadata("containerd-namespace", namespace)?;
        // A quote in either would be another filter.
        if [snapshotter, chain].iter().any(|part| part.contains(['"', '\\'])) {
            return Err(Status::new(Code::InvalidArgument, "a name that cannot be asked for"));
        }
        let filter = format!("labels.\"containerd.io/gc.ref.snapshot.{snapshotter}\"==\"{chain}\"");
        let request = ListContentRequest { filters: vec![filter], ..ListContentRequest::new() };
        let pages = client.streaming(LIST, &request, MAX_MESSAGE, MAX_MESSAGES).await?.all().await?;
        let mut accounts = Accounts::default();
        for info in pages.into_iter().flat_map(|page: ListContentResponse| page.info).take(MAX_CONFIGS) {
            let text = read(&client, &info.digest).await?;
            match serde_json::from_slice::<ImageConfig>(&text) {
                Ok(image) => accounts.add(&image.config.and_then(|c| c.user).unwrap_or_default()),
                Err(error) => {
                    tracing::warn!(digest = info.digest, %error, "an image's config cannot be read")
                }
            }
        }
        Ok(accounts)
    }
}

async fn read(client: &Client, digest: &str) -> Result<Vec<u8>, Status> {
    let request = ReadContentRequest { digest: digest.to_owned(), ..ReadContentRequest::new() };
    let mut parts = client.streaming(READ, &request, MAX_MESSAGE, MAX_MESSAGES).await?;
    let mut text = Vec::new();
    while let Some(part) = parts.next().await? {
        let part: ReadContentResponse = part;
        if text.len().saturating_add(part.data.len()) > MAX_CONFIG {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("{digest} is larger than {MAX_CONFIG} bytes"),
            ));
        }
        text.extend_from_slice(&part.data);
    }
    Ok(text)
}

//! This machine's guest image, told to Trustee as a good one.

use std::collections::BTreeMap;

use cocoon_guest_image::GuestImage;
use cocoon_sandbox::TeePlatform;
use cocoon_sim::SecureProcessor;
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use crate::args::PlatformArg;
use crate::client::AdminClient;
use crate::embedded::{simulated_references, tpm_references};
use crate::{dirs, platform};

/// Registers what guests of this machine's image measure to on a platform, until a time.
pub async fn register(trustee: &AdminClient, wish: PlatformArg, expires_unix: u64) -> Result<(), Failure> {
    let dir = dirs::guest_dir()?;
    let chosen = platform::choose(wish, &dir)?;
    let guest = tokio::task::spawn_blocking(move || GuestImage::open(&dir))
        .await
        .map_err(|e| Failure::new(Code::Internal, e.to_string()))??;
    let values: BTreeMap<String, Vec<Value>> = match &chosen.platform {
        TeePlatform::Sim { dir } => {
            simulated_references(&SecureProcessor::open_or_create(dir)?, &guest.reference_values()?)
        }
        TeePlatform::Snp { .. } => {
            let values = guest.snp_reference_values(&chosen.firmware)?;
            values.into_iter().map(|(n, v)| (n, v.into_iter().map(Into::into).collect())).collect()
        }
        // Trustee is one that serves: it takes a TPM of this machine's for no simulated one.
        TeePlatform::Tpm { .. } => tpm_references(&guest.tpm_reference_values()?, false),
        _ => {
            let why = "--platform: reference values of this platform are given by `cocoon reference set`";
            return Err(Failure::new(Code::UsageInvalid, why));
        }
    };
    let source = format!("guest-image {}", guest.manifest.guest_sha256.get(..16).unwrap_or_default());
    let body = json!({"source": source, "values": values, "expires_unix": expires_unix});
    trustee.put("reference-values", &body, "reference values").await.map(drop)
}

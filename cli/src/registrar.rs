//! Whom `cocoon run` tells about a workload: the embedded Trustee, or one at a URL; both through the admin API.

use std::collections::BTreeMap;

use cocoon_plan::TrusteeConfig;
use cocoon_protocol::b64;
use cocoon_stage::{Failure, Stage};
use cocoon_trustee::Registration;
use serde_json::{Value, json};

use crate::args::RunArgs;
use crate::client::{AdminClient, Remote, segment};
use crate::embedded::Embedded;

/// A Trustee, as its owner sees it.
pub struct Registrar(AdminClient);

impl Registrar {
    /// The Trustee in this process.
    pub fn embedded(embedded: Embedded) -> Self {
        Registrar(AdminClient::of_embedded(embedded))
    }

    /// The Trustee that the flags name, with what a guest must know of it.
    pub fn remote(url: &str, args: &RunArgs) -> Result<(Self, TrusteeConfig), Failure> {
        let remote = Remote::new(url, args.trustee_token.as_deref(), args.trustee_cert.as_deref())?;
        let config = remote.config();
        Ok((Registrar(AdminClient::of_remote(remote)), config))
    }

    /// Registers a workload.
    pub async fn register(&self, registration: &Registration) -> Result<(), Failure> {
        register(&self.0, registration).await.map(drop).map_err(|f| f.at(Stage::Register))
    }

    /// Removes a workload and its secrets; one that is gone already is no failure.
    pub async fn unregister(&self, digest_hex: &str) -> Result<(), Failure> {
        let path = format!("workloads/{}", segment(digest_hex));
        match self.0.delete(&path, "workload of this digest").await {
            Err(failure) if failure.reason == "there is no workload of this digest" => Ok(()),
            outcome => outcome.map(drop).map_err(|f| f.at(Stage::Register)),
        }
    }

    /// Registers reference values until a time.
    pub async fn put_references(
        &self,
        source: &str,
        values: &BTreeMap<String, Vec<Value>>,
        expires_unix: u64,
    ) -> Result<(), Failure> {
        let body = json!({"source": source, "values": values, "expires_unix": expires_unix});
        let sent = self.0.put("reference-values", &body, "reference values").await;
        sent.map(drop).map_err(|f| f.at(Stage::Register))
    }

    /// The verdict behind a request id.
    pub async fn explain(&self, request_id: &str) -> Option<Value> {
        self.0.get(&format!("explain/{}", segment(request_id)), "verdict").await.ok()
    }
}

/// Registers a workload; gives its record.
pub async fn register(client: &AdminClient, registration: &Registration) -> Result<Value, Failure> {
    let secrets: BTreeMap<&str, String> =
        registration.secrets.iter().map(|(path, value)| (path.as_str(), b64::std_encode(value))).collect();
    let allow: Vec<&str> = registration.allow.iter().map(|p| p.as_str()).collect();
    let body = json!({
        "name": registration.name,
        "secrets": secrets,
        "allow": allow,
        "min_status": registration.min_status.to_string(),
        "accept_simulated": registration.accept_simulated,
        "expires_unix": registration.expires_unix,
    });
    client.put(&format!("workloads/{}", segment(&registration.digest_hex)), &body, "the workload").await
}

//! `cocoon audit`: the log's head, its verification, proofs.

use std::path::Path;

use cocoon_audit::{PublicKey, SignedHead, offline};
use cocoon_stage::{Code, Failure};
use cocoon_store::{Store, TenantStore};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{content, note, print, say, text, usage};
use crate::args::{AuditCommand, Common};
use crate::client::AdminClient;
use crate::embedded::Embedded;
use crate::moments;

/// A head that an auditor keeps, with the key that signed it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The signed head.
    pub head: SignedHead,
    /// The log's key at that time.
    pub public_key: String,
}

/// What was found to be true.
pub struct Verified {
    /// The head up to which all was read.
    pub head: SignedHead,
    /// The key that signed it.
    pub key: PublicKey,
    /// Entries that were read.
    pub size: u64,
}

pub async fn audit(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Head { common } => print(&json!(head(&AdminClient::open(&common)?).await?), &common),
        AuditCommand::Verify { head, save, common } => {
            let remembered = head.as_deref().map(read).transpose()?;
            let client = AdminClient::open(&common)?;
            let verified = match client.embedded() {
                Some(embedded) => stored(&client, embedded, &common, remembered.as_ref()).await?,
                None => super::audit_remote::verify(&client, remembered.as_ref()).await?,
            };
            tell(&common, &verified, remembered.as_ref())?;
            match save {
                Some(file) => write(&file, &verified),
                None => Ok(()),
            }
        }
        AuditCommand::Prove { index, size, common } => prove(index, size, &common).await,
        AuditCommand::Follow { from, common } => super::follow::follow(from, &common).await,
    }
}

/// The log's head, signed now.
pub async fn head(client: &AdminClient) -> Result<SignedHead, Failure> {
    parse(client.get("audit/head", "audit log").await?)
}

/// The log's key, as Trustee names it.
pub async fn key(client: &AdminClient) -> Result<PublicKey, Failure> {
    let key = client.get("audit/key", "audit key").await?;
    Ok(text(&key, "public_key").parse::<PublicKey>()?)
}

/// An answer as what it must be.
pub fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|e| Failure::new(Code::RegisterFailed, format!("Trustee's answer about its log: {e}")))
}

/// Verifies the embedded Trustee's log, with everything that is stored of it.
async fn stored(
    client: &AdminClient,
    embedded: &Embedded,
    common: &Common,
    remembered: Option<&Remembered>,
) -> Result<Verified, Failure> {
    let head = head(client).await?;
    let key = key(client).await?;
    let root = embedded.store().as_ref();
    let tenant = common.tenant.as_deref();
    let tenant = tenant.map(|name| TenantStore::new(embedded.store().clone(), name)).transpose()?;
    let store: &dyn Store = tenant.as_ref().map_or(root, |tenant| tenant);
    let report = cocoon_audit::verify(store, &key, Some(&head), &mut |_, _| ())?;
    if let Some(remembered) = remembered {
        let first: PublicKey = remembered.public_key.parse()?;
        cocoon_audit::verify(store, &first, Some(&remembered.head), &mut |_, _| ())?;
    }
    Ok(Verified { head, key, size: report.size })
}

fn tell(common: &Common, verified: &Verified, remembered: Option<&Remembered>) -> Result<(), Failure> {
    if common.json {
        let answer = json!({
            "verified": true,
            "entries": verified.size,
            "head": verified.head,
            "public_key": verified.key.to_string(),
            "grown_from": remembered.map(|r| r.head.size),
        });
        return print(&answer, common);
    }
    say(&format!("verified: {} entries, root {}", verified.head.size, verified.head.root_hex));
    say(&format!("signed at {} by {}", moments::shown(verified.head.at_unix), verified.key));
    match remembered {
        Some(r) => say(&format!("grown from the remembered head of {} entries", r.head.size)),
        None => note(
            common,
            "only a head that you keep elsewhere (--save, then --head) shows a log put back whole",
        ),
    }
    Ok(())
}

fn read(file: &Path) -> Result<Remembered, Failure> {
    serde_json::from_slice(&content(file)?)
        .map_err(|e| usage(format!("{}: no head that `audit verify --save` wrote: {e}", file.display())))
}

/// Puts the head into the file, whole or not at all.
fn write(file: &Path, verified: &Verified) -> Result<(), Failure> {
    let remembered = Remembered { head: verified.head.clone(), public_key: verified.key.to_string() };
    let failed = |e: &dyn std::fmt::Display| usage(format!("{}: {e}", file.display()));
    let text = serde_json::to_string_pretty(&remembered).map_err(|e| failed(&e))?;
    let mut new = file.as_os_str().to_owned();
    new.push(format!(".new-{}", std::process::id()));
    let written = std::fs::write(&new, text + "\n").and_then(|()| std::fs::rename(&new, file));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&new);
        failed(&e)
    })
}

/// An entry with what proves it. What is printed was checked here.
async fn prove(index: u64, size: Option<u64>, common: &Common) -> Result<(), Failure> {
    let client = AdminClient::open(common)?;
    let (head, key) = (head(&client).await?, key(&client).await?);
    let root = offline::verify_head(&key, &head)?;
    let size = size.unwrap_or(head.size);
    if size > head.size || index >= size {
        return Err(usage(format!(
            "the log has {} entries; entry {index} of {size} is not in it",
            head.size
        )));
    }
    let what = format!("entry {index}");
    let proof = client.get(&format!("audit/proof/inclusion/{index}?size={size}"), &what).await?;
    let proof: cocoon_audit::InclusionProof = parse(proof)?;
    let page = client.get(&format!("audit/entries?from={index}&limit=1"), &what).await?;
    let page: Vec<cocoon_audit::Logged> = parse(page)?;
    let logged = page.into_iter().find(|logged| logged.index == index);
    let logged = logged.ok_or_else(|| Failure::new(Code::AuditTampered, format!("{what} is missing")))?;
    if (proof.index, proof.size) != (index, size) {
        return Err(Failure::new(Code::AuditTampered, format!("the proof is not for {what} of {size}")));
    }
    let mut answer =
        json!({"entry": logged.entry, "proof": proof, "head": head, "public_key": key.to_string()});
    if size == head.size {
        let leaf = cocoon_audit::Hash::of_leaf(&logged.entry.to_bytes()?);
        offline::verify_inclusion(&leaf, &proof, &root)?;
    } else if let Some(members) = answer.as_object_mut() {
        // Proven for an earlier tree: whoever remembers that tree's head can check it, the newest head cannot.
        members.remove("head");
    }
    print(&answer, common)
}

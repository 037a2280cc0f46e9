//! `cocoon image verify`: signatures of all kinds, by flags or by a policy.

use std::io::Read;
use std::path::{Path, PathBuf};

use cocoon_http::Options;
use cocoon_image::Document;
use cocoon_signature::Subject;
use cocoon_signature::policy::{
    MAX_FILE_BYTES, MAX_POLICY_BYTES, NotationSigned, Policy, Requirement, SignedBy, SignedIdentity,
    SigstoreSigned,
};
use cocoon_signature::sigstore::{Identity, Roots, Trust};
use cocoon_signature::simple::SigstoreD;
use cocoon_signatures::{Places, check};
use cocoon_stage::{Code, Failure};
use serde_json::json;

use super::place::Place;
use super::sign::in_registry;
use super::usage;
use crate::args::ImageVerifyArgs;
use crate::embedded::now;

/// A file of at most so many bytes.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, String> {
    let named = |e: std::io::Error| format!("{}: {e}", path.display());
    let file = std::fs::File::open(path).map_err(named)?;
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(named)?;
    if bytes.len() > limit {
        return Err(format!("{}: larger than {limit} bytes", path.display()));
    }
    Ok(bytes)
}

fn text(path: &Path) -> Result<String, Failure> {
    let bytes = read(path, MAX_FILE_BYTES).map_err(usage)?;
    String::from_utf8(bytes).map_err(|_| usage(format!("{}: it is not text", path.display())))
}

fn texts(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
    paths.iter().map(|path| text(path)).collect()
}

/// What the flags other than `--policy` require.
fn by_flags(args: &ImageVerifyArgs) -> Result<Vec<Requirement>, Failure> {
    let wrong = |e: cocoon_image::Error| usage(e.to_string());
    let named =
        if args.digest_only { SignedIdentity::MatchDigestOnly } else { SignedIdentity::MatchRepository };
    if args.digest_only && args.key.is_empty() && args.certificate_identity.is_none() {
        return Err(usage(
            "--digest-only: it goes with --key or --certificate-identity; a policy says it itself".to_owned(),
        ));
    }
    let mut all = Vec::new();
    if !args.key.is_empty() {
        let trust = Trust::keys(&texts(&args.key)?).map_err(wrong)?;
        all.push(Requirement::SigstoreSigned(SigstoreSigned { trust, identity: named.clone() }));
    }
    if let (Some(id), Some(issuer), Some(root)) =
        (&args.certificate_identity, &args.certificate_oidc_issuer, &args.trust_root)
    {
        let identity =
            if id.contains("://") { Identity::uri(issuer, id) } else { Identity::email(issuer, id) };
        let roots = Roots::from_trusted_root(&read(root, 1 << 20).map_err(usage)?).map_err(wrong)?;
        let trust = identity.and_then(|identity| Trust::keyless(roots, identity)).map_err(wrong)?;
        all.push(Requirement::SigstoreSigned(SigstoreSigned { trust, identity: named.clone() }));
    }
    if !args.notation_root.is_empty() {
        let roots = texts(&args.notation_root)?;
        // Never "any" by default: under a public root anybody can have a certificate.
        let identities = args.notation_identity.clone();
        all.push(Requirement::NotationSigned(NotationSigned { roots, identities }));
    }
    if !args.gpg_key.is_empty() {
        let keyrings: Result<Vec<_>, String> =
            args.gpg_key.iter().map(|path| read(path, MAX_FILE_BYTES)).collect();
        let keyrings = keyrings.map_err(usage)?;
        all.push(Requirement::SignedBy(SignedBy {
            keyrings,
            identity: SignedIdentity::MatchRepoDigestOrExact,
        }));
    }
    Ok(all)
}

/// Verifies an image.
pub async fn main(args: &ImageVerifyArgs) -> Result<(), Failure> {
    let place = Place::source(&args.image)?;
    let (client, reference) = in_registry(&place)?;
    let mut requirements = by_flags(args)?;
    if let Some(path) = &args.policy {
        let policy = read(path, MAX_POLICY_BYTES).map_err(usage)?;
        let policy = Policy::parse_with(&policy, &|file| read(Path::new(file), MAX_FILE_BYTES))?;
        requirements.extend_from_slice(policy.for_image(reference));
    }
    let lookaside = args.lookaside.as_deref().map(text).transpose()?;
    let lookaside = lookaside.map(|text| SigstoreD::parse(&text)).transpose();
    let lookaside = lookaside.map_err(|e| usage(format!("--lookaside: {e}")))?;
    let (digest, bytes) = client.resolve(reference).await?;
    Document::parse(&bytes)?;
    let http = cocoon_http::Client::new(Options::default())
        .map_err(|e| Failure::new(Code::PlanImageUnavailable, e.to_string()))?;
    let places = Places { lookaside, files: true };
    let subject = Subject { reference, digests: &[digest] };
    let decision = check(client, &http, &places, &subject, &requirements, now()).await?;
    if args.json {
        let image = place.pinned(&digest);
        println!("{}", json!({"image": image, "digest": digest, "verified": true, "by": decision.by}));
    } else {
        println!("verified {}", place.pinned(&digest));
        for how in decision.by {
            println!("  {how}");
        }
    }
    Ok(())
}

//! `cocoon image keyprovider`: wraps and unwraps layer keys for other tools (ocicrypt's key provider protocol).

use std::io::{Read, Write};

use async_trait::async_trait;
use cocoon_image::encryption::{
    AnnotationPacket, KeyProviderInput, KeyProviderOutput, PROVIDER, PrivateOptions, wrap_key,
};
use cocoon_protocol::uri::ResourceUri;
use cocoon_rpc::{GrpcCode, KeyProviderBackend, RpcFailure};
use cocoon_stage::{Code, Failure, Stage};
use zeroize::Zeroizing;

use super::keys::{KEY_TYPE, KeyStore};
use super::listen;
use super::usage;
use crate::args::KeyproviderArgs;

/// Largest request, in bytes.
const MAX_REQUEST: u64 = 1 << 20;

/// Answers requests; what a caller may have is decided here.
pub struct KeyProvider {
    store: KeyStore,
    callers: Callers,
    allow_unwrap: bool,
}

/// Who may call: see [`KeyProvider::key_for`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Callers {
    /// Who started this program, on standard input.
    Owner,
    /// Programs of its user, on a socket that only they may use.
    Programs,
    /// Everybody who reaches a port.
    Everybody,
}

pub async fn main(args: KeyproviderArgs) -> Result<(), Failure> {
    let store = KeyStore::new(&args.common, args.kek.as_deref())?;
    let Some(address) = &args.listen else {
        return once(&KeyProvider { store, callers: Callers::Owner, allow_unwrap: true }).await;
    };
    let callers = if address.starts_with("unix:") { Callers::Programs } else { Callers::Everybody };
    let provider = KeyProvider { store, callers, allow_unwrap: args.allow_unwrap };
    listen::serve(address, args.insecure_listen, provider).await
}

/// One request on standard input, one answer on standard output (ocicrypt's `cmd` key provider).
async fn once(provider: &KeyProvider) -> Result<(), Failure> {
    let mut request = Zeroizing::new(Vec::new());
    std::io::stdin()
        .take(MAX_REQUEST.saturating_add(1))
        .read_to_end(&mut request)
        .map_err(|e| usage(format!("standard input: {e}")))?;
    let answer = provider.answer(KeyProviderInput::parse(&request)?).await?;
    std::io::stdout()
        .write_all(&answer.to_json()?)
        .map_err(|e| Failure::new(Code::Internal, format!("standard output: {e}")).at(Stage::Plan))
}

impl KeyProvider {
    async fn answer(&self, input: KeyProviderInput) -> Result<KeyProviderOutput, Failure> {
        match input {
            KeyProviderInput::KeyWrap { options, parameters } => {
                // Nothing but layer keys is wrapped and unwrapped: a key of Trustee's is no oracle for other things.
                PrivateOptions::parse(&options)?;
                let parameters =
                    parameters.get(PROVIDER).and_then(|p| p.first()).map(Vec::as_slice).unwrap_or_default();
                let id = key_id(parameters)?;
                let kek = self.key_for(&id).await?;
                let packet = wrap_key(&kek, &id.to_string(), &options)?;
                Ok(KeyProviderOutput::KeyWrap { annotation: packet.to_json()? })
            }
            KeyProviderInput::KeyUnwrap { annotation } => {
                let options = self.store.unwrap(&AnnotationPacket::parse(&annotation)?).await?;
                PrivateOptions::parse(&options)?;
                Ok(KeyProviderOutput::KeyUnwrap { options })
            }
        }
    }

    /// A key to wrap under. Others than the user may have new keys made among image keys only: they must not fill the
    /// paths of the user's other secrets. Everybody else hears nothing of these, not even whether they exist: whatever is
    /// no image key is refused in the same words.
    async fn key_for(&self, id: &ResourceUri) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let of_type = id.path().split('/').nth(1) == Some(KEY_TYPE);
        if self.callers == Callers::Everybody {
            let none =
                || usage(format!("this key provider has keys at kbs:///REPOSITORY/{KEY_TYPE}/TAG only"));
            if !of_type {
                return Err(none());
            }
            return self.store.to_wrap(id).await.map_err(|e| match e.code {
                Code::UsageInvalid | Code::PlanSecretInvalid => {
                    tracing::info!(reason = e.reason, "refused");
                    usage("no key can be had at this id".to_owned())
                }
                _ => e,
            });
        }
        if self.callers == Callers::Programs && !of_type && !self.store.has(id).await? {
            return Err(usage(format!(
                "{id} does not exist; new keys are made at kbs:///REPOSITORY/{KEY_TYPE}/TAG"
            )));
        }
        self.store.to_wrap(id).await
    }
}

#[async_trait]
impl KeyProviderBackend for KeyProvider {
    async fn wrap(&self, json: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, RpcFailure> {
        let input = KeyProviderInput::parse(&json).map_err(|e| refusal(e.into()))?;
        if !matches!(input, KeyProviderInput::KeyWrap { .. }) {
            return Err(wrong("WrapKey was called with another op than keywrap"));
        }
        self.told(input).await
    }

    async fn unwrap(&self, json: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, RpcFailure> {
        if !self.allow_unwrap {
            let why = "this key provider wraps only; it unwraps if started with --allow-unwrap";
            return Err(RpcFailure::new(Code::AccessDenied, GrpcCode::PermissionDenied, why));
        }
        let input = KeyProviderInput::parse(&json).map_err(|e| refusal(e.into()))?;
        if !matches!(input, KeyProviderInput::KeyUnwrap { .. }) {
            return Err(wrong("UnWrapKey was called with another op than keyunwrap"));
        }
        self.told(input).await
    }
}

impl KeyProvider {
    async fn told(&self, input: KeyProviderInput) -> Result<Zeroizing<Vec<u8>>, RpcFailure> {
        let answer = self.answer(input).await.map_err(refusal)?;
        answer.to_json().map_err(|e| refusal(e.into()))
    }
}

fn wrong(why: &str) -> RpcFailure {
    RpcFailure::new(Code::UsageInvalid, GrpcCode::InvalidArgument, why)
}

/// What a caller is told: it is on this machine or chosen by its user, so the reason too.
fn refusal(failure: Failure) -> RpcFailure {
    let status = match failure.code {
        Code::ReleaseSecretMissing | Code::ImageKeyUnavailable => GrpcCode::NotFound,
        Code::UsageInvalid | Code::ImageUndecryptable | Code::PlanSecretInvalid => GrpcCode::InvalidArgument,
        _ => GrpcCode::FailedPrecondition,
    };
    tracing::info!(code = failure.code.as_str(), reason = failure.reason, "refused");
    RpcFailure::new(failure.code, status, failure.reason)
}

/// The key id in parameters such as `keyid=kbs:///default/image-key/demo`; a new random one where none is given.
pub fn key_id(parameters: &[u8]) -> Result<ResourceUri, Failure> {
    let text =
        std::str::from_utf8(parameters).map_err(|_| usage("key provider parameters are not text".into()))?;
    let mut id = None;
    for pair in text.split("::").filter(|p| !p.is_empty()) {
        match pair.split_once('=') {
            Some(("keyid", value)) => id = Some(value.to_owned()),
            Some(("algorithm", "A256GCM")) => {}
            _ => return Err(usage(format!("key provider parameter {pair:?} is not known"))),
        }
    }
    let id = match id {
        Some(id) => id,
        None => format!("kbs:///default/{KEY_TYPE}/{}", crate::dirs::random_hex(16)?),
    };
    id.parse().map_err(|e| usage(format!("key id {id:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_are_read_or_made() {
        let id = key_id(b"keyid=kbs:///default/image-key/a::algorithm=A256GCM").unwrap();
        assert_eq!(id.to_string(), "kbs:///default/image-key/a");
        let (one, two) = (key_id(b"").unwrap(), key_id(b"").unwrap());
        assert_ne!(one.to_string(), two.to_string());
        for bad in [b"keyid=http://x".as_slice(), b"sample=true", b"\xff", b"algorithm=A256CTR"] {
            assert!(key_id(bad).is_err(), "{bad:?}");
        }
    }
}

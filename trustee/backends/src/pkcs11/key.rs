//! A data key that only a token can open.

use std::sync::Arc;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use zeroize::Zeroizing;

use super::source::with_value;
use super::token::{Fault, Token};
use crate::Error;
use crate::protector::{KeyProtector, check_blob, fill_random, fresh_key, key_of};

/// First byte of every blob: the format's version.
const VERSION: u8 = 1;

/// Bytes of AES-GCM's nonce.
const NONCE: usize = 12;

/// How the token's AES key wraps the data key. The second byte of a blob says which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWrapping {
    /// `CKM_AES_GCM`: nonce, ciphertext and tag; the blob's head and the key's label are authenticated too.
    AesGcm,
    /// `CKM_AES_KEY_WRAP` (RFC 3394).
    AesKeyWrap,
    /// `CKM_AES_KEY_WRAP_PAD` (RFC 5649).
    AesKeyWrapPad,
}

impl KeyWrapping {
    fn byte(self) -> u8 {
        match self {
            KeyWrapping::AesGcm => 1,
            KeyWrapping::AesKeyWrap => 2,
            KeyWrapping::AesKeyWrapPad => 3,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [KeyWrapping::AesGcm, KeyWrapping::AesKeyWrap, KeyWrapping::AesKeyWrapPad]
            .into_iter()
            .find(|w| w.byte() == byte)
    }
}

/// Settings of a [`Pkcs11Key`].
#[derive(Clone, Debug)]
pub struct Pkcs11KeyConfig {
    /// Label of the AES-256 key in the token.
    pub label: String,
    /// How new data keys are wrapped; stored ones are unwrapped as they were wrapped.
    pub wrapping: KeyWrapping,
    /// Whether the AES key is made where the token has none. It is only ever made for a new data key.
    pub create: bool,
}

/// Protects the store's data key with an AES-256 key that never leaves the token.
///
/// The key must be sensitive and not extractable, else it is refused.
#[derive(Debug)]
pub struct Pkcs11Key {
    token: Arc<Token>,
    config: Pkcs11KeyConfig,
}

impl Pkcs11Key {
    /// A protector with this token's key; the key is looked for at each call.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty label or one over 255 bytes.
    pub fn new(token: Arc<Token>, config: Pkcs11KeyConfig) -> Result<Self, Error> {
        if config.label.is_empty() || config.label.len() > 255 {
            return Err(Error::Config("the label of a PKCS#11 key has 1 to 255 bytes".into()));
        }
        Ok(Pkcs11Key { token, config })
    }

    fn wrap(&self, session: &Session, key: &[u8; 32]) -> Result<Vec<u8>, Fault> {
        let wrapping_key = match self.find(session)? {
            Some(handle) => handle,
            None if self.config.create => self.generate(session)?,
            None => return Err(self.missing().into()),
        };
        let wrapping = self.config.wrapping;
        let mut blob = vec![VERSION, wrapping.byte()];
        match wrapping {
            KeyWrapping::AesGcm => {
                let aad = self.authenticated();
                let mut nonce = [0u8; NONCE];
                fill_random(&mut nonce)?;
                let parameters = GcmParams::new(&mut nonce, &aad, Ulong::new(128))?;
                let sealed = session.encrypt(&Mechanism::AesGcm(parameters), wrapping_key, key)?;
                // Some tokens choose the nonce themselves and leave it where ours was.
                blob.extend_from_slice(&nonce);
                blob.extend_from_slice(&sealed);
            }
            KeyWrapping::AesKeyWrap | KeyWrapping::AesKeyWrapPad => {
                let inner = with_value(session_key(), key, |template| session.create_object(template))?;
                let wrapped = session.wrap_key(&key_wrap(wrapping), wrapping_key, inner);
                session.destroy_object(inner)?;
                blob.extend_from_slice(&wrapped?);
            }
        }
        Ok(blob)
    }

    fn unwrap(&self, session: &Session, blob: &[u8]) -> Result<Zeroizing<[u8; 32]>, Fault> {
        let damaged = || Fault::Ours(Error::Blob("not of a form that this program writes".into()));
        let (wrapping, body) = match blob {
            [VERSION, wrapping, body @ ..] => (KeyWrapping::of(*wrapping).ok_or_else(damaged)?, body),
            _ => return Err(damaged()),
        };
        let wrapping_key = self.find(session)?.ok_or_else(|| self.missing())?;
        let key = match wrapping {
            KeyWrapping::AesGcm => {
                let aad = self.authenticated();
                let (nonce, sealed) = body.split_at_checked(NONCE).ok_or_else(damaged)?;
                if sealed.len() != 48 {
                    return Err(damaged());
                }
                let mut nonce = nonce.to_vec();
                let parameters = GcmParams::new(&mut nonce, &aad, Ulong::new(128))?;
                let opened = session.decrypt(&Mechanism::AesGcm(parameters), wrapping_key, sealed);
                Zeroizing::new(opened.map_err(not_opened)?)
            }
            KeyWrapping::AesKeyWrap | KeyWrapping::AesKeyWrapPad => {
                if body.len() != 40 {
                    return Err(damaged());
                }
                let inner = session.unwrap_key(&key_wrap(wrapping), wrapping_key, body, &session_key());
                let inner = inner.map_err(not_opened)?;
                let value = session.get_attributes(inner, &[AttributeType::Value]);
                session.destroy_object(inner)?;
                match value?.pop() {
                    Some(Attribute::Value(value)) => Zeroizing::new(value),
                    _ => return Err(Error::Token("the unwrapped key cannot be read".into()).into()),
                }
            }
        };
        key_of(&key).ok_or_else(damaged)
    }

    /// The AES key, checked; `None` where there is none with that label.
    fn find(&self, session: &Session) -> Result<Option<ObjectHandle>, Fault> {
        let keys = session.find_objects(&self.labelled())?;
        let key = match keys.as_slice() {
            [] => return Ok(None),
            [key] => *key,
            _ => return Err(self.unfit("there are several").into()),
        };
        let wanted = [
            AttributeType::KeyType,
            AttributeType::ValueLen,
            AttributeType::Sensitive,
            AttributeType::Extractable,
        ];
        let found = session.get_attributes(key, &wanted)?;
        let fits = [
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(Ulong::new(32)),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
        ];
        if fits.iter().all(|attribute| found.contains(attribute)) {
            Ok(Some(key))
        } else {
            Err(self.unfit("it is not an AES-256 key that is sensitive and not extractable").into())
        }
    }

    fn generate(&self, session: &Session) -> Result<ObjectHandle, Fault> {
        let mut template = self.labelled();
        template.extend([
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(Ulong::new(32)),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
        ]);
        let key = session.generate_key(&Mechanism::AesKeyGen, &template)?;
        if session.find_objects(&self.labelled())?.len() != 1 {
            session.destroy_object(key)?;
            return Err(self.unfit("another process made one at the same time; try again").into());
        }
        tracing::info!(label = self.config.label, "made a key in the PKCS#11 token");
        Ok(key)
    }

    fn labelled(&self) -> Vec<Attribute> {
        vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::Label(self.config.label.as_bytes().to_vec()),
        ]
    }

    fn authenticated(&self) -> Vec<u8> {
        [&[VERSION, KeyWrapping::AesGcm.byte()], self.config.label.as_bytes()].concat()
    }

    fn missing(&self) -> Error {
        self.unfit("there is none")
    }

    fn unfit(&self, why: &str) -> Error {
        Error::Token(format!("secret key {:?}: {why}", self.config.label))
    }
}

impl KeyProtector for Pkcs11Key {
    fn seal_key(&self, blob: Option<&[u8]>) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), Error> {
        match blob {
            Some(blob) => {
                check_blob(blob)?;
                Ok((self.token.with(|session| self.unwrap(session, blob))?, blob.to_vec()))
            }
            None => {
                let key = fresh_key()?;
                let blob = self.token.with(|session| self.wrap(session, &key))?;
                Ok((key, blob))
            }
        }
    }
}

/// A key object that lives as long as the session, for wrapping and unwrapping.
fn session_key() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

fn key_wrap(wrapping: KeyWrapping) -> Mechanism<'static> {
    if wrapping == KeyWrapping::AesKeyWrap { Mechanism::AesKeyWrap } else { Mechanism::AesKeyWrapPad }
}

/// Tokens report a wrong tag in many ways; a lost session stays one, so that it is opened again.
fn not_opened(error: cryptoki::error::Error) -> Fault {
    use cryptoki::error::{Error as ModuleError, RvError as R};
    match error {
        ModuleError::Pkcs11(
            R::EncryptedDataInvalid
            | R::EncryptedDataLenRange
            | R::WrappedKeyInvalid
            | R::WrappedKeyLenRange
            | R::DataInvalid
            | R::GeneralError
            | R::FunctionFailed,
            _,
        ) => Error::Blob(format!("the token does not open it ({error})")).into(),
        other => other.into(),
    }
}

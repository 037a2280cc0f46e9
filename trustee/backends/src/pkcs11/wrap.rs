//! The operation `wrap-key` of upstream's pkcs11 plugin: RSA encryption with the token's key.

use std::sync::Arc;

use cryptoki::error::{Error as ModuleError, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::token::{Fault, Token};
use crate::Error;

/// RSA-OAEP with which hash; upstream's setting `rsa_mechanism`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RsaMechanism {
    /// SHA-256 and MGF1 with SHA-256 (upstream's `RsaPkcsOaep`).
    #[default]
    OaepSha256,
    /// SHA-1 and MGF1 with SHA-1 (upstream's `RsaPkcsTest`), for tokens that have no other.
    OaepSha1,
}

impl RsaMechanism {
    fn mechanism(self) -> Mechanism<'static> {
        let (hash, mask) = match self {
            RsaMechanism::OaepSha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
            RsaMechanism::OaepSha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        };
        Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()))
    }
}

/// Longest input in bytes: the output of a 16384-bit key.
const MAX_INPUT: usize = 2048;

/// Wraps and unwraps small values with an RSA key pair of the token: `POST wrap-key` (administrator) and
/// `GET wrap-key` with a body (guest) of upstream's plugin (trustee.md §1.5).
#[derive(Debug)]
pub struct Pkcs11Wrap {
    token: Arc<Token>,
    label: String,
    mechanism: RsaMechanism,
}

impl Pkcs11Wrap {
    /// Uses the key pair with this label (upstream's `lookup_label`).
    pub fn new(token: Arc<Token>, label: String, mechanism: RsaMechanism) -> Self {
        Pkcs11Wrap { token, label, mechanism }
    }

    /// Encrypts with the public key; for OAEP the value is at most the key's length less 66 (SHA-256) or 42 bytes.
    ///
    /// # Errors
    /// [`Error::Request`] for a value that is empty or too long; [`Error::Token`].
    pub fn wrap(&self, value: &[u8]) -> Result<Vec<u8>, Error> {
        check(value)?;
        self.token.with(|session| {
            let key = self.key(session, ObjectClass::PUBLIC_KEY)?;
            session.encrypt(&self.mechanism.mechanism(), key, value).map_err(refused)
        })
    }

    /// Decrypts with the private key what [`Pkcs11Wrap::wrap`] gave.
    ///
    /// # Errors
    /// [`Error::Request`], always with the same words, for a value that does not open; [`Error::Token`].
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        check(wrapped)?;
        self.token.with(|session| {
            let key = self.key(session, ObjectClass::PRIVATE_KEY)?;
            session.decrypt(&self.mechanism.mechanism(), key, wrapped).map(Zeroizing::new).map_err(refused)
        })
    }

    fn key(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, Fault> {
        let keys = session.find_objects(&[
            Attribute::Class(class),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Label(self.label.as_bytes().to_vec()),
        ])?;
        match keys.as_slice() {
            [key] => Ok(*key),
            [] => Err(Error::Token(format!("there is no RSA key {:?}", self.label)).into()),
            _ => Err(Error::Token(format!("there are several RSA keys {:?}", self.label)).into()),
        }
    }
}

fn check(value: &[u8]) -> Result<(), Error> {
    if value.is_empty() || value.len() > MAX_INPUT {
        return Err(Error::Request(format!(
            "a value of {} bytes cannot be wrapped or unwrapped",
            value.len()
        )));
    }
    Ok(())
}

/// One error for whatever is wrong with the input: which check failed would help who guesses ciphertexts.
fn refused(error: ModuleError) -> Fault {
    use RvError as R;
    match error {
        ModuleError::Pkcs11(
            R::EncryptedDataInvalid
            | R::EncryptedDataLenRange
            | R::DataInvalid
            | R::DataLenRange
            | R::GeneralError
            | R::FunctionFailed,
            _,
        ) => Error::Request("the token's key does not take this value".into()).into(),
        other => other.into(),
    }
}

//! A token with one session, opened and logged in when it is needed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error as ModuleError, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::module;
use crate::{Error, secret};

/// Which token of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSelector {
    /// The one with this label.
    Label(String),
    /// The one with this serial number.
    Serial(String),
    /// The n-th slot that holds a token, from 0 (upstream's `slot_index`); it may be another after a restart.
    Index(usize),
}

/// Where a token is and how to log in.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Absolute path of the module, a shared library; it runs inside this process.
    pub module: PathBuf,
    /// Which token.
    pub token: TokenSelector,
    /// File that holds the user PIN and nothing else.
    pub pin_file: PathBuf,
}

/// A token of a PKCS#11 module. Share one among all that use the same token.
///
/// Calls go one after the other. A session that was lost – the token was pulled, the module restarted – is opened
/// again, once for a call. A PIN that the token refused is not tried again until the file holds another one, so that
/// a wrong file does not lock the token.
pub struct Token {
    config: TokenConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    refused: Option<Zeroizing<String>>,
}

/// Why work on a session did not succeed.
pub(super) enum Fault {
    Module(ModuleError),
    Ours(Error),
}

impl From<ModuleError> for Fault {
    fn from(error: ModuleError) -> Self {
        Fault::Module(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Ours(error)
    }
}

impl Token {
    /// Loads the module and logs in.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::SecretFile`], [`Error::Token`].
    pub fn open(config: TokenConfig) -> Result<Arc<Self>, Error> {
        if !config.module.is_absolute() {
            return Err(Error::Config("the PKCS#11 module must be an absolute path".into()));
        }
        let token = Token { config, state: Mutex::default() };
        token.with(|_| Ok(()))?;
        Ok(Arc::new(token))
    }

    /// Does `work` with a session that is logged in; a second time with a new one where the first turned out lost.
    pub(super) fn with<T>(&self, work: impl Fn(&Session) -> Result<T, Fault>) -> Result<T, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = state.session.take() {
            match work(&session) {
                Ok(value) => {
                    state.session = Some(session);
                    return Ok(value);
                }
                // The session goes too: an operation may have stayed half done in it.
                Err(Fault::Module(e)) if is_lost(&e) => {
                    tracing::info!(error = %e, "PKCS#11 session lost, opening another")
                }
                Err(fault) => return Err(plain(fault)),
            }
        }
        let session = self.open_session(&mut state)?;
        let value = work(&session).map_err(plain)?;
        state.session = Some(session);
        Ok(value)
    }

    fn open_session(&self, state: &mut State) -> Result<Session, Error> {
        let pin = secret::line_from_file(&self.config.pin_file)?;
        if state.refused.as_ref() == Some(&pin) {
            return Err(Error::Token("the token refused this PIN before; it is not tried again".into()));
        }
        let module = module::load(&self.config.module)?;
        let session = module.open_rw_session(self.slot(&module)?).map_err(token_error)?;
        match session.login(UserType::User, Some(&AuthPin::from(pin.as_str().to_owned()))) {
            Ok(()) | Err(ModuleError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                state.refused = None;
                Ok(session)
            }
            Err(e) => {
                if is_pin(&e) {
                    state.refused = Some(pin);
                }
                Err(token_error(e))
            }
        }
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, Error> {
        let slots = module.get_slots_with_token().map_err(token_error)?;
        let mut fitting = match &self.config.token {
            TokenSelector::Index(index) => slots.get(*index).copied().into_iter().collect(),
            TokenSelector::Label(label) => matching(module, &slots, |t| t.label().trim_end() == label),
            TokenSelector::Serial(serial) => {
                matching(module, &slots, |t| t.serial_number().trim_end() == serial)
            }
        };
        match (fitting.pop(), fitting.is_empty()) {
            (Some(slot), true) => Ok(slot),
            (None, _) => Err(Error::Token(format!("there is no token {:?}", self.config.token))),
            (Some(_), false) => {
                Err(Error::Token(format!("there are several tokens {:?}", self.config.token)))
            }
        }
    }
}

fn matching(module: &Pkcs11, slots: &[Slot], fits: impl Fn(&cryptoki::slot::TokenInfo) -> bool) -> Vec<Slot> {
    // A token that went away meanwhile is none that fits.
    slots.iter().copied().filter(|slot| module.get_token_info(*slot).is_ok_and(|t| fits(&t))).collect()
}

pub(super) fn token_error(error: ModuleError) -> Error {
    Error::Token(error.to_string())
}

fn plain(fault: Fault) -> Error {
    match fault {
        Fault::Module(error) => token_error(error),
        Fault::Ours(error) => error,
    }
}

fn is_lost(error: &ModuleError) -> bool {
    use RvError as R;
    matches!(
        error,
        ModuleError::Pkcs11(
            R::SessionHandleInvalid
                | R::SessionClosed
                | R::DeviceRemoved
                | R::DeviceError
                | R::TokenNotPresent
                | R::UserNotLoggedIn
                | R::CryptokiNotInitialized,
            _
        )
    )
}

fn is_pin(error: &ModuleError) -> bool {
    use RvError as R;
    matches!(
        error,
        ModuleError::Pkcs11(
            R::PinIncorrect | R::PinInvalid | R::PinLenRange | R::PinExpired | R::PinLocked,
            _
        )
    )
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("config", &self.config).finish_non_exhaustive()
    }
}

//! `[state]` and `[seal]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::Secret;

/// Where Trustee keeps everything.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Folder of Trustee's own files; `None`: `trustee` in Cocoon's data folder.
    pub folder: Option<PathBuf>,
    /// Where the state proper is.
    pub kind: StateKind,
}

/// The kinds of state.
#[derive(Clone, Debug, PartialEq)]
pub enum StateKind {
    /// A file in the folder.
    Embedded,
    /// A database that several servers share.
    Postgres {
        /// `postgres://USER:PASSWORD@HOST/DATABASE`.
        url: Given,
        /// Most connections.
        pool_size: usize,
    },
    /// Lost at exit.
    Memory,
}

/// A secret, or the file that holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// The secret itself.
    Inline(Secret),
    /// File whose content, without the newline at its end, is the secret.
    File(PathBuf),
}

/// Where the sealing key is.
#[derive(Clone, Debug, PartialEq)]
pub enum Seal {
    /// A file of 32 bytes; `None`: `seal.key` in the state folder.
    File(Option<PathBuf>),
    /// A program prints it.
    Command {
        /// Program and arguments, at least one item.
        command: Vec<String>,
        /// How long it may take.
        time: Duration,
    },
    /// A key in a PKCS#11 token.
    Pkcs11(SealToken),
}

/// The sealing key in a token.
#[derive(Clone, Debug, PartialEq)]
pub struct SealToken {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// Which token.
    pub token: TokenChoice,
    /// Label of the key.
    pub key_label: String,
    /// File of the user PIN.
    pub pin_file: PathBuf,
}

/// How a PKCS#11 token is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// By its label.
    Label(String),
    /// By slot number.
    Slot(u64),
}

//! What vendors publish about their platforms: fetched, kept, and handed to verification.
//!
//! Contract: this crate moves bytes and trusts none of them. Vendors' services, mirrors, the cache folder and bundles may
//! lie; verification in `cocoon-evidence` checks every signature and date. What this crate owes Trustee is to never block
//! beyond the caller's budget, never ask a vendor more often than its pace allows however many strange needs evidence
//! brings, never fetch a URL that evidence chose (needs are checked before they become part of a path), never follow a
//! redirect, never grow beyond its bounds, and to go on serving what it has when a vendor is gone.
//!
//! A [`Service`] looks in memory, then in the [`Folder`], then asks the vendor's [`Source`]s in order, one flight per need
//! however many callers wait. A document past a part of its life is served and fetched again in the background; one that
//! is over is served marked, where nothing newer can be had.
//!
//! Beside documents there is one service that judges evidence itself: NVIDIA's, of which [`Nras`] is a client.

mod amd;
pub mod bundle;
mod config;
mod entry;
mod error;
mod flight;
mod folder;
mod gathered;
mod hygon;
mod intel;
mod intel_file;
mod memory;
mod nras;
mod nvidia;
mod offline;
mod pace;
mod provider;
mod refusal;
mod service;
mod sources;
mod transport;

pub use amd::AmdKds;
pub use config::{Clock, Config, system_clock};
pub use entry::{Entry, Policy, State};
pub use error::Error;
pub use folder::{Bounds, Folder, Offer};
pub use gathered::{Found, Gathered, Note};
pub use hygon::HygonService;
pub use intel::{IntelPcs, Update};
pub use intel_file::IntelFile;
pub use nras::Nras;
pub use nvidia::NvidiaRims;
pub use offline::OfflineStore;
pub use pace::Pace;
pub use provider::Provider;
pub use refusal::BackOff;
pub use service::{MAX_NEEDS, Service};
pub use sources::{Online, Source, Sources};
pub use transport::{Endpoint, Times};

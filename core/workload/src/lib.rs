//! From ordinary Kubernetes manifests to plans.
//!
//! Contract: pure. Text, resolved images and the content of ConfigMaps and Secrets go in; plans, decisions and changed
//! manifests come out. It runs on the owner's machine, which is trusted; manifests are read as if they were hostile all the
//! same. It knows what kubelet and admission add to a pod. Every field of a pod is looked at: one that it does not know is
//! refused, never passed over. The same input gives the same bytes.

mod container;
mod encrypted;
mod env;
mod error;
mod examine;
mod expand;
mod fields;
mod inputs;
mod log;
mod manifest;
mod mounts;
mod names;
mod probes;
mod quantity;
mod resources;
mod sealed;
mod security;
mod services;
mod settings;
mod spec;
mod template;
mod volumes;
mod wanted;
mod words;
mod write;

pub use error::Error;
pub use examine::{COCO_INITDATA, Examined, Workload, examine, images};
pub use inputs::{Content, Contents, ImageFacts, Inputs, OwnerWishes};
pub use log::{Decision, Problem, State};
pub use manifest::{Document, MAX_DEPTH, MAX_DOCUMENTS, MAX_TEXT, read, to_yaml};
pub use names::plan_name;
pub use settings::PREFIX;
pub use wanted::{Names, wanted};
pub use write::{INITDATA, RuntimeClass, write};

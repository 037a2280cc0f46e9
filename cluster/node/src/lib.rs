//! The process on each node of a cluster (`cocoon node serve`): it makes its node what the node's CocoonNode asks for, and says
//! what came of it.
//!
//! Contract: files are changed by `host/node` alone, with all that it promises: containerd is asked before and after, everything
//! is put back on failure, running pods are never ended. The work is done by a child process that enters the node's file system
//! (`chroot`) and knows nothing of the cluster; this process stays in its container, and knows the cluster and the child. It is
//! told of changes, of the resource by a watch, of files by inotify, and asks nothing in between.
//!
//! Trust: host side. It may read and write what CocoonNode says, and that of its own node alone (an admission policy sees to it).

mod drift;
pub mod guests;
mod place;
mod protocol;
mod report;
mod serve;
mod source;
mod step;
mod versions;
mod worker;

pub use protocol::{Action, Outcome, Reply, Request, State};
pub use serve::{Error, Settings, serve};
pub use step::main as step;

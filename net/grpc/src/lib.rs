//! gRPC (PROTOCOL-HTTP2.md of gRPC's documentation) over unix sockets and loopback TCP, with limits of its own: a
//! client and a server for calls of one request and one answer, or one request and a short stream of answers.
//!
//! Contract: everything that a peer sends is bounded in bytes, count and time before it is acted on; nothing is
//! compressed, nothing is encrypted, and so nothing leaves this machine: other addresses are refused. Who may connect
//! to a unix socket is a matter of its file's mode. Messages are rust-protobuf's.
//!
//! ```no_run
//! # async fn example() -> Result<(), cocoon_grpc::Status> {
//! use protobuf::well_known_types::wrappers::StringValue;
//! let client = cocoon_grpc::Client::unix("/run/containerd/containerd.sock").with_metadata("containerd-namespace", "k8s.io")?;
//! let answer: StringValue = client.unary("/some.Service/Method", &StringValue::new(), 1 << 20).await?;
//! # Ok(()) }
//! ```

mod client;
mod connection;
mod framing;
mod limits;
mod listen;
mod reply;
mod request;
mod serve;
mod server;
mod status;
mod timeout;

pub use client::{Client, Streaming};
pub use framing::{Decoder, FrameError, PREFIX, parse};
pub use limits::Limits;
pub use listen::{Listener, bind_unix};
pub use reply::Sink;
pub use request::Call;
pub use server::Server;
pub use status::{Code, Status};

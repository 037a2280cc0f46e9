//! The whole state in one file, of a Trustee that goes on serving.

use std::io::{Error, ErrorKind, Result, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use cocoon_stage::Code;
use http::StatusCode;
use hyper::body::Frame;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Answer, Call, missing, refusal};
use crate::Trustee;
use crate::reply::{self, Refusal, Variant};

/// Each holds a snapshot of the store: one at a time.
static ONE: Semaphore = Semaphore::const_new(1);
/// Pieces of up to 128 KiB that may wait for a slow reader.
const WAITING: usize = 8;

/// What comes of the thread that reads the store.
struct Pieces(Receiver<Result<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// What is written goes to whoever asked; where nobody reads any more, writing fails.
struct Sending<'a>(&'a Sender<Result<Bytes>>);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(piece).map_err(|_| Error::from(ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Streams a backup (see `cocoon_store`). What is cut off by a failure is no whole backup, and is seen to be none.
pub(super) fn backup(t: &Trustee, call: &Call) -> Answer {
    if t.inner.tenant.is_some() || call.admin.tenant.is_some() {
        return Err(missing());
    }
    let Ok(turn) = ONE.try_acquire() else {
        let busy =
            Refusal::coded(Variant::PluginInternalError, Code::ServerBusy, "a backup is being made already");
        return Err(busy.with_status(StatusCode::SERVICE_UNAVAILABLE));
    };
    // What is acknowledged is in the store, and so in the backup.
    t.inner.audit.flush().map_err(|e| refusal(Variant::PluginInternalError, e))?;
    let (sender, receiver) = channel(WAITING);
    let (store, id) = (t.inner.store.clone(), call.id.clone());
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        match cocoon_store::backup(store.as_ref(), &mut Sending(&sender), None) {
            Ok(summary) => {
                tracing::info!(request_id = %id, records = summary.records, bytes = summary.bytes, "backed up")
            }
            Err(error) => {
                tracing::warn!(request_id = %id, %error, "a backup failed");
                drop(sender.blocking_send(Err(Error::other("the backup failed"))));
            }
        }
    });
    let mut response = reply::raw("application/octet-stream", Vec::new(), &call.id);
    *response.body_mut() = Body::new(Pieces(receiver));
    Ok(response)
}

//! Connections: accepted, bounded, drained.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Listener;
use crate::listen::Stream;
use crate::server::Table;

/// HTTP/2 flow-control windows: a stream's and a connection's most bytes that are on their way unread.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;

pub(crate) async fn listen(listener: Listener, table: Arc<Table>, shutdown: impl Future<Output = ()> + Send) {
    let (stop, stopped) = watch::channel(false);
    let permits = Arc::new(Semaphore::new(table.server.limits.connections));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // The permit first: a client beyond the limit stays in the kernel's queue and costs nothing here.
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(stream) => {
                let (table, stopped) = (table.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(stream, table, stopped).await;
                    drop(permit);
                });
            }
            // Out of descriptors, most likely: the pause lets connections end instead of spinning.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(table.server.limits.drain, drained).await.is_err() {
        tracing::debug!("connections were cut when the server stopped");
    }
    connections.shutdown().await;
}

async fn connection(stream: Stream, table: Arc<Table>, stopped: watch::Receiver<bool>) {
    let greeting = table.server.limits.greeting;
    let ended = match stream {
        Stream::Unix(stream) => match greeted(greeting, stream.readable()).await {
            Ok(()) => http(stream, table, stopped).await,
            Err(error) => Err(error.into()),
        },
        Stream::Tcp(stream) => match greeted(greeting, stream.readable()).await {
            Ok(()) => http(stream, table, stopped).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn greeted(within: Duration, first: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(within, first).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    table: Arc<Table>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let limits = table.server.limits.clone();
    let service = service_fn(move |request| {
        let table = table.clone();
        async move { Ok::<_, Infallible>(table.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

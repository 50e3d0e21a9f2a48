//! Sockets that clients connect to: bound also where the address is yet to come, and emptied before they close.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

const BACKLOG: i32 = 1_024;
/// Pause after the system could not give a connection, for want of file descriptors most of all.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Binds `address`, whether or not the host has it yet.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_freebind_v6(true)?;
            socket.set_only_v6(true)?;
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections until `stop`, and then those that the kernel has completed already: closing the socket would
/// reset them.
pub(crate) async fn accept_loop(
    listener: TcpListener,
    connections_max: usize,
    stop: CancellationToken,
    mut serve: impl FnMut(TcpStream, SocketAddr, OwnedSemaphorePermit),
) {
    let permits = Arc::new(Semaphore::new(connections_max));
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            Ok(permit) = permits.clone().acquire_owned() => permit,
        };
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(stream, peer, permit),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                }
            }
        }
    }
    for _ in 0..BACKLOG {
        let Ok(permit) = permits.clone().try_acquire_owned() else { break };
        match tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            Ok(Ok((stream, peer))) => serve(stream, peer, permit),
            _ => break,
        }
    }
}

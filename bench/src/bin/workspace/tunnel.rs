//! The hub's port on the laptop's loopback. A process is in one network: connections pass through a socket in a folder.

use std::path::Path;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

/// Outside: what comes over the socket goes to the hub.
pub(crate) fn outer(socket: &Path, hub: (String, u16)) -> anyhow::Result<AbortOnDropHandle<()>> {
    let listener = UnixListener::bind(socket)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let hub = hub.clone();
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(hub).await {
                    // One that breaks off is the client's to notice.
                    let _ended = copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    })))
}

/// On the laptop: what connects to the port that this gives goes over the socket.
pub(crate) async fn inner(socket: &Path) -> anyhow::Result<(u16, AbortOnDropHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (port, socket) = (listener.local_addr()?.port(), socket.to_owned());
    let task = tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(mut to) = UnixStream::connect(socket).await {
                    let _ended = copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    Ok((port, AbortOnDropHandle::new(task)))
}

//! Pieces yield: what goes to other hosts is marked, so that networks which know the mark, and this machine's own queue, let
//! all else go first.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Lower effort (RFC 8622): the code point 000001, before the two bits of ECN.
const LOWER_EFFORT: u32 = 1 << 2;
/// Bulk, in the order that the kernel's queues have (`TC_PRIO_BULK`).
const PRIORITY_BULK: u32 = 2;

/// Marks what is sent from now on. Where the system does not allow it, pieces go like all else.
pub(crate) fn mark(stream: &TcpStream) {
    if let Err(error) = try_mark(stream) {
        tracing::debug!(%error, "what goes to a peer is not marked to yield");
    }
}

fn try_mark(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    if let SocketAddr::V6(address) = stream.local_addr()?
        && address.ip().to_ipv4_mapped().is_none()
    {
        socket.set_tclass_v6(LOWER_EFFORT)?;
    } else {
        socket.set_tos_v4(LOWER_EFFORT)?;
    }
    // The kernel takes a priority from the mark, so this comes after it.
    socket.set_priority(PRIORITY_BULK)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_marked_whatever_the_addresses() {
        for (listen, dial) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(listen).await else { continue };
            let port = listener.local_addr().unwrap().port();
            let dialled = TcpStream::connect((dial, port)).await.unwrap();
            let (taken, _) = listener.accept().await.unwrap();
            for stream in [&dialled, &taken] {
                try_mark(stream).unwrap();
                let socket = SockRef::from(stream);
                assert_eq!(socket.priority().unwrap(), PRIORITY_BULK, "{listen}");
                let mark = if dial == "::1" { socket.tclass_v6() } else { socket.tos_v4() };
                assert_eq!(mark.unwrap(), LOWER_EFFORT, "{listen}");
            }
        }
    }
}

//! A peer by hand, that says whatever a test wants.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use api::HostName;
use api::access::host_server_name;
use api::fanout::SignedGrant;
use base::tls::{PeerTls, Revoked, SharedIdentity};
use bytes::BytesMut;
use fanout::peers::PROTOCOL;
use fanout::wire::{Decoder, Frame, VERSION};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

pub(crate) struct Raw {
    pub(crate) stream: TlsStream<TcpStream>,
    decoder: Decoder,
}

impl Raw {
    /// Dials a host, and greets.
    pub(crate) async fn dial(identity: &SharedIdentity, address: SocketAddr, host: &HostName) -> io::Result<Self> {
        let tls = PeerTls::new(identity, PROTOCOL, Revoked::default()).map_err(io::Error::other)?;
        let (stream, _) = tls.connect(TcpStream::connect(address).await?, &host_server_name(host)).await?;
        Self::greet(stream.into()).await
    }

    async fn greet(stream: TlsStream<TcpStream>) -> io::Result<Self> {
        let mut raw = Self { stream, decoder: Decoder::default() };
        raw.send(&Frame::Hello { version: VERSION }).await?;
        match raw.next().await? {
            Frame::Hello { version: VERSION } => Ok(raw),
            frame => Err(io::Error::other(format!("{frame:?}"))),
        }
    }

    pub(crate) async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        let rest = frame.encode(&mut bytes);
        bytes.extend_from_slice(&rest);
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    pub(crate) async fn show(&mut self, grant: &SignedGrant) -> io::Result<()> {
        let (payload, signature) = (grant.payload.clone().into(), grant.signature.clone().into());
        self.send(&Frame::Grant { payload, signature }).await
    }

    /// The next frame; an error when there is none within half a minute, or the connection is closed.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok(frame);
            }
            let read = self.stream.read_buf(self.decoder.buffer());
            if tokio::time::timeout(Duration::from_secs(30), read).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// All frames up to the answer to a ping: what was said before it has been dealt with.
    pub(crate) async fn answers(&mut self) -> io::Result<Vec<Frame>> {
        // Twice, for what the driver says of the first frames may come behind the first pong.
        let mut frames = Vec::new();
        for nonce in 0..2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.send(&Frame::Ping { nonce }).await?;
            loop {
                match self.next().await? {
                    Frame::Pong { nonce: answered } if answered == nonce => break,
                    frame => frames.push(frame),
                }
            }
        }
        Ok(frames)
    }

    /// Waits until the other side has closed the connection.
    pub(crate) async fn closed(mut self) {
        while self.next().await.is_ok() {}
    }
}

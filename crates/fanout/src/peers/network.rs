//! What a host has around it: the network that it dials into and where chance begins. A simulation brings its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use base::listen::STALL_SECONDS_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The bytes of a connection, both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Stream for S {}

/// Opens connections.
#[async_trait]
pub trait Dialler: Send + Sync + 'static {
    /// Opens one.
    ///
    /// # Errors
    /// Nobody takes it there, or nobody is reached.
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>>;
}

/// What is the system's outside of a simulation.
#[derive(Clone)]
pub struct Surroundings {
    /// How others are reached.
    pub dialler: Arc<dyn Dialler>,
    /// Where chance begins: two hosts should differ.
    pub seed: u64,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { dialler: Arc::new(Tcp), seed: rand::random() }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Surroundings({})", self.seed)
    }
}

/// The system's network.
struct Tcp;

#[async_trait]
impl Dialler for Tcp {
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        prepare(&stream)?;
        Ok(Box::new(stream))
    }
}

/// Sets what both sides of a connection set.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    super::yielding::mark(stream);
    rustix::net::sockopt::set_tcp_user_timeout(stream, STALL_SECONDS_MAX * 1000)?;
    Ok(())
}

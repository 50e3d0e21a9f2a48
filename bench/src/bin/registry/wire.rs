//! An HTTP/1.1 client that costs next to nothing, so that servers are measured and not it.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is read at once.
const READ_BYTES: usize = 256 << 10;
const SMALL_READ_BYTES: usize = 16 << 10;
const HEAD_BYTES_MAX: usize = 8 << 10;

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

/// The head of an answer; its body has been read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body_bytes: u64,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, address, buffer: vec![0; SMALL_READ_BYTES] })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        let head = self.head("GET", path, "");
        self.send(head.as_bytes(), &[]).await
    }

    /// The bytes of a request's head.
    pub(crate) fn head(&self, method: &str, path: &str, headers: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address)
    }

    /// A request with a body of several pieces, and its answer.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        media_type: &str,
        body: &[&[u8]],
    ) -> anyhow::Result<Answer> {
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let head = self.head(method, path, &format!("Content-Type: {media_type}\r\nContent-Length: {length}\r\n"));
        self.send(head.as_bytes(), body).await
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, head: &[u8], body: &[&[u8]]) -> anyhow::Result<Answer> {
        self.stream.write_all(head).await?;
        for piece in body {
            self.stream.write_all(piece).await?;
        }
        let mut filled = 0;
        let head_end = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(at) = self.buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(filled < HEAD_BYTES_MAX, "the head of the answer is too long");
        };
        let head = std::str::from_utf8(&self.buffer[..head_end])?;
        let status = head.get(9..12).context("no status")?.parse()?;
        let header = |name: &str| {
            head.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        let length: u64 = match header("content-length") {
            Some((_, value)) => value.trim().parse()?,
            None if status == 204 => 0,
            None => bail!("an answer without Content-Length: {head}"),
        };
        let location = header("location").map(|(_, value)| value.trim().to_owned());
        let mut left = length - (filled - head_end) as u64;
        if left > self.buffer.len() as u64 {
            self.buffer.resize(READ_BYTES, 0);
        }
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection within a body");
            left -= read as u64;
        }
        Ok(Answer { status, location, body_bytes: length })
    }

    /// Pushes a blob as Docker does: a POST, the bytes by PATCH, a PUT that ends it.
    pub(crate) async fn push_blob(&mut self, repository: &str, digest: &str, body: &[&[u8]]) -> anyhow::Result<()> {
        const MEDIA_TYPE: &str = "application/octet-stream";
        let answer = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), MEDIA_TYPE, &[]).await?;
        ensure!(answer.status == 202, "an upload was not begun: {}", answer.status);
        let at = answer.location.context("an upload without a Location")?;
        let answer = self.request("PATCH", path_of(&at), MEDIA_TYPE, body).await?;
        ensure!(answer.status == 202, "an upload was not continued: {}", answer.status);
        let at = answer.location.unwrap_or(at);
        let join = if at.contains('?') { '&' } else { '?' };
        let path = format!("{}{join}digest={digest}", path_of(&at));
        let answer = self.request("PUT", &path, MEDIA_TYPE, &[]).await?;
        ensure!(answer.status == 201, "an upload was not ended: {}", answer.status);
        Ok(())
    }

    pub(crate) async fn push_manifest(&mut self, repository: &str, tag: &str, manifest: &[u8]) -> anyhow::Result<()> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.request("PUT", &path, crate::image::MANIFEST_TYPE, &[manifest]).await?;
        ensure!(answer.status == 201, "a manifest was refused: {}", answer.status);
        Ok(())
    }
}

/// The path of a Location that may be a whole URL.
fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else { return location };
    rest.find('/').map_or("/", |at| &rest[at..])
}

pub(crate) fn sha256(pieces: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece);
    }
    format!("sha256:{}", hex::encode(hasher.finalize()))
}

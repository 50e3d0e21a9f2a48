//! Bytes on their way in: hashed and written on blocking threads while the next ones arrive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use oci::{Algorithm, Digest, Hasher};
use tokio::sync::watch;

use crate::{BLOB_BYTES_MAX, BlobError, Body};

/// Gathered before a thread is asked to write: large enough that the hand-over costs nothing, small enough to hold.
const BATCH_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 1 << 20;

/// A file being written at its end.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) file: File,
    pub(crate) size: u64,
    /// Of all that is in the file; none when an earlier process wrote part of it.
    pub(crate) hasher: Option<Hasher>,
    /// Is told what can be read. Someone waits for it, so that nothing is gathered that could be written.
    pub(crate) grown: Option<watch::Sender<u64>>,
}

/// What became of a body: the writer, unless its thread was lost, and how it ended.
pub(crate) struct Pumped {
    pub(crate) writer: Option<Writer>,
    pub(crate) result: Result<(), BlobError>,
}

impl Writer {
    pub(crate) fn open_at(path: &Path, size: u64, hasher: Option<Hasher>) -> io::Result<Self> {
        let mut file = File::options().write(true).open(path)?;
        file.seek(SeekFrom::Start(size))?;
        Ok(Writer { file, size, hasher, grown: None })
    }

    fn write(&mut self, batch: &[Bytes]) -> io::Result<()> {
        for bytes in batch {
            self.file.write_all(bytes)?;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(bytes);
            }
            self.size += bytes.len() as u64;
        }
        if let Some(grown) = &self.grown {
            grown.send_replace(self.size);
        }
        Ok(())
    }

    /// Takes everything from `body` until it ends or breaks off. What came before a break is written.
    pub(crate) async fn pump(self, mut body: Body, path: &Path) -> Pumped {
        let mut announced = self.size;
        let is_watched = self.grown.is_some();
        let mut idle = Some(self);
        let mut working: Option<tokio::task::JoinHandle<(Writer, io::Result<()>)>> = None;
        let mut result = Ok(());
        let mut ended = false;
        while !ended {
            let mut batch = Vec::new();
            let mut batch_bytes = 0;
            while batch_bytes < BATCH_BYTES {
                let next = if is_watched && !batch.is_empty() {
                    let Some(next) = body.next().now_or_never() else { break };
                    next
                } else {
                    body.next().await
                };
                match next {
                    Some(Ok(bytes)) if announced + bytes.len() as u64 > BLOB_BYTES_MAX => {
                        result = Err(BlobError::TooLarge);
                        ended = true;
                        break;
                    }
                    Some(Ok(bytes)) => {
                        announced += bytes.len() as u64;
                        batch_bytes += bytes.len();
                        batch.push(bytes);
                    }
                    Some(Err(error)) => {
                        result = Err(BlobError::Body(error));
                        ended = true;
                        break;
                    }
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
            if let Some(handle) = working.take() {
                match handle.await {
                    Ok((writer, Ok(()))) => idle = Some(writer),
                    Ok((writer, Err(error))) => {
                        return Pumped { writer: Some(writer), result: Err(BlobError::io("write", path)(error)) };
                    }
                    Err(_) => return Pumped { writer: None, result: Err(BlobError::Interrupted) },
                }
            }
            let Some(mut writer) = idle.take() else {
                return Pumped { writer: None, result: Err(BlobError::Interrupted) };
            };
            if batch.is_empty() {
                idle = Some(writer);
                continue;
            }
            working = Some(tokio::task::spawn_blocking(move || {
                let result = writer.write(&batch);
                (writer, result)
            }));
        }
        if let Some(handle) = working {
            match handle.await {
                Ok((writer, Ok(()))) => idle = Some(writer),
                Ok((writer, Err(error))) => {
                    return Pumped { writer: Some(writer), result: Err(BlobError::io("write", path)(error)) };
                }
                Err(_) => return Pumped { writer: None, result: Err(BlobError::Interrupted) },
            }
        }
        Pumped { writer: idle, result }
    }
}

/// The digest of a whole file.
pub(crate) fn hash_file(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

//! Tars into and out of the engine: files of containers, and whole images.

use futures::{StreamExt, TryStreamExt};
use http::Method;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;

use super::raw::{Body, RawClient};
use super::{Connection, images};
use crate::build::TarBody;
use crate::{EngineError, ErrorKind, Progress, PullProgress};

const TAR: [(&str, &str); 1] = [("content-type", "application/x-tar")];

/// A tar as a body. The connection tells of what fails in it no more than that the body broke; the reason is kept beside it.
fn body(archive: TarBody, reason: &Reason) -> Body {
    let reason = reason.clone();
    let frames = archive.map(move |piece| piece.map(Frame::data).inspect_err(|error| reason.set(error)));
    StreamBody::new(frames).boxed_unsync()
}

/// Why an archive could not be read, if that is what went wrong.
#[derive(Debug, Clone, Default)]
struct Reason(std::sync::Arc<std::sync::Mutex<Option<String>>>);

impl Reason {
    fn set(&self, error: &std::io::Error) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error.to_string());
    }

    /// The error, with what is known here of its reason.
    fn told(&self, error: EngineError) -> EngineError {
        let reason = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match reason {
            Some(why) => EngineError::new(ErrorKind::Invalid, error.what, format!("the archive cannot be read: {why}")),
            None => error,
        }
    }
}

/// A path in a query.
fn query(name: &str, path: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair(name, path).finish()
}

pub(super) async fn put(raw: &RawClient, container: &str, folder: &str, archive: TarBody) -> Result<(), EngineError> {
    let what = format!("cannot put files into {folder} of container {container}");
    let path = format!("/containers/{container}/archive?{}", query("path", folder));
    let reason = Reason::default();
    let answer = raw.answer(Method::PUT, &path, &TAR, body(archive, &reason), &what).await;
    let done = match answer {
        Ok(answer) => answer.end().await,
        Err(error) => Err(error),
    };
    done.map_err(|error| reason.told(error))
}

pub(super) async fn get(raw: &RawClient, container: &str, path: &str) -> Result<TarBody, EngineError> {
    let what = format!("cannot read {path} of container {container}");
    let url = format!("/containers/{container}/archive?{}", query("path", path));
    let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let answer = raw.answer(Method::GET, &url, &[], empty, &what).await?;
    Ok(TarBody::from_stream(answer.bytes().map_err(std::io::Error::other)))
}

pub(super) async fn save(raw: &RawClient, image: &str) -> Result<TarBody, EngineError> {
    let what = format!("cannot read the image {image}");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    if image.is_empty() || !image.bytes().all(is_plain) {
        return Err(EngineError::new(ErrorKind::Invalid, what, "that is not the name of an image"));
    }
    let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let answer = raw.answer(Method::GET, &format!("/images/{image}/get"), &[], empty, &what).await?;
    Ok(TarBody::from_stream(answer.bytes().map_err(std::io::Error::other)))
}

/// One line of the engine's stream on loading.
#[derive(Deserialize)]
struct LoadLine {
    id: Option<String>,
    status: Option<String>,
    stream: Option<String>,
    #[serde(rename = "progressDetail")]
    detail: Option<LoadDetail>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct LoadDetail {
    current: Option<u64>,
    total: Option<u64>,
}

pub(super) async fn load(
    docker: &Connection,
    archive: TarBody,
    progress: Progress<PullProgress>,
) -> Result<String, EngineError> {
    const WHAT: &str = "cannot load the image";
    let reason = Reason::default();
    let loaded = follow(&docker.raw, body(archive, &reason), progress, WHAT).await;
    let loaded = loaded.map_err(|error| reason.told(error))?;
    if loaded.starts_with("sha256:") {
        return Ok(loaded);
    }
    let image = images::inspect(docker, &loaded).await?;
    let gone = || EngineError::new(ErrorKind::NotFound, WHAT, format!("{loaded} was loaded and is gone again"));
    image.map(|image| image.id).ok_or_else(gone)
}

/// Sends the archive and reads what the engine says of it; the image's id or reference.
async fn follow(
    raw: &RawClient,
    body: Body,
    progress: Progress<PullProgress>,
    what: &str,
) -> Result<String, EngineError> {
    let mut lines = raw.post_lines("/images/load?quiet=0", &TAR, body, what).await?;
    let mut loaded = None;
    while let Some(line) = lines.next::<LoadLine>().await? {
        if let Some(error) = line.error {
            return Err(EngineError::new(ErrorKind::Invalid, what, error));
        }
        // The id is said for an image without a reference, else the reference; nowhere but in words.
        if let Some(said) = &line.stream {
            let said = said.trim();
            let named = said.strip_prefix("Loaded image ID: ").or_else(|| said.strip_prefix("Loaded image: "));
            loaded = loaded.or(named.map(str::to_owned));
        }
        if let Some(status) = line.status {
            let (done_bytes, total_bytes) = line.detail.map_or((None, None), |detail| (detail.current, detail.total));
            progress.tell(PullProgress { layer: line.id, status, done_bytes, total_bytes }).await;
        }
    }
    loaded.ok_or_else(|| {
        EngineError::new(ErrorKind::Invalid, what, "the archive holds no image that the engine knows how to read")
            .with_hint("make it as `docker save` does, with manifest.json at its root")
    })
}

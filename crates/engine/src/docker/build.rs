//! `POST /build?version=2`: BuildKit in the engine, without a session.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;

use super::raw::{Lines, RawClient};
use crate::build::{BuildError, BuildEvent, BuildFailure, BuildOptions, FailureCollector, TarBody, trace_decode};
use crate::{EngineError, ErrorKind, Progress};

const WHAT: &str = "cannot build the image";

/// One line of the engine's build stream.
#[derive(Deserialize)]
struct BuildLine {
    id: Option<String>,
    aux: Option<serde_json::Value>,
    error: Option<String>,
}

pub(super) async fn build(
    raw: &RawClient,
    options: &BuildOptions,
    context: TarBody,
    progress: Progress<BuildEvent>,
) -> Result<String, BuildError> {
    // The connection only says that its body failed; what failed is kept here.
    let context_error = Arc::new(Mutex::new(None::<String>));
    let noted = Arc::clone(&context_error);
    let frames = context.map(move |piece| {
        piece.map(Frame::data).inspect_err(|error| {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        })
    });
    let body = StreamBody::new(frames).boxed_unsync();
    let headers = [("content-type", "application/x-tar")];
    let result = match raw.post_lines(&format!("/build?{}", query(options)), &headers, body, WHAT).await {
        Ok(lines) => follow(lines, progress).await,
        Err(error) => Err(error.into()),
    };
    let context_error = context_error.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (result, context_error) {
        (Err(_), Some(why)) => Err(BuildError::Failed(Box::new(BuildFailure {
            step: None,
            line: None,
            lines: Vec::new(),
            message: format!("the build context cannot be read: {why}"),
            hint: Some("build again once the context can be read".to_owned()),
        }))),
        (result, _) => result,
    }
}

async fn follow(mut lines: Lines, progress: Progress<BuildEvent>) -> Result<String, BuildError> {
    let mut collector = FailureCollector::default();
    let mut image = None;
    while let Some(line) = lines.next::<BuildLine>().await? {
        if let Some(message) = line.error {
            return Err(BuildError::Failed(Box::new(collector.failure(&message))));
        }
        match (line.id.as_deref(), line.aux) {
            (Some("moby.buildkit.trace"), Some(serde_json::Value::String(aux))) => match trace_decode(&aux) {
                Ok(events) => {
                    for event in events {
                        collector.observe(&event);
                        progress.tell(event).await;
                    }
                }
                // Progress that cannot be read is no reason to lose the build.
                Err(error) => tracing::warn!(%error, "a part of the build's progress is lost"),
            },
            (Some("moby.image.id"), Some(aux)) => {
                image = aux.get("ID").and_then(|id| id.as_str()).map(str::to_owned);
            }
            _ => {}
        }
    }
    image.ok_or_else(|| {
        let why = "the engine ended the build without an image or a reason; it may have been stopped";
        EngineError::new(ErrorKind::Engine, WHAT, why).into()
    })
}

fn query(options: &BuildOptions) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("version", "2");
    if let Some(dockerfile) = &options.dockerfile {
        query.append_pair("dockerfile", dockerfile);
    }
    if !options.args.is_empty() {
        query.append_pair("buildargs", &json(&options.args));
    }
    if let Some(target) = &options.target {
        query.append_pair("target", target);
    }
    if !options.labels.is_empty() {
        query.append_pair("labels", &json(&options.labels));
    }
    for tag in &options.tags {
        query.append_pair("t", tag);
    }
    if let Some(network) = &options.network {
        query.append_pair("networkmode", network);
    }
    if options.no_cache {
        query.append_pair("nocache", "1");
    }
    if let Some(remote) = &options.remote {
        query.append_pair("remote", remote);
    }
    if options.pull {
        query.append_pair("pull", "1");
    }
    if let Some(platform) = &options.platform {
        query.append_pair("platform", platform);
    }
    if !options.cache_from.is_empty() {
        query.append_pair("cachefrom", &serde_json::Value::from(options.cache_from.clone()).to_string());
    }
    for (name, addresses) in &options.extra_hosts {
        for address in addresses {
            query.append_pair("extrahosts", &format!("{name}:{address}"));
        }
    }
    if let Some(bytes) = options.shm_bytes {
        query.append_pair("shmsize", &bytes.to_string());
    }
    if !options.ulimits.is_empty() {
        let limit = |(name, (soft, hard)): (&String, &(i64, i64))| serde_json::json!({"Name": name, "Soft": soft, "Hard": hard});
        query.append_pair("ulimits", &serde_json::Value::from_iter(options.ulimits.iter().map(limit)).to_string());
    }
    query.finish()
}

fn json(map: &std::collections::BTreeMap<String, String>) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        map.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    serde_json::Value::Object(map).to_string()
}

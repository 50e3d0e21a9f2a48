//! The routes of the agent port that concern delivery: decode, call, encode. Who speaks is what the port's wiring read
//! from the client certificate, an `Extension<HostIdentity>`.

use std::sync::Arc;

use api::access::HostIdentity;
use api::agent::{BODY_BYTES_MAX, Desired, DesiredSeen, PROTOCOL_HEADER, PROTOCOL_VERSION, Report};
use api::delivery::{Fleet, LogLine};
use api::{Problem, lines};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::error::{Error, ErrorKind, problem};
use crate::http::json;

type Context = State<Arc<dyn Fleet>>;

pub(crate) fn router(fleet: Arc<dyn Fleet>) -> Router {
    Router::new()
        .route("/agent/v1/desired", get(desired))
        .route("/agent/v1/report", post(report))
        .route("/agent/v1/logs/{stream}", post(log_stream))
        .layer(from_fn(protocol))
        .with_state(fleet)
}

/// Refuses agents of versions that this hub does not speak.
async fn protocol(headers: HeaderMap, request: Request, next: Next) -> Result<Response, Problem> {
    let said = headers.get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let version: Option<u32> = said.parse().ok();
    match version {
        Some(version) if version >= 1 && (version == PROTOCOL_VERSION || version + 1 == PROTOCOL_VERSION) => {
            Ok(next.run(request).await)
        }
        _ => Err(problem(
            400,
            "protocol-version",
            "Agent and hub do not speak the same protocol",
            &format!("the agent says version {said}, this hub speaks {PROTOCOL_VERSION} and the one before"),
            Some("Bring the older of the two up to date; `longshore version` shows it.".to_owned()),
        )),
    }
}

#[derive(Deserialize)]
struct DesiredQuery {
    #[serde(default)]
    number: u64,
    #[serde(default)]
    streams: u64,
    #[serde(default)]
    wait_seconds: u64,
}

async fn desired(
    State(fleet): Context,
    Extension(identity): Extension<HostIdentity>,
    asked: Result<Query<DesiredQuery>, QueryRejection>,
) -> Result<Json<Desired>, Problem> {
    let Query(DesiredQuery { number, streams, wait_seconds }) = asked.map_err(|rejection| {
        Problem::from(Error::new(
            ErrorKind::RequestInvalid,
            rejection.body_text(),
            "The agent may be of another version.",
        ))
    })?;
    Ok(Json(fleet.desired(&identity.host, DesiredSeen { number, streams }, wait_seconds).await?))
}

async fn report(
    State(fleet): Context,
    Extension(identity): Extension<HostIdentity>,
    body: Body,
) -> Result<StatusCode, Problem> {
    let report: Report = json(body, BODY_BYTES_MAX).await?;
    fleet.report(&identity.host, report).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn log_stream(
    State(fleet): Context,
    Extension(identity): Extension<HostIdentity>,
    Path(stream): Path<String>,
    body: Body,
) -> Result<StatusCode, Problem> {
    let lines = lines::decode::<LogLine, axum::Error>(body.into_data_stream());
    fleet.log_stream(&identity.host, &stream, lines).await?;
    Ok(StatusCode::NO_CONTENT)
}

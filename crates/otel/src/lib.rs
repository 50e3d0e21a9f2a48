//! Exports traces by the OpenTelemetry protocol (OTLP over HTTP, protobuf), set up by the environment variables that
//! OpenTelemetry specifies.
//!
//! Invariants:
//! - Nothing is sent, and no span is made, unless the environment names an endpoint.
//! - Whoever makes a span never waits for the collector: spans queue, at most `OTEL_BSP_MAX_QUEUE_SIZE` (2048) of them, and
//!   are lost when the queue is full.

use std::time::Duration;

use async_trait::async_trait;
use base::telemetry::{TraceHooks, Traces};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;

/// Where the collector is; one of these must be set.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How long one request to the collector may take.
const REQUEST_SECONDS_MAX: u64 = 10;
/// How long the end of the process waits for the last spans to be sent.
const FLUSH_SECONDS_MAX: u64 = 5;
/// The crates whose spans are exported: those of others tell of their insides.
const CRATES: [&str; 4] = ["base", "blobs", "client", "registry"];

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A variable says what cannot be.
    #[error("the OTEL_… variables do not say how: {0}")]
    Setting(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The client that sends them could not be made.
    #[error("TLS cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// A running export. Dropping it sends what is left, in a bounded time.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Starts the export if the environment asks for one. It is sent from `runtime`, which must have a thread besides the
    /// one that drops the exporter. `service` and `version` are what the process is called unless the environment says
    /// otherwise, `host` the machine.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn start(
        runtime: Handle,
        service: &'static str,
        version: &'static str,
        host: String,
    ) -> Result<Option<(Self, Traces)>, ExportError> {
        let is_off = said("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
            || said("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none");
        if is_off || !ENDPOINTS.iter().any(|name| said(name).is_some()) {
            return Ok(None);
        }
        let http = reqwest::Client::builder().timeout(Duration::from_secs(REQUEST_SECONDS_MAX)).build()?;
        let spans = SpanExporter::builder().with_http().with_http_client(Sender { http, runtime }).build()?;
        let known =
            [("service.name", service.to_owned()), ("service.version", version.to_owned()), ("host.name", host)];
        let mut resource = Resource::builder_empty()
            .with_attributes(known.map(|(key, value)| KeyValue::new(key, value)))
            .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
        if let Some(name) = said("OTEL_SERVICE_NAME") {
            resource = resource.with_service_name(name);
        }
        let provider = SdkTracerProvider::builder().with_batch_exporter(spans).with_resource(resource.build()).build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_exported));
        Ok(Some((Self(provider), Traces { layer: Box::new(layer), hooks: TraceHooks { adopt, rename } })))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_secs(FLUSH_SECONDS_MAX)) {
            tracing::warn!(%error, "the last spans were not sent to the collector");
        }
    }
}

/// What a variable says, if anything.
fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn is_exported(metadata: &Metadata<'_>) -> bool {
    let module = metadata.target().split("::").next().unwrap_or_default();
    metadata.is_span() && CRATES.contains(&module)
}

/// Puts a request's span under the one that `traceparent` (W3C Trace Context) names. One that is malformed is as none.
fn adopt(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    if context.span().span_context().is_valid() {
        let _ = span.set_parent(context);
    }
}

fn rename(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// Sends from a runtime what the export's own thread, which has none, wants sent.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        self.runtime.spawn(async move { http.send_bytes(request).await }).await?
    }
}

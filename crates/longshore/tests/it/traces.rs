//! Traces as a collector gets them from a hub.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::json;

use crate::lone::Lone;

/// What a client should not have put into its address, and nobody may see.
const TOKEN: &str = "password-of-a-client";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// Requests to a hub whose collector is dead: more than its queue holds.
const REQUESTS: usize = 4000;

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A collector that keeps what it gets.
async fn collector() -> (String, Received) {
    let received = Received::default();
    let keep = |State(received): State<Received>, body: Bytes| async move {
        received.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    };
    let app = Router::new().route("/v1/traces", post(keep)).with_state(received.clone());
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, received)
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn number(span: &Span, key: &str) -> Option<i64> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value {
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_what_a_request_set_off() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, received) = collector().await;
    let source = Lone::start(&folder.path().join("source"), "", &[]);
    let content = Bytes::from_static(b"a layer");
    let digest = oci::Digest::sha256_of(&content);
    source.push("app", "v1", &json!({}), std::slice::from_ref(&content)).await;
    let configuration = format!("[[registry.upstreams]]\nprefix = \"near\"\naddress = \"{}\"\n", source.url(""));
    // All spans but those that fill a batch wait for the end of the process.
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_SERVICE_NAME", "registry-under-test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ];
    let hub = Lone::start(&folder.path().join("hub"), &configuration, &environment);
    hub.push("own/app", "v1", &json!({}), &[]).await;
    let traced = |path: &str| {
        let request = hub.client.get(hub.url(&format!("/v2/near/app/{path}")));
        request.header("traceparent", format!("00-{TRACE}-{PARENT}-01")).header("accept", oci::media::OCI_MANIFEST)
    };
    let manifest = traced(&format!("manifests/v1?token={TOKEN}")).send().await.unwrap().error_for_status().unwrap();
    manifest.bytes().await.unwrap();
    let blob = traced(&format!("blobs/{digest}")).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(blob.bytes().await.unwrap(), content);
    let none = hub.client.get(hub.url("/v2/own/app/manifests/none")).header("traceparent", "00-not-one-01");
    assert_eq!(none.send().await.unwrap().status(), 404);
    hub.stop();

    let requests = std::mem::take(&mut *received.lock().unwrap());
    let resources: Vec<_> = requests.into_iter().flat_map(|request| request.resource_spans).collect();
    for resource in &resources {
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        assert_eq!(text(attributes, "service.name"), Some("registry-under-test"), "{attributes:#?}");
        assert_eq!(text(attributes, "service.version"), Some(env!("CARGO_PKG_VERSION")));
    }
    let spans: Vec<Span> =
        resources.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect();
    let named = |name: &str| spans.iter().filter(move |span| span.name == name).collect::<Vec<_>>();
    let above = |span: &Span| spans.iter().find(|other| other.span_id == span.parent_span_id);
    // What the request with this name set off, however far below it.
    let under = |name: &str, root: &str| {
        let is_under = |span: &&&Span| {
            let mut at = above(span);
            while let Some(span) = at {
                if span.name == root {
                    return true;
                }
                at = above(span);
            }
            false
        };
        named(name).iter().filter(is_under).count()
    };
    let shown = || {
        let lines: Vec<_> = spans.iter().map(|span| (&span.name, above(span).map(|above| &above.name))).collect();
        format!("{lines:#?}")
    };

    let get = "GET /v2/{repository}/manifests/{reference}";
    let of_client: Vec<_> = named(get).into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let [of_client] = of_client[..] else { panic!("{}", shown()) };
    assert_eq!(hex(&of_client.parent_span_id), PARENT);
    assert_eq!(of_client.kind, SpanKind::Server as i32);
    assert_eq!(text(&of_client.attributes, "http.request.method"), Some("GET"));
    assert_eq!(text(&of_client.attributes, "http.route"), Some("/v2/{repository}/manifests/{reference}"));
    assert_eq!(text(&of_client.attributes, "url.path"), Some("/v2/near/app/manifests/v1"));
    assert_eq!(number(of_client, "http.response.status_code"), Some(200));
    let of_stranger: Vec<_> = named(get).into_iter().filter(|span| hex(&span.trace_id) != TRACE).collect();
    let [of_stranger] = of_stranger[..] else { panic!("{}", shown()) };
    assert!(of_stranger.parent_span_id.is_empty(), "{of_stranger:#?}");
    assert_eq!(number(of_stranger, "http.response.status_code"), Some(404));

    for (name, root) in [
        ("database read", get),
        ("database write", get),
        ("registry request", get),
        ("upload finish", "POST /v2/{repository}/blobs/uploads/"),
        ("database write", "POST /v2/{repository}/blobs/uploads/"),
        ("database write", "PUT /v2/{repository}/manifests/{reference}"),
        ("registry request", "GET /v2/{repository}/blobs/{digest}"),
        ("upload append", "GET /v2/{repository}/blobs/{digest}"),
        ("upload finish", "GET /v2/{repository}/blobs/{digest}"),
    ] {
        assert!(under(name, root) > 0, "no {name} under {root}: {}", shown());
    }
    for span in &spans {
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:#?}");
        assert!(!format!("{span:?}").contains(TOKEN), "{span:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_delays_nobody() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections, as far as the system lets them wait, and never answers.
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("http://{}", dead.local_addr().unwrap());
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let hub = Lone::start(&folder.path().join("hub"), "", &environment);
    let begun = Instant::now();
    for _ in 0..REQUESTS {
        let asked = Instant::now();
        hub.client.get(hub.url("/v2/")).send().await.unwrap().error_for_status().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(5), "a request waited for the collector");
    }
    println!("{REQUESTS} requests took {:?}", begun.elapsed());
    let begun = Instant::now();
    hub.stop();
    assert!(begun.elapsed() < Duration::from_secs(30), "the end took {:?}", begun.elapsed());
}

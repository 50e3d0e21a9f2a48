//! The hub's two ports: one for people, tools and registry clients, one for agents.

use std::net::SocketAddr;
use std::sync::Arc;

use api::{Problem, Result};
use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get};
use base::certificate::ServerCertificate;
use base::guard::{HostGuard, changes_need_token};
use base::listen::App;
use base::observe::{Observer, route_named};
use base::shutdown::Shutdown;
use base::tls::TlsError;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::Hub;
use super::config::Config;

/// Both ports, bound.
pub(crate) struct Listeners {
    main: TcpListener,
    agents: TcpListener,
}

/// Binds both ports, or says who may hold them.
pub(crate) async fn bind(config: &Config) -> Result<Listeners> {
    Ok(Listeners {
        main: listener(config.listen, "--listen").await?,
        agents: listener(config.agent_listen, "--agent-listen").await?,
    })
}

async fn listener(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let kind = if in_use { "port-in-use" } else { "port-unusable" };
        let mut hint = format!("Choose another with {flag}.");
        if in_use && address.port() == 5000 && cfg!(target_os = "macos") {
            hint.push_str(
                " On macOS the AirPlay receiver holds port 5000: it can be switched off in the system settings.",
            );
        }
        if in_use {
            hint.push_str(&format!(" `ss -ltnp 'sport = :{}'` says who holds it.", address.port()));
        }
        Problem::new(409, kind, format!("The hub cannot listen on {address}")).detail(error.to_string()).hint(hint)
    })
}

/// What the ports show to those who connect.
pub(crate) struct Tls {
    /// On the hub's own port; none for plain HTTP.
    pub(crate) certificate: Option<Arc<ServerCertificate>>,
    /// On the agents' port.
    pub(crate) agents: rustls::ServerConfig,
    /// What agents may come for there beside HTTP: pieces of images.
    pub(crate) pieces: base::listen::OtherProtocol,
}

/// Serves both ports until the stop.
pub(crate) fn serve(listeners: Listeners, config: &Config, hub: &Hub, tls: Tls, shutdown: &Shutdown) -> Result<()> {
    base::metrics::gauge("longshore_build_info", "Always 1.", &[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    let observer = |listener| Observer::new(listener, registry::http::ROUTES);
    let names = tls.certificate.as_ref().map(|certificate| certificate.names()).unwrap_or_default();
    let main_tls = match tls.certificate {
        None => None,
        Some(certificate) => {
            let config = certificate.server_config().map_err(certificate_problem)?;
            shutdown.spawn(certificate.watch(shutdown.clone()));
            Some(base::listen::Tls::from(Arc::new(config)))
        }
    };
    let app = main_app(config, hub, &names, shutdown);
    let main = base::listen::serve(listeners.main, main_tls, app, observer("hub"), shutdown.clone());
    let (tls, routes) = (Some(base::listen::Tls::from(Arc::new(tls.agents)).with(tls.pieces)), agent_routes(hub));
    let agents = base::listen::serve(listeners.agents, tls, routes, observer("agents"), shutdown.clone());
    shutdown.spawn(main);
    shutdown.spawn(agents);
    Ok(())
}

pub(crate) fn certificate_problem(error: TlsError) -> Problem {
    Problem::new(400, "tls-certificate", "The hub's certificate cannot be used")
        .detail(error.to_string())
        .hint("Correct `certificate` and `key` under [tls] in hub.toml: two PEM files that belong together.")
}

/// What the main port answers. Most requests are the registry's: they pass the guard and skip the router, whose layers
/// would cost more than their answers do.
fn main_app(config: &Config, hub: &Hub, certified: &[String], shutdown: &Shutdown) -> impl App {
    let own = config.listen.ip().to_string();
    let names = ["localhost", "127.0.0.1", "[::1]", &own];
    let guard = HostGuard::new(names.into_iter().chain(config.names.iter().chain(certified).map(String::as_str)));
    let (registry, rest) = (registry::http::main_port(hub.registry.clone()), main_routes(hub, shutdown));
    tower::service_fn(move |request: Request| {
        let (guard, registry, rest) = (guard.clone(), registry.clone(), rest.clone());
        async move {
            if let Some(refusal) = guard.refusal(&request) {
                return Ok(refusal);
            }
            if registry.is_for(request.uri()) {
                Ok(registry.answer(request).await)
            } else {
                // What most requests are not takes no room from them.
                Box::pin(rest.oneshot(request)).await
            }
        }
    })
}

/// `/api/v1/` with the token for changes; pages for the rest.
fn main_routes(hub: &Hub, shutdown: &Shutdown) -> Router {
    let api = Router::new()
        .merge(access::http::api_routes(hub.access.clone()))
        .merge(hub.delivery.http())
        .merge(registry::http::api_routes(hub.registry.clone()))
        .merge(registry::http::images_routes(hub.registry.clone()))
        .merge(pipeline::http::router(hub.pipeline.clone()))
        .merge(fanout::hub::api_routes(Arc::new(hub.fanout.clone())))
        .merge(inspect::hub::http::api_routes(hub.inspect.clone()))
        .layer(from_fn_with_state(hub.token.clone(), changes_need_token));
    Router::new()
        .merge(api)
        .route("/api/{*path}", any(api_unknown))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(base::metrics::answer))
        .merge(
            web::Pages::new(
                hub.delivery.clone(),
                hub.registry.clone(),
                hub.inspect.clone(),
                Arc::new(hub.fanout.clone()),
                shutdown.clone(),
            )
            .router(),
        )
        .layer(from_fn(route_named))
}

/// A program that asks for what is not there gets a problem, not a page.
async fn api_unknown(uri: Uri) -> Problem {
    Problem::new(404, "path-unknown", "The API has no such path")
        .detail(uri.path().to_owned())
        .hint("Is the hub of an older version than its caller? `longshore version` shows the caller's.")
}

/// What agents ask: enrolment without a certificate, everything else with one.
fn agent_routes(hub: &Hub) -> Router {
    let hosts = hub
        .delivery
        .agent_http()
        .merge(registry::http::host_routes(hub.registry.clone()))
        .merge(fanout::hub::agent_routes(hub.fanout.clone()))
        .layer(from_fn_with_state(hub.access.clone(), access::http::host_required));
    Router::new().merge(access::http::agent_routes(hub.access.clone())).merge(hosts).layer(from_fn(route_named))
}

//! Which engine is meant, whether it is on this machine, and the way to one behind TLS.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path as Segments;
use axum::http::StatusCode;
use axum::routing::{get, post};
use engine::build::TarBody;
use engine::{
    Address, Docker, Engine, EngineError, ErrorKind, ExecOptions, Place, SessionInput, SessionOutput, TlsAddress,
};
use futures::TryStreamExt;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::lab::Lab;

fn found(variables: &[(&str, &str)]) -> Result<Address, EngineError> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    Address::from_variables(&|name| variables.get(name).map(|value| (*value).to_owned()))
}

/// A context as `docker context create` writes it.
fn context(docker: &Path, name: &str, endpoint: serde_json::Value, tls: bool) {
    let key = hex::encode(Sha256::digest(name));
    let meta = docker.join("contexts/meta").join(&key);
    std::fs::create_dir_all(&meta).unwrap();
    let text = serde_json::json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": endpoint } });
    std::fs::write(meta.join("meta.json"), text.to_string()).unwrap();
    if tls {
        let folder = docker.join("contexts/tls").join(&key).join("docker");
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            std::fs::write(folder.join(file), "").unwrap();
        }
    }
}

#[test]
fn the_engine_is_the_one_that_docker_would_use() {
    let home = tempfile::tempdir().unwrap();
    let docker = home.path().join(".docker");
    let home = home.path().to_str().unwrap();
    let usual = "unix:///var/run/docker.sock";
    let told = |variables: &[(&str, &str)]| match found(&[&[("HOME", home)], variables].concat()) {
        Ok(Address::Tls(tls)) => format!("{} by TLS, {}", tls.host_port, tls.ca.display()),
        Ok(address) => address.to_string(),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Address);
            format!("{error}\nhint: {}", error.hint.clone().unwrap_or_default())
        }
    };
    assert_eq!(found(&[]).unwrap().to_string(), usual);
    assert_eq!(told(&[]), usual);

    let local = serde_json::json!({ "Host": "unix:///run/colima.sock", "SkipTLSVerify": false });
    context(&docker, "colima", local, false);
    context(&docker, "far", serde_json::json!({ "Host": "tcp://far.example.com:2376" }), true);
    context(&docker, "plain", serde_json::json!({ "Host": "tcp://127.0.0.1:2375" }), false);
    context(&docker, "blind", serde_json::json!({ "Host": "tcp://far.example.com:1", "SkipTLSVerify": true }), true);
    context(&docker, "shell", serde_json::json!({ "Host": "ssh://someone@far.example.com" }), false);
    assert_eq!(told(&[]), usual, "contexts alone choose nothing");
    assert_eq!(told(&[("DOCKER_CONTEXT", "colima")]), "unix:///run/colima.sock");
    std::fs::write(docker.join("config.json"), r#"{"auths":{},"currentContext":"far"}"#).unwrap();
    let key = hex::encode(Sha256::digest("far"));
    let ca = format!("{home}/.docker/contexts/tls/{key}/docker/ca.pem");
    assert_eq!(told(&[]), format!("far.example.com:2376 by TLS, {ca}"));
    assert_eq!(told(&[("DOCKER_CONTEXT", "plain")]), "tcp://127.0.0.1:2375");
    assert_eq!(told(&[("DOCKER_CONTEXT", "default")]), usual);
    assert_eq!(told(&[("DOCKER_CONFIG", "/no/such/folder")]), usual);
    assert_eq!(told(&[("DOCKER_HOST", "unix:///run/x.sock"), ("DOCKER_CONTEXT", "plain")]), "unix:///run/x.sock");
    let verified = [("DOCKER_HOST", "tcp://far.example.com:2376"), ("DOCKER_TLS_VERIFY", "1")];
    assert_eq!(told(&verified), format!("far.example.com:2376 by TLS, {home}/.docker/ca.pem"));
    let elsewhere = told(&[verified[0], verified[1], ("DOCKER_CERT_PATH", "/certs")]);
    assert_eq!(elsewhere, "far.example.com:2376 by TLS, /certs/ca.pem");

    let refused = [
        told(&[("DOCKER_CONTEXT", "gone")]),
        told(&[("DOCKER_CONTEXT", "blind")]),
        told(&[("DOCKER_CONTEXT", "shell")]),
        told(&[verified[0], ("DOCKER_TLS", "1")]),
    ];
    std::fs::write(docker.join("config.json"), "{").unwrap();
    let refused = [refused.join("\n\n"), told(&[])].join("\n\n").replace(home, "HOME");
    insta::assert_snapshot!(refused);
}

#[tokio::test]
async fn where_an_engine_runs_is_found_out() {
    let lab = Lab::new().await;
    assert_eq!(lab.docker.place().await.unwrap(), Place::HERE, "tests have an engine of this machine");

    // An engine on this machine's files in a network of its own, and one in a virtual machine.
    let info = {
        let system = rustix::system::sysinfo();
        let memory = system.totalram * u64::from(system.mem_unit);
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        move |kernel_suffix: &str| {
            serde_json::json!({ "KernelVersion": format!("{kernel}{kernel_suffix}"), "MemTotal": memory }).to_string()
        }
    };
    for (suffix, place) in [("", Place { shares_network: false, shares_files: true }), ("-vm", Place::ELSEWHERE)] {
        let answer = info(suffix);
        let version = r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#;
        let router = Router::new()
            .route("/version", get(async move || version))
            .route("/{api}/version", get(async move || version))
            .route("/{api}/info", get(async move |_api: Segments<String>| answer))
            .route(
                "/{api}/images/create",
                post(async || (StatusCode::INTERNAL_SERVER_ERROR, r#"{"message":"connection refused"}"#)),
            );
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let docker = Docker::connect(Address::Unix(socket)).await.unwrap();
        assert_eq!(docker.place().await.unwrap(), place);
        serving.abort();
    }
}

/// A certificate and its key as PEM, by this issuer, for this host.
fn certificate(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>, host: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn authority() -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, rcgen::Issuer::new(params, key))
}

/// The real engine, behind TLS that lets in nobody without a certificate of its CA.
#[tokio::test]
async fn an_engine_behind_tls_works_like_the_socket() {
    let lab = Lab::new().await;
    let Address::Unix(socket) = lab.docker.address().clone() else { return };
    let (ca, issuer) = authority();
    let (server_pem, server_key) = certificate(&issuer, "localhost");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(server_key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut engine = UnixStream::connect(&socket).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
            });
        }
    });

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (client_pem, client_key) = certificate(&issuer, "client");
    let address = TlsAddress {
        host_port: format!("localhost:{port}"),
        ca: file("ca.pem", &ca),
        identity: Some((file("cert.pem", &client_pem), file("key.pem", &client_key))),
    };
    let docker = Docker::connect(Address::Tls(address.clone())).await.unwrap();
    assert_eq!(docker.place().await.unwrap(), Place::ELSEWHERE);
    assert_eq!(docker.image_inspect("no-such-image").await.unwrap(), None);
    let network = engine::NetworkSpec {
        name: format!("{}-tls", lab.name),
        labels: lab.labels.clone(),
        internal: true,
        subnet: None,
        workspace: None,
    };
    engine::ensure::network_ensure(&docker, &network).await.unwrap();
    let wanted = lab.shell("tls", &network.name, "exec sleep 600");
    let id = engine::ensure::container_run(&docker, &wanted).await.unwrap();
    docker.container_archive_put(&id, "/tmp", TarBody::from_reader(&[0; 1024][..])).await.unwrap();
    let input = SessionInput { stdin: Some(Box::pin(&b"there and back"[..])), terminal: None };
    let options = ExecOptions { command: vec!["cat".to_owned()], ..ExecOptions::default() };
    let output: Vec<SessionOutput> =
        docker.container_exec(&id, &options, input).await.unwrap().try_collect().await.unwrap();
    assert_eq!(output, [SessionOutput::Stdout("there and back".into()), SessionOutput::Ended(0)]);

    let (other_ca, _) = authority();
    let strange = TlsAddress { ca: file("other.pem", &other_ca), ..address.clone() };
    let error = Docker::connect(Address::Tls(strange)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden, "{error}");
    let nobody = TlsAddress { identity: None, ..address.clone() };
    Docker::connect(Address::Tls(nobody)).await.unwrap_err();
    let missing = TlsAddress { ca: folder.path().join("absent.pem"), ..address };
    let error = Docker::connect(Address::Tls(missing)).await.unwrap_err();
    assert!(error.kind == ErrorKind::Address && error.why.contains("absent.pem"), "{error}");
    serving.abort();
}

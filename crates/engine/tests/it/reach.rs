//! Engines that are down, too old, or something else.

use std::path::PathBuf;

use engine::build::{BuildError, BuildOptions, TarBody};
use engine::{Address, Docker, Engine, ErrorKind, Progress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

#[test]
fn addresses_are_read() {
    let unix = Address::Unix(PathBuf::from("/run/docker.sock"));
    assert_eq!("unix:///run/docker.sock".parse::<Address>().unwrap(), unix);
    assert_eq!("tcp://127.0.0.1:2375/".parse::<Address>().unwrap(), Address::Tcp("127.0.0.1:2375".to_owned()));
    assert_eq!("tcp://[::1]:2375".parse::<Address>().unwrap().to_string(), "tcp://[::1]:2375");
    let machine = |text: &str| text.parse::<Address>().unwrap().machine().map(str::to_owned);
    for here in ["unix:///run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375", "tcp://localhost:1"] {
        assert_eq!(machine(here), None, "{here}");
    }
    assert_eq!(machine("tcp://far.example.com:2375").as_deref(), Some("far.example.com"));
    assert_eq!(machine("tcp://[2001:db8::1]:2375").as_deref(), Some("[2001:db8::1]"));
    for wrong in ["", "/run/docker.sock", "unix://docker.sock", "tcp://host", "tcp://:1", "tcp://h:x", "ssh://host"] {
        assert_eq!(wrong.parse::<Address>().unwrap_err().kind, ErrorKind::Address, "{wrong}");
    }
}

#[tokio::test]
async fn an_engine_that_is_down_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let missing = Docker::connect(Address::Unix(socket.clone())).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Unreachable);
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let deserted = Docker::connect(Address::Unix(socket)).await.unwrap_err();
    assert_eq!(deserted.kind, ErrorKind::Unreachable);
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = Docker::connect(Address::Tcp(port.to_string())).await.unwrap_err();
    assert_eq!(closed.kind, ErrorKind::Unreachable);
    let errors = [missing, deserted, closed]
        .map(|error| format!("{error}\nhint: {}", error.hint.as_deref().unwrap_or_default()));
    let text = errors.join("\n\n").replace(&folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(text.replace(&port.to_string(), "ADDRESS"));
}

async fn answering(answer: &'static str) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn an_engine_that_is_too_old_or_none_is_refused() {
    let old = answering(r#"{"Version":"19.03.5","ApiVersion":"1.40"}"#).await;
    let error = Docker::connect(old.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooOld);
    let text = format!("{error}\nhint: {}", error.hint.as_deref().unwrap_or_default());
    insta::assert_snapshot!(text.replace(&old.to_string(), "ADDRESS"));
    let error = Docker::connect(answering("<html>hello</html>").await).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Engine);
}

/// Answers that end early, without the line end that would close them, are told as what they are.
#[tokio::test]
async fn an_engine_that_breaks_off_is_told() {
    let docker = Docker::connect(answering(r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#).await).await.unwrap();
    let error = docker.image_push("host/app:one", Progress::none()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Push, "{error}");
    let context = TarBody::from_reader(std::io::empty());
    let error = docker.image_build(&BuildOptions::default(), context, Progress::none()).await.unwrap_err();
    let BuildError::Engine(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind, ErrorKind::Engine, "{error}");
}

/// The real engine, through a TCP port that leads to its socket.
#[tokio::test]
async fn tcp_works_like_the_socket() {
    let Address::Unix(socket) = Address::from_environment().unwrap() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut engine = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut engine).await });
        }
    });
    let docker = Docker::connect(address).await.unwrap();
    let version = docker.version().await.unwrap();
    assert!(version.api.starts_with("1."), "{version:?}");
    assert_eq!(version.os, "linux");
    assert_eq!(docker.image_inspect("no-such-image").await.unwrap(), None);
}

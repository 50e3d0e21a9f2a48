//! TLS between peers: sessions are resumed, and who is at the other end is looked at each time; a port that two protocols
//! share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use base::clock::Micros;
use base::listen::{self, OtherProtocol, Tls};
use base::observe::{KnownRoutes, Observer};
use base::shutdown::Shutdown;
use base::tls::{Clients, Identity, PeerCertificate, PeerTls, Revoked, SharedIdentity};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

const PROTOCOL: &[u8] = b"test-peer/1";

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn shared(&self, name: &str, life: Option<Duration>) -> SharedIdentity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if let Some(life) = life {
            params.not_after = (std::time::SystemTime::now() + life).into();
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pems = (certificate.pem(), key.serialize_pem());
        SharedIdentity::new(Identity::from_pem(pems.0.as_bytes(), pems.1.as_bytes(), self.pem.as_bytes()).unwrap())
    }

    fn peer(&self, name: &str) -> PeerTls {
        PeerTls::new(&self.shared(name, None), PROTOCOL, Revoked::default()).unwrap()
    }
}

type Met = std::io::Result<(PeerCertificate, Option<HandshakeKind>)>;

/// One connection: what the dialling side and what the other side found.
async fn meet(dialler: &PeerTls, name: &str, other: &PeerTls) -> (Met, Met) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let dialled = async {
        let (mut stream, certificate) = dialler.connect(tcp, name).await?;
        stream.write_all(b"?").await?;
        // Tickets come before it.
        stream.read_exact(&mut [0]).await?;
        Ok((certificate, stream.get_ref().1.handshake_kind()))
    };
    let accepted = async {
        let (tcp, _) = listener.accept().await?;
        let (mut stream, certificate) = other.accept(tcp).await?;
        stream.read_exact(&mut [0]).await?;
        stream.write_all(b"!").await?;
        let kind = stream.get_ref().1.handshake_kind();
        let _ = stream.shutdown().await;
        Ok((certificate, kind))
    };
    tokio::join!(dialled, accepted)
}

#[tokio::test]
async fn a44_a_resumed_session_is_looked_at_again_on_both_sides() {
    let ca = Ca::new();
    let (a, b) = (ca.peer("a.test"), ca.peer("b.test"));
    let (dialled, accepted) = meet(&a, "b.test", &b).await;
    let (of_b, first) = dialled.unwrap();
    let (of_a, _) = accepted.unwrap();
    assert_eq!((of_a.names, of_b.names), (vec!["a.test".to_owned()], vec!["b.test".to_owned()]));
    assert_eq!(first, Some(HandshakeKind::Full));
    let (dialled, accepted) = meet(&a, "b.test", &b).await;
    assert_eq!(dialled.unwrap().1, Some(HandshakeKind::Resumed));
    assert_eq!(accepted.unwrap().0.serial, of_a.serial);

    b.revoked().replace([of_a.serial.clone()]);
    let (_, accepted) = meet(&a, "b.test", &b).await;
    assert!(accepted.unwrap_err().to_string().contains("was revoked"));
    b.revoked().replace([]);
    a.revoked().replace([of_b.serial.clone()]);
    let (dialled, _) = meet(&a, "b.test", &b).await;
    assert!(dialled.unwrap_err().to_string().contains("was revoked"));
    a.revoked().replace(["00".to_owned()]);
    meet(&a, "b.test", &b).await.0.unwrap();

    let (dialled, _) = meet(&a, "c.test", &b).await;
    assert!(dialled.unwrap_err().to_string().contains("not valid for name"));
    let (dialled, _) = meet(&Ca::new().peer("a.test"), "b.test", &b).await;
    assert!(dialled.is_err());
}

#[tokio::test]
async fn a44_a_certificate_that_ended_opens_no_resumed_session() {
    let ca = Ca::new();
    let life = Duration::from_secs(4);
    let short = PeerTls::new(&ca.shared("a.test", Some(life)), PROTOCOL, Revoked::default()).unwrap();
    let b = ca.peer("b.test");
    meet(&short, "b.test", &b).await.1.unwrap();
    let (_, accepted) = meet(&b, "a.test", &short).await;
    accepted.unwrap();
    let (certificate, _) = meet(&b, "a.test", &short).await.0.unwrap();
    let left = certificate.expires_at.since(Micros::now()) + Duration::from_millis(1100);
    tokio::time::sleep(left).await;
    let refused = |met: Met| assert!(met.unwrap_err().to_string().contains("expired"));
    refused(meet(&short, "b.test", &b).await.1);
    refused(meet(&b, "a.test", &short).await.0);
}

#[tokio::test]
async fn whoever_waits_for_a_revocation_hears_of_it() {
    let revoked = Revoked::default();
    let waits = tokio::spawn({
        let revoked = revoked.clone();
        async move { revoked.wait("07").await }
    });
    revoked.replace(["08".to_owned()]);
    revoked.replace(["07".to_owned()]);
    tokio::time::timeout(Duration::from_secs(30), waits).await.unwrap().unwrap();
    assert!(!revoked.contains("08"));
}

async fn port(ca: &Ca) -> (SocketAddr, Shutdown) {
    let hub = ca.shared("hub.test", None);
    let peers = PeerTls::new(&hub, PROTOCOL, Revoked::default()).unwrap();
    let looked_at = peers.clone();
    let other = OtherProtocol {
        protocol: PROTOCOL,
        config: peers.server_config(),
        handler: Arc::new(move |mut stream, _| {
            let certificate = looked_at.accepted(stream.get_ref().1);
            Box::pin(async move {
                let name = certificate.unwrap().names.concat();
                stream.write_all(name.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            })
        }),
    };
    let tls = Tls::from(Arc::new(hub.server_config(Clients::CertifiedOrAnonymous).unwrap())).with(other);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let app = Router::new().route("/", get(|| async { "a page" }));
    let observer = Observer::new("test", KnownRoutes::NONE);
    shutdown.spawn(listen::serve(listener, Some(tls), app, observer, shutdown.clone()));
    (address, shutdown)
}

async fn answer(address: SocketAddr, config: ClientConfig, said: &[u8]) -> std::io::Result<String> {
    let tcp = TcpStream::connect(address).await?;
    let name = "hub.test".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    stream.write_all(said).await?;
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut text)).await.unwrap()?;
    Ok(text)
}

#[tokio::test]
async fn a44_two_protocols_share_a_port_and_each_has_its_own_rules() {
    let ca = Ca::new();
    let (address, shutdown) = port(&ca).await;
    let a = ca.peer("a.test");
    for _ in 0..2 {
        let (mut stream, _) = a.connect(TcpStream::connect(address).await.unwrap(), "hub.test").await.unwrap();
        let mut name = String::new();
        stream.read_to_string(&mut name).await.unwrap();
        assert_eq!(name, "a.test");
    }
    let http = b"GET / HTTP/1.1\r\nhost: hub.test\r\nconnection: close\r\n\r\n";
    let mut anonymous =
        base::tls::client_config_pinned(base::tls::Fingerprint::of(ca.shared("x.test", None).current().ca())).unwrap();
    anonymous.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(answer(address, anonymous.clone(), http).await.unwrap().ends_with("a page"));
    // Without a certificate there is HTTP, and nothing else.
    anonymous.alpn_protocols = vec![PROTOCOL.to_vec()];
    assert!(answer(address, anonymous, b"").await.is_err());
    shutdown.begin();
    assert_eq!(shutdown.drain(Duration::from_secs(30)).await, 0);
}

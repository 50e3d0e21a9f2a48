//! Handshakes over real sockets: who gets in and who does not.

use std::sync::Arc;

use base::tls::{Clients, Fingerprint, ForeignCa, Identity, IdentityFiles, SharedIdentity, client_config_pinned};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { pem, issuer: Issuer::new(params, key) }
}

impl Ca {
    fn pems(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn identity(&self, name: &str) -> Identity {
        let (certificate, key) = self.pems(name);
        Identity::from_pem(certificate.as_bytes(), key.as_bytes(), self.pem.as_bytes()).unwrap()
    }

    fn shared(&self, name: &str) -> SharedIdentity {
        SharedIdentity::new(self.identity(name))
    }
}

/// The leaf certificate that each side saw of the other, or the client's error.
async fn handshake(
    server: ServerConfig,
    client: ClientConfig,
    name: &str,
) -> Result<(Vec<u8>, Option<Vec<u8>>), std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await.ok()?;
        let seen = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
        stream.write_all(b"!").await.ok()?;
        stream.shutdown().await.ok()?;
        Some(seen)
    });
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = name.to_owned().try_into().unwrap();
    let outcome = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, tcp).await?;
        // With TLS 1.3 a client learns only from the first byte that the server took its certificate.
        stream.read_exact(&mut [0]).await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
    }
    .await;
    let seen = served.await.unwrap();
    outcome.map(|certificate| (certificate, seen.unwrap()))
}

#[tokio::test]
async fn a44_only_the_own_ca_counts_on_both_sides() {
    let (ours, theirs) = (ca(), ca());
    let hub = ours.shared("hub.test");
    let server = |clients| hub.server_config(clients).unwrap();
    let host = ours.shared("host.test");

    let (_, seen) = handshake(server(Clients::Certified), host.client_config().unwrap(), "hub.test").await.unwrap();
    assert_eq!(seen.unwrap(), host.current().certificate().unwrap().to_vec());
    let wrong_name = handshake(server(Clients::Certified), host.client_config().unwrap(), "other.test").await;
    assert!(wrong_name.unwrap_err().to_string().contains("not valid for name"));
    let foreign = theirs.shared("host.test").client_config().unwrap();
    assert!(handshake(server(Clients::Certified), foreign, "hub.test").await.is_err());

    // A foreign certificate is refused even where none is needed.
    let mut liar = ours.shared("x.test").client_config().unwrap();
    liar.client_auth_cert_resolver = Arc::new(theirs.shared("host.test"));
    assert!(handshake(server(Clients::CertifiedOrAnonymous), liar, "hub.test").await.is_err());

    let pinned = |ca: &Ca| {
        let ca = Identity::ca(&ca.identity("x.test")).clone();
        client_config_pinned(Fingerprint::of(&ca)).unwrap()
    };
    let (_, seen) = handshake(server(Clients::CertifiedOrAnonymous), pinned(&ours), "hub.test").await.unwrap();
    assert!(seen.is_none());
    assert!(handshake(server(Clients::Certified), pinned(&ours), "hub.test").await.is_err());
    let error = handshake(server(Clients::CertifiedOrAnonymous), pinned(&theirs), "hub.test").await.unwrap_err();
    assert!(error.to_string().contains("belongs to another CA"), "{error}");
    assert_eq!(ForeignCa::find(&error), Some(ForeignCa(Fingerprint::of(theirs.identity("x.test").ca()))));
    let error = handshake(server(Clients::CertifiedOrAnonymous), pinned(&ours), "other.test").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_server_that_shows_the_pinned_ca_without_its_key_is_refused() {
    let (ours, theirs) = (ca(), ca());
    let (certificate, key) = theirs.pems("hub.test");
    // The chain ends with our CA's certificate, which anyone can copy.
    let chain = format!("{certificate}{}", ours.pem);
    let liar =
        SharedIdentity::new(Identity::from_pem(chain.as_bytes(), key.as_bytes(), theirs.pem.as_bytes()).unwrap());
    let fingerprint = Fingerprint::of(ours.identity("x.test").ca());
    let client = client_config_pinned(fingerprint).unwrap();
    assert!(handshake(liar.server_config(Clients::CertifiedOrAnonymous).unwrap(), client, "hub.test").await.is_err());
}

#[tokio::test]
async fn a_replaced_identity_is_used_by_the_next_handshake() {
    let ours = ca();
    let hub = ours.shared("hub.test");
    let server = hub.server_config(Clients::CertifiedOrAnonymous).unwrap();
    let client = ours.shared("host.test").client_config().unwrap();
    let (before, _) = handshake(server.clone(), client.clone(), "hub.test").await.unwrap();
    hub.replace(ours.identity("hub.test"));
    let (after, _) = handshake(server, client, "hub.test").await.unwrap();
    assert_ne!(before, after);
}

#[test]
fn files_are_read_and_what_is_wrong_with_them_is_said() {
    let (ours, folder) = (ca(), tempfile::tempdir().unwrap());
    let files = IdentityFiles {
        certificate: folder.path().join("certificate.pem"),
        key: folder.path().join("key.pem"),
        ca: folder.path().join("ca.pem"),
    };
    let error = files.load().unwrap_err().to_string();
    assert!(error.contains("certificate.pem does not exist; correct the path"), "{error}");
    let ((certificate, key), (_, other_key)) = (ours.pems("a.test"), ours.pems("a.test"));
    let write = |path, text: &str| std::fs::write(path, text).unwrap();
    write(&files.certificate, &certificate);
    write(&files.ca, &ours.pem);
    write(&files.key, &other_key);
    assert!(files.load().unwrap_err().to_string().starts_with("the certificate, its key and the CA cannot be used"));
    write(&files.key, "nonsense");
    assert!(files.load().unwrap_err().to_string().starts_with("the private key is not what it should be"));
    write(&files.key, &key);
    let identity = files.load().unwrap();
    assert_eq!(Fingerprint::parse(&Fingerprint::of(identity.ca()).to_string()), Some(Fingerprint::of(identity.ca())));
    assert_eq!(Fingerprint::parse("AB"), None);
}

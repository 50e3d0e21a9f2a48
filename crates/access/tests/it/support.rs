//! What the tests share: times, names, machines with keys.

use std::collections::BTreeMap;

use access::{AccessError, AccessErrorKind, Config, Service};
use api::access::{EnrolRequest, HostCertificate, HostTokenRequest, RenewRequest};
use api::{HostName, Micros};
use base::db::DatabaseConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

pub(crate) const DAY: i64 = 24 * 3600;
pub(crate) const START: Micros = Micros(1_795_293_000_123_456);

pub(crate) fn after(seconds: i64) -> Micros {
    START.plus_seconds(seconds)
}

pub(crate) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

pub(crate) async fn service(database: &DatabaseConfig) -> Service {
    Service::new(Config::default(), database, START).await.unwrap()
}

/// A machine that wants to be a host.
pub(crate) struct Machine {
    pub(crate) key: KeyPair,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { key: KeyPair::generate().unwrap() }
    }

    pub(crate) fn csr(&self) -> String {
        // What a machine says of itself must not matter.
        let mut params = CertificateParams::new(["hub.longshore.internal".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::NoCa;
        params.serialize_request(&self.key).unwrap().pem().unwrap()
    }

    pub(crate) fn request(&self, token: &str, name: &str) -> EnrolRequest {
        EnrolRequest { token: token.to_owned(), csr: self.csr(), host: host(name), labels: BTreeMap::new() }
    }

    pub(crate) fn renewal(&self) -> RenewRequest {
        RenewRequest { csr: self.csr() }
    }
}

pub(crate) async fn token(service: &Service, name: Option<&str>, seconds: u64) -> String {
    let request = HostTokenRequest { host: name.map(host), labels: BTreeMap::new(), ttl_seconds: seconds };
    service.token_create(request, START).await.unwrap().token
}

/// Enrols a new machine under a name of its own.
pub(crate) async fn enrolled(service: &Service, name: &str) -> (Machine, HostCertificate) {
    let (machine, token) = (Machine::new(), token(service, None, 60).await);
    let certificate = service.enrol(machine.request(&token, name), START).await.unwrap();
    (machine, certificate)
}

pub(crate) fn der(certificate: &HostCertificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap()
}

pub(crate) fn kind<T>(outcome: Result<T, AccessError>) -> AccessErrorKind {
    match outcome {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.kind(),
    }
}

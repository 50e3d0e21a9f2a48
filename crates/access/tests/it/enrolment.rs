//! Tokens, certificates and what is refused, on both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use access::{AccessErrorKind as Kind, CERTIFICATES_PER_HOST_MAX, Config, OnEnrolled, Service};
use api::Problem;
use api::access::{
    Access as _, EnrolRequest, HostEnrolled, HostTokenRequest, SignPurpose, TOKEN_SECONDS_MAX, host_server_name,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base::db::DatabaseConfig;
use base::db::testing::for_each_database;
use futures::FutureExt as _;
use futures::future::join_all;
use x509_parser::prelude::GeneralName;

use crate::support::{DAY, Machine, START, after, der, enrolled, host, kind, service, token};

#[tokio::test]
async fn a_token_becomes_one_certificate_and_a_lost_answer_can_be_asked_for_again() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let asked = HostTokenRequest { host: None, labels: labels(&[("data", "true")]), ttl_seconds: 60 };
        let made = hub.token_create(asked, START).await.unwrap();
        assert_eq!(made.expires_at, after(60));
        assert!(made.token.ends_with(&hub.ca_fingerprint().to_string()));
        let machine = Machine::new();
        let mut request = machine.request(&made.token, "web_1");
        request.labels = labels(&[("data", "false"), ("zone", "a")]);
        let first = hub.enrol(request.clone(), after(1)).await.unwrap();
        assert_eq!(first.expires_at.seconds(), after(1).seconds() + 30 * DAY);
        assert!(first.renew_at > after(19 * DAY) && first.renew_at < after(21 * DAY));
        assert_eq!(hub.enrol(request.clone(), after(59)).await.unwrap(), first);
        // The hub restarts and still knows, and tells of the host once, again and again until it is heard.
        let hub = service(&database).await;
        assert_eq!(hub.enrol(request.clone(), after(2)).await.unwrap(), first);
        let told = Arc::new(Mutex::new(Vec::new()));
        let (heard, busy) = (Arc::clone(&told), AtomicBool::new(true));
        let on_enrolled: OnEnrolled = Arc::new(move |event| {
            let answer = if busy.swap(false, Ordering::Relaxed) {
                Err(Problem::new(503, "database-busy", "Not now"))
            } else {
                heard.lock().unwrap().push(event);
                Ok(())
            };
            std::future::ready(answer).boxed()
        });
        hub.events_deliver(&on_enrolled).await.unwrap_err();
        hub.events_deliver(&on_enrolled).await.unwrap();
        hub.events_deliver(&on_enrolled).await.unwrap();
        let labels = labels(&[("data", "true"), ("zone", "a")]);
        assert_eq!(*told.lock().unwrap(), [HostEnrolled { host: host("web_1"), labels }]);

        let mut other_host = request.clone();
        other_host.host = host("web_2");
        assert_eq!(kind(hub.enrol(other_host, after(2)).await), Kind::TokenSpent);
        assert_eq!(kind(hub.enrol(request, after(60)).await), Kind::TokenSpent);
        let thief = Machine::new().request(&made.token, "web_1");
        let problem = Problem::from(hub.enrol(thief, after(2)).await.unwrap_err());
        assert_eq!((problem.status, problem.kind.as_str()), (403, "token-spent"));
        assert!(problem.detail.starts_with("the token was used by host `web_1` at 2026-"), "{}", problem.detail);
        assert!(problem.hint.unwrap().contains("longshore host token"));
    })
    .await;
}

#[tokio::test]
async fn a44_tokens_that_are_not_good_are_refused_each_with_its_reason() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let good = token(&hub, None, 60).await;
        let parts: Vec<&str> = good.split('.').collect();
        let with = |index: usize, text: &str| {
            let mut parts = parts.clone();
            parts[index] = text;
            parts.join(".")
        };
        let zeros = "0".repeat(64);
        let long = "a".repeat(10_000);
        for (text, wanted) in [
            (String::new(), Kind::TokenInvalid),
            ("nonsense".to_owned(), Kind::TokenInvalid),
            (with(0, "lsh2"), Kind::TokenInvalid),
            (with(1, "../../etc"), Kind::TokenInvalid),
            (with(2, &parts[2].to_uppercase()), Kind::TokenInvalid),
            (with(3, &zeros[1..]), Kind::TokenInvalid),
            (with(2, &long), Kind::TokenInvalid),
            (format!("{good}.x"), Kind::TokenInvalid),
            (with(3, &zeros), Kind::TokenForeign),
            (with(1, &zeros[..16]), Kind::TokenUnknown),
            (with(2, &zeros), Kind::TokenUnknown),
        ] {
            assert_eq!(kind(hub.enrol(Machine::new().request(&text, "a"), START).await), wanted, "{text:.80}");
        }
        let named = token(&hub, Some("a"), 60).await;
        assert_eq!(kind(hub.enrol(Machine::new().request(&named, "b"), START).await), Kind::TokenHost);
        assert_eq!(kind(hub.enrol(Machine::new().request(&good, "a"), after(60)).await), Kind::TokenExpired);
        let mut unsigned = Machine::new().request(&good, "a");
        unsigned.csr = unsigned.csr.replacen("MI", "MJ", 1);
        assert_eq!(kind(hub.enrol(unsigned, START).await), Kind::CsrInvalid);
        let mut labelled = Machine::new().request(&good, "a");
        labelled.labels.insert("a".to_owned(), "line\nbreak".to_owned());
        assert_eq!(kind(hub.enrol(labelled, START).await), Kind::LabelsInvalid);
        for seconds in [0, TOKEN_SECONDS_MAX + 1, u64::MAX] {
            let request = HostTokenRequest { host: None, labels: BTreeMap::new(), ttl_seconds: seconds };
            assert_eq!(kind(hub.token_create(request, START).await), Kind::TokenSeconds);
        }
        // None of this has used the token up.
        hub.enrol(Machine::new().request(&good, "a"), after(59)).await.unwrap();
        hub.sweep(after(31 * DAY)).await.unwrap();
        assert_eq!(kind(hub.enrol(Machine::new().request(&good, "c"), after(31 * DAY)).await), Kind::TokenUnknown);
    })
    .await;
}

#[tokio::test]
async fn of_many_at_once_a_token_serves_one_key() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let token = token(&hub, None, 60).await;
        let machines: Vec<Machine> = (0..8).map(|_| Machine::new()).collect();
        let asked = machines.iter().flat_map(|machine| [machine, machine]);
        let answers = join_all(asked.map(|machine| hub.enrol(machine.request(&token, "a"), START))).await;
        let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let certificates: BTreeSet<String> = served.into_iter().map(|answer| answer.unwrap().certificate).collect();
        assert_eq!((certificates.len(), refused.len()), (1, 14));
        for answer in refused {
            assert_eq!(kind(answer), Kind::TokenSpent);
        }
        // Two tokens, one free name: one machine gets it.
        let tokens = [crate::support::token(&hub, None, 60).await, crate::support::token(&hub, None, 60).await];
        let answers = join_all(tokens.iter().map(|token| hub.enrol(Machine::new().request(token, "b"), START))).await;
        let mut kinds: Vec<_> =
            answers.into_iter().map(|answer| answer.map(drop).map_err(|error| error.kind())).collect();
        kinds.sort_by_key(Result::is_err);
        assert_eq!(kinds, [Ok(()), Err(Kind::HostExists)]);
    })
    .await;
}

#[tokio::test]
async fn a44_a_certificate_names_only_the_host_and_only_the_issued_bytes_count() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let (_, certificate) = enrolled(&hub, "web_1").await;
        let der = der(&certificate);
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(names, [GeneralName::DNSName(&host_server_name(&host("web_1")))]);
        assert!(!parsed.is_ca());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth && !usage.any);
        let identity = hub.identify(&der, START).await.unwrap();
        assert_eq!((identity.host, identity.serial), (host("web_1"), hex::encode(parsed.raw_serial())));

        // The same serial number signed by another, and bytes around or instead of a certificate.
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(parsed.raw_serial()));
        let forged = params.self_signed(&Machine::new().key).unwrap();
        let trailing = [der.as_ref(), &[0]].concat();
        for wrong in [forged.der().as_ref(), &trailing, &[], b"nonsense"] {
            assert_eq!(kind(hub.identify(wrong, START).await), Kind::CertificateUnknown);
        }
        let ca = rustls_pki_types::pem::PemObject::from_pem_slice(certificate.ca.as_bytes());
        let ca: rustls_pki_types::CertificateDer<'_> = ca.unwrap();
        assert_eq!(base::tls::Fingerprint::of(&ca), hub.ca_fingerprint());
        assert_eq!(kind(hub.identify(&ca, START).await), Kind::CertificateUnknown);
    })
    .await;
}

#[tokio::test]
async fn a33_revoked_and_expired_certificates_count_no_more() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let (machine, certificate) = enrolled(&hub, "a").await;
        let identity = hub.identify(&der(&certificate), after(29 * DAY)).await.unwrap();
        let renewed = hub.renew(&identity, machine.renewal(), after(29 * DAY)).await.unwrap();
        hub.identify(&der(&certificate), after(29 * DAY)).await.unwrap();
        assert_eq!(kind(hub.identify(&der(&certificate), after(30 * DAY)).await), Kind::CertificateExpired);
        assert_eq!(kind(hub.renew(&identity, machine.renewal(), after(30 * DAY)).await), Kind::CertificateExpired);
        hub.identify(&der(&renewed), after(58 * DAY)).await.unwrap();

        let (_, other) = enrolled(&hub, "b").await;
        assert_eq!(kind(hub.revoke(&host("c"), after(58 * DAY)).await), Kind::HostUnknown);
        assert_eq!(hub.revoke(&host("a"), after(58 * DAY)).await.unwrap(), 2);
        assert_eq!(hub.revoke(&host("a"), after(58 * DAY)).await.unwrap(), 0);
        assert_eq!(kind(hub.identify(&der(&renewed), after(58 * DAY)).await), Kind::CertificateRevoked);
        assert_eq!(kind(hub.renew(&identity, machine.renewal(), after(58 * DAY)).await), Kind::CertificateRevoked);
        hub.identify(&der(&other), START).await.unwrap();
        let mut lying = hub.identify(&der(&other), START).await.unwrap();
        lying.host = host("a");
        assert_eq!(kind(hub.renew(&lying, machine.renewal(), START).await), Kind::CertificateUnknown);
    })
    .await;
}

#[tokio::test]
async fn a33_serials_of_revoked_certificates_are_told_until_these_would_have_ended() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let mut serials = Vec::new();
        for (name, day) in [("a", 1), ("b", 2), ("c", 3)] {
            let (_, certificate) = enrolled(&hub, name).await;
            serials.insert(0, hub.identify(&der(&certificate), START).await.unwrap().serial);
            hub.revoke(&host(name), after(day * DAY)).await.unwrap();
        }
        enrolled(&hub, "good").await;
        assert_eq!(hub.revoked(10, after(3 * DAY)).await.unwrap(), serials);
        assert_eq!(hub.revoked(2, after(3 * DAY)).await.unwrap(), serials[..2]);
        assert_eq!(hub.revoked(10, after(30 * DAY)).await.unwrap(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a32_labels_that_a_host_says_of_itself_give_it_no_right() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let given = BTreeMap::from([label("team", "a")]);
        let request = HostTokenRequest { host: None, labels: given.clone(), ttl_seconds: 60 };
        let token = hub.token_create(request, START).await.unwrap().token;
        let machine = Machine::new();
        let said = BTreeMap::from([label("team", "b"), label("secrets", "yes")]);
        let request = EnrolRequest { labels: said, ..machine.request(&token, "h") };
        let certificate = hub.enrol(request, START).await.unwrap();
        let identity = hub.identify(&der(&certificate), START).await.unwrap();
        assert_eq!(identity.labels, given);
        let renewed = hub.renew(&identity, machine.renewal(), after(DAY)).await.unwrap();
        assert_eq!(hub.identify(&der(&renewed), after(DAY)).await.unwrap().labels, given);
    })
    .await;
}

#[tokio::test]
async fn what_the_ca_signs_is_of_one_purpose_alone() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let signature = hub.sign(SignPurpose::Grant, b"bytes").await.unwrap();
        let ca = hub.ca_certificate();
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, ca.public_key().subject_public_key.data.to_vec());
        assert!(key.verify(b"longshore grant v1\nbytes", &signature).is_ok());
        assert!(key.verify(b"bytes", &signature).is_err());
    })
    .await;
}

#[tokio::test]
async fn a_name_is_taken_over_only_with_a_token_that_says_so() {
    for_each_database(|database| async move {
        let hub = service(&database).await;
        let (old, certificate) = enrolled(&hub, "a").await;
        let free = token(&hub, None, TOKEN_SECONDS_MAX).await;
        assert_eq!(kind(hub.enrol(Machine::new().request(&free, "a"), START).await), Kind::HostExists);
        let named = token(&hub, Some("a"), 60).await;
        let new = hub.enrol(Machine::new().request(&named, "a"), after(1)).await.unwrap();
        hub.identify(&der(&new), after(1)).await.unwrap();
        assert_eq!(kind(hub.identify(&der(&certificate), after(1)).await), Kind::CertificateRevoked);
        let identity = hub.identify(&der(&new), after(1)).await.unwrap();
        for _ in 1..CERTIFICATES_PER_HOST_MAX {
            hub.renew(&identity, old.renewal(), after(2)).await.unwrap();
        }
        assert_eq!(kind(hub.renew(&identity, old.renewal(), after(2)).await), Kind::CertificateTooMany);
        hub.revoke(&host("a"), after(3)).await.unwrap();
        hub.enrol(Machine::new().request(&free, "a"), after(4)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn hubs_that_start_at_once_on_one_database_have_one_ca() {
    for_each_database(|database| async move {
        let hubs = join_all((0..4).map(|_| Service::new(Config::default(), &database, START))).await;
        let fingerprints: BTreeSet<_> = hubs.into_iter().map(|hub| hub.unwrap().ca_fingerprint()).collect();
        assert_eq!(fingerprints.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a37_no_secret_is_kept_and_the_ca_key_is_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    let database = DatabaseConfig::Sqlite { folder: root.path().to_owned() };
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let hub = service(&database).await;
    let token = token(&hub, None, 60).await;
    let secret = token.split('.').nth(2).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(root.path()).unwrap() {
        let path = entry.unwrap().path();
        files += 1;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        let content = std::fs::read(&path).unwrap();
        for secret in [secret.as_bytes().to_vec(), hex::decode(secret).unwrap()] {
            assert!(!content.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    }
    assert!(files >= 2, "the database and its log are looked at");
}

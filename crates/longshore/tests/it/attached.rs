//! What the hub attaches to images, and what others attach: by plain HTTP, as any tool has it.

use std::collections::BTreeMap;

use api::client::{HubClient, PageQuery};
use api::inspect::{Finding, Inside, InsideFilter, News, Sought};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base::guard::TokenFile;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use oci::{Digest, media};
use serde_json::{Value, json};

use crate::inside::{SECONDS_MAX, SYSTEM, advisories, archive, configuration, examined, status};
use crate::lone::Lone;

const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
const SPDX: &str = "application/spdx+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const OPENVEX: &str = "application/vnd.openvex+json";

/// A repository, as any client sees it.
struct Repository<'h> {
    hub: &'h Lone,
    name: &'h str,
}

impl Repository<'_> {
    async fn get(&self, path: &str) -> Option<Bytes> {
        let got = self.hub.client.get(self.hub.url(&format!("/v2/{}/{path}", self.name))).send().await.unwrap();
        if got.status() == 404 { None } else { Some(got.error_for_status().unwrap().bytes().await.unwrap()) }
    }

    async fn put(&self, reference: &str, media_type: &str, manifest: &Value) -> Digest {
        let put = self.hub.client.put(self.hub.url(&format!("/v2/{}/manifests/{reference}", self.name)));
        let put = put.header("content-type", media_type).body(manifest.to_string());
        put.send().await.unwrap().error_for_status().unwrap();
        Digest::sha256_of(manifest.to_string().as_bytes())
    }

    async fn delete(&self, digest: &Digest) {
        let url = self.hub.url(&format!("/v2/{}/manifests/{digest}", self.name));
        self.hub.client.delete(url).send().await.unwrap().error_for_status().unwrap();
    }

    /// What refers to an image: manifests by type.
    async fn referrers(&self, image: &Digest) -> BTreeMap<String, Vec<String>> {
        let list: Value = serde_json::from_slice(&self.get(&format!("referrers/{image}")).await.unwrap()).unwrap();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for one in list["manifests"].as_array().unwrap() {
            let digest = one["digest"].as_str().unwrap().to_owned();
            found.entry(one["artifactType"].as_str().unwrap().to_owned()).or_default().push(digest);
        }
        found
    }

    /// The same, once it is what the hub attaches to an image, one of each.
    async fn attached(&self, image: &Digest) -> BTreeMap<String, String> {
        let all = || async {
            let found = self.referrers(image).await;
            let one_each: Option<BTreeMap<String, String>> = [CYCLONEDX, SPDX, BUNDLE]
                .into_iter()
                .map(|kind| match found.get(kind)?.as_slice() {
                    [one] => Some((kind.to_owned(), one.clone())),
                    _ => None,
                })
                .collect();
            one_each
        };
        rig::until("the documents are not attached", SECONDS_MAX, all).await.unwrap()
    }

    /// The document of a referrer of one layer, with both digests checked; none where another took its place meanwhile.
    async fn document(&self, image: &Digest, manifest: &str) -> Option<Value> {
        let bytes = self.get(&format!("manifests/{manifest}")).await?;
        assert_eq!(Digest::sha256_of(&bytes).to_string(), manifest);
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(manifest["subject"]["digest"], image.to_string());
        assert_eq!(manifest["config"]["mediaType"], media::OCI_EMPTY);
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], manifest["artifactType"]);
        let digest = layer["digest"].as_str().unwrap();
        let bytes = self.get(&format!("blobs/{digest}")).await?;
        assert_eq!(Digest::sha256_of(&bytes).to_string(), digest);
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    async fn blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::sha256_of(content);
        let url = self.hub.url(&format!("/v2/{}/blobs/uploads/?digest={digest}", self.name));
        self.hub.client.post(url).body(content.to_vec()).send().await.unwrap().error_for_status().unwrap();
        digest
    }

    /// Attaches a document, as `oras attach` does.
    async fn attach(&self, to: &Digest, to_type: &str, artifact_type: &str, document: &[u8]) -> Digest {
        let empty = b"{}".as_slice();
        let mut digests = Vec::new();
        for content in [document, empty] {
            digests.push(self.blob(content).await);
        }
        let size = self.get(&format!("manifests/{to}")).await.unwrap().len();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": artifact_type,
            "config": { "mediaType": media::OCI_EMPTY, "digest": digests[1], "size": 2 },
            "layers": [{ "mediaType": artifact_type, "digest": digests[0], "size": document.len() }],
            "subject": { "mediaType": to_type, "digest": to, "size": size },
        });
        let digest = Digest::sha256_of(manifest.to_string().as_bytes());
        self.put(&digest.to_string(), media::OCI_MANIFEST, &manifest).await
    }

    /// An index of an image and of what it attests of it, as BuildKit writes one.
    async fn attested(&self, image: &Digest, predicate: &Value) -> Digest {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://openvex.dev/ns/v0.2.0",
            "subject": [{ "name": "_", "digest": { "sha256": image.hex() } }], "predicate": predicate,
        });
        let statement = statement.to_string();
        let mut digests = Vec::new();
        for bytes in [statement.as_bytes(), b"{}"] {
            digests.push(self.blob(bytes).await);
        }
        let attestation = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": { "mediaType": media::OCI_CONFIG, "digest": digests[1], "size": 2 },
            "layers": [{ "mediaType": "application/vnd.in-toto+json", "digest": digests[0], "size": statement.len(),
                "annotations": { "in-toto.io/predicate-type": "https://openvex.dev/ns/v0.2.0" } }],
        });
        let digest = Digest::sha256_of(attestation.to_string().as_bytes());
        let attestation_size = attestation.to_string().len();
        let attestation = self.put(&digest.to_string(), media::OCI_MANIFEST, &attestation).await;
        let size = self.get(&format!("manifests/{image}")).await.unwrap().len();
        let index = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX,
            "manifests": [
                { "mediaType": media::OCI_MANIFEST, "digest": image, "size": size,
                    "platform": { "os": "linux", "architecture": "amd64" } },
                { "mediaType": media::OCI_MANIFEST, "digest": attestation, "size": attestation_size,
                    "platform": { "os": "unknown", "architecture": "unknown" },
                    "annotations": { "vnd.docker.reference.type": "attestation-manifest",
                        "vnd.docker.reference.digest": image } },
            ],
        });
        self.put("built", media::OCI_INDEX, &index).await
    }
}

/// What an envelope says, after its signature was verified with a certificate's key over what DSSE signs.
fn verified(envelope: &Value, certificate: &[u8]) -> Option<Value> {
    let kind = envelope["payloadType"].as_str()?;
    let payload = STANDARD.decode(envelope["payload"].as_str()?).ok()?;
    let signature = STANDARD.decode(envelope["signatures"][0]["sig"].as_str()?).ok()?;
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    signed.extend(&payload);
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &**key).verify(&signed, &signature).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn openvex(product: &str, status: &str) -> Value {
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": format!("https://vex.example/{status}"), "author": "team",
        "timestamp": "2026-01-01T00:00:00Z", "version": 1,
        "statements": [{ "vulnerability": { "name": "CVE-2026-30001" }, "products": [{ "@id": product }],
            "status": status, "justification": "vulnerable_code_not_in_execute_path" }],
    })
}

async fn finding(client: &HubClient, image: &Digest) -> Finding {
    let page = client.inside_findings(image, &InsideFilter::default(), &PageQuery::default()).await.unwrap();
    page.items.into_iter().next().unwrap()
}

/// How many findings count, and how many are lifted.
fn counts(inside: &Inside) -> (u64, u64) {
    (inside.findings.values().sum(), inside.lifted)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_an_image_is_attached_to_it_and_what_others_state_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Lone::start(folder.path(), "[registry]\ngrace = \"2s\"\n", &[]);
    let token = TokenFile::create_or_read(folder.path()).unwrap();
    let client = HubClient::new(hub.url("/").parse().unwrap(), Some(token)).unwrap();
    let layer = |version: &str| {
        [archive(&[("etc/os-release", SYSTEM), ("var/lib/dpkg/status", &status(&[("zlib1g", version)]))])]
    };
    let layers = layer("1:1.2.13.dfsg-1");
    let config = configuration(&layers);
    let image = hub.push("team/app", "1", &config, &layers).await;
    let app = Repository { hub: &hub, name: "team/app" };
    let size = app.get(&format!("manifests/{image}")).await.unwrap().len();
    let index = json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX,
        "manifests": [{ "mediaType": media::OCI_MANIFEST, "digest": image, "size": size,
            "platform": { "os": "linux", "architecture": "amd64" } }],
    });
    let index = app.put("all", media::OCI_INDEX, &index).await;

    let first = app.attached(&image).await;
    let document = app.document(&image, &first[CYCLONEDX]).await.unwrap();
    assert_eq!(document["specVersion"], "1.6");
    let names: Vec<&str> =
        document["components"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"zlib1g"), "{document:#}");
    assert!(document["metadata"]["component"]["purl"].as_str().unwrap().contains("team"), "{document:#}");
    let document = app.document(&image, &first[SPDX]).await.unwrap();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert!(document["packages"].as_array().unwrap().iter().any(|one| one["name"] == "zlib1g"), "{document:#}");
    let filtered = app.get(&format!("referrers/{image}?artifactType={}", CYCLONEDX.replace('+', "%2B"))).await;
    let filtered: Value = serde_json::from_slice(&filtered.unwrap()).unwrap();
    assert_eq!(filtered["manifests"].as_array().unwrap().len(), 1, "{filtered:#}");

    // The evidence verifies with the hub's key, and nothing else does.
    let pem = client.inside_evidence(&image).await.unwrap().certificate;
    let certificate = STANDARD.decode(pem.lines().filter(|line| !line.starts_with("---")).collect::<String>()).unwrap();
    let bundle = app.document(&image, &first[BUNDLE]).await.unwrap();
    let mut envelope = bundle["dsseEnvelope"].clone();
    assert_eq!(
        (&bundle["mediaType"], &envelope["payloadType"]),
        (&json!(BUNDLE), &json!("application/vnd.in-toto+json"))
    );
    let statement = verified(&envelope, &certificate).unwrap();
    assert_eq!(statement["subject"], json!([{ "name": "team/app", "digest": { "sha256": image.hex() } }]));
    assert_eq!(statement["predicateType"], "urn:longshore:contents:1");
    assert_eq!(statement["predicate"]["inside"]["components"], 1);
    let said = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let other = String::from_utf8(said).unwrap().replace("\"components\":1", "\"components\":0");
    envelope["payload"] = json!(STANDARD.encode(other));
    assert_eq!(verified(&envelope, &certificate), None);

    // What is attached is no image, and nothing is attached to it.
    for manifest in first.values() {
        let manifest: Digest = manifest.parse().unwrap();
        assert_eq!(client.inside(&manifest).await.unwrap_err().status, 404);
        assert!(app.referrers(&manifest).await.is_empty());
    }

    // An advisory makes another statement in the place of the one before, and no other document.
    client.advisories_take(advisories("CVE-2026-30001", "zlib1g").unwrap()).await.unwrap();
    let stated = async |wanted: (u64, u64), notes: usize| {
        let app = Repository { hub: &hub, name: "team/app" };
        rig::until("the evidence does not say so", SECONDS_MAX, || async {
            let attached = app.attached(&image).await;
            let bundle = app.document(&image, &attached[BUNDLE]).await?;
            let statement = verified(&bundle["dsseEnvelope"], &certificate)?;
            let inside: Inside = serde_json::from_value(statement["predicate"]["inside"].clone()).ok()?;
            (counts(&inside) == wanted && inside.notes.len() == notes).then_some(attached)
        })
        .await
        .unwrap()
    };
    let second = stated((1, 0), 0).await;
    assert_ne!(first[BUNDLE], second[BUNDLE]);
    assert_eq!((&first[CYCLONEDX], &first[SPDX]), (&second[CYCLONEDX], &second[SPDX]));

    // VEX: on another product, which says why it does not apply; then on this one, signed, on the index above.
    app.attach(
        &image,
        media::OCI_MANIFEST,
        OPENVEX,
        openvex("pkg:deb/debian/zlib1g@9", "fixed").to_string().as_bytes(),
    )
    .await;
    let one = finding(&client, &image).await;
    assert!(!one.lifted && one.verdict.as_ref().unwrap().contains("it is about version 9"), "{one:#?}");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://openvex.dev/ns/v0.2.0",
        "subject": [{ "name": "team/app", "digest": { "sha256": index.hex() } }],
        "predicate": openvex(&format!("pkg:oci/app@sha256%3A{}", index.hex()), "not_affected"),
    });
    let envelope = json!({ "payloadType": "application/vnd.in-toto+json",
        "payload": STANDARD.encode(statement.to_string()), "signatures": [{ "sig": "bm9uZQ==" }] });
    let bundle = json!({ "mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope }).to_string();
    let vex = app.attach(&index, media::OCI_INDEX, BUNDLE, bundle.as_bytes()).await;
    let one = finding(&client, &image).await;
    let verdict = one.verdict.as_ref().unwrap();
    assert!(one.lifted && verdict.contains("not_affected") && verdict.contains("team/app"), "{one:#?}");
    assert_eq!(counts(&client.inside(&image).await.unwrap()), (0, 1));
    stated((0, 1), 0).await;
    // Who asks where the advisory is sees the image, and that somebody says that it does not matter there.
    let sought = Sought::Advisory { id: "CVE-2026-30001".to_owned() };
    let found = client.find(&sought, false, &PageQuery::default()).await.unwrap();
    let place = found.images.items.iter().find(|place| place.digest == image).unwrap();
    let lifted = place.components[0].lifted.as_ref().unwrap();
    assert!(lifted.contains("not_affected") && lifted.contains("team/app"), "{place:#?}");
    // Too long to be read: told, and the others count all the same.
    let long = vec![b' '; 5 << 20];
    app.attach(&image, media::OCI_MANIFEST, OPENVEX, &long).await;
    let inside = client.inside(&image).await.unwrap();
    assert!(counts(&inside) == (0, 1) && inside.notes[0].contains("was not read"), "{inside:#?}");
    let third = stated((0, 1), 1).await;

    // A crash, and the same image again: nothing is attached that is there. The one after it shows that it had its turn.
    hub.kill_and_start();
    assert_eq!(hub.push("team/app", "again", &config, &layers).await, image);
    let layers = layer("1:1.3");
    let later = hub.push("team/later", "1", &configuration(&layers), &layers).await;
    examined(&client, &later).await;
    Repository { hub: &hub, name: "team/later" }.attached(&later).await;
    let app = Repository { hub: &hub, name: "team/app" };
    assert_eq!(app.attached(&image).await, third);

    // What is taken back counts no longer.
    app.delete(&vex).await;
    assert_eq!(counts(&client.inside(&image).await.unwrap()), (1, 0));

    // The same in an index, as BuildKit attests: it is heard, and an alert names the image no more, but the other one.
    let built = app.attested(&image, &openvex(&format!("pkg:oci/app@sha256%3A{}", image.hex()), "not_affected")).await;
    let lifted = || async {
        let one = finding(&client, &image).await;
        (one.lifted && one.verdict?.contains("not_affected")).then_some(())
    };
    rig::until("what the index attests is not heard", SECONDS_MAX, lifted).await.unwrap();
    for vulnerability in ["CVE-2026-30002", "CVE-2026-30001"] {
        client.advisories_take(advisories(vulnerability, "zlib1g").unwrap()).await.unwrap();
        rig::until("the advisory is not told", SECONDS_MAX, || async {
            let alerts = client.alerts(&PageQuery::default()).await.ok()?;
            let News::Advisory(news) = &alerts.items.first()?.news else { return None };
            let mut images: Vec<Digest> = news.images.iter().map(|one| one.digest).collect();
            images.sort();
            let mut wanted = if vulnerability == "CVE-2026-30001" { vec![later] } else { vec![image, later] };
            wanted.sort();
            (news.id == vulnerability)
                .then(|| assert_eq!((images, news.images_count), (wanted.clone(), wanted.len() as u64)))
        })
        .await
        .unwrap();
    }
    app.delete(&built).await;
    assert_eq!(counts(&client.inside(&image).await.unwrap()), (1, 0));

    // With the image, what was attached to it goes.
    app.delete(&index).await;
    app.delete(&image).await;
    let token = std::fs::read_to_string(hub.data.join("token")).unwrap();
    rig::until("what was attached is still there", SECONDS_MAX, || async {
        let collect = hub.client.post(hub.url("/api/v1/registry/collect")).bearer_auth(token.trim());
        collect.send().await.unwrap().error_for_status().unwrap();
        let mut there = app.referrers(&image).await.into_values().flatten().count();
        for manifest in third.values() {
            there += usize::from(app.get(&format!("manifests/{manifest}")).await.is_some());
        }
        (there == 0).then_some(())
    })
    .await
    .unwrap();
    hub.stop();
}

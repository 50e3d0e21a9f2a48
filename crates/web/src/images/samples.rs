//! Repositories, tags and images to render in tests.

use std::collections::BTreeMap;

use api::images::{
    Child, Configuration, Image, Images, Layer, ManifestKind, Meaning, Referrer, RepositoryBrief, TagBrief, TagOrder,
    TagPage,
};
use api::{Micros, Page, Problem, Result};
use async_trait::async_trait;
use base::page::PageRequest;
use maud::Markup;
use oci::{Digest, ManifestReference, RepositoryName, Tag, media};
use serde_json::json;

use super::{detail, repositories, tags};
use crate::inside::samples::inside;
use crate::inside::standing::Standing;

const NOW: Micros = Micros(1_790_000_000_000_000);
const REGISTRY: &str = "127.0.0.1:5000";
const MARKUP: &str = "</code><script>window.owned = 1</script>&amp;<img src=x onerror='window.owned = 2'>";

/// Every sample's `<main>` with its name.
pub(crate) fn all() -> Vec<(&'static str, Markup)> {
    let nothing = Page { items: Vec::new(), next: None };
    let standing = |image: &Image| match image.kind {
        ManifestKind::Artifact => Standing::Artifact,
        ManifestKind::Image => Standing::Image(Box::new(Ok(inside()))),
        ManifestKind::Index => {
            let child = |at: usize, inside| (image.children[at].clone(), inside);
            Standing::Index { platforms: vec![child(0, Ok(inside())), child(1, Err(unknown()))], more: 3 }
        }
    };
    let shown =
        |image: &Image| detail::main(image, &ManifestReference::Tag(tag("1.2")), &standing(image), REGISTRY, NOW);
    let by_digest =
        |image: &Image| detail::main(image, &ManifestReference::Digest(image.digest), &standing(image), REGISTRY, NOW);
    vec![
        ("repositories", repositories::main("", &some_repositories(), REGISTRY, NOW)),
        ("repositories_none", repositories::main("", &nothing, REGISTRY, NOW)),
        ("repositories_not_found", repositories::main("<b>\"&", &nothing, REGISTRY, NOW)),
        ("tags", tags::main(&some_tags(), TagOrder::Newest, NOW)),
        ("tags_none", tags::main(&no_tags(), TagOrder::Name, NOW)),
        ("image", shown(&image())),
        ("index", shown(&index())),
        ("artifact", by_digest(&chart())),
        ("hostile", by_digest(&hostile())),
        ("layers_1000", by_digest(&many_layers())),
    ]
}

fn digest(seed: u32) -> Digest {
    Digest::sha256_of(&seed.to_be_bytes())
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn ago(seconds: i64) -> Micros {
    NOW.plus_seconds(-seconds)
}

fn repository(name: &str, tags: u64) -> RepositoryBrief {
    RepositoryBrief {
        name: name.parse().unwrap(),
        tags,
        newest: (tags > 0).then(|| tag("1.2")),
        tagged_at: (tags > 0).then(|| ago(90)),
    }
}

fn some_repositories() -> Page<RepositoryBrief> {
    let long = format!("{}/{}", "team".repeat(30), "x".repeat(100));
    let items = vec![repository("team/empty", 0), repository("team/vote", 1000), repository(&long, 7)];
    Page { items, next: Some("team/vote".to_owned()) }
}

fn some_tags() -> TagPage {
    let brief = |text: &str, kind, artifact_type: Option<&str>, size, has_signature| TagBrief {
        tag: tag(text),
        digest: digest(size as u32),
        kind,
        artifact_type: artifact_type.map(str::to_owned),
        size,
        tagged_at: ago(size as i64 % 100_000),
        has_signature,
    };
    let items = vec![
        brief("1.2", ManifestKind::Image, None, 48_123_456, true),
        brief("multi", ManifestKind::Index, None, 148_123_456, false),
        brief("chart-1", ManifestKind::Artifact, Some("application/vnd.cncf.helm.config.v1+json"), 3_200, false),
        brief(&"t".repeat(128), ManifestKind::Image, None, 0, false),
    ];
    TagPage { repository: repository("team/vote", 4), page: Page { items, next: Some("1.x".to_owned()) } }
}

fn no_tags() -> TagPage {
    TagPage { repository: repository("team/empty", 0), page: Page { items: Vec::new(), next: None } }
}

fn bare() -> Image {
    Image {
        repository: "team/vote".parse().unwrap(),
        digest: digest(1),
        media_type: media::OCI_MANIFEST.to_owned(),
        kind: ManifestKind::Image,
        artifact_type: None,
        size: 48_123_456,
        pushed_at: ago(7200),
        tags: Vec::new(),
        subject: None,
        annotations: BTreeMap::new(),
        configuration: None,
        layers: Vec::new(),
        children: Vec::new(),
        referrers: Vec::new(),
        pins: Vec::new(),
    }
}

fn layer(seed: u32, created_by: Option<&str>, title: Option<&str>) -> Layer {
    Layer {
        digest: digest(seed),
        media_type: media::OCI_LAYER_GZIP.to_owned(),
        size: u64::from(seed) * 1_234_567,
        created_by: created_by.map(str::to_owned),
        title: title.map(str::to_owned),
    }
}

fn referrer(seed: u32, meaning: Meaning, artifact_type: &str) -> Referrer {
    let artifact_type = Some(artifact_type.to_owned());
    Referrer { digest: digest(seed), meaning, artifact_type, tag: None, pushed_at: ago(i64::from(seed)) }
}

fn configuration(line: &str) -> Configuration {
    let config = json!({
        "architecture": "arm64", "variant": "v8", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {
            "User": "1000:1000", "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}, "Env": ["PATH=/usr/bin", format!("LINE={line}")],
            "Entrypoint": ["python3", "server.py"], "Cmd": ["--port", "80", line], "WorkingDir": "/app",
            "Labels": {"org.opencontainers.image.source": "https://git.example.org/vote", "note": line},
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    Configuration::Image(Box::new(serde_json::from_value(config).unwrap()))
}

fn image() -> Image {
    Image {
        tags: (1..=20).map(|minor| tag(&format!("1.{minor}"))).collect(),
        configuration: Some(configuration("two words")),
        layers: vec![
            layer(30, Some("/bin/sh -c #(nop) ADD file:0 in / "), None),
            layer(2, Some("RUN /bin/sh -c apt-get update && apt-get install --yes python3 # buildkit"), None),
        ],
        referrers: vec![
            referrer(40, Meaning::Signature, "application/vnd.cncf.notary.signature"),
            Referrer { tag: Some(tag("sha256-0.sig")), ..referrer(41, Meaning::Signature, media::OCI_CONFIG) },
            referrer(42, Meaning::Attestation, "application/vnd.in-toto+json"),
            referrer(43, Meaning::Sbom, "application/spdx+json"),
            referrer(44, Meaning::Other, "application/vnd.example"),
        ],
        pins: vec!["release/0123456789abcdef".to_owned()],
        ..bare()
    }
}

fn index() -> Image {
    let child = |seed, platform: Option<&str>, size, annotations| Child {
        digest: digest(seed),
        media_type: media::OCI_MANIFEST.to_owned(),
        platform: platform.map(str::to_owned),
        size,
        annotations,
    };
    let attestation = BTreeMap::from([("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())]);
    Image {
        media_type: media::OCI_INDEX.to_owned(),
        kind: ManifestKind::Index,
        children: vec![
            child(2, Some("linux/amd64"), Some(48_000_000), BTreeMap::new()),
            child(3, Some("linux/arm64/v8"), None, BTreeMap::new()),
            child(4, None, Some(0), BTreeMap::new()),
            child(5, Some("unknown/unknown"), Some(2_000), attestation),
        ],
        ..bare()
    }
}

fn chart() -> Image {
    Image {
        kind: ManifestKind::Artifact,
        artifact_type: Some("application/vnd.cncf.helm.config.v1+json".to_owned()),
        size: 3_200,
        subject: Some(digest(9)),
        configuration: Some(Configuration::Foreign {
            media_type: "application/vnd.cncf.helm.config.v1+json".to_owned(),
        }),
        layers: vec![layer(1, None, Some("vote-0.1.0.tgz")), layer(2, None, None)],
        annotations: BTreeMap::from([("org.opencontainers.image.title".to_owned(), "vote".to_owned())]),
        ..bare()
    }
}

fn hostile() -> Image {
    Image {
        media_type: MARKUP.to_owned(),
        kind: ManifestKind::Artifact,
        artifact_type: Some(MARKUP.to_owned()),
        configuration: Some(configuration(MARKUP)),
        layers: vec![layer(1, Some(MARKUP), None), layer(2, None, Some(MARKUP))],
        referrers: vec![referrer(3, Meaning::Other, MARKUP)],
        pins: vec![MARKUP.to_owned()],
        annotations: BTreeMap::from([(MARKUP.to_owned(), MARKUP.to_owned())]),
        ..bare()
    }
}

fn many_layers() -> Image {
    Image {
        configuration: Some(Configuration::Unreadable { reason: "it is not here".to_owned() }),
        layers: (0..1000).map(|seed| layer(seed, None, None)).collect(),
        ..bare()
    }
}

/// A registry in which there are `team/vote:1`, `multi` and `chart-1`, and nothing else to see in full.
pub(crate) struct Fixed;

#[async_trait]
impl Images for Fixed {
    async fn repositories(&self, _: &str, _: &PageRequest) -> Result<Page<RepositoryBrief>> {
        Ok(some_repositories())
    }
    async fn tags(&self, repository: &RepositoryName, _: TagOrder, _: &PageRequest) -> Result<TagPage> {
        let page = some_tags();
        if page.repository.name == *repository { Ok(page) } else { Err(unknown()) }
    }
    async fn image(&self, _: &RepositoryName, reference: &ManifestReference) -> Result<Image> {
        match reference.to_string().as_str() {
            "1" => Ok(image()),
            "multi" => Ok(index()),
            "chart-1" => Ok(chart()),
            text if text == image().digest.to_string() => Ok(image()),
            _ => Err(unknown()),
        }
    }
}

fn unknown() -> Problem {
    Problem::new(404, "registry-name-unknown", "The registry refused").detail("there is none")
}

#[test]
fn pages_look_as_they_should() {
    for (name, main) in all() {
        let html = main.into_string();
        assert!(!html.contains("<script") && !html.contains("<img"), "{name}: a stranger's markup is markup");
        // A thousand lines of the same say no more than some.
        let lines: String = crate::samples::lines(&html).lines().take(160).map(|line| format!("{line}\n")).collect();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../snapshots");
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, lines));
    }
}

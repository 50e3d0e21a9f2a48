//! What is new: advisories, and images.

use std::time::{Duration, Instant};

use anyhow::ensure;
use api::client::PageQuery;
use api::inspect::{Examination, Sought};
use bench::median;
use bench::report::Row;
use bytes::Bytes;
use inspect::advisory::osv::Advisory;
use inspect::finding::Gathered;
use oci::{Digest, media};

use crate::hub::{Hub, refused};
use crate::{Advisories, Ground, SECONDS_MAX};

const ALL_SECONDS: f64 = 10.0;
const ONE_SECONDS: f64 = 1.0;
const LAYER_MILLIS: f64 = 50.0;
/// Seconds that Dependency-Track is reported to take for 2,000 projects.
const PUBLISHED_SECONDS: f64 = 22.0 * 3600.0;
const PAUSE: Duration = Duration::from_millis(2);

/// All advisories against all images.
pub(crate) async fn all(ground: &Ground) -> anyhow::Result<Vec<Row>> {
    let file = ground.advisories.file()?;
    let count = ground.advisories.records.len();
    let begun = Instant::now();
    ground.hub.client.advisories_take(file).await.map_err(refused)?;
    eprintln!("{count} advisories were taken in after {:.1?}", begun.elapsed());
    loop {
        let known = ground.hub.client.advisories().await.map_err(refused)?;
        if known.waiting == 0 {
            ensure!(known.count == count as u64, "{known:?}");
            break;
        }
        ensure!(begun.elapsed().as_secs() < SECONDS_MAX, "{} components wait to be compared", known.waiting);
        tokio::time::sleep(50 * PAUSE).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(vec![Row {
        row: format!("{count} advisories, {} images", ground.portfolio.images),
        value: seconds,
        unit: "s until all is compared".to_owned(),
        peer: "Dependency-Track, published".to_owned(),
        peer_value: Some(PUBLISHED_SECONDS),
        target: format!("<= {ALL_SECONDS} s"),
        holds: Some(seconds <= ALL_SECONDS),
    }])
}

/// One new advisory among all: until all images that it affects are told.
pub(crate) async fn one(ground: &Ground) -> anyhow::Result<Vec<Row>> {
    let mut seconds = Vec::new();
    let mut most = 0;
    for round in 0..ground.rounds {
        let (_, common) = ground.portfolio.rare_and_common(2 * round + 1);
        let wanted = ground.portfolio.images_with(common.ecosystem, &common.name);
        most = most.max(wanted);
        let ecosystem = match common.ecosystem {
            inspect::component::Ecosystem::Npm => "npm",
            inspect::component::Ecosystem::PyPi => "PyPI",
            inspect::component::Ecosystem::Cargo => "crates.io",
            inspect::component::Ecosystem::Go => "Go",
            other => anyhow::bail!("{} is not among what images have in common", other.word()),
        };
        let id = format!("CVE-2999-{round}");
        let text = format!(
            r#"{{"id": "{id}", "modified": "2026-01-02T03:04:05Z", "summary": "It is wrong.", "affected": [{{"package":
               {{"ecosystem": "{ecosystem}", "name": "{}"}}, "ranges": [{{"type": "ECOSYSTEM",
               "events": [{{"introduced": "0"}}]}}]}}]}}"#,
            common.name
        );
        let Advisories { data, records, lists } = &ground.advisories;
        let mut gathered = Gathered::of(data, records.iter().cloned(), lists.clone())?;
        let now = jiff::Timestamp::now();
        let source = gathered.begin("new", now)?;
        gathered.add(source, &Advisory::parse(text.as_bytes())?, now)?;
        let (data, records, lists) = gathered.records()?;
        let file = Advisories { data, records, lists }.file()?;
        let begun = Instant::now();
        ground.hub.client.advisories_take(file).await.map_err(refused)?;
        let sought = Sought::Advisory { id };
        loop {
            let found = ground.hub.client.find(&sought, false, &PageQuery::default()).await.map_err(refused)?;
            if found.images_count >= wanted {
                ensure!(found.images_count == wanted, "{} images, and {wanted} have it", found.images_count);
                break;
            }
            ensure!(begun.elapsed().as_secs() < SECONDS_MAX, "{} of {wanted} images are told", found.images_count);
            tokio::time::sleep(PAUSE).await;
        }
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let seconds = median(seconds);
    Ok(vec![Row {
        row: format!("one new advisory, up to {most} images affected"),
        value: seconds,
        unit: "s until all are told".to_owned(),
        peer: "Dependency-Track, published".to_owned(),
        peer_value: Some(PUBLISHED_SECONDS),
        target: format!("<= {ONE_SECONDS} s"),
        holds: Some(seconds <= ONE_SECONDS),
    }])
}

/// A layer that was read before: the push of another image that has it, until its contents are known.
pub(crate) async fn layer(ground: &Ground) -> anyhow::Result<Vec<Row>> {
    let status: String = (0..crate::portfolio::COMPONENTS)
        .map(|at| {
            format!("Package: part-{at}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.{at}-1\n\n")
        })
        .collect();
    let system = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
    let files = [("etc/os-release", system.as_bytes().to_vec()), ("var/lib/dpkg/status", status.into_bytes())];
    let (_, first) = pushed(&ground.hub, "bench/layers", "first", &files).await?;
    let mut millis = Vec::new();
    for round in 0..ground.rounds.max(1) * 4 {
        let (_, took) = pushed(&ground.hub, "bench/layers", &format!("again-{round}"), &files).await?;
        millis.push(took.as_secs_f64() * 1e3);
    }
    let millis = median(millis);
    Ok(vec![Row {
        row: "a layer seen before, 800 components".to_owned(),
        value: millis,
        unit: "ms from push to contents".to_owned(),
        peer: "the same, not seen before".to_owned(),
        peer_value: Some(first.as_secs_f64() * 1e3),
        target: format!("<= {LAYER_MILLIS} ms"),
        holds: Some(millis <= LAYER_MILLIS),
    }])
}

/// Pushes an image of one layer with these files, and says how long it was from the answer to its manifest until its
/// contents were known.
pub(crate) async fn pushed(
    hub: &Hub,
    repository: &str,
    tag: &str,
    files: &[(&str, Vec<u8>)],
) -> anyhow::Result<(Digest, Duration)> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content.as_slice())?;
    }
    let layer = Bytes::from(archive.into_inner()?);
    let diff = Digest::sha256_of(&layer);
    // Another tag is another image.
    let config = Bytes::from(format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"tag":"{tag}"}}}},"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
    ));
    let repository = repository.parse()?;
    for content in [&config, &layer] {
        hub.blob_push(&repository, content).await?;
    }
    let describe = |media_type: &str, content: &Bytes| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::sha256_of(content), content.len())
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media::OCI_MANIFEST,
        describe(media::OCI_CONFIG, &config),
        describe(media::OCI_LAYER, &layer)
    );
    let digest = Digest::sha256_of(manifest.as_bytes());
    hub.manifest_push(&repository, tag, manifest).await?;
    let begun = Instant::now();
    loop {
        match hub.client.inside(&digest).await {
            Ok(inside) if matches!(inside.examination, Examination::Done { .. }) => {
                return Ok((digest, begun.elapsed()));
            }
            Ok(inside) => ensure!(inside.examination == Examination::Waiting, "{inside:?}"),
            Err(problem) => ensure!(problem.status == 404, "{problem:?}"),
        }
        ensure!(begun.elapsed().as_secs() < SECONDS_MAX, "the image is not examined");
        tokio::time::sleep(PAUSE).await;
    }
}

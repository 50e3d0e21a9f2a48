//! What is inside images that are pushed, and where it runs: through the hub, the registry and real hosts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ::inspect::advisory::osv::Advisory;
use ::inspect::finding::{Gathered, store};
use anyhow::{Context, ensure};
use api::client::{HubClient, PageQuery};
use api::inspect::{DocumentFormat, Evidence, Examination, Inside, InsideFilter, Sought, Where};
use base::guard::TokenFile;
use bytes::Bytes;
use oci::Digest;
use serde_json::{Value, json};

use crate::lone::Lone;
use crate::rollout::{first_release, version, webs};
use crate::scene::{LIMIT, Scene, folder, on_scene, refused};

/// How long an image of this size may take to be read on a busy machine.
const SECONDS_MAX: Duration = Duration::from_secs(60);

fn component(name: &str) -> Sought {
    Sought::Component { ecosystem: Some("deb".to_owned()), name: name.to_owned(), version: None }
}

async fn find(scene: &Scene, sought: &Sought, history: bool) -> anyhow::Result<Where> {
    scene.client().find(sought, history, &PageQuery::default()).await.map_err(refused)
}

/// Hosts of the environment that have what is sought.
fn hosts(found: &Where, service: &str, env: &str) -> BTreeSet<String> {
    let releases = found.images.items.iter().flat_map(|image| &image.releases);
    let exposures = releases.filter(|release| release.service.as_str() == service).flat_map(|one| &one.environments);
    let there = exposures.filter(|exposure| exposure.environment.as_str() == env && exposure.to.is_none());
    there.flat_map(|exposure| &exposure.hosts).map(ToString::to_string).collect()
}

/// A file of advisories with one on a package of Debian 12.
pub(crate) fn advisories(id: &str, source: &str) -> anyhow::Result<Vec<u8>> {
    let text = format!(
        r#"{{"id": "{id}", "modified": "2026-01-02T03:04:05Z", "aliases": ["GHSA-test-{}"], "summary": "It is wrong.",
            "affected": [{{"package": {{"ecosystem": "Debian:12", "name": "{source}"}},
            "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "99:1-1"}}]}}]}}]}}"#,
        id.to_lowercase()
    );
    let advisory = Advisory::parse(text.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let now = "2026-02-01T00:00:00Z".parse()?;
    let mut gathered = Gathered::default();
    let number = gathered.begin("test", now)?;
    gathered.add(number, &advisory, now)?;
    let (data, records, lists) = gathered.records()?;
    Ok(store::encode(&data, &records, &lists)?)
}

#[test]
fn what_is_pushed_is_known_within_seconds_and_found_where_it_runs() {
    on_scene(folder("tests/app"), |scene| async move {
        let result = known_and_found(&scene).await;
        (scene, result)
    });
}

async fn known_and_found(scene: &Scene) -> anyhow::Result<()> {
    first_release(scene).await?;
    let digest = webs(scene).await?.first().context("nothing runs")?.digest;
    let client = scene.client();
    let begun = Instant::now();
    let inside = rig::until("the image is not examined", SECONDS_MAX, || async {
        let inside = client.inside(&digest).await.ok()?;
        matches!(inside.examination, Examination::Done { .. }).then_some(inside)
    })
    .await?;
    println!("{} components, {:.1?} after the rollout", inside.components, begun.elapsed());
    ensure!(inside.components > 50, "{inside:#?}");
    ensure!(inside.operating_system.as_deref().is_some_and(|system| system.contains("bookworm")), "{inside:#?}");
    ensure!(inside.advisories.count == 0 && inside.findings.is_empty(), "{inside:#?}");

    let filter = InsideFilter { search: Some("python3-minimal".to_owned()), ..InsideFilter::default() };
    let page = client.inside_components(&digest, &filter, &PageQuery::default()).await.map_err(refused)?;
    let python = page.items.first().context("python3-minimal is not among its components")?;
    ensure!(python.evidence == Evidence::Installed && python.places[0].layer.is_some(), "{python:#?}");

    let everywhere: BTreeSet<String> = scene.hosts.iter().map(ToString::to_string).collect();
    let found = rig::until("it is not found where it runs", LIMIT, || async {
        let found = find(scene, &component("python3-minimal"), false).await.ok()?;
        (hosts(&found, "web", "prod") == everywhere).then_some(found)
    })
    .await?;
    let image = found.images.items.iter().find(|image| image.digest == digest).context("another image was found")?;
    ensure!(image.components.iter().any(|one| one.id == python.id && !one.places.is_empty()), "{image:#?}");
    ensure!(find(scene, &component("no-such-package"), true).await?.images_count == 0, "what is not there was found");

    let id = "CVE-2026-10001";
    client.advisories_take(advisories(id, "python3-defaults")?).await.map_err(refused)?;
    let taken = Instant::now();
    let sought = Sought::Advisory { id: id.to_lowercase() };
    let found = rig::until("the advisory is not matched", SECONDS_MAX, || async {
        let found = find(scene, &sought, false).await.ok()?;
        (hosts(&found, "web", "prod") == everywhere).then_some(found)
    })
    .await?;
    println!("a new advisory was matched after {:.1?}", taken.elapsed());
    let advisory = found.advisory.as_ref().context("the advisory is not told")?;
    ensure!(advisory.id == id && advisory.first_seen.is_some(), "{advisory:#?}");
    let web = found.fixes.iter().find(|fix| fix.service.as_str() == "web").context("no word of a fix")?;
    ensure!(web.release.is_none(), "nothing is fixed yet: {web:#?}");
    let findings = client.inside_findings(&digest, &InsideFilter::default(), &PageQuery::default()).await;
    let findings = findings.map_err(refused)?;
    ensure!(findings.items.iter().any(|finding| finding.id == id && finding.component == python.id), "{findings:#?}");

    // A release without the package is the fix, and the history tells of the time before.
    scene.repository.edit(
        "web/Dockerfile",
        "python3-minimal libpython3-stdlib",
        "python3.11-minimal libpython3.11-stdlib",
    )?;
    scene.repository.edit("web/Dockerfile", "WORKDIR", "RUN ln -sf python3.11 /usr/bin/python3\nWORKDIR")?;
    version(scene, 2).await?;
    let plan = scene.promote("app", "prod").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    rig::until("the fix is not told, or not how long it was without", LIMIT, || async {
        let found = find(scene, &sought, true).await.ok()?;
        let fix = found.fixes.iter().find(|fix| fix.service.as_str() == "web")?;
        let is_fixed = fix.release.is_some() && fix.environments.iter().any(|env| env.as_str() == "prod");
        let releases = found.images.items.iter().flat_map(|image| &image.releases);
        let mut past =
            releases.filter(|release| release.service.as_str() == "web").flat_map(|release| &release.environments);
        (is_fixed && past.any(|exposure| exposure.to.is_some_and(|to| to > exposure.from))).then_some(())
    })
    .await?;
    Ok(())
}

/// An archive of files, as layers are.
pub(crate) fn archive(files: &[(&str, &str)]) -> Bytes {
    let mut bytes = Vec::new();
    for (path, content) in files {
        let mut header = [0_u8; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        header[154] = 0;
        bytes.extend(header);
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes.into()
}

pub(crate) const SYSTEM: &str = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";

pub(crate) fn status(packages: &[(&str, &str)]) -> String {
    let one = |(name, version): &(&str, &str)| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    packages.iter().map(one).collect()
}

pub(crate) fn configuration(layers: &[Bytes]) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::sha256_of(layer).to_string()).collect();
    json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } })
}

pub(crate) async fn examined(client: &HubClient, digest: &Digest) -> Inside {
    let inside = || async {
        let inside = client.inside(digest).await.ok()?;
        (inside.examination != Examination::Waiting).then_some(inside)
    };
    rig::until("the image is not examined", SECONDS_MAX, inside).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_layer_is_read_once_and_what_cannot_be_read_is_never_called_clean() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Lone::start(folder.path(), "", &[]);
    let client =
        HubClient::new(hub.url("/").parse().unwrap(), Some(TokenFile::create_or_read(folder.path()).unwrap())).unwrap();
    let packages = status(&[("zlib1g", "1:1.2.13.dfsg-1"), ("libssl3", "3.0.11-1~deb12u2")]);
    let base = [archive(&[("etc/os-release", SYSTEM), ("var/lib/dpkg/status", &packages)])];
    let base_digest = hub.push("team/base", "1", &configuration(&base), &base).await;
    let inside = examined(&client, &base_digest).await;
    assert!(matches!(inside.examination, Examination::Done { unexamined: 0, .. }), "{inside:?}");
    assert_eq!((inside.components, inside.operating_system.as_deref()), (2, Some("Debian GNU/Linux 12 (bookworm)")));

    // An image on top of it: its own layer alone is new, and the package that it removes is not there.
    let fewer = status(&[("zlib1g", "1:1.2.13.dfsg-1")]);
    let lock = r#"{"name": "a", "lockfileVersion": 3, "packages": {"node_modules/left-pad": {"version": "1.3.0", "license": "WTFPL"}}}"#;
    let own = archive(&[("var/lib/dpkg/status", &fewer), ("app/package-lock.json", lock)]);
    let layers = [base[0].clone(), own];
    let digest = hub.push("team/app", "1", &configuration(&layers), &layers).await;
    let inside = examined(&client, &digest).await;
    assert_eq!(inside.components, 2, "{inside:?}");
    let base_of = inside.base.as_ref().unwrap();
    assert_eq!((base_of.digest, base_of.layers, base_of.newer), (base_digest, 1, None));
    let find = async |sought: Sought| client.find(&sought, false, &PageQuery::default()).await.unwrap();
    let digests = |found: &Where| found.images.items.iter().map(|image| image.digest).collect::<BTreeSet<_>>();
    assert_eq!(digests(&find(component("zlib1g")).await), [base_digest, digest].into());
    assert_eq!(digests(&find(component("libssl3")).await), [base_digest].into());
    let npm =
        find(Sought::Component { ecosystem: None, name: "left-pad".to_owned(), version: Some("1.3.0".to_owned()) })
            .await;
    assert_eq!((digests(&npm), npm.images.items[0].tags.clone()), ([digest].into(), vec!["1".to_owned()]));
    assert_eq!(npm.images.items[0].components[0].places[0].chain, ["/app/package-lock.json"]);
    let licence = find(Sought::Licence { id: "wtfpl".to_owned() }).await;
    assert_eq!(licence.images.items[0].components[0].id, npm.images.items[0].components[0].id);

    let difference = client.inside_difference(&base_digest, &digest).await.unwrap();
    let names: Vec<&str> = difference.components.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["libssl3", "left-pad"]);
    let document = client.inside_document(&digest, DocumentFormat::Cyclonedx).await.unwrap();
    assert_eq!(document, client.inside_document(&digest, DocumentFormat::Cyclonedx).await.unwrap());

    // A file of advisories, and then one with another advisory: what it speaks of is found, the rest stays as it was.
    client.advisories_take(advisories("CVE-2026-20001", "zlib1g").unwrap()).await.unwrap();
    let known = async |id: &str| {
        let sought = Sought::Advisory { id: id.to_owned() };
        rig::until("the advisory is not matched", SECONDS_MAX, || async {
            let found = client.find(&sought, false, &PageQuery::default()).await.ok()?;
            (found.images_count > 0).then_some(found)
        })
        .await
        .unwrap()
    };
    let found = known("CVE-2026-20001").await;
    assert_eq!(digests(&found), [base_digest, digest].into());
    assert_eq!(found.images.items[0].components[0].fixed_in, ["99:1-1"]);
    // Nothing is known of what is wrong with npm packages: that none was found says nothing.
    assert_eq!(client.inside(&digest).await.unwrap().uncompared, ["1 npm component: no advisory is known"]);
    assert!(client.inside(&base_digest).await.unwrap().uncompared.is_empty());
    client.advisories_take(advisories("CVE-2026-20002", "libssl3").unwrap()).await.unwrap();
    assert_eq!(digests(&known("GHSA-test-cve-2026-20002").await), [base_digest].into());
    let gone = find(Sought::Advisory { id: "CVE-2026-20001".to_owned() }).await;
    assert_eq!((gone.images_count, gone.advisory), (0, None));
    assert_eq!(client.inside(&base_digest).await.unwrap().findings.values().sum::<u64>(), 1);

    let evidence = client.inside_evidence(&digest).await.unwrap();
    let envelope: Value = serde_json::from_str(&evidence.envelope).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    assert_eq!(evidence.licences.get("WTFPL"), Some(&1));

    // A layer that is no archive, and a configuration that is none.
    let broken = [Bytes::from_static(b"this is no archive, whatever its type says")];
    let broken_digest = hub.push("team/broken", "1", &configuration(&broken), &broken).await;
    let inside = examined(&client, &broken_digest).await;
    assert!(matches!(inside.examination, Examination::Done { unexamined: 1.., .. }), "{inside:?}");
    let nothing = hub.push("team/nothing", "1", &json!("nothing"), &base).await;
    let inside = examined(&client, &nothing).await;
    assert!(
        matches!(&inside.examination, Examination::Failed { why, .. } if why.contains("configuration")),
        "{inside:?}"
    );
    assert_eq!(
        client.inside_components(&nothing, &InsideFilter::default(), &PageQuery::default()).await.unwrap_err().status,
        409
    );
    assert_eq!(find(component("zlib1g")).await.images_incomplete, 2);

    // All of that is there after a crash.
    hub.kill_and_start();
    assert_eq!(digests(&find(component("zlib1g")).await), [base_digest, digest].into());
    hub.stop();
}

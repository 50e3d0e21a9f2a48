//! Insides of images to render in tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::inspect::{
    Advisories, Alert, Base, Component, ComponentDifference, ConfigurationDifference, ContentsEvidence, DocumentFormat,
    Evidence, Examination, FileDifference, FileKind, FileState, FilesDifference, Finding, ImageDifference, Inside,
    InsideFilter, Inspect, Inventory, Place, Secret, Severity, Sought, Unexamined, Where,
};
use api::{Micros, Page, Problem, Result};
use async_trait::async_trait;
use axum::body::Bytes;
use base::page::PageRequest;
use base::shutdown::Shutdown;
use oci::Digest;
use tokio::sync::watch;

use super::{View, ViewQuery, shown};
use crate::images::Asked;
use crate::samples::OverviewOnly;
use crate::{Pages, fanout, images, impact};

pub(crate) const NOW: Micros = Micros(1_790_000_000_000_000);
pub(crate) const MARKUP: &str =
    "</code><script>window.owned = 1</script>&<img src=x onerror='window.owned = 2'>\u{202e}gpj";

/// Inspection that knows of every image the same.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) inside: Mutex<Inside>,
    components: Vec<Component>,
    findings: Vec<Finding>,
    unexamined: Vec<Unexamined>,
    secrets: Vec<Secret>,
    inventory: Inventory,
    difference: ImageDifference,
    changes: watch::Sender<u64>,
}

fn ago(seconds: i64) -> Micros {
    NOW.plus_seconds(-seconds)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn digest(seed: u32) -> Digest {
    Digest::sha256_of(&seed.to_be_bytes())
}

pub(crate) fn place(layer: u32, chain: &[&str]) -> Place {
    Place { layer: Some(layer), chain: texts(chain) }
}

pub(crate) fn advisories() -> Advisories {
    Advisories { count: 21_000, newest: Some(ago(10_800)), taken_in: Some(ago(3_600)), waiting: 0 }
}

fn component(ecosystem: &str, name: &str, version: &str, evidence: Evidence, place: Place) -> Component {
    Component {
        id: format!("{ecosystem}/{name}@{version}"),
        ecosystem: ecosystem.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        purl: None,
        evidence,
        places: vec![place],
        owner: None,
        licences: texts(&["Apache-2.0"]),
        worst: None,
    }
}

fn log4j() -> Component {
    let nested = place(1, &["opt/bundle.zip", "dist.tar.gz", "app.war", "WEB-INF/lib/log4j-core-2.14.1.jar"]);
    Component {
        purl: Some("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1".to_owned()),
        places: vec![
            nested,
            place(1, &["opt/app.jar"]),
            place(0, &["usr/share/java/log4j-core.jar"]),
            place(1, &["srv/a.jar"]),
        ],
        owner: Some("liblog4j2-java".to_owned()),
        worst: Some(Severity::Critical),
        ..component("maven", "org.apache.logging.log4j:log4j-core", "2.14.1", Evidence::Contained, place(1, &[]))
    }
}

fn components() -> Vec<Component> {
    let status = || place(0, &["var/lib/dpkg/status"]);
    vec![
        Component {
            licences: texts(&["GPL-3.0-or-later WITH GCC-exception-3.1", "see the file COPYING"]),
            ..component("deb", "libgcc-s1", "12.2.0-14", Evidence::Installed, status())
        },
        Component {
            worst: Some(Severity::Unknown),
            licences: Vec::new(),
            ..component("deb", "zlib1g", "1:1.2.13.dfsg-1", Evidence::Installed, status())
        },
        component("generic", "busybox", "", Evidence::Inferred, place(1, &["bin/busybox"])),
        log4j(),
        component("npm", "@babel/core", "7.20.1", Evidence::Contained, place(1, &["app/package-lock.json"])),
    ]
}

pub(crate) fn finding(id: &str, component: &Component, severity: Severity) -> Finding {
    Finding {
        id: id.to_owned(),
        aliases: Vec::new(),
        component: component.id.clone(),
        summary: Some("Something is wrong with it".to_owned()),
        severity,
        cvss_tenths: None,
        epss_basis_points: None,
        known_exploited: false,
        range: "every version".to_owned(),
        fixed_in: Vec::new(),
        evidence: component.evidence,
        verdict: None,
        lifted: false,
        first_seen: ago(500_000),
        places: component.places.clone(),
    }
}

fn findings() -> Vec<Finding> {
    let all = components();
    vec![
        Finding {
            aliases: texts(&["GHSA-jfh8-c2jp-5v3q"]),
            summary: Some("Remote code injection in Log4j".to_owned()),
            cvss_tenths: Some(100),
            epss_basis_points: Some(9_446),
            known_exploited: true,
            range: ">= 2.13.0, < 2.15.0".to_owned(),
            fixed_in: texts(&["2.15.0"]),
            verdict: Some("“not affected” by team@example.org is for another product: it does not apply".to_owned()),
            ..finding("CVE-2021-44228", &all[3], Severity::Critical)
        },
        finding("CVE-2023-45853", &all[1], Severity::Unknown),
        Finding {
            lifted: true,
            verdict: Some("not affected: vulnerable code not in execute path (team@example.org)".to_owned()),
            cvss_tenths: Some(55),
            ..finding("CVE-2023-0001", &all[4], Severity::Medium)
        },
    ]
}

fn inventory(components: &[Component]) -> Inventory {
    let mut inventory = Inventory { layers: vec![0, 0], ..Inventory::default() };
    for component in components {
        *inventory.ecosystems.entry(component.ecosystem.clone()).or_default() += 1;
        let layer = component.places.first().and_then(|place| place.layer).unwrap_or_default() as usize;
        if let Some(number) = inventory.layers.get_mut(layer) {
            *number += 1;
        }
        inventory.unlicensed += u64::from(component.licences.is_empty());
        for licence in &component.licences {
            *inventory.licences.entry(licence.clone()).or_default() += 1;
        }
    }
    inventory
}

pub(crate) fn inside() -> Inside {
    Inside {
        digest: digest(1),
        examination: Examination::Done { at: ago(7_200), unexamined: 2 },
        operating_system: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
        components: 5,
        findings: BTreeMap::from([(Severity::Critical, 1), (Severity::Unknown, 1)]),
        known_exploited: 1,
        lifted: 1,
        secrets: Some(1),
        base: Some(Base {
            repository: "library/debian".parse().unwrap(),
            digest: digest(50),
            layers: 1,
            newer: Some(digest(51)),
        }),
        advisories: advisories(),
        uncompared: vec!["1 npm component: no advisory is known".to_owned()],
        notes: Vec::new(),
    }
}

fn difference() -> ImageDifference {
    let component = |name: &str, before: &[&str], after: &[&str]| ComponentDifference {
        ecosystem: "maven".to_owned(),
        name: name.to_owned(),
        before: texts(before),
        after: texts(after),
    };
    ImageDifference {
        components: vec![
            component("org.apache.logging.log4j:log4j-core", &["2.14.1", "2.13.0"], &["2.17.1"]),
            component("org.slf4j:slf4j-api", &[], &["2.0.9"]),
            component("shaded", &[""], &[]),
        ],
        findings_new: Vec::new(),
        findings_gone: findings().into_iter().take(1).collect(),
        configuration: vec![ConfigurationDifference {
            key: "env PATH".to_owned(),
            before: Some("/usr/bin".to_owned()),
            after: None,
        }],
        files: FilesDifference {
            added: 1,
            removed: 0,
            changed: 2,
            items: vec![
                file("/opt/app/app.jar", Some(state(5_242_880, "00ff")), Some(state(5_242_880, "11ee"))),
                file("/opt/app/start.sh", Some(state(120, "22")), Some(FileState { mode: 0o4755, ..state(121, "33") })),
                file(
                    "/opt/app/latest",
                    None,
                    Some(FileState { kind: FileKind::Symlink, link: Some("app.jar".to_owned()), ..state(0, "") }),
                ),
            ],
            not_compared: None,
        },
    }
}

fn secret(place: Place, redacted: &str) -> Secret {
    Secret { rule: "private-key".to_owned(), place, line: Some(1), redacted: redacted.to_owned(), deleted: true }
}

fn file(path: &str, before: Option<FileState>, after: Option<FileState>) -> FileDifference {
    FileDifference { path: path.to_owned(), before, after }
}

fn state(size: u64, content: &str) -> FileState {
    let content = Some(content.to_owned());
    FileState { kind: FileKind::File, size, mode: 0o644, uid: 0, gid: 0, link: None, content }
}

impl Default for Fixed {
    fn default() -> Self {
        let unexamined = vec![
            Unexamined { place: place(1, &["opt/secret.zip", "inner.zip"]), why: "it is encrypted".to_owned() },
            Unexamined { place: Place { layer: None, chain: texts(&["swap.img"]) }, why: "it is too large".to_owned() },
        ];
        Self {
            inside: Mutex::new(inside()),
            components: components(),
            findings: findings(),
            unexamined,
            secrets: vec![secret(place(1, &["root/.ssh/id_rsa"]), "-----BEGIN … (1704 bytes)")],
            inventory: inventory(&components()),
            difference: difference(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Fixed {
    /// Nothing in it, as far as it was examined and matched.
    fn empty(examination: Examination, advisories: Advisories) -> Self {
        let inside = Inside {
            examination,
            operating_system: None,
            components: 0,
            findings: BTreeMap::new(),
            known_exploited: 0,
            lifted: 0,
            secrets: None,
            base: None,
            advisories,
            uncompared: Vec::new(),
            ..inside()
        };
        Self {
            inside: Mutex::new(inside),
            components: Vec::new(),
            findings: Vec::new(),
            unexamined: Vec::new(),
            secrets: Vec::new(),
            inventory: Inventory::default(),
            difference: ImageDifference {
                components: Vec::new(),
                findings_new: Vec::new(),
                findings_gone: Vec::new(),
                configuration: Vec::new(),
                files: FilesDifference::default(),
            },
            changes: watch::Sender::new(0),
        }
    }

    /// Whatever a stranger writes is markup.
    fn hostile() -> Self {
        let evil = || MARKUP.to_owned();
        let component = Component {
            id: evil(),
            ecosystem: evil(),
            name: evil(),
            version: evil(),
            purl: Some(evil()),
            owner: Some(evil()),
            licences: vec![evil()],
            places: vec![place(0, &[MARKUP, MARKUP])],
            ..log4j()
        };
        let finding = Finding {
            aliases: vec![evil()],
            summary: Some(evil()),
            range: evil(),
            fixed_in: vec![evil()],
            verdict: Some(evil()),
            ..finding(MARKUP, &component, Severity::High)
        };
        let difference = ImageDifference {
            components: vec![ComponentDifference {
                ecosystem: evil(),
                name: evil(),
                before: vec![evil()],
                after: vec![evil()],
            }],
            findings_new: vec![finding.clone()],
            findings_gone: vec![finding.clone()],
            configuration: vec![ConfigurationDifference { key: evil(), before: Some(evil()), after: Some(evil()) }],
            files: FilesDifference {
                changed: 1,
                items: vec![file(
                    MARKUP,
                    Some(FileState { kind: FileKind::Symlink, link: Some(evil()), ..state(0, MARKUP) }),
                    Some(FileState { kind: FileKind::HardLink, link: Some(evil()), ..state(0, MARKUP) }),
                )],
                ..FilesDifference::default()
            },
        };
        Self {
            inside: Mutex::new(Inside { operating_system: Some(evil()), ..inside() }),
            inventory: inventory(std::slice::from_ref(&component)),
            unexamined: vec![Unexamined { place: place(0, &[MARKUP]), why: evil() }],
            secrets: vec![Secret { rule: evil(), ..secret(place(0, &[MARKUP]), MARKUP) }],
            components: vec![component],
            findings: vec![finding],
            difference,
            changes: watch::Sender::new(0),
        }
    }

    /// More of everything than a page can hold.
    fn enormous() -> Self {
        let long = "long/".repeat(200);
        let chain = |length: usize| vec![long.clone(); length];
        let mut component = log4j();
        component.places = vec![Place { layer: Some(7), chain: chain(10) }; 40];
        component.licences = (0..200).map(|number| format!("LicenseRef-{number}")).collect();
        let names = component.licences.clone();
        let range = long.clone();
        let finding = Finding {
            fixed_in: names.clone(),
            aliases: names,
            range,
            ..finding("CVE-2021-44228", &component, Severity::High)
        };
        let brief = Finding { places: Vec::new(), ..finding.clone() };
        let of = |number: usize| ComponentDifference {
            ecosystem: "npm".to_owned(),
            name: format!("package-{number}"),
            before: Vec::new(),
            after: vec![long.clone()],
        };
        let difference = ImageDifference {
            components: (0..2_000).map(of).collect(),
            findings_new: vec![brief.clone(); 2_000],
            findings_gone: vec![brief; 2_000],
            configuration: Vec::new(),
            files: FilesDifference {
                added: u64::MAX,
                removed: u64::MAX,
                items: vec![file(&long, Some(state(u64::MAX, &long)), None); 2_000],
                ..FilesDifference::default()
            },
        };
        let numbers = |word: &str| (0..2_000).map(|number| (format!("{word}-{number}"), 1)).collect();
        let inventory = Inventory {
            ecosystems: numbers("ecosystem"),
            layers: vec![u64::MAX; 500],
            licences: numbers("licence"),
            unlicensed: u64::MAX,
        };
        let one = Unexamined { place: Place { layer: Some(u32::MAX), chain: chain(1_000) }, why: long.clone() };
        let findings = BTreeMap::from([(Severity::Critical, u64::MAX), (Severity::High, u64::MAX)]);
        Self {
            inside: Mutex::new(Inside {
                components: u64::MAX,
                uncompared: vec!["y".repeat(100_000); 1_000],
                notes: vec!["z".repeat(100_000); 1_000],
                findings,
                lifted: u64::MAX,
                ..inside()
            }),
            components: vec![component; 20],
            findings: vec![finding; 20],
            unexamined: vec![one; 20],
            secrets: vec![secret(Place { layer: Some(u32::MAX), chain: chain(1_000) }, &long); 20],
            inventory,
            difference,
            changes: watch::Sender::new(0),
        }
    }

    /// How far it was examined from now on.
    pub(crate) fn change(&self, examination: Examination) {
        self.inside.lock().unwrap().examination = examination;
        self.changes.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Inspect for Fixed {
    async fn inside(&self, _: &Digest) -> Result<Inside> {
        Ok(self.inside.lock().unwrap().clone())
    }
    async fn inventory(&self, _: &Digest) -> Result<Inventory> {
        Ok(self.inventory.clone())
    }
    async fn components(&self, _: &Digest, filter: &InsideFilter, page: &PageRequest) -> Result<Page<Component>> {
        let is_like = |component: &&Component| {
            filter.search.as_ref().is_none_or(|text| component.id.contains(text))
                && filter.ecosystem.as_ref().is_none_or(|ecosystem| component.ecosystem == *ecosystem)
                && filter.licence.as_ref().is_none_or(|licence| component.licences.contains(licence))
                && filter.layer.is_none_or(|layer| component.places.iter().any(|place| place.layer == Some(layer)))
        };
        let items: Vec<Component> = self.components.iter().filter(is_like).take(page.limit as usize).cloned().collect();
        let next = (items.len() > 4).then(|| "maven/<&>".to_owned());
        Ok(Page { items, next })
    }
    async fn findings(&self, _: &Digest, filter: &InsideFilter, _: &PageRequest) -> Result<Page<Finding>> {
        let is_like = |finding: &&Finding| filter.search.as_ref().is_none_or(|text| finding.id.contains(text));
        Ok(Page { items: self.findings.iter().filter(is_like).cloned().collect(), next: None })
    }
    async fn unexamined(&self, _: &Digest, _: &PageRequest) -> Result<Page<Unexamined>> {
        Ok(Page { items: self.unexamined.clone(), next: None })
    }
    async fn secrets(&self, _: &Digest, _: &PageRequest) -> Result<Page<Secret>> {
        Ok(Page { items: self.secrets.clone(), next: None })
    }
    async fn document(&self, _: &Digest, format: DocumentFormat) -> Result<Bytes> {
        Ok(serde_json::to_vec(&format).unwrap().into())
    }
    async fn evidence(&self, _: &Digest) -> Result<ContentsEvidence> {
        Err(Problem::new(501, "no-page", "No page asks for it"))
    }
    async fn advisories_take(&self, _: Bytes) -> Result<Advisories> {
        Err(Problem::new(501, "no-page", "No page gives any"))
    }
    async fn difference(&self, _: &Digest, _: &Digest) -> Result<ImageDifference> {
        Ok(self.difference.clone())
    }
    async fn find(&self, sought: &Sought, _: bool, _: &PageRequest) -> Result<Where> {
        Ok(impact::samples::found(sought))
    }
    async fn advisories(&self) -> Result<Advisories> {
        Ok(advisories())
    }
    async fn alerts(&self, _: &PageRequest) -> Result<Page<Alert>> {
        Ok(impact::samples::alerts())
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn pages(inspect: Fixed) -> Pages {
    Pages::new(
        Arc::new(OverviewOnly::new(Ok(crate::samples::nothing_yet()))),
        Arc::new(images::samples::Fixed),
        Arc::new(inspect),
        Arc::new(fanout::tests::Two::default()),
        Shutdown::new(),
    )
}

async fn main(pages: &Pages, reference: &str, view: View, query: ViewQuery) -> String {
    let asked = Asked {
        repository: "team/vote".parse().unwrap(),
        reference: oci::ManifestReference::Tag(reference.parse().unwrap()),
        registry: "127.0.0.1:5000".to_owned(),
    };
    shown(pages, &asked, view, &query, NOW).await.unwrap().main.into_string()
}

const VIEWS: [View; 6] =
    [View::Image, View::Inside, View::Findings, View::Unexamined, View::Licences, View::Difference];

fn with(view: View) -> ViewQuery {
    let with = if view == View::Difference { "1" } else { "" };
    ViewQuery { with: with.to_owned(), ..ViewQuery::default() }
}

fn seen(name: &str, html: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, crate::samples::lines(html)));
}

#[tokio::test]
async fn pages_look_as_they_should() {
    let ordinary = pages(Fixed::default());
    let done = Examination::Done { at: ago(60), unexamined: 0 };
    let failed = Examination::Failed { at: ago(60), why: "its second layer is not gzip".to_owned() };
    let old = Advisories { newest: Some(ago(2_000_000)), taken_in: None, ..advisories() };
    for (name, view, query) in [
        ("inside", View::Inside, with(View::Inside)),
        (
            "inside_search",
            View::Inside,
            ViewQuery { search: "log4j".to_owned(), layer: "2".to_owned(), ..with(View::Inside) },
        ),
        ("inside_no_such", View::Inside, ViewQuery { search: "<b>\"&".to_owned(), ..with(View::Inside) }),
        ("findings", View::Findings, with(View::Findings)),
        ("unexamined", View::Unexamined, with(View::Unexamined)),
        ("licences", View::Licences, with(View::Licences)),
        ("difference", View::Difference, with(View::Difference)),
        ("difference_with_what", View::Difference, with(View::Inside)),
    ] {
        seen(name, &main(&ordinary, "1", view, query).await);
    }
    seen("inside_index", &main(&ordinary, "multi", View::Inside, with(View::Inside)).await);
    seen(
        "inside_waiting",
        &main(&pages(Fixed::empty(Examination::Waiting, advisories())), "1", View::Inside, with(View::Inside)).await,
    );
    seen(
        "inside_failed",
        &main(&pages(Fixed::empty(failed, advisories())), "1", View::Findings, with(View::Findings)).await,
    );
    seen("inside_nothing", &main(&pages(Fixed::empty(done, old)), "1", View::Findings, with(View::Findings)).await);
}

#[tokio::test]
async fn nothing_is_called_clean_that_was_not_examined_and_matched() {
    let done = |unexamined| Examination::Done { at: ago(60), unexamined };
    let failed = Examination::Failed { at: ago(60), why: "it is not here".to_owned() };
    let none = Advisories::default();
    for (examination, advisories, said, is_fine) in [
        (Examination::Waiting, advisories(), "not known", false),
        (failed, advisories(), "not known", false),
        (done(0), none.clone(), "no advisories to match", false),
        (done(3), none, "no advisories to match", false),
        (done(3), advisories(), "in what was examined", false),
        (done(0), advisories(), "none of the advisories applies", true),
    ] {
        let pages = pages(Fixed::empty(examination.clone(), advisories));
        for view in [View::Image, View::Inside, View::Findings, View::Difference] {
            let html = main(&pages, "1", view, with(view)).await;
            assert!(view == View::Difference || html.contains(said), "{view:?} {examination:?}: {html}");
            let is_claimed = CLAIMS.iter().any(|claim| html.contains(claim));
            assert_eq!(is_claimed, is_fine, "{view:?} {examination:?}: {html}");
        }
    }
    let partly = Fixed::empty(done(0), advisories());
    partly.inside.lock().unwrap().uncompared =
        vec![format!("4 deb components of debian 13: no advisory is known {MARKUP}")];
    let pages = pages(partly);
    for view in [View::Image, View::Inside, View::Findings, View::Difference] {
        let html = main(&pages, "1", view, with(view)).await;
        assert!(CLAIMS.iter().all(|claim| !html.contains(claim)) && !html.contains("<script"), "{view:?}: {html}");
        assert!(html.contains("compared"), "{view:?}: {html}");
        assert!(view == View::Difference || html.contains("4 deb components of debian 13"), "{view:?}: {html}");
    }
}

/// What is said of an image only where all of it was examined and compared.
const CLAIMS: [&str; 3] = [
    "none of the advisories applies</dd>",
    "None of the advisories applies to what was found.",
    "Findings that are gone</h2><p class=\"none\">None.</p>",
];

#[tokio::test]
async fn a_strangers_markup_is_text_on_every_page() {
    let pages = pages(Fixed::hostile());
    for view in VIEWS {
        for query in [with(view), ViewQuery { search: MARKUP.to_owned(), licence: MARKUP.to_owned(), ..with(view) }] {
            let html = main(&pages, "1", view, query).await;
            assert!(!html.contains("<script") && !html.contains("<img"), "{view:?}: {html}");
            assert!(
                !html.contains('\u{202e}') || html.contains("value="),
                "{view:?}: what turns text around is spelt out"
            );
            assert!(!html.contains(" style="), "{view:?}: the policy allows no style of an element's own");
        }
    }
}

#[tokio::test]
async fn pages_are_bounded_whatever_is_inside() {
    let pages = pages(Fixed::enormous());
    for view in VIEWS {
        let html = main(&pages, "1", view, with(view)).await;
        assert!(html.len() < 4 << 20, "{view:?}: {} bytes", html.len());
    }
}

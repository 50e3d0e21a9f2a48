//! Answers to where something is, to render in tests.

use api::inspect::{
    Advisories, AdvisoryNews, Alert, AlertImage, AlertReason, AlertRunning, Delivery, Evidence, Exposure, Fix, News,
    NotExamined, Severity, Sought, SummaryNews, Where, WhereAdvisory, WhereComponent, WhereImage, WhereRelease,
};
use api::{Micros, Page};
use oci::Digest;

use super::{WhereQuery, main, news};
use crate::inside::samples::{MARKUP, NOW, advisories, place};

fn ago(seconds: i64) -> Micros {
    NOW.plus_seconds(-seconds)
}

fn release(seed: usize, service: &str, environments: Vec<Exposure>) -> WhereRelease {
    WhereRelease {
        release: format!("{:016x}", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).parse().unwrap(),
        app: "shop".parse().unwrap(),
        service: service.parse().unwrap(),
        environments,
    }
}

fn exposure(environment: &str, from: i64, to: Option<i64>, hosts: &[String]) -> Exposure {
    Exposure {
        environment: environment.parse().unwrap(),
        from: ago(from),
        to: to.map(ago),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
    }
}

fn hosts(prefix: &str, number: usize) -> Vec<String> {
    (1..=number).map(|number| format!("{prefix}-{number:03}")).collect()
}

fn component(id: &str, evidence: Evidence, chain: &[&str]) -> WhereComponent {
    WhereComponent {
        id: id.to_owned(),
        evidence,
        places: vec![place(3, chain)],
        fixed_in: vec!["2.15.0".to_owned()],
        lifted: None,
    }
}

fn image(seed: u32, repository: &str, components: Vec<WhereComponent>, releases: Vec<WhereRelease>) -> WhereImage {
    WhereImage {
        repository: repository.parse().unwrap(),
        digest: Digest::sha256_of(&seed.to_be_bytes()),
        tags: vec![format!("1.{seed}")],
        components_count: components.len() as u64 + u64::from(seed == 2),
        components,
        complete: !seed.is_multiple_of(3),
        releases,
    }
}

fn advisory(id: &str) -> WhereAdvisory {
    WhereAdvisory {
        id: id.to_owned(),
        aliases: vec!["GHSA-jfh8-c2jp-5v3q".to_owned()],
        summary: Some("Remote code injection in Log4j".to_owned()),
        severity: Severity::Critical,
        known_exploited: true,
        published: Some(ago(3_000_000)),
        first_seen: Some(ago(900_000)),
    }
}

const LOG4J: &str = "maven/org.apache.logging.log4j:log4j-core@2.14.1";

/// Three images, in two services and two environments.
fn some() -> Where {
    let nested = || component(LOG4J, Evidence::Contained, &["app.war", "WEB-INF/lib/log4j-core-2.14.1.jar"]);
    let shaded = component("maven/org.apache.logging.log4j:log4j-core@2.13.0", Evidence::Inferred, &["opt/all.jar"]);
    let images = vec![
        image(
            1,
            "shop/cart",
            vec![nested()],
            vec![
                release(
                    1,
                    "cart",
                    vec![exposure("prod", 600_000, None, &hosts("web", 7)), exposure("qa", 700_000, Some(90_000), &[])],
                ),
                release(2, "cart", vec![exposure("prod", 900_000, Some(600_000), &[])]),
            ],
        ),
        image(
            2,
            "shop/search",
            vec![nested(), shaded],
            vec![release(3, "search", vec![exposure("staging", 300_000, None, &["staging-1".to_owned()])])],
        ),
        image(3, "shop/batch", vec![nested()], Vec::new()),
    ];
    Where {
        at: NOW,
        advisory: None,
        images: Page { items: images, next: None },
        images_count: 3,
        fixes: Vec::new(),
        not_examined: vec![NotExamined {
            host: "web-001".parse().unwrap(),
            image: "docker.io/library/redis:7".to_owned(),
            why: "it was not pulled through the hub".to_owned(),
        }],
        images_incomplete: 2,
        is_comparing: false,
    }
}

fn of_advisory() -> Where {
    let fix = |service: &str, seed: Option<usize>, environments: &[&str]| Fix {
        app: "shop".parse().unwrap(),
        service: service.parse().unwrap(),
        release: seed.map(|seed| release(seed, service, Vec::new()).release),
        environments: environments.iter().map(|name| name.parse().unwrap()).collect(),
    };
    let mut found = some();
    for component in found.images.items.last_mut().into_iter().flat_map(|image| &mut image.components) {
        let why = "vex-17 (attached in shop/batch) says not_affected: the class is taken out of the archive";
        component.lifted = Some(why.to_owned());
    }
    Where {
        advisory: Some(advisory("CVE-2021-44228")),
        fixes: vec![fix("cart", Some(9), &["qa", "staging"]), fix("search", None, &[])],
        ..found
    }
}

/// Services on hundreds of hosts, in many environments.
pub(crate) fn many() -> Where {
    let of = |number: usize| {
        let service = format!("service{number}");
        let environments = (0..20)
            .map(|at| exposure(&format!("env{at}"), 90_000 + at, None, &hosts(&format!("env{at}"), 100)))
            .collect();
        let components =
            (0..20).map(|at| component(&format!("npm/package-{at}@{number}"), Evidence::Contained, &["a"]));
        let repository = format!("shop/{service}");
        image(number as u32 + 1, &repository, components.collect(), vec![release(number, &service, environments)])
    };
    let container = |number: usize| NotExamined {
        host: format!("env1-{number:03}").parse().unwrap(),
        image: "redis".to_owned(),
        why: "it was not pulled through the hub".to_owned(),
    };
    Where {
        advisory: Some(advisory("CVE-2021-44228")),
        images: Page { items: (0..100).map(of).collect(), next: Some("next <&>".to_owned()) },
        images_count: 2_345,
        not_examined: (0..900).map(container).collect(),
        ..some()
    }
}

fn hostile() -> Where {
    let mut found = of_advisory();
    let advisory = found.advisory.as_mut().unwrap();
    advisory.aliases = vec![MARKUP.to_owned()];
    advisory.summary = Some(MARKUP.to_owned());
    advisory.id = MARKUP.to_owned();
    for image in &mut found.images.items {
        image.tags = vec![MARKUP.to_owned()];
        for component in &mut image.components {
            component.id = format!("npm/{MARKUP}@{MARKUP}");
            component.fixed_in = vec![MARKUP.to_owned()];
            component.lifted = Some(MARKUP.to_owned());
            component.places = vec![place(0, &[MARKUP, MARKUP])];
        }
    }
    found.not_examined[0].image = MARKUP.to_owned();
    found.not_examined[0].why = MARKUP.to_owned();
    found
}

fn nothing() -> Where {
    let images = Page { items: Vec::new(), next: None };
    Where { images, images_count: 0, not_examined: Vec::new(), images_incomplete: 0, ..some() }
}

/// What the sample inspection answers.
pub(crate) fn found(sought: &Sought) -> Where {
    match sought {
        Sought::Advisory { id } if id == "CVE-2021-44228" => of_advisory(),
        Sought::Advisory { id } if id == "CVE-2021-1000" => many(),
        Sought::Advisory { .. } | Sought::Licence { .. } => nothing(),
        Sought::Component { .. } => some(),
    }
}

fn advisory_news(id: &str, severity: Severity, reasons: Vec<AlertReason>, images: usize) -> AdvisoryNews {
    let image = |seed: usize| AlertImage {
        repository: format!("shop/service{seed}").parse().unwrap(),
        digest: Digest::sha256_of(&seed.to_be_bytes()),
        tag: seed.is_multiple_of(2).then(|| format!("1.{seed}")),
    };
    let running = |seed: usize| AlertRunning {
        app: "shop".parse().unwrap(),
        service: format!("service{seed}").parse().unwrap(),
        environment: "prod".parse().unwrap(),
        hosts: seed as u64,
    };
    AdvisoryNews {
        id: id.to_owned(),
        aliases: vec!["GHSA-jfh8-c2jp-5v3q".to_owned()],
        summary: Some("Remote code injection in Log4j".to_owned()),
        severity,
        known_exploited: reasons.contains(&AlertReason::Exploited),
        published: Some(ago(3_000_000)),
        reasons,
        fixed_in: vec!["2.15.0".to_owned()],
        components: vec![LOG4J.to_owned()],
        components_count: 1,
        images: (0..images.min(20)).map(image).collect(),
        images_count: images as u64,
        running: (0..images.min(50)).map(running).collect(),
        running_count: images as u64,
    }
}

fn alert(number: u64, seconds: i64, news: News, delivery: Option<Delivery>) -> Alert {
    Alert { number, message: format!("message-{number}"), at: ago(seconds), news, delivery }
}

/// What new advisories meant, with messages in every state.
pub(crate) fn alerts() -> Page<Alert> {
    let first = SummaryNews {
        first: true,
        severities: [(Severity::Critical, 12), (Severity::Unknown, 1_200)].into(),
        known_exploited: 3,
        images_count: 345,
        ids: (0..40).map(|number| format!("CVE-2026-{number}")).collect(),
    };
    let rest =
        SummaryNews { first: false, severities: [(Severity::Low, 2)].into(), known_exploited: 0, ..first.clone() };
    let worse = vec![AlertReason::Exploited, AlertReason::Severity { before: Severity::Medium }];
    let unfixed = AdvisoryNews {
        fixed_in: Vec::new(),
        aliases: Vec::new(),
        running: Vec::new(),
        running_count: 0,
        ..advisory_news("CVE-2026-100", Severity::Unknown, vec![AlertReason::Affected], 2)
    };
    let waits = Delivery::Waiting { tries: 3, why: Some("it answers 503".to_owned()) };
    let items = vec![
        alert(4, 60, News::Advisory(advisory_news("CVE-2021-44228", Severity::Critical, worse, 345)), Some(waits)),
        alert(5, 60, News::Advisory(unfixed), Some(Delivery::Waiting { tries: 0, why: None })),
        alert(2, 90_000, News::Summary(rest), Some(Delivery::Dead { at: ago(10), why: "it answers 404".to_owned() })),
        alert(1, 900_000, News::Summary(first), Some(Delivery::Sent { at: ago(899_990) })),
    ];
    Page { items, next: Some("1.1".to_owned()) }
}

fn hostile_alerts() -> Page<Alert> {
    let mut alerts = alerts();
    for alert in &mut alerts.items {
        alert.delivery = Some(Delivery::Dead { at: NOW, why: MARKUP.to_owned() });
        match &mut alert.news {
            News::Advisory(news) => {
                (news.id, news.summary) = (MARKUP.to_owned(), Some(MARKUP.to_owned()));
                for texts in [&mut news.aliases, &mut news.fixed_in, &mut news.components] {
                    *texts = vec![MARKUP.to_owned()];
                }
                news.images.iter_mut().for_each(|image| image.tag = Some(MARKUP.to_owned()));
            }
            News::Summary(news) => news.ids = vec![MARKUP.to_owned()],
        }
    }
    alerts
}

fn shown(q: &str, kind: &str, found: Option<&Where>, advisories: &Advisories) -> String {
    let query = WhereQuery { q: q.to_owned(), kind: kind.to_owned(), ..WhereQuery::default() };
    let sought = found.map(|_| query.sought().unwrap());
    main(&query, sought.as_ref().zip(found), advisories, NOW).into_string()
}

#[test]
fn answers_look_as_they_should() {
    let gaps = Where { images_incomplete: 4, ..nothing() };
    for (name, q, kind, found) in [
        ("where", "", "", None),
        ("where_component", "log4j-core", "", Some(some())),
        ("where_advisory", "CVE-2021-44228", "", Some(of_advisory())),
        ("where_nothing", "<b>\"&", "component", Some(nothing())),
        ("where_gaps", "GPL-3.0-only", "licence", Some(gaps)),
        ("where_advisory_unknown", "CVE-2099-1", "", Some(nothing())),
    ] {
        let html = shown(q, kind, found.as_ref(), &advisories());
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../snapshots");
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, crate::samples::lines(&html)));
    }
}

#[test]
fn news_look_as_they_should() {
    let none = Page { items: Vec::new(), next: None };
    for (name, alerts, advisories) in [
        ("news", alerts(), advisories()),
        ("news_none", none.clone(), advisories()),
        ("news_nothing", none, Advisories::default()),
    ] {
        let html = news::main(&alerts, true, &advisories, NOW).into_string();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../snapshots");
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, crate::samples::lines(&html)));
    }
    let html = news::main(&hostile_alerts(), true, &advisories(), NOW).into_string();
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains('\u{202e}'), "{html}");
}

#[test]
fn nowhere_is_only_said_when_all_was_examined() {
    let gaps = Where { images_incomplete: 4, ..nothing() };
    let html = shown("log4j-core", "", Some(&gaps), &advisories());
    assert!(
        html.contains("This is not all: 4 images were not examined") && !html.contains("No image has it."),
        "{html}"
    );
    let comparing = Where { is_comparing: true, ..nothing() };
    let html = shown("log4j-core", "", Some(&comparing), &advisories());
    assert!(html.contains("still being compared") && !html.contains("No image has it."), "{html}");
    let runs = Where { not_examined: some().not_examined, ..nothing() };
    let html = shown("log4j-core", "", Some(&runs), &advisories());
    assert!(html.contains("1 container runs an image") && html.contains("docker.io/library/redis:7"), "{html}");
    // An advisory that nobody has taken in applies to nothing that is known, which says nothing.
    let html = shown("CVE-2099-1", "", Some(&nothing()), &Advisories::default());
    assert!(html.contains("No advisory of this name is known") && !html.contains("No image has it"), "{html}");
}

#[test]
fn a_strangers_markup_is_text_in_answers_and_pictures() {
    let html = shown(MARKUP, "component", Some(&hostile()), &advisories());
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains(" style="), "{html}");
    let html = shown("CVE-2021-44228", "", Some(&hostile()), &advisories());
    assert!(!html.contains("<script") && !html.contains('\u{202e}'), "{html}");
}

#[test]
fn a_picture_of_hundreds_of_hosts_is_small_and_says_how_many_there_are() {
    let html = shown("CVE-2021-44228", "", Some(&many()), &advisories());
    let picture = html.split("<svg").skip(1).take_while(|part| !part.contains("figcaption")).count();
    // Five columns of a dozen, and what was not examined.
    assert!(picture <= 5 * 12 + 2, "{picture} boxes");
    assert!(
        html.contains("89 more") && html.contains("1,989 more") && html.contains("in 9 more environments"),
        "grouped and counted"
    );
    assert!(
        html.contains("900 containers") && html.contains("900 hosts") && html.contains("of 2,345 images"),
        "what is left out is said"
    );
    assert!(html.contains("env0 on 100 hosts"), "the text alternative counts the hosts");
    assert!(html.len() < 4 << 20, "{} bytes", html.len());
    assert!(html.contains(r#"href="/where?q=CVE-2021-44228&amp;after=next%20%3C%26%3E""#), "the next page follows");
}

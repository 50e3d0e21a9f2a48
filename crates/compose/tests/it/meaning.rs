//! What holds of every file: two ways to write one thing mean the same, aliases cannot explode, nothing panics.

use std::collections::BTreeSet;

use compose::model::{HealthTest, Mount, Port};
use compose::{Source, Stage};
use proptest::prelude::*;

use crate::load;

fn service(body: &str) -> compose::Service {
    let text = format!(
        "services: {{web: {{image: x, {body}}}, a: {{image: x}}, b: {{image: x}}}}\nvolumes: {{data: {{}}}}\nnetworks: {{n: {{}}, m: {{}}}}"
    );
    load(&[&text]).unwrap_or_else(|error| panic!("{text}: {error}")).project.services.remove("web").unwrap()
}

proptest! {
    #[test]
    fn short_and_long_ports_mean_the_same(target in 1_u16.., published in prop::option::of(1_u16..), address in prop::option::of(any::<std::net::IpAddr>())) {
        let address = address.filter(|_| published.is_some());
        let shown = published.map(|port| format!("{port}:")).unwrap_or_default();
        let host = address.map(|address| if address.is_ipv6() { format!("[{address}]:") } else { format!("{address}:") });
        let short = service(&format!("ports: ['{}{shown}{target}/tcp']", host.unwrap_or_default()));
        let published_long = published.map(|port| format!(", published: {port}")).unwrap_or_default();
        let address_long = address.map(|address| format!(", host_ip: '{address}'")).unwrap_or_default();
        let long = service(&format!("ports: [{{target: {target}{published_long}{address_long}}}]"));
        prop_assert_eq!(&short, &long);
        prop_assert_eq!(short.ports, [Port { target, published, host_ip: address, ..Port::default() }]);
    }

    #[test]
    fn a_range_is_its_ports(first in 1_u16..60_000, length in 0_u16..20, shift in 0_u16..1000) {
        let (last, published) = (first + length, first + shift);
        let range = service(&format!("ports: ['{published}-{}:{first}-{last}']", published + length));
        let each: Vec<_> = (0..=length).map(|step| format!("'{}:{}'", published + step, first + step)).collect();
        prop_assert_eq!(range, service(&format!("ports: [{}]", each.join(", "))));
    }

    #[test]
    fn short_and_long_mounts_mean_the_same(
        source in prop::sample::select(vec!["data", "./here", "/there", "~/home", ""]),
        target in "/[a-z]{1,5}(/[a-z]{1,5})?",
        read_only: bool,
    ) {
        let colon = if source.is_empty() { "" } else { ":" };
        let mode = if read_only { ":ro" } else { "" };
        let short = service(&format!("volumes: ['{source}{colon}{target}{mode}']"));
        let kind = if source.starts_with(['.', '/', '~']) { "bind" } else { "volume" };
        let source_long = if source.is_empty() { String::new() } else { format!(", source: '{source}'") };
        let long = service(&format!("volumes: [{{type: {kind}{source_long}, target: {target}, read_only: {read_only}}}]"));
        prop_assert_eq!(&short, &long);
        prop_assert_eq!(matches!(short.volumes[0], Mount::Bind { .. }), kind == "bind");
        prop_assert_eq!(short.host_paths().count(), usize::from(kind == "bind"));
        prop_assert_eq!(short.has_writable_volume(), !read_only);
    }

    #[test]
    fn lists_and_mappings_mean_the_same(pairs in prop::collection::btree_map("[A-Z]{1,4}", prop::option::of("[a-z=: ]{0,6}"), 0..5)) {
        let list: Vec<_> = pairs.iter().map(|(name, value)| match value {
            Some(value) => format!("'{name}={value}'"),
            None => name.clone(),
        }).collect();
        let map: Vec<_> = pairs.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}: '{value}'"),
            None => format!("{name}: "),
        }).collect();
        for key in ["environment", "labels", "sysctls"] {
            let one = service(&format!("{key}: [{}]", list.join(", ")));
            prop_assert_eq!(one, service(&format!("{key}: {{{}}}", map.join(", "))));
        }
    }

    #[test]
    fn an_overlay_that_says_nothing_changes_nothing(which in 0_usize..4) {
        let base = include_str!("../corpus/ok/everything.yaml");
        let nothing = ["services: {}", "services: {web: {}, db: }", "x-note: [1, 2]", "services: {web: {ports: [], deploy: {}, environment: }}"];
        prop_assert_eq!(load(&[base]).unwrap().project, load(&[base, nothing[which]]).unwrap().project);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9:{}\\[\\]&*!<$\"' \n-]{0,200}") {
        let _ = load(&[&text, &text]);
        let _ = load(&[&format!("services:\n  web:\n    image: x\n    {text}")]);
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(key in prop::sample::select(vec![
        "build", "command", "environment", "ports", "expose", "volumes", "networks", "depends_on", "healthcheck",
        "deploy", "restart", "ulimits", "tmpfs", "logging", "extra_hosts", "scale", "cpus", "stop_signal",
    ]), value in "[a-z0-9:./,={}\\[\\]\"-]{0,20}") {
        let _ = load(&[&format!("services: {{web: {{image: x, {key}: {value}}}}}")]);
    }
}

#[test]
fn short_and_long_forms_mean_the_same() {
    for (short, long) in [
        ("depends_on: [a, b]", "depends_on: {a: {condition: service_started}, b: {required: true}}"),
        ("networks: [n, m]", "networks: {n: {}, m: }"),
        ("build: ./dir/", "build: {context: dir}"),
        ("tmpfs: /run", "tmpfs: [/run]"),
        ("command: a 'b c'", "command: [a, b c]"),
        ("healthcheck: {test: curl x}", "healthcheck: {test: [CMD-SHELL, curl x]}"),
        ("healthcheck: {disable: true}", "healthcheck: {test: [NONE]}"),
        ("ulimits: {nofile: 5}", "ulimits: {nofile: {soft: 5, hard: 5}}"),
        ("scale: 3", "deploy: {replicas: 3}"),
        (
            "cpus: 0.5, mem_limit: 1g, pids_limit: 9",
            "deploy: {resources: {limits: {cpus: '0.50', memory: 1024mb, pids: 9}}}",
        ),
        (
            "extra_hosts: ['h:1.2.3.4', 'h=::1', 'g=host-gateway']",
            "extra_hosts: {h: [1.2.3.4, '::1'], g: host-gateway}",
        ),
        ("dns: 1.1.1.1", "dns: [1.1.1.1]"),
        ("environment: [FROM_OUTSIDE, NOT_THERE]", "environment: {FROM_OUTSIDE: seen, NOT_THERE: }"),
    ] {
        assert_eq!(service(short), service(long), "{short}");
    }
}

#[test]
fn aliases_cannot_explode() {
    let mut text = "x0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let below = level - 1;
        let items = vec![format!("*x{below}"); 10].join(", ");
        text += &format!("x{level}: &x{level} [{items}]\n");
    }
    let started = std::time::Instant::now();
    let error = load(&[&text]).unwrap_err();
    assert!(error.diagnostics[0].what.contains("aliases written out"), "{error}");
    // Long scalars multiply as well as long lists do.
    let bomb = format!("x: &x '{}'\ny: [{}]", "a".repeat(100_000), vec!["*x"; 1000].join(", "));
    assert!(load(&[&bomb]).unwrap_err().diagnostics[0].what.contains("bytes of values"));
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert!(load(&[&deep]).unwrap_err().diagnostics[0].what.contains("levels"));
    let shallow_anchors: String = (1..60).map(|level| format!("x{level}: &x{level} [*x{}]\n", level - 1)).collect();
    assert!(load(&[&format!("x0: &x0 []\n{shallow_anchors}")]).unwrap_err().diagnostics[0].what.contains("levels"));
    assert!(load(&["x: &x [*x]"]).is_err());
    assert!(started.elapsed().as_secs() < 300, "took {:?}", started.elapsed());
}

#[test]
fn large_files_are_read_or_refused_soon() {
    let started = std::time::Instant::now();
    let chain: String = (0..10_000).map(|n| format!("  s{n}: {{image: x, depends_on: [s{}]}}\n", n + 1)).collect();
    let said = load(&[&format!("services:\n{chain}")]).unwrap_err().to_string();
    assert!(said.contains("at most 500"), "{said}");
    let unknown: String = (0..40_000).map(|n| format!("    environmen{n}: x\n")).collect();
    assert_eq!(load(&[&format!("services:\n  web:\n{unknown}")]).unwrap_err().diagnostics.len(), 100);
    let many: String = (0..500)
        .map(|n| format!("  s{n}: {{image: x, ports: ['127.0.{}.{}:1-200:1-200']}}\n", n / 200, n % 200 + 1))
        .collect();
    assert_eq!(load(&[&format!("services:\n{many}")]).unwrap().project.services.len(), 500);
    let long = "k".repeat(100_000);
    assert!(load(&[&format!("services: {{{long}: {{}}}}")]).unwrap_err().to_string().contains("longer than 512"));
    let said =
        load(&[&format!("services: {{web: {{image: x, user: a, read_only: {long}}}}}")]).unwrap_err().to_string();
    assert!(said.len() < 2000, "{} bytes", said.len());
    assert!(started.elapsed().as_secs() < 300, "took {:?}", started.elapsed());
}

#[test]
fn profiles_select_services() {
    let text = "services: {web: {image: x}, debug: {image: x, profiles: [debug], depends_on: [web]}}";
    let project = load(&[text]).unwrap().project;
    let names = |profiles: &[&str]| {
        let profiles: BTreeSet<String> = profiles.iter().map(|name| (*name).to_owned()).collect();
        project.select(&profiles).unwrap().services.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["web"]);
    assert_eq!(names(&["debug"]), ["debug", "web"]);
    let needed = "services: {web: {image: x, depends_on: [debug]}, debug: {image: x, profiles: [debug]}}";
    let error = load(&[needed]).unwrap().project.select(&BTreeSet::new()).unwrap_err();
    insta::assert_snapshot!(error, @r#"service "web" awaits "debug", whose profiles are not switched on; switch one on, or write `required: false`"#);
}

/// `disable` stands, whatever test it is laid over or is laid over it, until it is said not to.
#[test]
fn a_healthcheck_is_switched_off_and_on_over_an_extended_service() {
    let test = |base: &str, own: &str| {
        let text = format!(
            "services: {{base: {{image: x, healthcheck: {base}}}, web: {{extends: base, healthcheck: {own}}}, a: {{image: x, depends_on: {{web: {{condition: service_healthy}}}}}}}}"
        );
        let sources = [Source { name: "compose.yaml", text: &text }];
        compose::load(&sources, Stage::Workspace(&|_| Ok(None)), &|_| None)
            .map(|loaded| loaded.project.services["web"].healthcheck.as_ref().and_then(|check| check.test.clone()))
            .map_err(|error| error.to_string())
    };
    let shell = |line: &str| Ok(Some(HealthTest::Shell(line.to_owned())));
    for (base, own) in [
        ("{test: one, interval: 5s}", "{disable: true}"),
        ("{test: one}", "{test: [NONE]}"),
        ("{disable: true}", "{test: two}"),
        ("{disable: true, test: one}", "{interval: 1s}"),
    ] {
        let said = test(base, own).unwrap_err();
        assert!(said.contains("\"web\" is awaited to be healthy, but its healthcheck is switched off"), "{said}");
    }
    assert_eq!(test("{disable: true}", "{disable: false, test: two}"), shell("two"));
    assert_eq!(test("{disable: true, test: one}", "{disable: !reset null}"), shell("one"));
    assert_eq!(test("{disable: true}", "!override {test: two}"), shell("two"));
    assert_eq!(test("{test: one}", "{disable: false}"), shell("one"));
}

/// What a workspace's files name is bounded, too: in number, in depth, in copies, and never goes in circles.
#[test]
fn a40_files_and_copies_cannot_explode() {
    let load = |text: &str, read: compose::Reader<'_>| {
        let sources = [compose::Source { name: "compose.yaml", text }];
        let said = compose::load(&sources, compose::Stage::Workspace(read), &|_| None).map(|_| ());
        said.map_err(|error| error.to_string())
    };
    let started = std::time::Instant::now();
    let chain: String = (10..60).map(|n| format!("  s{n}: {{extends: s{}}}\n", n + 1)).collect();
    assert!(load(&format!("services:\n{chain}  s60: {{image: x}}\n"), &|_| Ok(None)).unwrap_err().contains("deep"));
    // A large service, copied often.
    let large = vec!["x"; 20_000].join(", ");
    let many: String = (0..400).map(|n| format!("  s{n}: {{extends: large}}\n")).collect();
    let said = load(&format!("services:\n  large: {{image: x, dns_opt: [{large}]}}\n{many}"), &|_| Ok(None));
    assert!(said.unwrap_err().contains("included and extended"));
    // Circles, within a file and through others.
    let own = "services: {a: {extends: b}, b: {extends: {service: a}}}";
    assert!(load(own, &|_| Ok(None)).unwrap_err().contains("a in compose.yaml -> b in compose.yaml -> a"));
    let through = |_: &str| Ok(Some("services: {a: {extends: {file: x.yaml, service: a}}}".to_owned()));
    assert!(load("services: {a: {extends: {file: x.yaml, service: a}}}", &through).unwrap_err().contains("circle"));
    let including = |path: &str| Ok(path.ends_with(".yaml").then(|| "include: [a.yaml]\nservices: {}".to_owned()));
    assert!(load("include: [a.yaml]\nservices: {x: {image: x}}", &including).unwrap_err().contains("circle"));
    // Ever new files.
    let deeper = |path: &str| Ok(path.ends_with("a.yaml").then(|| "include: [d/a.yaml]\nservices: {}".to_owned()));
    assert!(load("include: [a.yaml]\nservices: {x: {image: x}}", &deeper).unwrap_err().contains("deep"));
    let files = (0..300).map(|n| format!("f{n}.env")).collect::<Vec<_>>().join(", ");
    let text = format!("services: {{x: {{image: x, env_file: [{files}]}}}}");
    assert!(load(&text, &|_| Ok(Some("A=b".to_owned()))).unwrap_err().contains("more than 256 files"));
    let vast = "A=".to_owned() + &"b".repeat(1_000_000);
    assert!(load(&text, &|_| Ok(Some(vast.clone()))).unwrap_err().contains("bytes"));
    assert!(load(&text, &|_| Err("no".to_owned())).unwrap_err().contains("f0.env cannot be read: no"));
    // What one file's variables multiply.
    let vars: String = (1..60).map(|n| format!("V{n}=$V{0}$V{0}\n", n - 1)).collect();
    let said = load("services: {x: {image: x, env_file: a.env}}", &|_| Ok(Some(format!("V0=aaaa\n{vars}"))));
    assert!(said.unwrap_err().contains("bytes"));
    assert!(started.elapsed().as_secs() < 300, "took {:?}", started.elapsed());
}

proptest! {
    #[test]
    fn any_value_of_any_key_of_a_workspace_is_read_or_refused(
        key in prop::sample::select(vec![
            "blkio_config", "configs", "devices", "develop", "env_file", "extends", "gpus", "ipc", "label_file", "links",
            "mac_address", "memswap_limit", "network_mode", "networks", "ports", "post_start", "pull_policy", "secrets",
            "volumes", "volumes_from", "expose", "build", "cpu_rt_period", "platform", "attach", "storage_opt",
        ]),
        value in "[a-z0-9:./,={}\\[\\]\"$-]{0,24}",
        beside in "[a-zA-Z0-9=:'\"$#{}\\[\\] \n-]{0,40}",
    ) {
        let text = format!("services: {{web: {{image: x, {key}: {value}}}}}");
        let read = |_: &str| Ok(Some(beside.clone()));
        let source = compose::Source { name: "compose.yaml", text: &text };
        if let Ok(loaded) = compose::load(&[source], compose::Stage::Workspace(&read), &|_| None) {
            let json = serde_json::to_string(&loaded.project).unwrap();
            prop_assert_eq!(serde_json::from_str::<compose::Project>(&json).unwrap(), loaded.project);
        }
    }
}

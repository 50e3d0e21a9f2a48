//! Every property of the published schema is understood or refused by name and line, in a workspace and in a release; and
//! `docs/compose.md` says which.
//!
//! A property is understood when setting it changes the loaded project, brings a warning, or turns what is refused into
//! what is loaded.

use std::fmt::Write as _;
use std::path::Path;

use compose::{ComposeError, Loaded, Source, Stage};
use serde_json::{Value, json};

const PROPERTIES: &str = include_str!("../properties/properties.txt");

/// All that a workspace refuses, with what lies below; every other property has to be understood there.
const REFUSED: &[&str] = &[
    "configs.*.external",
    "configs.*.labels",
    "configs.*.name",
    "configs.*.template_driver",
    "models",
    "secrets.*.driver",
    "secrets.*.driver_opts",
    "secrets.*.external",
    "secrets.*.labels",
    "secrets.*.name",
    "secrets.*.template_driver",
    "services.*.build.additional_contexts",
    "services.*.build.cache_to",
    "services.*.build.entitlements",
    "services.*.build.isolation",
    "services.*.build.privileged",
    "services.*.build.provenance",
    "services.*.build.sbom",
    "services.*.build.secrets",
    "services.*.build.ssh",
    "services.*.cpu_count",
    "services.*.cpu_percent",
    "services.*.credential_spec",
    "services.*.deploy.endpoint_mode",
    "services.*.deploy.placement.max_replicas_per_node",
    "services.*.deploy.placement.preferences",
    "services.*.deploy.resources.reservations.generic_resources",
    "services.*.deploy.rollback_config",
    "services.*.deploy.update_config.max_failure_ratio",
    "services.*.isolation",
    "services.*.models",
    "services.*.provider",
    "services.*.pull_refresh_after",
    "services.*.use_api_socket",
];

fn properties() -> impl Iterator<Item = (&'static str, Value)> {
    PROPERTIES.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (path, value) = line.split_once(' ').unwrap();
        (path, serde_json::from_str(value).unwrap())
    })
}

/// What has to stand beside a property so that it means something, in the mapping that it stands in.
fn beside(container: &str, path: &str) -> Value {
    let below = |part: &str| path.contains(part);
    match container {
        "services.*.ports[]" => json!({"target": 80}),
        "services.*.volumes[]" if below(".bind") || below("consistency") => {
            json!({"type": "bind", "source": "./x", "target": "/v"})
        }
        "services.*.volumes[]" if below(".image") => json!({"type": "image", "source": "x", "target": "/v"}),
        "services.*.volumes[]" if below(".tmpfs") => json!({"type": "tmpfs", "target": "/v"}),
        "services.*.volumes[]" if below(".type") => json!({"target": "/v"}),
        "services.*.volumes[]" => json!({"type": "volume", "source": "v", "target": "/v"}),
        "services.*.develop.watch[]" if below(".exec") => {
            json!({"path": "./src", "action": "sync+exec", "target": "/x"})
        }
        "services.*.develop.watch[]" if below(".target") => json!({"path": "./src", "action": "sync"}),
        "services.*.develop.watch[]" => json!({"path": "./src", "action": "rebuild"}),
        "services.*.develop.watch[].exec" => json!({"command": "reload"}),
        "services.*.post_start[]" | "services.*.pre_stop[]" => json!({"command": "x"}),
        "services.*.configs[]" if !below(".source") => json!({"source": "c"}),
        "services.*.secrets[]" if !below(".source") => json!({"source": "s"}),
        "services.*.devices[]" => json!({"source": "/dev/null"}),
        "services.*.deploy.resources.reservations.devices[]" => json!({"capabilities": ["gpu"]}),
        "services.*.env_file[]" if below(".required") => json!({"path": "missing.env"}),
        "services.*.env_file[]" if below(".format") => json!({"path": "variables.env"}),
        "services.*.extends" if below(".file") => json!({"service": "base"}),
        "services.*.ulimits.*" | "services.*.build.ulimits.*" => json!({"soft": 5, "hard": 6}),
        "networks.*.ipam.config[]" if !below(".subnet") => json!({"subnet": "10.9.0.0/16"}),
        "include[]" if !below(".path") => json!({"path": "included.yaml"}),
        _ if container.ends_with("weight_device[]") => json!({"path": "/dev/sdb", "weight": 100}),
        _ if container.starts_with("services.*.blkio_config.") => json!({"path": "/dev/sdb", "rate": 5}),
        _ => json!({}),
    }
}

/// The name that stands for `*` below this path.
fn name_below(container: &str) -> &'static str {
    match container {
        "services" => "web",
        "services.*.depends_on" => "db",
        "volumes" => "v",
        "configs" => "c",
        "secrets" => "s",
        "models" | "services.*.models" => "m",
        _ if container.ends_with("ulimits") => "nofile",
        _ => "n",
    }
}

/// A project with this property, or with just what stands beside it; and the property's path in it.
fn document(path: &str, value: Option<&Value>, stage: Stage<'_>) -> (String, String) {
    let mut root = json!({
        "services": {
            "web": {"image": "x"}, "db": {"image": "x"}, "base": {"image": "x", "user": "1000"},
        },
        "networks": {"n": {}}, "volumes": {"v": {}, "w": {}},
    });
    if matches!(stage, Stage::Workspace(_)) {
        root["configs"] = json!({"c": {}});
        root["secrets"] = json!({"s": {}});
        if !path.starts_with("configs.*") {
            root["configs"]["c"] = json!({"content": "x"});
        }
        if !path.starts_with("secrets.*") {
            root["secrets"]["s"] = json!({"file": "./x"});
        }
    }
    let (mut node, mut seen, mut concrete) = (&mut root, String::new(), String::new());
    let segments: Vec<&str> = path.split('.').collect();
    for (index, segment) in segments.iter().enumerate() {
        let key = if *segment == "*" { name_below(&seen) } else { segment.trim_end_matches("[]") };
        let dot = if seen.is_empty() { "" } else { "." };
        concrete += &format!("{dot}{key}");
        let (last, list) = (index + 1 == segments.len(), segment.ends_with("[]"));
        seen += &format!("{dot}{segment}");
        let map = node.as_object_mut().unwrap();
        if last {
            if let Some(value) = value {
                map.insert(key.to_owned(), value.clone());
            }
            break;
        }
        let empty = if list { json!([{}]) } else { json!({}) };
        node = map.entry(key.to_owned()).or_insert(empty);
        if list {
            node = &mut node[0];
            concrete += "[0]";
        }
        if let (Some(map), Value::Object(more)) = (node.as_object_mut(), beside(&seen, path)) {
            for (key, value) in more {
                map.entry(key).or_insert(value);
            }
        }
    }
    (serde_json::to_string_pretty(&root).unwrap(), concrete)
}

fn reader(path: &str) -> Result<Option<String>, String> {
    Ok(match path {
        "variables.env" => Some("QUOTED='value'\n".to_owned()),
        "common.yaml" => Some("services: {base: {image: x, user: '2000'}}".to_owned()),
        "included.yaml" => {
            Some("services: {included: {image: 'x:${FROM_INCLUDED:-none}', volumes: ['./data:/data']}}".to_owned())
        }
        "included.env" => Some("FROM_INCLUDED=env".to_owned()),
        _ => None,
    })
}

fn load(text: &str, stage: Stage<'_>) -> Result<Loaded, ComposeError> {
    compose::load(&[Source { name: "compose.yaml", text }], stage, &crate::environment)
}

/// `None` when the property is understood, else why it is refused; panics when it is ignored.
fn refusal(path: &str, value: &Value, stage: Stage<'_>) -> Option<String> {
    let (text, concrete) = document(path, Some(value), stage);
    let (without, _) = document(path, None, stage);
    let before = load(&without, stage);
    match load(&text, stage) {
        Err(error) => {
            let mut found = error.diagnostics.iter();
            let found = match stage {
                Stage::Release => found.next(),
                Stage::Workspace(_) => found.find(|found| found.what.contains("does not support")),
            };
            let found = found.unwrap_or_else(|| panic!("{path} is neither understood nor refused: {error}\n{text}"));
            if let Stage::Workspace(_) = stage {
                // The property itself, what it lies in, or what its value has.
                let near = concrete.starts_with(&found.path) || found.path.starts_with(&concrete);
                assert!(near, "{path} is refused as {}", found.path);
                let key = found.path.rsplit('.').next().unwrap().split('[').next().unwrap();
                let line = text.lines().nth(found.line as usize - 1).unwrap_or_default();
                assert!(line.contains(&format!("\"{key}\"")), "{path} is refused on line {}: {line}", found.line);
                assert!(found.hint.is_some(), "{path} is refused without a way out");
            }
            // What is wrong with a value says by itself what would be right.
            Some(found.hint.as_ref().unwrap_or(&found.what).clone())
        }
        Ok(after) => {
            let ignored = before.is_ok_and(|before| before == after);
            assert!(!ignored, "{path} is ignored: {text}");
            None
        }
    }
}

#[test]
fn no_property_is_ignored() {
    let workspace = Stage::Workspace(&reader);
    for (path, value) in properties() {
        let below = |refused: &str| {
            path.strip_prefix(refused).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let expected = REFUSED.iter().any(|refused| below(refused));
        let refused = refusal(path, &value, workspace);
        assert_eq!(refused.is_some(), expected, "{path}: {refused:?}");
        // What a release understands a workspace does, too.
        if refusal(path, &value, Stage::Release).is_none() {
            assert!(refused.is_none(), "{path} is understood in releases alone: {refused:?}");
        }
    }
}

#[test]
fn the_table_of_properties_is_current() {
    const HEAD: &str = "# What of a Compose file is supported

Every property of the schema that the Compose Specification publishes is understood with the specification's meaning, or
refused by name and line. **Releases** are what the build server makes of `compose.yaml` and its overlays, for the hosts of
environments. **Workspaces** are a developer's own machine. Names stand for `*`, items of a list for `[]`.

Beside the schema: `x-…` anywhere, anchors and merge keys, `!reset` and `!override`, `$V`, `${V}` and the forms `:-`, `-`,
`:?`, `?`, `:+`, `+` within one another, `$$`. Engines older than 23 take no notice of `build.shm_size` and
`build.ulimits`; `networks.*.interface_name`, `networks.*.gw_priority` and mounts of images need an engine of 28.

In a workspace a service counts as started once its `post_start` hooks have ended well; one that fails is run again by the
next `longshore up`. A `pre_stop` hook that fails is said, and the container is stopped all the same. `pull_policy` is about
images that the project names: a release's is what its digest says. Where the registry does not answer, an image that is on
the machine is used, and that is said. Of a service with `build`, `pull_policy: build` alone means something: it is built
with every `up`, and otherwise when what goes into it changed.

| property | releases | workspaces |
| --- | --- | --- |
";
    let mut text = HEAD.to_owned();
    for (path, value) in properties() {
        let cell = |stage: Stage<'_>| refusal(path, &value, stage).map_or("yes".to_owned(), |why| format!("no: {why}"));
        writeln!(text, "| `{path}` | {} | {} |", cell(Stage::Release), cell(Stage::Workspace(&reader))).unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
    if std::env::var_os("LONGSHORE_WRITE_DOCS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == text, "docs/compose.md is not current: run this test with LONGSHORE_WRITE_DOCS=1");
}

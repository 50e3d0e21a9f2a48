//! From definitions to wanted containers.

use std::collections::BTreeMap;

use compose::ServiceDefinition;
use engine::definition::{Identity, Role, wanted_container, wanted_networks, wanted_volumes};
use engine::machine::Place;
use engine::wanted::{LABEL_WANTED, WantedRestart, WantedVolume};
use engine::{ErrorKind, Labels, WantedContainer};
use proptest::prelude::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn identity() -> Identity {
    Identity {
        name: "qa-shop-web-1".to_owned(),
        image: format!("127.0.0.1:5100/shop/web@sha256:{}", "ab".repeat(32)),
        labels: map(&[("dev.longshore.app", "shop"), ("dev.longshore.service", "web")]),
        networks: map(&[("default", "qa-shop-default"), ("back", "qa-shop-back")]),
        volumes: map(&[("data", "qa-shop-data")]),
        aliases: vec!["web".to_owned()],
        extra_hosts: BTreeMap::from([("db".to_owned(), "172.20.255.254".parse().unwrap())]),
        environment: map(&[("LEVEL", "info")]),
        role: Role::Service,
    }
}

fn definition(service: serde_json::Value) -> ServiceDefinition {
    serde_json::from_value(serde_json::json!({
        "service": service,
        "networks": {"default": {}, "back": {"internal": true, "labels": {"a": "b"}}},
        "volumes": {"data": {"labels": {"keep": "yes"}}},
    }))
    .unwrap()
}

#[test]
fn a_full_definition() {
    let definition = definition(serde_json::json!({
        "image": "web", "command": ["serve"], "entrypoint": ["/bin/web"],
        "environment": {"LEVEL": "debug", "MODE": "x", "GONE": null},
        "ports": [{"target": 80, "published": 8080, "protocol": "tcp"}],
        "volumes": [
            {"type": "volume", "source": "data", "target": "/data"},
            {"type": "volume", "target": "/anonymous", "read_only": true},
            {"type": "tmpfs", "target": "/scratch", "size_bytes": 1024, "mode": 1023},
        ],
        "tmpfs": {"/tmp": "size=64m"},
        "networks": {"default": {}, "back": {"aliases": ["api", "web"]}},
        "healthcheck": {"test": {"shell": "curl -f localhost"}, "interval_micros": 2_000_000, "retries": 3},
        "deploy": {"resources": {
            "limits": {"nano_cpus": 500_000_000, "memory_bytes": 1_048_576, "pids": 50},
            "reservations": {"memory_bytes": 4096},
        }},
        "stop_signal": "SIGQUIT", "stop_grace_period_micros": 1_500_000, "user": "1000:1000", "working_dir": "/srv",
        "hostname": "web", "init": true, "read_only": true, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"], "ulimits": {"nofile": {"soft": 1, "hard": 2}},
        "sysctls": {"net.core.somaxconn": "1024"}, "labels": {"own": "label", "dev.longshore.app": "forged"},
        "logging": {"options": {"max-size": "1m"}}, "extra_hosts": {"cache": ["10.0.0.9"], "db": ["1.2.3.4"]},
        "dns": ["10.0.0.53"], "shm_size_bytes": 65536,
    }));
    let wanted = wanted_container(&definition, &identity(), Place::Host).unwrap();
    insta::assert_json_snapshot!("full", wanted);
    assert_eq!(serde_json::from_value::<WantedContainer>(serde_json::to_value(&wanted).unwrap()).unwrap(), wanted);
    insta::assert_debug_snapshot!(
        "networks",
        wanted_networks(&definition, &identity().networks, &identity().labels, Place::Host).unwrap()
    );
    insta::assert_debug_snapshot!(
        "volumes",
        wanted_volumes(&definition, &identity().volumes, &identity().labels, Place::Host).unwrap()
    );
}

#[test]
fn an_empty_definition_and_a_job() {
    let service = serde_json::json!({"image": "web", "networks": {"default": {}}, "restart": "always"});
    let job = wanted_container(&definition(service.clone()), &Identity { role: Role::Job, ..identity() }, Place::Host)
        .unwrap();
    assert_eq!(job.restart, WantedRestart::No, "a job that is done is not started again");
    let mut plain = definition(service);
    assert_eq!(wanted_container(&plain, &identity(), Place::Host).unwrap().restart, WantedRestart::Always);
    plain.service.restart = None;
    insta::assert_json_snapshot!("empty", wanted_container(&plain, &identity(), Place::Host).unwrap());
}

/// Short and long syntax are one form by the time they come here; what each would lead to is refused.
#[test]
fn what_reaches_the_host_is_refused() {
    let cases = [
        serde_json::json!({"privileged": true}),
        serde_json::json!({"volumes": [{"type": "bind", "source": "/var/run/docker.sock", "target": "/s"}]}),
        serde_json::json!({"volumes": [{"type": "bind", "source": "./here", "target": "/s", "read_only": true}]}),
        serde_json::json!({"security_opt": ["seccomp=unconfined"]}),
        serde_json::json!({"security_opt": ["label:disable"]}),
    ];
    let mut told = Vec::new();
    for mut case in cases {
        case["networks"] = serde_json::json!({"default": {}});
        let error = wanted_container(&definition(case), &identity(), Place::Host).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Policy, "{error}");
        told.push(error.to_string());
    }
    let service = serde_json::json!({
        "networks": {"default": {}}, "volumes": [{"type": "volume", "source": "data", "target": "/s"}]
    });
    for name in ["/etc", "../etc", "a/b", ".", "", "~"] {
        let identity = Identity { volumes: map(&[("data", name)]), ..identity() };
        assert_eq!(
            wanted_container(&definition(service.clone()), &identity, Place::Host).unwrap_err().kind,
            ErrorKind::Policy,
            "{name}"
        );
    }
    for name in ["host", "none", "container:other"] {
        let identity = Identity { networks: map(&[("default", name)]), ..identity() };
        let error = wanted_container(&definition(service.clone()), &identity, Place::Host).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Policy, "{name}");
        told.push(error.to_string());
    }
    let mut driver = definition(service.clone());
    driver.networks.get_mut("default").unwrap().driver = Some("host".to_owned());
    let error = wanted_networks(&driver, &identity().networks, &Labels::new(), Place::Host).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Policy);
    told.push(error.to_string());
    let nameless = Identity { volumes: BTreeMap::new(), ..identity() };
    let error = wanted_container(&definition(service), &nameless, Place::Host).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    told.push(error.to_string());
    insta::assert_snapshot!(told.join("\n"));
}

/// The hash is kept on containers that outlive the program that made them: it may not change by accident.
#[test]
fn the_hash_is_stable() {
    let wanted = WantedContainer::new("name", "image", "network");
    insta::assert_snapshot!(wanted.hash());
}

proptest! {
    #[test]
    fn the_hash_is_of_all_but_the_name(field in 0_usize..14, name in "[a-z]{1,5}") {
        let before = WantedContainer::new("name", "image", "network");
        let mut after = before.clone();
        after.name = name;
        after.labels.insert(LABEL_WANTED.to_owned(), "anything".to_owned());
        prop_assert_eq!(before.hash(), after.hash());
        match field {
            0 => after.image.push('x'),
            1 => after.command = Some(Vec::new()),
            2 => after.entrypoint = Some(Vec::new()),
            3 => drop(after.environment.insert("A".to_owned(), None)),
            4 => drop(after.labels.insert("a".to_owned(), "b".to_owned())),
            5 => drop(after.networks.insert("other".to_owned(), Vec::new())),
            6 => drop(after.extra_hosts.insert("a".to_owned(), Vec::new())),
            7 => after.volumes.push(WantedVolume {
                volume: None, target: "/x".to_owned(), read_only: false, no_copy: false,
            }),
            8 => after.read_only = true,
            9 => after.memory_bytes = Some(1),
            10 => after.stop_grace += std::time::Duration::from_micros(1),
            11 => after.restart = WantedRestart::OnFailure(1),
            12 => drop(after.log_options.insert("a".to_owned(), "b".to_owned())),
            _ => after.healthcheck = Some(engine::wanted::WantedHealthcheck::Disabled),
        }
        prop_assert_ne!(before.hash(), after.hash());
    }
}

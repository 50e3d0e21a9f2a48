//! What only workspaces have: refused on a hub's host whatever the syntax, given on a developer's machine.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

use compose::model::Protocol;
use compose::{Project, Source, Stage};
use engine::definition::{Identity, Role, wanted_container, wanted_networks, wanted_volumes};
use engine::machine::{Machine, Place, WantedPort};
use engine::{Engine, ErrorKind, Labels, ensure};

use crate::lab::{BASE_IMAGE, Lab, eventually};

fn project(text: &str) -> Project {
    let stage = Stage::Workspace(&|_| Ok(None));
    compose::load(&[Source { name: "compose.yaml", text }], stage, &|_| Some("value".to_owned())).unwrap().project
}

/// A service with these lines, in a project that has all that they mention.
fn service(lines: &str) -> Project {
    project(&format!(
        "services:\n  web: {{image: x, {lines}}}\n  other: {{image: x}}\n\
         networks: {{n: {{}}, out: {{external: true}}, own: {{ipam: {{config: [{{subnet: 10.9.0.0/16}}]}}}}}}\n\
         volumes: {{v: {{}}, host: {{driver_opts: {{type: none, o: bind, device: /}}}}}}\n\
         configs: {{c: {{content: x}}, f: {{file: ./f}}}}\nsecrets: {{s: {{environment: S}}}}\n"
    ))
}

fn identity(project: &Project) -> Identity {
    let names = |keys: Vec<&String>| keys.into_iter().map(|key| (key.clone(), format!("shop_{key}"))).collect();
    Identity {
        name: "shop-web".to_owned(),
        image: "x".to_owned(),
        labels: Labels::new(),
        networks: names(project.networks.keys().collect()),
        volumes: names(project.volumes.keys().collect()),
        aliases: vec!["web".to_owned()],
        extra_hosts: BTreeMap::new(),
        environment: BTreeMap::new(),
        role: Role::Service,
    }
}

fn machine() -> Machine {
    let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    Machine {
        folder: "/Users/me/shop".to_owned(),
        home: Some("/Users/me".to_owned()),
        containers: one("other", "shop-other"),
        ports: vec![WantedPort {
            target: 80,
            protocol: Protocol::Tcp,
            host_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            published: Some(8080),
        }],
        configs: one("c", "c0"),
        secrets: one("s", "50"),
    }
}

#[test]
fn a39_what_reaches_the_host_is_for_workspaces_alone() {
    for lines in [
        "privileged: true",
        "network_mode: host",
        "network_mode: 'container:hub'",
        "network_mode: 'service:other'",
        "pid: host",
        "pid: 'service:other'",
        "ipc: host",
        "uts: host",
        "userns_mode: host",
        "cgroup: host",
        "cgroup_parent: /",
        "devices: ['/dev/kmsg']",
        "devices: [{source: /dev/kmsg}]",
        "devices: ['vendor.example/class=all']",
        "device_cgroup_rules: ['a *:* rwm']",
        "gpus: all",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
        "volumes: ['/var/run/docker.sock:/s']",
        "volumes: ['./here:/s:ro']",
        "volumes: [{type: bind, source: /var/run/docker.sock, target: /s}]",
        "volumes: [{type: bind, source: /, target: /s, bind: {propagation: rshared}}]",
        "volumes: [{type: image, source: x, target: /s}]",
        "volumes: ['host:/s']",
        "volumes: [{type: volume, source: host, target: /s}]",
        "volumes: [{type: volume, source: v, target: /s, volume: {subpath: ../..}}]",
        "volumes_from: ['container:hub']",
        "volumes_from: [other]",
        "security_opt: ['seccomp:unconfined']",
        "security_opt: ['apparmor=unconfined']",
        "security_opt: ['label:disable']",
        "networks: [out]",
        "networks: {own: {}}",
        "networks: {n: {ipv4_address: 10.9.0.2}}",
        "networks: {n: {driver_opts: {a: b}}}",
        "external_links: ['hub:hub']",
        "links: [other]",
        "ports: ['53:53/udp']",
        "ports: [{target: 53, protocol: udp}]",
        "ports: [{target: 80, published: '80', mode: host}]",
        "configs: [c]",
        "configs: [{source: f, target: /f}]",
        "secrets: [s]",
        "container_name: hub",
        "runtime: other",
        "oom_score_adj: -1000",
        "oom_kill_disable: true",
        "blkio_config: {weight: 1000}",
        "cpu_rt_runtime: 95000",
        "storage_opt: {size: 1G}",
        "post_start: [{command: x, privileged: true}]",
        "pre_stop: [{command: x}]",
        "develop: {watch: [{path: ., action: restart}]}",
    ] {
        let project = service(lines);
        let definition = project.definition("web").unwrap();
        let identity = identity(&project);
        let error = wanted_container(&definition, &identity, Place::Host).err();
        let error = error.unwrap_or_else(|| panic!("{lines} was given on a host"));
        assert_eq!(error.kind, ErrorKind::Policy, "{lines}: {error}");
        assert!(error.hint.is_some() || lines.contains("security_opt") || lines.contains("privileged"), "{error}");
        let machine = machine();
        wanted_container(&definition, &identity, Place::Workspace(&machine))
            .unwrap_or_else(|error| panic!("{lines} was refused in a workspace: {error}"));
    }
    for lines in ["networks: [out]", "networks: {own: {}}", "volumes: ['host:/s']"] {
        let project = service(lines);
        let (definition, identity) = (project.definition("web").unwrap(), identity(&project));
        let networks = wanted_networks(&definition, &identity.networks, &Labels::new(), Place::Host).map(|_| ());
        let volumes = wanted_volumes(&definition, &identity.volumes, &Labels::new(), Place::Host).map(|_| ());
        let error = networks.and(volumes).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Policy, "{lines}: {error}");
    }
}

/// Nothing of a Compose file is a line for a shell: words stay words on their way to the engine.
#[test]
fn a38_values_stay_words() {
    let evil = "; rm -rf / $(id) `id` | cat & \\n '\"";
    let list = serde_json::json!([evil, "--flag", evil]);
    let value = serde_json::Value::from(evil).to_string().replace('$', "$$");
    let list_text = list.to_string().replace('$', "$$");
    let text = format!(
        "services: {{web: {{image: x, command: {list_text}, entrypoint: {list_text}, environment: {{A: {value}}}, \
         labels: {{a: {value}}}, working_dir: /x, user: {value}, hostname: {value}, \
         post_start: [{{command: {list_text}}}], healthcheck: {{test: [CMD, {value}]}}}}}}"
    );
    let project = project(&text);
    let machine = machine();
    let definition = project.definition("web").unwrap();
    let wanted = wanted_container(&definition, &identity(&project), Place::Workspace(&machine)).unwrap();
    let words = || Some(vec![evil.to_owned(), "--flag".to_owned(), evil.to_owned()]);
    assert_eq!((wanted.command.clone(), wanted.entrypoint.clone()), (words(), words()));
    assert_eq!(wanted.environment["A"].as_deref(), Some(evil));
    assert_eq!((wanted.labels["a"].as_str(), wanted.user.as_deref()), (evil, Some(evil)));
    assert_eq!(definition.service.post_start[0].command, words().unwrap());
}

#[test]
fn a_workspace_is_given_what_its_file_asks_for() {
    let project = service(
        "privileged: true, pid: 'service:other', ports: ['8080:80'], expose: [9, '53/udp'], links: ['other:cache'], \
         volumes: ['./src:/src:ro,z', '~/keys:/keys', {type: bind, source: ../up, target: /up, bind: {create_host_path: false}}, \
         'v:/v', {type: volume, source: v, target: /w, volume: {subpath: a}}], volumes_from: ['other:ro'], \
         configs: [c, f], secrets: [{source: s, uid: '7', mode: 0o640}], \
         networks: {n: {priority: 1, aliases: [w]}, own: {ipv4_address: 10.9.0.7, priority: 9, interface_name: eth9}}, \
         cpu_shares: 512, devices: ['/dev/null:/dev/mine:r'], tty: true",
    );
    let machine = machine();
    let definition = project.definition("web").unwrap();
    let wanted = wanted_container(&definition, &identity(&project), Place::Workspace(&machine)).unwrap();
    insta::assert_json_snapshot!("workspace", wanted.machine);
    let mut changed = machine.clone();
    changed.configs.insert("c".to_owned(), "c1".to_owned());
    let other = wanted_container(&definition, &identity(&project), Place::Workspace(&changed)).unwrap();
    assert_ne!(wanted.hash(), other.hash(), "another content is another container");
    let error = wanted_container(
        &definition,
        &identity(&project),
        Place::Workspace(&Machine { secrets: BTreeMap::new(), ..machine }),
    );
    assert_eq!(error.unwrap_err().kind, ErrorKind::Invalid, "a secret without content starts nothing");
}

/// A real engine does what was asked.
#[tokio::test]
async fn a_workspace_on_a_real_engine() {
    let lab = Lab::new().await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("data/in", "from the folder"), ("conf.txt", "from the config")] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }
    let serve = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 8000, ReuseAddr => 1); \
                 while (my $c = $s->accept) { print $c \"hello\"; close $c }";
    let app = "cat /data/in /conf.txt; echo written > /data/out; cat /proc/self/oom_score_adj; id -G; \
               test -c /dev/mine && echo device; grep -o corp.example /etc/resolv.conf; \
               ls -d /made; exec perl -e \"$SERVE\"";
    let side = "cat /data/in; touch /data/no 2>&1 | grep -o 'Read-only file system'; grep -c . /proc/net/route; \
                ls /proc/*/comm | wc -l | xargs -I% test % -gt 1 && echo sees more";
    let text = serde_json::json!({
        "services": {
            "app": {
                "image": BASE_IMAGE, "command": ["sh", "-c", app.replace('$', "$$")], "environment": {"SERVE": serve.replace('$', "$$")},
                "ports": ["8000"], "volumes": ["./data:/data", "./made:/made"], "configs": [{"source": "c", "target": "/conf.txt"}],
                "oom_score_adj": 123, "group_add": ["4321"], "devices": ["/dev/null:/dev/mine"], "dns_search": "corp.example",
                "stop_grace_period": "1s", "stdin_open": true,
            },
            "side": {
                "image": BASE_IMAGE, "command": ["sh", "-c", side.replace('$', "$$")],
                "network_mode": "service:app", "pid": "service:app", "volumes_from": ["app:ro"],
            },
        },
        "configs": {"c": {"file": "./conf.txt"}},
    });
    let project = project(&text.to_string());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let network = format!("{}-net", lab.name);
    let identity = |service: &str| Identity {
        name: format!("{}-{service}", lab.name),
        image: BASE_IMAGE.to_owned(),
        labels: lab.labels.clone(),
        networks: BTreeMap::from([("default".to_owned(), network.clone())]),
        volumes: BTreeMap::new(),
        aliases: vec![service.to_owned()],
        extra_hosts: BTreeMap::new(),
        environment: BTreeMap::new(),
        role: Role::Service,
    };
    let mut machine = Machine {
        folder: folder.path().to_str().unwrap().to_owned(),
        containers: BTreeMap::from([("app".to_owned(), format!("{}-app", lab.name))]),
        ports: vec![WantedPort {
            target: 8000,
            protocol: Protocol::Tcp,
            host_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            published: Some(free),
        }],
        ..Machine::default()
    };
    let app = project.definition("app").unwrap();
    let specs = wanted_networks(&app, &identity("app").networks, &lab.labels, Place::Workspace(&machine)).unwrap();
    lab.docker.network_create(&specs[0]).await.unwrap();
    let wanted = wanted_container(&app, &identity("app"), Place::Workspace(&machine)).unwrap();
    let id = ensure::container_run(&lab.docker, &wanted).await.unwrap();
    eventually("the published port answers", || async {
        let mut said = String::new();
        let answered = TcpStream::connect(("127.0.0.1", free)).and_then(|mut stream| stream.read_to_string(&mut said));
        answered.is_ok() && said == "hello"
    })
    .await;
    machine.ports.clear();
    // What the engine is too old for is said, and never passed over.
    let mut addressed = app.clone();
    let own = addressed.service.networks.get_mut("default").unwrap();
    own.options.mac_address = Some("02:42:ac:11:65:43".to_owned());
    let wanted = wanted_container(&addressed, &identity("addressed"), Place::Workspace(&machine)).unwrap();
    let api = lab.docker.version().await.unwrap().api;
    let old = api.split_once('.').is_some_and(|(_, minor)| minor.parse().is_ok_and(|minor: u32| minor < 44));
    let created = lab.docker.container_create(&wanted).await.map_err(|error| error.kind);
    assert_eq!(created.as_ref().err(), old.then_some(&ErrorKind::TooOld), "with API {api}: {created:?}");
    let side = project.definition("side").unwrap();
    let wanted = wanted_container(&side, &identity("side"), Place::Workspace(&machine)).unwrap();
    let beside = ensure::container_run(&lab.docker, &wanted).await.unwrap();
    lab.docker.container_wait(&beside).await.unwrap();
    let mut told = Vec::new();
    for id in [&id, &beside] {
        let lines = ensure::log_tail(&lab.docker, id, 100).await.unwrap();
        told.extend(lines.into_iter().map(|line| line.text));
        told.push("--".to_owned());
    }
    insta::assert_snapshot!("workspace-real", told.join("\n"));
    assert_eq!(std::fs::read_to_string(folder.path().join("data/out")).unwrap(), "written\n");
    for id in [&beside, &id] {
        lab.docker.container_remove(id).await.unwrap();
    }
}

//! `longshore inspect` and `longshore advisories` through the real binary: what is wrong with an image, and what it ends
//! with.

use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use bytes::Bytes;
use oci::Digest;
use serde_json::{Value, json};

use crate::command_line::{Terminal, assert_seen};
use crate::lone::Lone;

const OS_RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
const STATUS: &str = "\
Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.0.1-1
Maintainer: a
Description: b

Package: python3-foo
Status: install ok installed
Architecture: all
Version: 1.0-3
Maintainer: a
Description: b

";
const OWNED: &str = "/usr/lib/python3/dist-packages/foo-1.0.dist-info/METADATA\n";
/// Made up, and put together here, so that nobody's scanner takes this file for a leak.
const PASSWORD: [&str; 2] = ["machine registry.example login ci password ", "c4mVqX9tLw2zRkPb"];

fn advisory(id: &str, aliases: &[&str], ecosystem: &str, name: &str, events: Value, more: Value) -> String {
    let mut advisory = json!({
        "schema_version": "1.7.0", "id": id, "aliases": aliases, "modified": "2026-01-02T03:04:05Z",
        "summary": format!("A flaw of {name}"),
        "affected": [{
            "package": { "ecosystem": ecosystem, "name": name },
            "ranges": [{ "type": if ecosystem == "npm" { "SEMVER" } else { "ECOSYSTEM" }, "events": events }],
        }],
    });
    for (key, value) in more.as_object().unwrap() {
        advisory[key] = value.clone();
    }
    advisory.to_string()
}

/// Advisories by hand, and the two lists.
fn osv(folder: &Path) {
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), text).unwrap();
    };
    let until = |fixed: &str| json!([{ "introduced": "0" }, { "fixed": fixed }]);
    let worst = json!({ "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H" }] });
    write(
        "Maven/shell.json",
        &advisory(
            "GHSA-jfh8-c2jp-5v3q",
            &["CVE-2021-44228"],
            "Maven",
            "org.apache.logging.log4j:log4j-core",
            json!([{ "introduced": "2.13.0" }, { "fixed": "2.15.0" }]),
            worst,
        ),
    );
    write(
        "Maven/same.json",
        &advisory(
            "X-2021-1",
            &["CVE-2021-44228"],
            "Maven",
            "org.apache.logging.log4j:log4j-core",
            until("2.15.0"),
            json!({}),
        ),
    );
    let word = |word: &str| json!({ "database_specific": { "severity": word } });
    write(
        "npm/minimist.json",
        &advisory(
            "GHSA-xvch-5gv4-984h",
            &["CVE-2021-44906"],
            "npm",
            "minimist",
            json!([{ "introduced": "1.0.0" }, { "fixed": "1.2.6" }]),
            word("MODERATE"),
        ),
    );
    write(
        "npm/gone.json",
        &advisory(
            "GHSA-gone-gone-gone",
            &[],
            "npm",
            "minimist",
            until("9.0.0"),
            json!({ "withdrawn": "2026-01-02T03:04:05Z" }),
        ),
    );
    write(
        "Debian/dsa.json",
        &advisory(
            "DSA-5343-1",
            &[],
            "Debian:12",
            "openssl",
            until("3.0.8-1"),
            json!({ "upstream": ["CVE-2023-0286", "CVE-2022-4304"] }),
        ),
    );
    write("PyPI/foo.json", &advisory("PYSEC-2026-1", &["CVE-2026-1"], "PyPI", "foo", until("2.0"), word("HIGH")));
    write(
        "kev.json",
        &json!({ "catalogVersion": "1", "vulnerabilities": [{ "cveID": "CVE-2021-44228", "dateAdded": "2021-12-10" }] })
            .to_string(),
    );
    write(
        "epss.csv",
        "#model_version:v1,score_date:2026-01-30T00:00:00+0000\ncve,epss,percentile\nCVE-2021-44228,0.97565,0.99998\n",
    );
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in files {
        writer.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn jar() -> Vec<u8> {
    let properties = b"groupId=org.apache.logging.log4j\nartifactId=log4j-core\nversion=2.14.1\n";
    let inner = zip(&[("META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties", properties)]);
    zip(&[("WEB-INF/lib/log4j-core-2.14.1.jar", &inner)])
}

/// A system with flaws, and a password that the second layer takes away again.
fn layers() -> [Vec<u8>; 2] {
    let minimist = br#"{"name": "minimist", "version": "1.2.5", "license": "MIT"}"#;
    let metadata = b"Metadata-Version: 2.1\nName: foo\nVersion: 1.0\nLicense: GPL-3.0-only\n";
    let first = tar(&[
        ("etc/os-release", OS_RELEASE.as_bytes()),
        ("var/lib/dpkg/status", STATUS.as_bytes()),
        ("var/lib/dpkg/info/python3-foo.list", OWNED.as_bytes()),
        ("usr/lib/python3/dist-packages/foo-1.0.dist-info/METADATA", metadata),
        ("srv/app.war", &jar()),
        ("srv/node_modules/minimist/package.json", minimist),
        ("srv/.netrc", PASSWORD.concat().as_bytes()),
    ]);
    [first, tar(&[("srv/.wh..netrc", b"")])]
}

fn config(layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::sha256_of(layer).to_string()).collect();
    json!({
        "os": "linux", "architecture": "amd64", "created": "2026-01-02T03:04:05Z", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": [],
    })
}

/// What `docker save` would make of it.
fn archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let config = config(layers).to_string();
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["team/app:1"], "Layers": names }]).to_string();
    let mut files: Vec<(&str, &[u8])> =
        vec![("manifest.json", manifest.as_bytes()), ("config.json", config.as_bytes())];
    files.extend(names.iter().zip(layers).map(|(name, layer)| (name.as_str(), layer.as_slice())));
    tar(&files)
}

/// The same as an OCI layout.
fn layout(folder: &Path, layers: &[Vec<u8>]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::sha256_of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    };
    let config = put(oci::media::OCI_CONFIG, config(layers).to_string().as_bytes());
    let layers: Vec<Value> = layers.iter().map(|layer| put(oci::media::OCI_LAYER, layer)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": oci::media::OCI_MANIFEST, "config": config, "layers": layers,
    });
    let manifest = put(oci::media::OCI_MANIFEST, manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string();
    fs::write(folder.join("index.json"), index).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}

/// Somebody with an image, and no engine.
fn terminal() -> Terminal {
    let mut terminal = Terminal::new(None);
    let home = terminal.home.path().to_owned();
    fs::write(home.join("image.tar"), archive(&layers())).unwrap();
    osv(&home.join("osv"));
    let data = home.join("hub").display().to_string();
    terminal.environment.push(("LONGSHORE_DATA".to_owned(), data));
    terminal.environment.push(("DOCKER_HOST".to_owned(), "tcp://127.0.0.1:1".to_owned()));
    terminal
}

fn updated() -> Terminal {
    let mut terminal = terminal();
    terminal.run("advisories update osv", 0);
    terminal.seen.clear();
    terminal
}

/// What was seen, without where that was.
fn seen(terminal: &Terminal) -> String {
    let home = terminal.home.path().canonicalize().unwrap();
    terminal.seen.replace(&home.display().to_string(), "[home]")
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn what_is_wrong_with_an_image_is_seen() {
    let mut terminal = updated();
    terminal.run("inspect image.tar", 0);
    assert_seen!("inspect_table", seen(&terminal));
    let wide = terminal.seen.lines().filter(|line| line.contains("CVE-")).map(|line| line.chars().count()).max();
    assert!(wide.is_some_and(|wide| wide <= 100), "{wide:?} columns");
}

#[test]
fn without_advisories_nothing_is_said_to_be_free_of_flaws() {
    let mut terminal = terminal();
    terminal.run("advisories status", 3);
    terminal.run("inspect image.tar --fail-on critical", 3);
    let said = terminal.run("inspect image.tar --complete", 9);
    assert!(
        said.err.contains("Not compared with advisories") && !said.err.contains("no vulnerability"),
        "{}",
        said.err
    );
    let said = terminal.quietly("inspect image.tar --json");
    assert!(said.code == Some(0) && parsed(&said.out).get("matched").is_none());
    assert_seen!("inspect_without_advisories", seen(&terminal));
}

#[test]
fn it_ends_as_it_was_told_to() {
    let mut terminal = updated();
    let home = terminal.home.path().to_owned();
    for (severity, code) in [("critical", 8), ("high", 8), ("medium", 8), ("low", 8), ("unknown", 8)] {
        assert_eq!(terminal.quietly(&format!("inspect image.tar --fail-on {severity}")).code, Some(code), "{severity}");
    }
    terminal.run("inspect image.tar --fail-on critical --format sarif", 8);
    terminal.seen =
        terminal.seen.lines().filter(|line| line.starts_with('!')).map(|line| format!("{line}\n")).collect();
    assert_seen!("inspect_fails", seen(&terminal));
    terminal.seen.clear();

    fs::write(home.join(".trivyignore"), "# decided\nCVE-2021-44228 exp:2999-01-01\n").unwrap();
    let said = terminal.run("inspect image.tar --fail-on high", 0);
    assert!(
        said.err.contains("1 set aside") && said.err.contains("ignored by .trivyignore, until 2999"),
        "{}",
        said.err
    );
    fs::write(home.join(".trivyignore"), "CVE-2021-44228 exp:2026-01-01\n").unwrap();
    assert_eq!(terminal.quietly("inspect image.tar --fail-on high").code, Some(8), "what has ended counts no more");
    fs::rename(home.join(".trivyignore"), home.join("other")).unwrap();
    fs::write(home.join("wrong"), "CVE-1 because\n").unwrap();
    let said = terminal.quietly("inspect image.tar --ignore-file wrong");
    assert!(said.code == Some(2) && said.err.contains("line 1"), "{}", said.err);

    let statement = |status: &str, product: &str| {
        json!({
            "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://team.example/vex", "author": "team",
            "timestamp": "2026-02-01T00:00:00Z", "version": 1,
            "statements": [{
                "vulnerability": { "name": "CVE-2021-44228" }, "products": [{ "@id": product }], "status": status,
                "justification": "vulnerable_code_not_in_execute_path", "impact_statement": "JNDI is not there",
            }],
        })
        .to_string()
    };
    let purl = "pkg:maven/org.apache.logging.log4j/log4j-core";
    fs::write(home.join("vex.json"), statement("not_affected", purl)).unwrap();
    let said = terminal.run("inspect image.tar --fail-on high --vex vex.json", 0);
    assert!(said.err.contains("not affected, vulnerable code not in execute path"), "{}", said.err);
    fs::write(home.join("vex.json"), statement("not_affected", &format!("{purl}@2.0"))).unwrap();
    let said = terminal.quietly("inspect image.tar --fail-on high --vex vex.json --json");
    assert_eq!(said.code, Some(8));
    let heard = parsed(&said.out);
    let heard = list(&heard, "/findings").iter().find_map(|finding| finding.pointer("/heard/0/passedOver"));
    assert_eq!(heard, Some(&json!("it is about version 2.0, this one has \"2.14.1\"")));

    terminal.run("inspect image.tar --complete", 0);
    fs::write(home.join("broken.zip"), b"PK\x03\x04 and nothing more").unwrap();
    let said = terminal.run("inspect broken.zip --complete", 9);
    assert!(said.err.contains("1 part not examined") && !said.err.contains("no vulnerability found\n"), "{}", said.err);
}

#[test]
fn secrets_are_found_in_a_layer_that_is_hidden_and_are_never_shown() {
    let mut terminal = updated();
    let said = terminal.quietly("inspect image.tar --json");
    assert!(list(&parsed(&said.out), "/secrets").is_empty(), "only when asked for");
    let secret = PASSWORD[1];
    for format in ["table", "json", "cyclonedx", "spdx", "sarif"] {
        let said = terminal.quietly(&format!("inspect image.tar --secrets --format {format}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "{format} shows it");
    }
    let said = terminal.quietly("inspect image.tar --secrets --json");
    let found = parsed(&said.out);
    let [found] = list(&found, "/secrets") else { panic!("{}", said.out) };
    assert_eq!(found["rule"], "netrc-password");
    assert_eq!(
        (&found["layer"], &found["path"], &found["deleted"]),
        (&json!(0), &json!(["/srv/.netrc"]), &json!(true))
    );
    fs::write(terminal.home.path().join("ignore.yaml"), "vulnerabilities: [{id: CVE-2021-44228}]\n").unwrap();
    let said = terminal.run("inspect image.tar --secrets --fail-on high --ignore-file ignore.yaml", 8);
    assert!(said.err.contains("1 secret:\n"), "{}", said.err);
    assert!(said.out.contains("/srv/.netrc:1 (deleted later)"), "{}", said.out);
}

#[test]
fn licences_are_judged_by_a_policy() {
    let mut terminal = updated();
    let home = terminal.home.path().to_owned();
    fs::write(home.join("policy.toml"), "allow = [\"MIT\"]\ndeny = [\"GPL-*\"]\nunknown = \"warn\"\n").unwrap();
    let said = terminal.run("inspect image.tar --licences policy.toml", 8);
    assert!(said.err.contains("1 denied licence:\n    python3-foo 1.0-3: GPL-3.0-only\n"), "{}", said.err);
    assert!(
        said.out.contains("\ndeny    python3-foo 1.0-3") && said.out.contains("\nwarn    libssl3 3.0.1-1"),
        "{}",
        said.out
    );
    fs::write(home.join("policy.toml"), "alow = [\"MIT\"]\n").unwrap();
    let said = terminal.run("inspect image.tar --licences policy.toml", 2);
    assert!(said.err.contains("line 1: unknown key `alow`") && said.err.contains("`allow`"), "{}", said.err);
}

#[test]
fn documents_carry_the_findings() {
    let terminal = updated();
    layout(&terminal.home.path().join("layout"), &layers());
    let read = |format: &str| {
        let said = terminal.quietly(&format!("inspect layout --format {format}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        parsed(&said.out)
    };
    let own = read("json");
    let ids: Vec<&str> = list(&own, "/findings").iter().filter_map(|finding| finding["id"].as_str()).collect();
    assert_eq!(ids, ["CVE-2021-44228", "CVE-2021-44906", "CVE-2022-4304", "CVE-2023-0286"]);
    let shell = &list(&own, "/findings")[0];
    assert_eq!(shell["aliases"], json!(["GHSA-jfh8-c2jp-5v3q", "X-2021-1"]));
    assert_eq!(shell["range"], ">= 2.13.0, < 2.15.0");
    assert_eq!((&shell["severity"], &shell["knownExploited"]), (&json!("critical"), &json!(true)));
    assert_eq!(shell["epss"], json!({ "score": 0.97565, "percentile": 0.99998 }));
    let notice = &list(&own, "/findings")[3];
    assert_eq!((&notice["package"], &notice["severity"]), (&json!("Debian:12 openssl"), &json!("unknown")));
    assert_eq!(own.pointer("/matched/gaps"), None);
    assert_eq!(list(&own, "/matched/notes").len(), 1, "what the package owns is matched under its name");

    let bill = read("cyclonedx");
    let ids: Vec<&str> = list(&bill, "/vulnerabilities").iter().filter_map(|found| found["id"].as_str()).collect();
    assert_eq!(ids.len(), 4);
    let results = read("sarif");
    let ids: Vec<&str> =
        list(&results, "/runs/0/results").iter().filter_map(|found| found["ruleId"].as_str()).collect();
    assert!(ids.len() == 4 && ids[0] == "CVE-2021-44228", "{ids:?}");
    let twice = [terminal.quietly("inspect layout --json").out, terminal.quietly("inspect layout --json").out];
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn a_bill_of_materials_is_compared_as_what_it_is_of() {
    let terminal = updated();
    let home = terminal.home.path();
    let inspected = |arguments: &str| {
        let said = terminal.quietly(&format!("inspect {arguments}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out
    };
    let told = |document: &Value, pointer: &str, fields: &[&str]| -> Vec<Vec<Value>> {
        let of_one = |one: &Value| fields.iter().map(|field| one[*field].clone()).collect();
        list(document, pointer).iter().map(of_one).collect()
    };
    let all = |document: &Value| {
        let findings = told(document, "/findings", &["id", "component", "package", "severity", "fixedIn", "evidence"]);
        (findings, told(document, "/components", &["id", "ecosystem", "name", "version", "source", "evidence"]))
    };
    let image = all(&parsed(&inspected("image.tar --json")));
    assert!(image.0.len() == 4 && image.1.len() > 3, "{image:?}");
    for format in ["cyclonedx", "spdx"] {
        fs::write(home.join("bill.json"), inspected(&format!("image.tar --format {format}"))).unwrap();
        let bill = parsed(&inspected("bill.json --json"));
        assert_eq!(all(&bill), image, "{format}");
        assert_eq!(told(&bill, "/unexamined", &["why"]), Vec::<Vec<Value>>::new());
    }
    // What somebody else wrote speaks for less.
    let other = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5",
        "components": [{ "type": "library", "name": "minimist", "version": "1.2.0", "purl": "pkg:npm/minimist@1.2.0" }],
    });
    fs::write(home.join("other.json"), other.to_string()).unwrap();
    let said = terminal.quietly("inspect other.json --fail-on medium");
    assert!(said.code == Some(8) && said.err.contains("CVE-2021-44906 (medium)"), "{}", said.err);
    let said = terminal.quietly("inspect other.json --complete");
    assert!(said.code == Some(9) && said.err.contains("does not state that it is complete"), "{}", said.err);
    fs::write(home.join("cut.json"), other.to_string().split_at(90).0).unwrap();
    let said = terminal.quietly("inspect cut.json");
    assert!(said.code == Some(2) && said.err.contains("the bill of materials cannot be understood"), "{}", said.err);
}

#[test]
fn advisories_come_from_folders_archives_and_addresses() {
    let mut terminal = terminal();
    let home = terminal.home.path().to_owned();
    terminal.run("advisories update osv", 0);
    terminal.run("advisories status", 0);
    let seen = seen(&terminal);
    let ages = seen.lines().map(|line| match line.split_once(", the youngest changed ") {
        Some((start, _)) => format!("{start}, the youngest changed [time] ago\n"),
        None => format!("{line}\n"),
    });
    assert_seen!("advisories_update", ages.collect::<String>());

    let one = fs::read(home.join("osv/Maven/shell.json")).unwrap();
    let files: [(&str, &[u8]); 1] = [("a/shell.json", &one)];
    fs::write(home.join("all.zip"), zip(&files)).unwrap();
    fs::write(home.join("all.tar"), tar(&files)).unwrap();
    let run = |terminal: &Terminal, line: &str| {
        let said = terminal.quietly(line);
        assert_eq!(said.code, Some(0), "{line}: {}", said.err);
        let said = terminal.quietly("advisories status --json");
        parsed(&said.out)["advisories"].as_u64().unwrap()
    };
    assert_eq!(run(&terminal, "advisories update all.zip all.tar"), 5, "each advisory once, whoever else has it");
    assert_eq!(run(&terminal, "advisories update all.tar --fresh"), 1);
    assert_eq!(run(&terminal, "advisories update osv"), 5, "what came from elsewhere stays");

    let zipped = zip(&files);
    let mirror = serve(HashMap::from([
        ("/osv/ecosystems.txt".to_owned(), b"Maven\nDebian:12\nNobody knows\n".to_vec()),
        ("/osv/Maven/all.zip".to_owned(), zipped.clone()),
        ("/all.zip".to_owned(), zipped),
    ]));
    assert_eq!(run(&terminal, &format!("advisories update http://{mirror}/osv/ --fresh")), 1);
    assert_eq!(run(&terminal, &format!("advisories update http://{mirror}/osv/ --ecosystem Maven --fresh")), 1);
    assert_eq!(run(&terminal, &format!("advisories update http://{mirror}/all.zip --fresh")), 1);

    terminal.seen.clear();
    let before = fs::read(home.join("hub/advisories")).unwrap();
    fs::create_dir(home.join("empty")).unwrap();
    let said = terminal.quietly(&format!("advisories update osv http://{mirror}/nothing.zip"));
    assert!(said.code == Some(5) && said.err.contains("404"), "{}", said.err);
    terminal.run("advisories update osv empty", 2);
    terminal.run("advisories update nothing", 3);
    terminal.run("advisories update https://user:word@mirror.example/all.zip", 2);
    assert_eq!(fs::read(home.join("hub/advisories")).unwrap(), before, "whole or not at all");
    fs::write(home.join("hub/advisories"), &before[..before.len() - 1]).unwrap();
    let said = terminal.quietly("inspect image.tar");
    assert!(said.code == Some(2) && said.err.contains("it is damaged"), "{}", said.err);
}

#[test]
fn an_image_of_the_engine_is_looked_into() {
    let mut terminal = updated();
    let version = json!({ "Version": "20.10.24", "ApiVersion": "1.41" }).to_string();
    let engine = serve(HashMap::from([
        ("/version".to_owned(), version.into_bytes()),
        ("/v1.41/images/team/app:1/get".to_owned(), archive(&layers())),
    ]));
    terminal.run("inspect team/app:1", 3);
    assert!(terminal.seen.contains("there is no file of that name; of the container engine: "), "{}", terminal.seen);
    terminal.environment.push(("DOCKER_HOST".to_owned(), format!("tcp://{engine}")));
    for name in ["team/app:1", "docker:team/app:1"] {
        let said = terminal.run(&format!("inspect {name} --fail-on critical"), 8);
        assert!(said.err.starts_with("team/app:1: "), "{}", said.err);
    }
    terminal.run("inspect docker:team/other", 3);
    terminal.run("inspect nothing/at/all.tar", 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_registry_is_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    let layers = layers();
    let digest = hub.push("team/app", "1", &config(&layers), &layers.clone().map(Bytes::from)).await;
    let mut terminal = updated();
    let host = hub.host.clone();
    let (terminal, said) = tokio::task::spawn_blocking(move || {
        let said = terminal.quietly(&format!("inspect {host}/team/app:1 --json --fail-on critical"));
        terminal.run(&format!("inspect {host}/team/none:1"), 3);
        (terminal, said)
    })
    .await
    .unwrap();
    assert_eq!(said.code, Some(8), "{}", said.err);
    let own = parsed(&said.out);
    assert_eq!(own["image"]["digest"], digest.to_string());
    assert_eq!(
        (&own["image"]["repository"], &own["image"]["tag"]),
        (&json!(format!("{}/team/app", hub.host)), &json!("1"))
    );
    assert_eq!(list(&own, "/findings").len(), 4);
    drop(terminal);
    hub.stop();
}

/// Serves these bytes at these paths, one request for each connection, until the test ends.
fn serve(paths: HashMap<String, Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend(&buffer[..read]),
                }
            }
            let request = String::from_utf8_lossy(&request);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match paths.get(path) {
                Some(body) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", br#"{"message": "there is nothing"}"#.as_slice()),
            };
            let kind = if body.starts_with(b"{") { "application/json" } else { "application/octet-stream" };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            // Whoever has gone away wants no more of it.
            let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    address
}

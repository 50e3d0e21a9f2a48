//! Files into and out of containers, and whole images: one suite for the real engine and the one in memory.

use engine::build::TarBody;
use engine::fake::{Behaviour, FakeEngine};
use engine::{Engine, ErrorKind, ExecOptions, NetworkSpec, Progress, SessionInput, SessionOutput, WantedContainer};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::lab::Lab;

/// An entry of a tar: kind, mode, name, content or target.
type Entry<'a> = (EntryType, u32, &'a str, &'a str);

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, mode, name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(1234);
        header.set_gid(2345);
        match kind {
            EntryType::Symlink => {
                header.set_size(0);
                builder.append_link(&mut header, name, content).unwrap();
            }
            _ => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, content.as_bytes()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn body(bytes: Vec<u8>) -> TarBody {
    TarBody::from_reader(std::io::Cursor::new(bytes))
}

/// What a tar holds: name, mode, content or target.
async fn listed(engine: &dyn Engine, container: &str, path: &str) -> Vec<String> {
    let pieces: Vec<bytes::Bytes> =
        engine.container_archive_get(container, path).await.unwrap().try_collect().await.unwrap();
    let bytes = pieces.concat();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut lines: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
            let link = entry.link_name().unwrap().map(|link| format!("-> {}", link.display())).unwrap_or_default();
            let name = entry.path().unwrap().display().to_string();
            format!("{} {:o} {content}{link}", name.trim_end_matches('/'), entry.header().mode().unwrap() & 0o7777)
        })
        .collect();
    lines.sort();
    lines
}

/// What holds for every engine; the container runs, and has an empty folder or none at /srv.
async fn files_go_in_and_out(engine: &dyn Engine, container: &str) {
    let first = tar_of(&[
        (EntryType::Directory, 0o755, "srv/app", ""),
        (EntryType::Regular, 0o640, "srv/app/one", "1"),
        (EntryType::Regular, 0o755, "srv/app/deep/er/two", "2"),
        (EntryType::Symlink, 0o777, "srv/app/link", "one"),
        (EntryType::Directory, 0o700, "srv/app/folder", ""),
        (EntryType::Regular, 0o644, "srv/app/folder/in", "x"),
    ]);
    engine.container_archive_put(container, "/", body(first)).await.unwrap();
    let expected = [
        "app 755 ",
        "app/deep 755 ",
        "app/deep/er 755 ",
        "app/deep/er/two 755 2",
        "app/folder 700 ",
        "app/folder/in 644 x",
        "app/link 777 -> one",
        "app/one 640 1",
    ];
    assert_eq!(listed(engine, container, "/srv/app").await, expected);

    // A file over a folder, a folder over a file, other content under the same name; what is not named stays.
    let second = tar_of(&[
        (EntryType::Regular, 0o600, "folder", "now a file"),
        (EntryType::Directory, 0o755, "link", ""),
        (EntryType::Regular, 0o600, "deep/er/two", "22"),
    ]);
    engine.container_archive_put(container, "/srv/app", body(second)).await.unwrap();
    let expected = [
        "app 755 ",
        "app/deep 755 ",
        "app/deep/er 755 ",
        "app/deep/er/two 600 22",
        "app/folder 600 now a file",
        "app/link 755 ",
        "app/one 640 1",
    ];
    assert_eq!(listed(engine, container, "/srv/app").await, expected);
    assert_eq!(listed(engine, container, "/srv/app/one").await, ["one 640 1"]);

    let remove = ["rm", "-rf", "--", "/srv/app/deep", "/srv/app/never there"].map(str::to_owned);
    let options = ExecOptions { command: remove.to_vec(), user: Some("0:0".to_owned()), ..ExecOptions::default() };
    let output: Vec<SessionOutput> =
        engine.container_exec(container, &options, SessionInput::default()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(output, [SessionOutput::Ended(0)]);
    assert_eq!(
        listed(engine, container, "/srv/app").await,
        ["app 755 ", "app/folder 600 now a file", "app/link 755 ", "app/one 640 1"]
    );

    // A container that does not run takes files, too.
    engine.container_stop(container, std::time::Duration::ZERO).await.unwrap();
    engine
        .container_archive_put(container, "/srv/app", body(tar_of(&[(EntryType::Regular, 0o600, "one", "3")])))
        .await
        .unwrap();
    assert_eq!(listed(engine, container, "/srv/app/one").await, ["one 600 3"]);

    for (path, kind) in [("/no/such/folder", ErrorKind::NotFound), ("/", ErrorKind::Invalid)] {
        let torn = body(if path == "/" { Vec::from(&b"no tar at all "[..]).repeat(100) } else { tar_of(&[]) });
        let error = engine.container_archive_put(container, path, torn).await.unwrap_err();
        assert!(error.kind == kind || (path == "/" && error.kind == ErrorKind::Engine), "{error:?}");
    }
    let unreadable = TarBody::from_stream(futures::stream::iter([Err(std::io::Error::other("the disk is gone"))]));
    let error = engine.container_archive_put(container, "/", unreadable).await.unwrap_err();
    assert!(error.why.contains("the disk is gone"), "{error}");
    let error = engine.container_archive_get(container, "/no/such/path").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = engine.container_archive_put("no-such-container", "/", body(tar_of(&[]))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn files_go_in_and_out_of_docker() {
    let lab = Lab::new().await;
    let net = format!("{}-net", lab.name);
    let spec =
        NetworkSpec { name: net.clone(), labels: lab.labels.clone(), internal: true, subnet: None, workspace: None };
    engine::ensure::network_ensure(&lab.docker, &spec).await.unwrap();
    let wanted = lab.shell("files", &net, "exec sleep 600");
    let id = engine::ensure::container_run(&lab.docker, &wanted).await.unwrap();
    files_go_in_and_out(&lab.docker, &id).await;
}

#[tokio::test]
async fn files_go_in_and_out_of_the_engine_in_memory() {
    let engine = FakeEngine::new();
    engine.registry_add("app", Behaviour::default());
    engine.image_pull("app", Progress::none()).await.unwrap();
    let spec = NetworkSpec {
        name: "net".to_owned(),
        labels: Default::default(),
        internal: true,
        subnet: None,
        workspace: None,
    };
    engine.network_create(&spec).await.unwrap();
    let id = engine.container_create(&WantedContainer::new("one", "app", "net")).await.unwrap();
    engine.container_start(&id).await.unwrap();
    files_go_in_and_out(&engine, &id).await;
}

/// An image of one file in the form of `docker save`, its id, and its reference if it has one.
fn saved(lab: &Lab, reference: Option<&str>) -> (Vec<u8>, String) {
    let layer = tar_of(&[(EntryType::Regular, 0o644, "hello", &lab.name)]);
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Labels": lab.labels },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))] },
    })
    .to_string();
    let id = hex::encode(Sha256::digest(&config));
    let manifest = serde_json::json!([{
        "Config": format!("{id}.json"),
        "RepoTags": reference.map(|reference| vec![reference]),
        "Layers": ["layer.tar"],
    }]);
    let manifest = manifest.to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let config_name = format!("{id}.json");
    let parts =
        [(config_name.as_str(), config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest.as_bytes())];
    for (name, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).unwrap();
    }
    (builder.into_inner().unwrap(), format!("sha256:{id}"))
}

#[tokio::test]
async fn an_image_is_loaded_from_a_tar() {
    let lab = Lab::new().await;
    let fake = FakeEngine::new();
    for engine in [&lab.docker as &dyn Engine, &fake] {
        let (nameless, id) = saved(&lab, None);
        assert_eq!(engine.image_load(body(nameless), Progress::none()).await.unwrap(), id);
        let reference = format!("{}:loaded", lab.name);
        let (named, id) = saved(&lab, Some(&reference));
        let (sender, mut progress) = tokio::sync::mpsc::channel(1);
        let (loaded, _told) = tokio::join!(engine.image_load(body(named), Progress::to(sender)), async {
            while progress.recv().await.is_some() {}
        });
        assert_eq!(loaded.unwrap(), id);
        assert_eq!(engine.image_inspect(&reference).await.unwrap().unwrap().id, id);
        let error = engine.image_load(body(tar_of(&[])), Progress::none()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Invalid | ErrorKind::Engine), "{error:?}");
    }
}

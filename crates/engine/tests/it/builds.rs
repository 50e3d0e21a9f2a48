//! Builds by a real BuildKit: what comes out, and what each way of failing says.

use std::collections::BTreeMap;

use engine::build::{BuildError, BuildEvent, BuildOptions, TarBody};
use engine::{Address, Docker, Engine, Progress};
use tokio::sync::mpsc;

use crate::lab::{BASE_IMAGE, Lab, eventually};

const EVENTS_MAX: usize = 100_000;

fn context(files: &[(&str, &str)]) -> TarBody {
    let files: Vec<(String, String)> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    TarBody::from_writer(move |writer| {
        let mut tar = tar::Builder::new(writer);
        for (path, text) in &files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes())?;
        }
        tar.finish()
    })
}

fn options(lab: &Lab) -> BuildOptions {
    BuildOptions { labels: lab.labels.clone(), ..BuildOptions::default() }
}

async fn failure(lab: &Lab, options: &BuildOptions, files: &[(&str, &str)]) -> String {
    let error = lab.docker.image_build(options, context(files), Progress::none()).await.unwrap_err();
    let BuildError::Failed(_) = &error else { panic!("{error:?}") };
    let hint = error.hint().unwrap_or("none").to_owned();
    format!("{error}\nhint: {hint}")
}

#[tokio::test]
async fn a_build_takes_its_options_and_tells_its_steps() {
    let lab = Lab::new().await;
    let dockerfile = format!(
        "FROM {BASE_IMAGE} AS wanted\nARG GREETING=none\nRUN echo \"said: $GREETING\" && ip link 2>/dev/null | wc -l; \
         cat /proc/net/dev | wc -l\nCOPY content /content\nRUN cat /content\nEXPOSE 8080\nVOLUME /kept\n\
         HEALTHCHECK CMD true\nENTRYPOINT [\"cat\"]\nCMD [\"/content\"]\nFROM wanted\nRUN exit 1\n"
    );
    let files = [("docker/Dockerfile.x", dockerfile.as_str()), ("content", "the content\n")];
    let options = BuildOptions {
        dockerfile: Some("docker/Dockerfile.x".to_owned()),
        args: BTreeMap::from([("GREETING".to_owned(), "a & b = \"c\"".to_owned())]),
        target: Some("wanted".to_owned()),
        tags: vec![format!("{}:one", lab.name), format!("{}:two", lab.name)],
        network: Some("none".to_owned()),
        no_cache: true,
        ..options(&lab)
    };
    let (sender, mut receiver) = mpsc::channel(EVENTS_MAX);
    let id = lab.docker.image_build(&options, context(&files), Progress::to(sender)).await.unwrap();
    let mut log = String::new();
    let mut steps = BTreeMap::new();
    while let Some(event) = receiver.recv().await {
        match event {
            BuildEvent::Log(part) => log.push_str(&part.text),
            BuildEvent::Step(step) => drop(steps.insert(step.digest.clone(), step)),
            BuildEvent::Status(_) => {}
        }
    }
    assert!(log.contains("said: a & b = \"c\"\n"), "{log}");
    assert!(log.contains("the content\n"), "{log}");
    assert!(steps.values().any(|step| step.name.contains("COPY content")), "{steps:?}");
    assert!(steps.values().all(|step| step.error.is_none() && step.started <= step.completed), "{steps:?}");

    let image = lab.docker.image_inspect(&options.tags[1]).await.unwrap().unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.labels.get("dev.longshore.test"), Some(&lab.name));
    assert_eq!(image.exposed.iter().collect::<Vec<_>>(), ["8080/tcp"]);
    assert_eq!(image.volumes.iter().collect::<Vec<_>>(), ["/kept"]);
    assert_eq!(image.entrypoint, ["cat"]);
    assert!(image.healthcheck);

    // A cleared command clears the image's, though its entrypoint stays.
    let network = engine::NetworkSpec {
        name: format!("{}-net", lab.name),
        labels: lab.labels.clone(),
        internal: true,
        subnet: None,
        workspace: None,
    };
    lab.docker.network_create(&network).await.unwrap();
    let mut wanted = lab.shell("cat", &network.name, "");
    wanted.image = options.tags[0].clone();
    wanted.command = Some(Vec::new());
    let container = engine::ensure::container_run(&lab.docker, &wanted).await.unwrap();
    assert_eq!(lab.docker.container_wait(&container).await.unwrap(), 0);
    assert_eq!(
        engine::ensure::log_tail(&lab.docker, &container, 10).await.unwrap(),
        [],
        "cat without a file read nothing"
    );

    // The same again, without no_cache, is all from the cache: the last step of the target says so.
    let again = BuildOptions { no_cache: false, ..options };
    let (sender, mut receiver) = mpsc::channel(EVENTS_MAX);
    assert_eq!(lab.docker.image_build(&again, context(&files), Progress::to(sender)).await.unwrap(), id);
    let mut cached = false;
    while let Some(event) = receiver.recv().await {
        cached |= matches!(event, BuildEvent::Step(step) if step.cached && step.name.contains("RUN cat /content"));
    }
    assert!(cached);
}

#[tokio::test]
async fn each_way_of_failing_is_readable() {
    let lab = Lab::new().await;
    let options = options(&lab);
    let base = format!("FROM {BASE_IMAGE}\n");
    let dockerfile = |rest: &str| format!("{base}{rest}");
    let mut told = Vec::new();
    for (name, text) in [
        ("unknown instruction", dockerfile("RUN true\nRUNN true\n")),
        ("wrong arguments", dockerfile("ENV\n")),
        ("no stage", "RUN true\n".to_owned()),
        ("nothing in it", String::new()),
        ("missing file", dockerfile("RUN true\nCOPY not/here.txt other /x/\n")),
        (
            "failing command",
            dockerfile("RUN for n in $(seq 60); do echo \"line $n\"; done; sleep 0.5; echo why >&2; exit 3\n"),
        ),
        ("missing program", dockerfile("RUN no-such-program --help\n")),
        ("secret", dockerfile("RUN --mount=type=secret,id=x,required cat /run/secrets/x\n")),
        ("unknown stage", dockerfile("COPY --from=nowhere-at-all:latest /x /x\n")),
    ] {
        let files = [("Dockerfile", text.as_str()), ("other", "")];
        told.push(format!("## {name}\n{}", failure(&lab, &options, &files).await));
    }
    let text = dockerfile("RUN true\n");
    let files = [("Dockerfile", text.as_str())];
    let target = BuildOptions { target: Some("nowhere".to_owned()), ..options.clone() };
    told.push(format!("## unknown target\n{}", failure(&lab, &target, &files).await));
    let other = BuildOptions { dockerfile: Some("deploy/Dockerfile".to_owned()), ..options.clone() };
    told.push(format!("## no dockerfile\n{}", failure(&lab, &other, &files).await));
    let unknown = [("Dockerfile", "FROM localhost:1/no/such-image:here\nRUN true\n")];
    told.push(format!("## unknown base\n{}", failure(&lab, &options, &unknown).await));
    insta::with_settings!({filters => vec![
        // What the resolver and the network say differs from machine to machine.
        (r#"(Head "https://[^"]+": ).*"#, "${1}REASON"),
        (r#"(failed to do request: ).*"#, "${1}REASON"),
    ]}, { insta::assert_snapshot!(told.join("\n\n")) });
}

#[tokio::test]
async fn a_context_that_breaks_off_is_told() {
    let lab = Lab::new().await;
    let context = TarBody::from_writer(|writer| {
        writer.write_all(&[0; 1000])?;
        Err(std::io::Error::other("the disk is on fire"))
    });
    let error = lab.docker.image_build(&options(&lab), context, Progress::none()).await.unwrap_err();
    assert_eq!(error.to_string(), "the build failed: the build context cannot be read: the disk is on fire");
}

/// Memory stays bounded: the writer is never far ahead of the engine.
#[tokio::test]
async fn a_large_context_streams() {
    let lab = Lab::new().await;
    let size: u64 = 64 << 20;
    let context = TarBody::from_writer(move |writer| {
        let mut tar = tar::Builder::new(writer);
        let text = format!("FROM {BASE_IMAGE}\nRUN --mount=type=bind,target=/context wc -c </context/large\n");
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "Dockerfile", text.as_bytes())?;
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        tar.append_data(&mut header, "large", std::io::Read::take(std::io::repeat(7), size))?;
        tar.finish()
    });
    let (sender, mut receiver) = mpsc::channel(EVENTS_MAX);
    let options = BuildOptions { no_cache: true, ..options(&lab) };
    lab.docker.image_build(&options, context, Progress::to(sender)).await.unwrap();
    let mut log = String::new();
    while let Some(event) = receiver.recv().await {
        if let BuildEvent::Log(part) = event {
            log.push_str(&part.text);
        }
    }
    assert!(log.contains(&size.to_string()), "{log}");
}

/// Finds the processes whose command line has this text.
fn processes_with(text: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).replace('\0', " ").starts_with(text))
        .count()
}

#[tokio::test]
async fn dropping_the_future_stops_the_build() {
    let lab = Lab::new().await;
    let Address::Unix(_) = lab.docker.address() else { return };
    let docker: Docker = lab.docker.clone();
    // A number of seconds that no other process sleeps.
    let seconds = 100_000 + u64::from(std::process::id());
    let command = format!("sleep {seconds}");
    let text = format!("FROM {BASE_IMAGE}\nRUN {command}\n");
    let options = BuildOptions { no_cache: true, ..options(&lab) };
    let build =
        tokio::spawn(
            async move { docker.image_build(&options, context(&[("Dockerfile", &text)]), Progress::none()).await },
        );
    eventually("the step runs", || async { processes_with(&command) > 0 }).await;
    build.abort();
    eventually("the step is gone", || async { processes_with(&command) == 0 }).await;
}

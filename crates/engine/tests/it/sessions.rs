//! Processes in real containers that one talks to.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{
    ContainerState, Engine, ErrorKind, ExecOptions, NetworkSpec, Session, SessionInput, SessionOutput, TerminalSize,
};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::lab::{BASE_IMAGE, Lab, eventually};

/// Standard output, standard error, exit code.
async fn all(mut session: Session) -> (String, String, i64) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(output) = session.next().await {
        match output.unwrap() {
            SessionOutput::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            SessionOutput::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            SessionOutput::Ended(code) => {
                assert!(session.next().await.is_none(), "the end is the last");
                return (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), code);
            }
        }
    }
    panic!("a session without an end");
}

fn shell(script: &str) -> ExecOptions {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    ExecOptions { command, ..ExecOptions::default() }
}

async fn running(lab: &Lab) -> String {
    let net = format!("{}-net", lab.name);
    let spec =
        NetworkSpec { name: net.clone(), labels: lab.labels.clone(), internal: true, subnet: None, workspace: None };
    engine::ensure::network_ensure(&lab.docker, &spec).await.unwrap();
    let wanted = lab.shell("sessions", &net, "exec sleep 600");
    engine::ensure::container_run(&lab.docker, &wanted).await.unwrap()
}

#[tokio::test]
async fn a_command_gets_what_it_is_given_and_its_end_is_told() {
    let lab = Lab::new().await;
    let id = running(&lab).await;
    let options = ExecOptions {
        user: Some("1000:1001".to_owned()),
        working_dir: Some("/tmp".to_owned()),
        environment: BTreeMap::from([("GREETING".to_owned(), "a=b $HOME".to_owned())]),
        ..shell("id -u; id -g; pwd; echo \"$GREETING\"; echo wrong >&2; printf '\\0\\1\\2'; exit 7")
    };
    let session = lab.docker.container_exec(&id, &options, SessionInput::default()).await.unwrap();
    let told = all(session).await;
    assert_eq!(told, ("1000\n1001\n/tmp\na=b $HOME\n\0\u{1}\u{2}".to_owned(), "wrong\n".to_owned(), 7));

    // More than any buffer on the way holds, in both directions, until the input ends.
    let given: Vec<u8> = (0..3_000_000_u32).map(|number| b'a' + u8::try_from(number % 23).unwrap()).collect();
    let input = SessionInput { stdin: Some(Box::pin(std::io::Cursor::new(given.clone()))), terminal: None };
    let options = ExecOptions { command: vec!["cat".to_owned()], ..ExecOptions::default() };
    let (stdout, _, code) = all(lab.docker.container_exec(&id, &options, input).await.unwrap()).await;
    assert_eq!((stdout.len(), code), (given.len(), 0));
    assert!(stdout.as_bytes() == given, "what comes back is what was given");

    let options = ExecOptions { command: vec!["/no/such/program".to_owned()], ..ExecOptions::default() };
    match lab.docker.container_exec(&id, &options, SessionInput::default()).await {
        Ok(session) => {
            let (stdout, stderr, code) = all(session).await;
            assert!(matches!(code, 126 | 127), "{code}");
            assert!(format!("{stdout}{stderr}").contains("/no/such/program"), "{stdout}{stderr}");
        }
        // Engines from 23 on say it before there is a session.
        Err(error) => assert!(error.why.contains("/no/such/program"), "{error}"),
    }

    lab.docker.container_stop(&id, Duration::ZERO).await.unwrap();
    let Err(error) = lab.docker.container_exec(&id, &shell("true"), SessionInput::default()).await else { panic!() };
    assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
    let Err(error) = lab.docker.container_exec("no-such", &shell("true"), SessionInput::default()).await else {
        panic!()
    };
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes() {
    let lab = Lab::new().await;
    let id = running(&lab).await;
    let (sizes, terminal) = watch::channel(TerminalSize { columns: 71, rows: 17 });
    let (mut keyboard, stdin) = tokio::io::duplex(1024);
    let input = SessionInput { stdin: Some(Box::pin(stdin)), terminal: Some(terminal) };
    let script = "test -t 0 && test -t 1 && echo terminal; while read line; do stty size; done; exit 3";
    let mut session = lab.docker.container_exec(&id, &shell(script), input).await.unwrap();
    let mut seen = String::new();
    let mut changed = false;
    let code = loop {
        let output = tokio::time::timeout(Duration::from_millis(300), session.next()).await;
        match output {
            Ok(Some(Ok(SessionOutput::Stdout(bytes)))) => seen.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(Some(Ok(SessionOutput::Ended(code)))) => break code,
            Ok(other) => panic!("{other:?} after {seen}"),
            // Each line asks for the size anew: it follows a moment after the change.
            Err(_quiet) if seen.contains("23 99") => keyboard.write_all(&[4]).await.unwrap(),
            Err(_quiet) => keyboard.write_all(b"\n").await.unwrap(),
        }
        if seen.contains("17 71") && !changed {
            changed = true;
            sizes.send(TerminalSize { columns: 99, rows: 23 }).unwrap();
        }
    };
    assert_eq!(code, 3, "{seen}");
    assert!(seen.starts_with("terminal\r\n"), "{seen}");
}

#[tokio::test]
async fn a_first_process_is_talked_to_from_its_start() {
    let lab = Lab::new().await;
    let label = lab.labels.iter().map(|(name, value)| format!("{name}={value}")).next().unwrap();
    let script = "echo ready; echo wrong >&2; cat; exit 5";
    let create = ["create", "--network", "none", "-i", "--label", &label, BASE_IMAGE, "sh", "-c", script];
    let created = std::process::Command::new("docker").args(create).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    let id = String::from_utf8(created.stdout).unwrap().trim().to_owned();
    let input = SessionInput { stdin: Some(Box::pin(&b"given"[..])), terminal: None };
    let session = lab.docker.container_attach(&id, input).await.unwrap();
    lab.docker.container_start(&id).await.unwrap();
    assert_eq!(all(session).await, ("ready\ngiven".to_owned(), "wrong\n".to_owned(), 5));
}

#[tokio::test]
async fn a_container_is_restarted_and_weighed() {
    let lab = Lab::new().await;
    let id = running(&lab).await;
    let before = lab.docker.container_inspect(&id).await.unwrap().unwrap();
    let first = lab.docker.container_stats(&id).await.unwrap();
    assert!(first.memory_bytes > 0 && first.memory_limit_bytes > first.memory_bytes, "{first:?}");
    assert!(first.processes >= 1, "{first:?}");
    let busy = shell("i=0; while test $i -lt 200000; do i=$((i+1)); done");
    let session = lab.docker.container_exec(&id, &busy, SessionInput::default()).await.unwrap();
    assert_eq!(all(session).await.2, 0);
    let second = lab.docker.container_stats(&id).await.unwrap();
    assert!(second.cpu_percent_since(&first).is_some_and(|percent| percent > 0.1), "{first:?} {second:?}");

    lab.docker.container_restart(&id, Duration::ZERO).await.unwrap();
    eventually("it runs again", || async {
        let now = lab.docker.container_inspect(&id).await.unwrap().unwrap();
        now.state == ContainerState::Running && now.started > before.started
    })
    .await;
    lab.docker.container_stop(&id, Duration::ZERO).await.unwrap();
    let stopped = lab.docker.container_stats(&id).await.unwrap();
    assert_eq!((stopped.cpu_used, stopped.memory_bytes), (Duration::ZERO, 0));
    assert_eq!(stopped.cpu_percent_since(&second), None);
    let gone = lab.docker.container_restart("no-such-container", Duration::ZERO).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound);
}

//! The terminal view of `longshore up`, on a terminal and a real engine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rig::terminal::Terminal;
use rustix::process::Signal;

use crate::lone::Lone;
use crate::scene::{LIMIT, on_engine, workspace_of};
use crate::workspace::{COMMAND_LIMIT, Laptop};

/// How long something may take to be seen.
const SEEN_LIMIT: Duration = Duration::from_secs(60);

/// What a service must not be able to do: clear the screen, leave it, name the window, move the cursor.
const COMPOSE: &str = r#"
services:
  db:
    image: debian:bookworm-slim
    command: [sh, -c, 'trap "echo ends by itself; exit 0" TERM; echo db is there; while :; do sleep 0.1; done']
  web:
    build: {context: ., dockerfile_inline: "FROM debian:bookworm-slim\n"}
    command: [sh, -c, 'printf "\033[2J\033[?1049l\033]0;owned\007\033[Hhostile \033[31mline\n"; exec sleep 1000']
    ports: ["8000"]
    init: true
"#;

#[test]
fn up_on_a_terminal() {
    on_engine(|_docker, folder| async move { on_a_terminal(&folder).await });
}

async fn on_a_terminal(folder: &Path) -> anyhow::Result<()> {
    let (hub, checkout) = (Lone::start(&folder.join("hub"), "", &[]), folder.join("checkout"));
    std::fs::create_dir_all(&checkout)?;
    let name = workspace_of(std::process::id());
    std::fs::write(checkout.join("compose.yaml"), format!("name: {name}{COMPOSE}"))?;
    std::fs::write(checkout.join("environments.yaml"), "environments: {prod: {target: {docker: {hosts: [none]}}}}")?;
    let laptop =
        Laptop { checkout, state: folder.join("state"), hub: hub.url(""), data: folder.join("hub"), engine: None };
    rig::until("no environment", LIMIT, || async { laptop.run("env apply -f environments.yaml").await.ok() }).await?;
    keys(&laptop, &name).await?;
    signals(&laptop).await?;
    closed(&laptop).await?;
    plain(&laptop).await?;
    laptop.run("down").await?;
    hub.stop();
    Ok(())
}

fn up(laptop: &Laptop, line: &str) -> anyhow::Result<Terminal> {
    let mut command: Command = laptop.command(line);
    command.env("TERM", "xterm-256color");
    for name in ["CI", "NO_COLOR", "DISPLAY", "WAYLAND_DISPLAY"] {
        command.env_remove(name);
    }
    Terminal::start(&command, 80, 24)
}

async fn sees(terminal: &Terminal, text: &str) -> anyhow::Result<()> {
    shows(terminal, text, |seen| seen.contains(text)).await
}

/// What is not seen may only be gone once all of a frame has come.
async fn sees_no(terminal: &Terminal, text: &str) -> anyhow::Result<()> {
    shows(terminal, &format!("{text:?} goes"), |seen| !seen.contains(text)).await
}

async fn shows(terminal: &Terminal, what: &str, is_so: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let seen = rig::until(what, SEEN_LIMIT, || async { is_so(&terminal.seen()).then_some(()) }).await;
    seen.with_context(|| format!("it shows\n{}", terminal.seen()))
}

/// What is seen, what keys do, and the end.
async fn keys(laptop: &Laptop, name: &str) -> anyhow::Result<()> {
    let mut terminal = up(laptop, "up")?;
    for text in ["2 of 2 up", "SERVICE", "from source", "its image", "db is there", "hostile line", "MB", " %"] {
        sees(&terminal, text).await?;
    }
    let first = terminal.seen().lines().next().unwrap_or_default().to_owned();
    ensure!(first.contains(&format!("{name} · prod")), "a line of a service steers the terminal:\n{}", terminal.seen());
    terminal.press("?")?;
    sees(&terminal, "stop everything").await?;
    // Read together with the next key, Escape would be Alt.
    terminal.press("\x1b")?;
    sees_no(&terminal, "stop everything").await?;
    terminal.press("j")?;
    sees(&terminal, &format!("http://web.{name}.localhost:")).await?;
    terminal.press("/HOSTILE\r")?;
    sees(&terminal, "log with “HOSTILE”").await?;
    sees_no(&terminal, "db is there").await?;
    let before = laptop.ps().await?;
    terminal.press("r")?;
    sees(&terminal, "web was started anew").await?;
    terminal.press("d")?;
    sees(&terminal, "web runs from source").await?;
    ensure!(laptop.ps().await?["db"] == before["db"], "another service was touched");
    terminal.resize(40, 12)?;
    let fits = |seen: &str| seen.lines().next().is_some_and(|first| first.trim_end().ends_with("2 of 2 up"));
    shows(&terminal, "it fits the window", fits).await?;
    sees(&terminal, "hostile line").await?;
    terminal.press("q")?;
    sees(&terminal, "Stopped.").await?;
    ensure!(terminal.ended(COMMAND_LIMIT).await?.success(), "{}", terminal.seen());
    terminal.restored().await?;
    all_ended(laptop).await
}

/// Being suspended, and being asked to end.
async fn signals(laptop: &Laptop) -> anyhow::Result<()> {
    let mut terminal = up(laptop, "up")?;
    sees(&terminal, "2 of 2 up").await?;
    ensure!(terminal.is_restored().is_err(), "the view has not taken the terminal");
    terminal.signal(Signal::CONT)?;
    terminal.press("\x0c")?;
    sees(&terminal, "2 of 2 up").await?;
    terminal.signal(Signal::TERM)?;
    ensure!(terminal.ended(COMMAND_LIMIT).await?.success(), "{}", terminal.seen());
    terminal.restored().await?;
    all_ended(laptop).await
}

/// A closed window: containers are stopped, not killed, and nothing goes round.
async fn closed(laptop: &Laptop) -> anyhow::Result<()> {
    let mut terminal = up(laptop, "up")?;
    sees(&terminal, "2 of 2 up").await?;
    terminal.close()?;
    terminal.ended(COMMAND_LIMIT).await?;
    all_ended(laptop).await?;
    let logs = laptop.run("logs db").await?.out;
    ensure!(logs.matches("ends by itself").count() == 3, "{logs}");
    Ok(())
}

/// Lines, where somebody wants them on a terminal.
async fn plain(laptop: &Laptop) -> anyhow::Result<()> {
    let mut terminal = up(laptop, "up --plain")?;
    sees(&terminal, "db | db is there").await?;
    terminal.restored().await?;
    terminal.press("\x03")?;
    sees(&terminal, "Stopped.").await?;
    ensure!(terminal.ended(COMMAND_LIMIT).await?.success(), "{}", terminal.seen());
    all_ended(laptop).await
}

async fn all_ended(laptop: &Laptop) -> anyhow::Result<()> {
    let rows = laptop.ps().await?;
    ensure!(rows.len() == 2 && rows.values().all(|row| row["state"] == "exited"), "{rows:#?}");
    Ok(())
}

//! Chores of the project: `cargo xtask demo | soak | tidy | engine`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "chores print")]

use std::process::ExitCode;

use clap::Parser;

mod demo;
mod soak;
mod tidy;

/// Chores of the project.
#[derive(Parser)]
#[command(name = "xtask")]
enum Chore {
    /// The main job from commit to running hosts, on this machine
    Demo(demo::Args),
    /// Kill the hub, and shut down the disk below it, again and again under load: nothing acknowledged may be lost
    Soak(soak::Args),
    /// Check what no compiler checks: module docs, layers, words that do not belong
    Tidy,
    /// Make sure of a container engine and of the base image, installing what is missing
    Engine,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Chore::parse() {
        Chore::Demo(args) => demo::run(args).await,
        Chore::Soak(args) => soak::run(&args),
        Chore::Tidy => tidy::run(),
        Chore::Engine => engine().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn engine() -> anyhow::Result<()> {
    let docker = rig::engine::ensure().await?;
    let how = rig::base_image::ensure(&docker, &rig::cache_folder()?).await?;
    let version = docker.version().await?.version.unwrap_or_default();
    println!("engine {version}; {}: {how}", rig::base_image::NAME);
    Ok(())
}

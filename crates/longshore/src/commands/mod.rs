//! The command line: one file for each command, whose doc comment is its `--help`.

use api::Problem;
use base::telemetry::{LogFormat, Traces};
use clap::{Parser, Subcommand};

use crate::reach::Global;

mod advisories;
mod advisories_news;
mod agent;
mod agent_host;
mod build;
mod completions;
mod env;
mod host;
mod hub;
mod image;
mod inspect;
mod logs;
mod preheat;
mod promote;
mod proxy;
mod ps;
mod release;
mod rollback;
mod rollout;
mod version;
mod where_;
mod why;
mod workspace;

/// Carries a containerised microservice from a Git commit to a thousand machines.
///
/// A hub builds an app's services once, keeps their images and promotes them by digest through environments; an agent
/// on every host runs them. Start with `longshore hub`, then `longshore host token` and `longshore agent` on each host,
/// `longshore env apply`, `longshore build` and `longshore promote`.
#[derive(Parser)]
#[command(name = "longshore", version, after_help = crate::exit::HELP, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Hub(hub::Args),
    Agent(agent::Args),
    Proxy(proxy::Args),
    Build(build::Args),
    Promote(promote::Args),
    Preheat(preheat::Args),
    Rollback(rollback::Args),
    Why(why::Args),
    #[command(subcommand)]
    Release(release::Command),
    #[command(subcommand)]
    Env(env::Command),
    #[command(subcommand)]
    Rollout(rollout::Command),
    #[command(subcommand)]
    Host(host::Command),
    #[command(subcommand)]
    Image(image::Command),
    Inspect(inspect::Args),
    #[command(subcommand)]
    Advisories(advisories::Command),
    Where(where_::Args),
    Diff(where_::DiffArgs),
    Up(workspace::up::Args),
    Down(workspace::down::Args),
    Dev(workspace::develop::DevArgs),
    Undev(workspace::develop::UndevArgs),
    Ps(ps::Args),
    Logs(logs::Args),
    Exec(workspace::exec::Args),
    Run(workspace::once::RunArgs),
    Debug(workspace::once::DebugArgs),
    #[command(subcommand)]
    Volume(workspace::volume::Command),
    Version(version::Args),
    Completions(completions::Args),
}

pub(crate) async fn run(cli: Cli) -> api::Result<()> {
    let global = &cli.global;
    match cli.command {
        Command::Hub(args) => hub::run(global, args).await,
        Command::Agent(args) => agent::run(global, args).await,
        Command::Proxy(args) => proxy::run(args).await,
        Command::Build(args) => build::run(global, args).await,
        Command::Promote(args) => promote::run(global, args).await,
        Command::Preheat(args) => preheat::run(global, args).await,
        Command::Rollback(args) => rollback::run(global, args).await,
        Command::Why(args) => why::run(global, args).await,
        Command::Release(command) => release::run(global, command).await,
        Command::Env(command) => env::run(global, command).await,
        Command::Rollout(command) => rollout::run(global, command).await,
        Command::Host(command) => host::run(global, command).await,
        Command::Image(command) => image::run(global, command).await,
        Command::Inspect(args) => inspect::run(global, args).await,
        Command::Advisories(command) => advisories::run(global, command).await,
        Command::Where(args) => where_::run(global, args).await,
        Command::Diff(args) => where_::diff(global, args).await,
        Command::Up(args) => workspace::up::run(global, args).await,
        Command::Down(args) => workspace::down::run(global, args).await,
        Command::Dev(args) => workspace::develop::dev(global, args).await,
        Command::Undev(args) => workspace::develop::undev(global, args).await,
        Command::Ps(args) => ps::run(global, args).await,
        Command::Logs(args) => logs::run(global, args).await,
        Command::Exec(args) => workspace::exec::run(global, args).await,
        Command::Run(args) => workspace::once::run(global, args).await,
        Command::Debug(args) => workspace::once::debug(global, args).await,
        Command::Volume(command) => workspace::volume::run(global, command).await,
        Command::Version(args) => version::run(global, args).await,
        Command::Completions(args) => completions::run(&args),
    }
}

/// Who asks, for the record: `USER@MACHINE`.
fn requested_by() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let id = rustix::process::geteuid();
    let nameless = || if id.is_root() { "root".to_owned() } else { format!("user {}", id.as_raw()) };
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(nameless);
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{machine}")
}

/// Sets up the log of a process that serves, and the export of its traces.
fn telemetry(json: bool, traces: Option<Traces>) -> api::Result<()> {
    let format = if json { LogFormat::Json } else { LogFormat::Text };
    base::telemetry::init(format, traces)
        .map_err(|error| Problem::new(400, "log-setting", "The log cannot be set up").detail(error.to_string()))
}

/// A list that a person reads: where it goes on.
fn more(next: Option<&String>, flag: &str) {
    if let Some(next) = next {
        crate::output::note(&format!("\nThere is more: {flag} {next}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}

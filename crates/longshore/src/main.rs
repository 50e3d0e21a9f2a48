//! The `longshore` binary: parses the command line, runs one command, turns its problem into words and an exit code.

use std::process::ExitCode;

use clap::Parser;

mod bar;
mod commands;
mod exit;
mod hub;
mod output;
mod reach;

fn main() -> ExitCode {
    let command = commands::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::problem(
                &api::Problem::new(500, "runtime", "The process cannot be set up").detail(error.to_string()),
            );
            return ExitCode::from(exit::OTHER);
        }
    };
    let json = command.global.json;
    let result = runtime.block_on(commands::run(command));
    // What still runs in the background (a log stream, a blocking read) must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            if json {
                output::problem_json(&problem);
            } else {
                output::problem(&problem);
            }
            ExitCode::from(exit::code(&problem))
        }
    }
}

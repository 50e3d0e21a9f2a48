//! The `longshore` binary: parses the command line, runs one command, turns its problem into words and an exit code.

use std::process::ExitCode;

use clap::Parser;

mod bar;
mod commands;
mod exit;
mod foreign;
mod hub;
mod output;
mod reach;

/// Answers and contents are many small pieces of memory, given out and taken back on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for work that waits for the disk. More would not make it faster, and each has memory of its own.
const BLOCKING_THREADS_MAX: usize = 64;

fn main() -> ExitCode {
    // The allocator asks for much at once and uses it bit by bit: with huge pages a command would take twice the memory,
    // and be no faster. A kernel that does not know this has it as it was.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let command = commands::Cli::parse();
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.max_blocking_threads(BLOCKING_THREADS_MAX).enable_all().build() {
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

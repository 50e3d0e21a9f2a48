//! The `longshore` binary: parses the command line, runs one command, turns its problem into words and an exit code.

use std::process::ExitCode;

use clap::Parser;

mod bar;
mod commands;
mod exit;
mod hub;
mod output;
mod reach;

/// Threads for work that waits for the disk. More would not make it faster, and each has memory of its own.
const BLOCKING_THREADS_MAX: usize = 64;

fn main() -> ExitCode {
    arenas_limit();
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

/// Has glibc give and take memory from few places, before there are threads: by default from eight for each processor, and
/// where work moves between threads each of them keeps what others could use. Under a thousand clients that is half of
/// the memory (`bench/registry --only memory`).
fn arenas_limit() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let arenas = i32::try_from(processors / 2).unwrap_or(i32::MAX).max(1);
        // SAFETY: takes two numbers, and no other thread is there yet. A setting that is not taken costs memory alone.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
        }
    }
}

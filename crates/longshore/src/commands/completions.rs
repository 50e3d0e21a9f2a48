//! `longshore completions`.

use clap::CommandFactory;
use clap_complete::Shell;

/// Print completions for a shell.
///
/// For example: longshore completions bash > /etc/bash_completion.d/longshore
#[derive(clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> api::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "longshore", &mut text);
    crate::output::line(&String::from_utf8_lossy(&text));
    Ok(())
}

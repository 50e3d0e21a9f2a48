//! The terminal while the view has it, and as it was before in every case: at the end, after an error, a signal, a panic.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::Rect;
use rustix::process::getpgrp;
use rustix::stdio::stdin;
use rustix::termios::tcgetpgrp;

/// What a whole screen takes, so that it is written at once.
const FRAME_BYTES: usize = 64 * 1024;

/// Whether the terminal is the view's now.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Whether there is a terminal that can be drawn on, with somebody at its keys. `variable` looks variables up.
pub(super) fn is_there(variable: impl Fn(&str) -> Option<String>) -> bool {
    let term = variable("TERM").unwrap_or_default();
    let is_ci = variable("CI").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    // A process in the background would be stopped when it reads keys.
    let is_in_front = || tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp());
    !is_ci
        && !matches!(term.as_str(), "" | "dumb")
        && io::stdin().is_terminal()
        && io::stdout().is_terminal()
        && is_in_front()
}

/// The terminal, taken; given back when this is dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let backend = CrosstermBackend::new(BufWriter::with_capacity(FRAME_BYTES, io::stdout()));
        let mut screen = Self { terminal: Terminal::new(backend)? };
        screen.take_again()?;
        Ok(screen)
    }

    /// Takes the terminal after it was given back.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        IS_TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        self.clear()
    }

    /// Gives the terminal back.
    pub(super) fn give_back(&self) {
        give_back();
    }

    /// Whether it is still the view's: a panic elsewhere gives it back.
    pub(super) fn is_taken(&self) -> bool {
        IS_TAKEN.load(Ordering::SeqCst)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        ratatui::crossterm::terminal::size()
    }

    /// Everything is drawn anew the next time.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        // The library's `clear` would ask the terminal for its cursor, and take the answer from among the keys.
        let (columns, rows) = self.size()?;
        self.terminal.resize(Rect::new(0, 0, columns, rows))
    }

    /// Draws what differs from the last time.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.terminal.draw(|frame| draw(frame.buffer_mut()))?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }

    /// Asks the terminal to put a text on its clipboard (OSC 52); not every terminal does.
    pub(super) fn copy(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        write!(out, "\x1b]52;c;{}\x07", STANDARD.encode(text))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back, if it is taken.
pub(super) fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _gone = execute!(io::stdout(), EndSynchronizedUpdate, LeaveAlternateScreen, Show);
        let _gone = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_lines_stay_plain() {
        // Tests have none at standard input; these are refused before it is looked at.
        for (name, value) in [("CI", "true"), ("TERM", "dumb")] {
            assert!(!is_there(|asked| (asked == name).then(|| value.to_owned())));
        }
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        const IN_TERMINAL: &str = "LONGSHORE_TEST_IN_TERMINAL";
        if std::env::var_os(IN_TERMINAL).is_some() {
            let mut screen = Screen::take().unwrap();
            screen.draw(|buffer| buffer.set_string(0, 0, "the view", ratatui::style::Style::new())).unwrap();
            panic!("on purpose");
        }
        let name = std::thread::current().name().unwrap().to_owned();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &name, "--nocapture"]).env(IN_TERMINAL, "1").env("RUST_BACKTRACE", "0");
        let mut terminal = rig::terminal::Terminal::start(&command, 80, 24).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let status = runtime.block_on(terminal.ended(std::time::Duration::from_secs(60))).unwrap();
        assert!(!status.success());
        terminal.is_restored().unwrap();
        let seen = terminal.seen();
        assert!(seen.contains("on purpose") && !seen.contains("the view"), "{seen}");
    }
}

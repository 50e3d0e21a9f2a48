//! A terminal with a program in it, as a person would sit before it: what is seen, keys, a window that changes its size or
//! is closed.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// How often output is looked for.
const READ_INTERVAL: Duration = Duration::from_millis(10);
/// How long the last output may take to be seen.
const LAST_OUTPUT: Duration = Duration::from_secs(20);

/// A terminal with a program in it.
pub struct Terminal {
    child: Child,
    window: Option<Window>,
    inside: File,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

/// The side of the terminal where a person sits.
struct Window {
    outside: File,
    is_closing: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

fn size(columns: u16, rows: u16) -> anyhow::Result<(NonZero<u16>, NonZero<u16>)> {
    let size = NonZero::new(rows).zip(NonZero::new(columns));
    size.context("a terminal has a column and a row at least")
}

impl Terminal {
    /// Starts a command in a terminal of its own, in a session of its own. Its standard streams are the terminal's.
    ///
    /// # Errors
    /// The system has no terminal, or no such program.
    pub fn start(command: &Command, columns: u16, rows: u16) -> anyhow::Result<Self> {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&outside)?;
        unlockpt(&outside)?;
        let name = ptsname(&outside, Vec::new())?;
        let inside = File::options().read(true).write(true).open(name.to_str()?)?;
        set_size(&outside, columns, rows)?;
        // Whoever closes the window must not wait for output.
        fcntl_setfl(&outside, fcntl_getfl(&outside)? | OFlags::NONBLOCK)?;
        let before = tcgetattr(&inside)?;
        // It leads the session, so that a closed window reaches it as it does from a shell's terminal.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            session.current_dir(folder);
        }
        session.stdin(inside.try_clone()?).stdout(inside.try_clone()?).stderr(inside.try_clone()?);
        let child = session.spawn().context("setsid (util-linux) starts it")?;
        let (height, width) = size(columns, rows)?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(height, width, 0)));
        let (outside, is_closing) = (File::from(outside), Arc::new(AtomicBool::new(false)));
        let reader = std::thread::spawn({
            let (outside, is_closing, screen) = (outside.try_clone()?, is_closing.clone(), screen.clone());
            move || read(outside, &is_closing, &screen)
        });
        Ok(Self { child, window: Some(Window { outside, is_closing, reader }), inside, before, screen })
    }

    /// What is seen, row by row.
    pub fn seen(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Types keys, as the bytes that a terminal sends for them.
    ///
    /// # Errors
    /// The window is closed.
    pub fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        let window = self.window.as_mut().context("the window is closed")?;
        Ok(window.outside.write_all(keys.as_bytes())?)
    }

    /// Changes the window's size.
    ///
    /// # Errors
    /// The window is closed.
    pub fn resize(&self, columns: u16, rows: u16) -> anyhow::Result<()> {
        let window = self.window.as_ref().context("the window is closed")?;
        let (height, width) = size(columns, rows)?;
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen_mut().set_size(height, width);
        set_size(&window.outside, columns, rows)
    }

    /// Closes the window.
    ///
    /// # Errors
    /// It is closed already.
    pub fn close(&mut self) -> anyhow::Result<()> {
        let window = self.window.take().context("the window is closed")?;
        window.is_closing.store(true, Ordering::SeqCst);
        ensure!(window.reader.join().is_ok(), "what read from the terminal broke off");
        Ok(())
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("it has a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Whether the terminal is as it was before: no other screen, the cursor seen, keys handled by the system.
    ///
    /// # Errors
    /// What differs.
    pub fn is_restored(&self) -> anyhow::Result<()> {
        let now = tcgetattr(&self.inside)?;
        ensure!(
            (now.input_modes, now.output_modes, now.local_modes, now.control_modes)
                == (
                    self.before.input_modes,
                    self.before.output_modes,
                    self.before.local_modes,
                    self.before.control_modes
                ),
            "modes were {:?}\nand are {now:?}",
            self.before
        );
        let terminal = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = terminal.screen();
        ensure!(!screen.alternate_screen(), "the other screen is shown:\n{}", screen.contents());
        ensure!(!screen.hide_cursor(), "the cursor is hidden:\n{}", screen.contents());
        Ok(())
    }

    /// Waits until the terminal is as it was before: the kernel hands on what was written last when it likes.
    ///
    /// # Errors
    /// What differs for good.
    pub async fn restored(&self) -> anyhow::Result<()> {
        let is_so = || async { self.is_restored().is_ok().then_some(()) };
        if crate::until("the terminal is restored", LAST_OUTPUT, is_so).await.is_ok() {
            Ok(())
        } else {
            self.is_restored()
        }
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// It does not end.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let begun = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < limit, "it goes on:\n{}", self.seen());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        ensure!(status.signal().is_none(), "it was killed: {status}");
        Ok(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(window) = &self.window {
            window.is_closing.store(true, Ordering::SeqCst);
        }
        // One that has ended needs no signal.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn set_size(terminal: impl AsFd, columns: u16, rows: u16) -> anyhow::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

fn read(mut outside: File, is_closing: &AtomicBool, screen: &Mutex<vt100::Parser>) {
    let mut bytes = vec![0; 64 * 1024];
    while !is_closing.load(Ordering::SeqCst) {
        match outside.read(&mut bytes) {
            Ok(length @ 1..) => screen.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(READ_INTERVAL),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

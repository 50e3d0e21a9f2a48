//! When the crash comes, and what it is.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;

/// How long work goes on at most before the crash.
const WORK_MICROS_MAX: u64 = 150_000;
/// A crash that waits for an answer or a request comes after this at the latest.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Answers or requests that a crash may wait for.
const CALLS_MAX: i64 = 60;
/// How long after a request was sent the crash comes at most.
const REQUEST_MICROS_MAX: u64 = 3_000;
/// How long after its start a process may be killed that has not said yet that it is ready.
const START_MICROS_MAX: u64 = 250_000;

#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// While the hub starts and repairs what the last crash left, whether it answers yet or not.
    Starting(Duration),
    /// At any time of the work.
    After(Duration),
    /// Right behind an answer: what it said must hold.
    Answer(i64),
    /// While a request is under way.
    Request(i64, Duration),
}

impl Moment {
    pub(super) fn choose(random: &mut StdRng) -> Self {
        let micros = |most: u64, random: &mut StdRng| Duration::from_micros(random.random_range(0..most));
        match random.random_range(0..10) {
            0 => Self::Starting(micros(START_MICROS_MAX, random)),
            1..=4 => Self::After(micros(WORK_MICROS_MAX, random)),
            5..=7 => Self::Answer(random.random_range(1..CALLS_MAX)),
            _ => Self::Request(random.random_range(1..CALLS_MAX), micros(REQUEST_MICROS_MAX, random)),
        }
    }
}

/// What takes the hub, or the disk below it, away.
pub(super) enum Crash {
    None,
    Kill(Pid),
    /// From here on nothing reaches the disk, not even the journal. A folder of the file system.
    Power(File),
}

impl Crash {
    fn happen(self) {
        let result = match self {
            Self::None => Ok(()),
            Self::Kill(pid) => kill_process(pid, Signal::KILL),
            Self::Power(folder) => shut_down(&folder),
        };
        if let Err(error) = result {
            eprintln!("the crash did not happen: {error}");
        }
    }
}

/// `EXT4_IOC_SHUTDOWN`, which XFS calls `XFS_IOC_GOINGDOWN`: `_IOR('X', 125, __u32)`. What is not on disk is gone.
fn shut_down(folder: &File) -> rustix::io::Result<()> {
    const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
    /// Both call it "no log flush".
    const NO_LOG_FLUSH: u32 = 2;
    // SAFETY: the request reads one u32 behind the pointer, which is what the setter passes.
    #[allow(unsafe_code)]
    unsafe {
        rustix::ioctl::ioctl(folder, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH))
    }
}

/// Sets off the crash of one round, once.
pub(super) struct Trigger {
    /// Gone once it has happened: an open folder would keep the file system busy.
    crash: Mutex<Option<Crash>>,
    moment: OnceLock<Moment>,
    calls: AtomicI64,
    fired: AtomicBool,
    is_over: AtomicBool,
    cuts_power: bool,
    told: Notify,
}

impl Trigger {
    pub(super) fn new(crash: Crash) -> Arc<Self> {
        Arc::new(Self {
            cuts_power: matches!(crash, Crash::Power(_)),
            crash: Mutex::new(Some(crash)),
            moment: OnceLock::new(),
            calls: AtomicI64::new(0),
            fired: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            told: Notify::new(),
        })
    }

    /// From here on the crash may come.
    pub(super) fn arm(self: &Arc<Self>, moment: Moment) {
        let _ = self.moment.set(moment);
        let wait = match moment {
            Moment::Starting(wait) | Moment::After(wait) => wait,
            Moment::Answer(_) | Moment::Request(..) => WAIT_MAX,
        };
        self.fire_after(wait);
    }

    /// A request goes out.
    pub(super) fn asked(self: &Arc<Self>) {
        if let Some(&Moment::Request(number, wait)) = self.moment.get()
            && self.calls.fetch_add(1, Ordering::SeqCst) + 1 == number
        {
            self.fire_after(wait);
        }
    }

    /// An answer with success is here.
    pub(super) fn answered(&self) {
        if let Some(&Moment::Answer(number)) = self.moment.get()
            && self.calls.fetch_add(1, Ordering::SeqCst) + 1 == number
        {
            self.fire();
        }
    }

    /// Whether the crash has come, or is just coming.
    pub(super) fn has_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    /// Whether the crash is over. What is asked for from now on and still acknowledged must hold.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Whether what is answered now may have been promised by a kernel that was just shutting the file system down: it
    /// answers a wait for a commit with success when it finds that commit ended, although it was dropped.
    pub(super) fn is_blurred(&self) -> bool {
        self.cuts_power && self.has_fired()
    }

    fn fire(&self) {
        // The note comes first: whoever sees the hub gone must find it.
        self.fired.store(true, Ordering::SeqCst);
        let crash = self.crash.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(crash) = crash {
            crash.happen();
            self.is_over.store(true, Ordering::SeqCst);
        }
        self.told.notify_waiters();
    }

    /// Waits until the crash has come.
    pub(super) async fn fired(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        // Heard from now on, also before it is waited for.
        told.as_mut().enable();
        if !self.has_fired() {
            told.await;
        }
    }

    fn fire_after(self: &Arc<Self>, wait: Duration) {
        let trigger = Arc::clone(self);
        if wait < Duration::from_millis(10) {
            // The runtime's clock is too coarse for these.
            tokio::task::spawn_blocking(move || {
                std::thread::sleep(wait);
                trigger.fire();
            });
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                trigger.fire();
            });
        }
    }
}

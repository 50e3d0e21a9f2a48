//! What the system says of this process, under the names that all of Prometheus' clients use. Read from `/proc`; where
//! there is none, nothing is said.

use std::time::Duration;

use super::{gauge, seconds_counter};

/// Ticks in a second in which Linux counts CPU time for programs, on every architecture that it still runs on.
const TICKS_PER_SECOND: u64 = 100;

pub(super) fn refresh() {
    if let Some(stat) = Stat::read() {
        seconds_counter("process_cpu_seconds_total", "CPU time of the process, user and system.", &[]).set(stat.cpu);
        gauge("process_virtual_memory_bytes", "Virtual memory of the process.", &[]).set_unsigned(stat.virtual_bytes);
        gauge("process_threads", "Threads of the process.", &[]).set_unsigned(stat.threads);
        if let Some(started) = boot_seconds().map(|boot| boot + stat.started.as_secs()) {
            gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", &[])
                .set_unsigned(started);
        }
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        for (field, name, help) in [
            ("VmRSS:", "process_resident_memory_bytes", "Memory of the process that is in RAM."),
            ("RssAnon:", "process_resident_memory_anon_bytes", "The part of it that belongs to no file."),
        ] {
            if let Some(kibibytes) = field_number(&status, field) {
                gauge(name, help, &[]).set_unsigned(kibibytes.saturating_mul(1024));
            }
        }
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // Looking opens one more.
        let open = files.count().saturating_sub(1);
        gauge("process_open_fds", "Open files of the process.", &[]).set(i64::try_from(open).unwrap_or(i64::MAX));
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        gauge("process_max_fds", "Open files that the process may have.", &[]).set_unsigned(most);
    }
}

struct Stat {
    cpu: Duration,
    threads: u64,
    /// Since the machine's start.
    started: Duration,
    virtual_bytes: u64,
}

impl Stat {
    /// `/proc/self/stat`, fields as in proc(5). The program's name, in parentheses, may itself hold any of them.
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // The first field here is the third there.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND));
        Some(Self {
            cpu: ticks(number(14)?.saturating_add(number(15)?)),
            threads: number(20)?,
            started: ticks(number(22)?),
            virtual_bytes: number(23)?,
        })
    }
}

/// When the machine started, in seconds since 1970.
fn boot_seconds() -> Option<u64> {
    field_number(&std::fs::read_to_string("/proc/stat").ok()?, "btime")
}

fn field_number(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.split_ascii_whitespace().next()?.parse().ok()
}

//! What the kernel counts of processes, and of the machine.

use anyhow::Context as _;

/// Clock ticks a second in `/proc`: Linux tells programs 100 on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU-seconds of a process and its children, in user and in kernel mode.
pub fn cpu_seconds_of(own: u32) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that has just ended has no file any more.
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, rest)) = text.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let parent: u32 = fields.get(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        // The bench itself is the parent of all servers.
        if pid == own || (parent == own && own != std::process::id()) {
            let times = fields.get(11..13).context("no times in /proc/PID/stat")?;
            ticks += times.iter().filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Anonymous memory of a process that is resident, in bytes.
pub fn rss_anon_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

/// CPU-seconds that all cores of the machine were busy since it was started.
pub fn busy_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let times = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no cpu in /proc/stat")?;
    let ticks: Vec<u64> = times.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    // The fourth and fifth are idle and waiting for disks; guests' times, from the ninth on, are in the others.
    let busy = ticks.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks);
    Ok(busy.sum::<u64>() as f64 / TICKS_PER_SECOND)
}

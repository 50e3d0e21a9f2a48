//! What a container takes of CPU and memory, from one look at it.

use std::time::Duration;

use serde::Deserialize;

use super::containers::time_of;
use super::raw::RawClient;
use crate::{ContainerStats, EngineError};

/// The part of the engine's answer that is read; what is missing is zero, as it is for a container that does not run.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    read: String,
    cpu_stats: Cpu,
    memory_stats: Memory,
    pids_stats: Pids,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cpu {
    cpu_usage: CpuUsage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Memory {
    usage: u64,
    limit: u64,
    stats: MemoryDetail,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MemoryDetail {
    /// Control groups of version 1.
    total_inactive_file: Option<u64>,
    /// Control groups of version 2.
    inactive_file: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pids {
    current: u64,
}

pub(super) async fn stats(raw: &RawClient, container: &str) -> Result<ContainerStats, EngineError> {
    let what = format!("cannot see what container {container} takes");
    // Otherwise the engine looks twice, a second apart, to work out a share of the CPU by itself.
    let path = format!("/containers/{container}/stats?stream=false&one-shot=true");
    let stats: Stats = raw.get_json(&path, &what).await?;
    let reclaimable = stats.memory_stats.stats.total_inactive_file.or(stats.memory_stats.stats.inactive_file);
    Ok(ContainerStats {
        at: time_of(&stats.read).unwrap_or_default(),
        cpu_used: Duration::from_nanos(stats.cpu_stats.cpu_usage.total_usage),
        memory_bytes: stats.memory_stats.usage.saturating_sub(reclaimable.unwrap_or(0)),
        memory_limit_bytes: stats.memory_stats.limit,
        processes: stats.pids_stats.current,
    })
}

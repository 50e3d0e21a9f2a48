//! Wall time and memory.

use std::process::Command;

use bench::report::Row;

use crate::image::Made;
use crate::run::{Cost, Place, Tools, measured, rounds};

const SYFT_SHARE_MAX: f64 = 1.0 / 20.0;
const TRIVY_SHARE_MAX: f64 = 1.0 / 3.0;
const ALONE_RATIO_MAX: f64 = 1.2;
const MEMORY_MIB_MAX: f64 = 100.0;

/// The three tools on one image.
struct Seen {
    longshore: Cost,
    syft: Cost,
    trivy: Cost,
}

fn seen(tools: &Tools, place: Place<'_>, count: usize) -> anyhow::Result<Seen> {
    let output = tempfile::NamedTempFile::new()?;
    let longshore = rounds(count, || measured(&tools.longshore(place), output.path()))?;
    let syft = rounds(1, || measured(&tools.syft(place), output.path()))?;
    let trivy = rounds(1, || {
        let cache = tools.trivy_cache()?;
        measured(&tools.trivy(place, cache.path()), output.path())
    })?;
    Ok(Seen { longshore, syft, trivy })
}

fn row(row: &str, value: f64, unit: &str, peer: &str, peer_value: f64, target: String, holds: Option<bool>) -> Row {
    let (row, unit, peer) = (row.to_owned(), unit.to_owned(), peer.to_owned());
    Row { row, value, unit, peer, peer_value: Some(peer_value), target, holds }
}

fn memory(what: &str, seen: &Seen) -> [Row; 2] {
    let own = seen.longshore.memory;
    let holds = own <= MEMORY_MIB_MAX;
    [("Syft", seen.syft.memory), ("Trivy", seen.trivy.memory)].map(|(peer, memory)| {
        let target = format!("<= {MEMORY_MIB_MAX} MiB");
        row(&format!("{what}: peak memory"), own, "MiB", peer, memory, target, Some(holds))
    })
}

fn cpu(what: &str, seen: &Seen) -> [Row; 2] {
    [("Syft", seen.syft.cpu), ("Trivy", seen.trivy.cpu)].map(|(peer, cpu)| {
        row(&format!("{what}: CPU time"), seen.longshore.cpu, "CPU-seconds", peer, cpu, String::new(), None)
    })
}

/// An archive whose layers are not compressed.
pub(crate) fn archive(tools: &Tools, made: &Made, count: usize) -> anyhow::Result<Vec<Row>> {
    let seen = seen(tools, Place::Archive(&made.archive), count)?;
    let what = "docker archive";
    let wall = |peer, other: f64, share: f64| {
        let own = seen.longshore.wall;
        let target = format!("<= 1/{:.0} of {peer}'s", 1.0 / share);
        row(&format!("{what}: wall time"), own, "seconds", peer, other, target, Some(own <= other * share))
    };
    let mut rows = vec![wall("Syft", seen.syft.wall, SYFT_SHARE_MAX), wall("Trivy", seen.trivy.wall, TRIVY_SHARE_MAX)];
    rows.extend(cpu(what, &seen));
    rows.extend(memory(what, &seen));
    Ok(rows)
}

/// A layout with gzip layers, which must be decompressed at any rate.
pub(crate) fn layout(tools: &Tools, made: &Made, count: usize) -> anyhow::Result<Vec<Row>> {
    let output = tempfile::NamedTempFile::new()?;
    let mut alone = Command::new(std::env::current_exe()?);
    alone.arg("--decompress").args(&made.layers);
    let alone = rounds(count, || measured(&alone, output.path()))?;
    let mut gzip = Command::new("gzip");
    gzip.arg("-dc").args(&made.layers);
    let gzip = rounds(1, || measured(&gzip, std::path::Path::new("/dev/null")))?;
    let seen = seen(tools, Place::Layout(&made.layout), count)?;
    let what = "OCI layout, gzip layers";
    let own = seen.longshore;
    let wall = |peer, other: Cost, ratio: Option<f64>| {
        let target = ratio.map_or(String::new(), |ratio| format!("<= {ratio} x"));
        let holds = ratio.map(|ratio| own.wall <= other.wall * ratio);
        row(&format!("{what}: wall time"), own.wall, "seconds", peer, other.wall, target, holds)
    };
    let mut rows = vec![
        wall("decompressing alone", alone, Some(ALONE_RATIO_MAX)),
        wall("gzip -dc, one thread", gzip, None),
        wall("Syft", seen.syft, None),
        wall("Trivy", seen.trivy, None),
        row(
            &format!("{what}: CPU time"),
            own.cpu,
            "CPU-seconds",
            "decompressing alone",
            alone.cpu,
            String::new(),
            None,
        ),
    ];
    rows.extend(cpu(what, &seen));
    rows.extend(memory(what, &seen));
    Ok(rows)
}

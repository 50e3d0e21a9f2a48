//! The push of one large blob, against what nobody can do without: hashing it, and writing it once to disk.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::server::Server;
use crate::wire::{Connection, sha256};
use bench::process::cpu_seconds_of;
use bench::report::Row;

const BLOB_BYTES: usize = 1 << 30;
/// The bulk of every blob; a short piece in front makes each another blob.
const PIECE_BYTES: usize = 1 << 20;
const WRITE_BYTES: usize = 1 << 20;
const ROUNDS: usize = 3;
const RATIO_MAX: f64 = 1.3;

#[derive(Clone, Copy)]
struct Cost {
    wall_seconds: f64,
    cpu_seconds: f64,
}

/// How long, and how much CPU, a 1 GiB push takes.
pub(crate) async fn push(hub: &Server, peer: &Server, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let bulk = bench::noise(BLOB_BYTES, 7);
    let [mut base, mut own, mut other] = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let first = bench::noise(PIECE_BYTES, 1000 + round as u64);
        let (cost, digest) = hash_and_write(&[&first, &bulk[PIECE_BYTES..]], folder)?;
        base.push(cost);
        for (server, costs) in [(hub, &mut own), (peer, &mut other)] {
            // What others left unwritten must not be paid for here.
            rustix::fs::sync();
            let mut connection = Connection::open(server.address).await?;
            let (begun, cpu) = (Instant::now(), server.cpu_seconds()?);
            connection.push_blob("team/large", &digest, &[&first, &bulk[PIECE_BYTES..]]).await?;
            costs.push(Cost { wall_seconds: begun.elapsed().as_secs_f64(), cpu_seconds: server.cpu_seconds()? - cpu });
        }
    }
    let wall = |costs: &[Cost]| bench::median(costs.iter().map(|cost| cost.wall_seconds).collect());
    let cpu = |costs: &[Cost]| bench::median(costs.iter().map(|cost| cost.cpu_seconds).collect());
    let mut rows = Vec::new();
    for (peer_name, peer_costs) in [("SHA-256 + synced write", &base), (peer.name, &other)] {
        let is_target = peer_name != peer.name;
        for (unit, value, peer_value) in
            [("seconds", wall(&own), wall(peer_costs)), ("CPU-seconds", cpu(&own), cpu(peer_costs))]
        {
            let is_target = is_target && unit == "seconds";
            rows.push(Row {
                row: "push of a 1 GiB blob".to_owned(),
                value,
                unit: unit.to_owned(),
                peer: peer_name.to_owned(),
                peer_value: Some(peer_value),
                target: if is_target { format!("<= {RATIO_MAX} x") } else { String::new() },
                holds: is_target.then_some(value <= RATIO_MAX * peer_value),
            });
        }
    }
    Ok(rows)
}

fn hash_and_write(pieces: &[&[u8]], folder: &Path) -> anyhow::Result<(Cost, String)> {
    rustix::fs::sync();
    let own = std::process::id();
    let (begun, cpu) = (Instant::now(), cpu_seconds_of(own)?);
    let digest = sha256(pieces);
    let path = folder.join("once");
    let mut file = std::fs::File::create(&path)?;
    for piece in pieces {
        for part in piece.chunks(WRITE_BYTES) {
            file.write_all(part)?;
        }
    }
    file.sync_all()?;
    let cost = Cost { wall_seconds: begun.elapsed().as_secs_f64(), cpu_seconds: cpu_seconds_of(own)? - cpu };
    std::fs::remove_file(path)?;
    Ok((cost, digest))
}

//! The real code at scaled rates: many agents in a process, with real sockets, TLS and warm connections; and the simulator
//! at the same size, whose figures count only where both agree.

use std::num::NonZeroU64;
use std::time::Duration;

use bench::report::Row;
use fanout::simulation::Fleet;
use rig::fanout::{Settings, run};

use crate::plot::Curve;
use crate::simulated::{clean, curve, fares};

/// What every agent sends and receives, in bytes a second.
const RATE: u64 = 100 * 1024;
const PIECES: u32 = 512;
pub(crate) const PIECE_BYTES: u32 = 64 * 1024;
/// How far the simulator may be from the real agents.
const AGREEMENT: f64 = 0.03;

pub(crate) async fn rows(agents: u32, curves: &mut Vec<Curve>) -> anyhow::Result<Vec<Row>> {
    let fleet = Fleet::equal(agents as usize, PIECES, PIECE_BYTES, RATE as f64);
    let bound = fleet.bound_seconds();
    eprintln!(
        "{agents} real agents at {} KiB/s pull {} MiB: about {bound:.0} s",
        RATE / 1024,
        fleet.bytes() / 1048576.0
    );
    let rate = NonZeroU64::new(RATE);
    let settings = Settings {
        hosts: agents as usize,
        image_bytes: u64::from(PIECES) * u64::from(PIECE_BYTES),
        upload_bytes_per_second: rate,
        download_bytes_per_second: rate,
        hub_bytes_per_second: rate,
        liars: Vec::new(),
        limit: Duration::from_secs_f64(bound * 4.0),
        seed: 1,
    };
    let outcome = run(&settings).await?;
    let completed: Vec<Option<Duration>> = outcome.hosts.iter().map(|host| host.completed).collect();
    let slowest = completed.iter().try_fold(0.0_f64, |slowest, done| Some(slowest.max(done.as_ref()?.as_secs_f64())));
    let mut fared = fares(&fleet);
    let simulated = fared.slowest;
    curves.push(curve(&format!("{agents} hosts, simulated"), &fleet, &fared));
    fared.slowest = slowest.unwrap_or(f64::NAN);
    fared.copies = outcome.copies();
    fared.outcome.completed_seconds = completed.iter().map(|done| done.map(|done| done.as_secs_f64())).collect();
    fared.outcome.sent_bytes = outcome.hosts.iter().map(|host| host.status.sent_bytes as f64).collect();
    curves.push(curve(&format!("{agents} real agents"), &fleet, &fared));
    let mut rows: Vec<Row> = clean(&format!("real, {agents} agents at scaled rates"), &fleet, &fared).into();
    let apart = (simulated / fared.slowest - 1.0).abs();
    rows.push(Row {
        row: format!("simulated, {agents} hosts at the same rates"),
        value: simulated / bound,
        unit: "× T*".to_owned(),
        peer: "real agents (× T*)".to_owned(),
        peer_value: Some(fared.slowest / bound),
        target: "within 3 % of each other".to_owned(),
        holds: Some(apart <= AGREEMENT),
    });
    Ok(rows)
}

//! `bench/impact`: how fast a hub with a large portfolio says where something is, and takes in what is new.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base::clock::Micros;
use base::db::DatabaseConfig;
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use inspect::finding::{Data, Gathered, Lists, Record, read, store};
use inspect::hub::{CONTEXT, MIGRATIONS, Noted, contents_note};
use oci::Digest;

mod ask;
mod fresh;
mod hub;
mod portfolio;

use bench::report::{self, Row};
use hub::Hub;
use portfolio::{Names, Portfolio};

/// Images whose contents are noted at once.
const NOTED: usize = 100;
/// Manifests that are pushed side by side.
const PUSHES: usize = 8;
/// How long anything may take.
pub(crate) const SECONDS_MAX: u64 = 900;

/// Measure how fast a hub with a large portfolio answers `where`, and takes in new advisories and images.
#[derive(Parser)]
#[command(name = "bench/impact")]
struct Args {
    /// The advisories in OSV form: a folder, an archive or a file, as `longshore advisories update` takes it
    #[arg(value_name = "ADVISORIES")]
    advisories: PathBuf,
    /// Print a JSON list of rows on standard output in place of the table
    #[arg(long)]
    json: bool,
    /// Measure only this; may be given more than once
    #[arg(long, value_name = "WHAT")]
    only: Vec<Part>,
    /// Images of the portfolio, of 800 components each, with 20 distinct components for each image
    #[arg(long, default_value_t = 10_000)]
    images: usize,
    /// Rounds, of which the middle one counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The `longshore` binary
    #[arg(long, env = "LONGSHORE_BINARY", hide = true)]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `where` by name, by name and version, and by advisory
    Where,
    /// One new advisory: until all that it affects is told
    Advisory,
    /// A layer that was read before: from the push of an image to its contents
    Layer,
    /// Pages of an image with 2,000 components
    Pages,
}

/// Advisories as a hub takes them.
pub(crate) struct Advisories {
    pub(crate) data: Data,
    pub(crate) records: Vec<Record>,
    pub(crate) lists: Lists,
}

impl Advisories {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut gathered = Gathered::default();
        read::read(path, "bench", &std::env::temp_dir(), &mut gathered, jiff::Timestamp::now())?;
        let (data, records, lists) = gathered.records()?;
        Ok(Self { data, records, lists })
    }

    pub(crate) fn file(&self) -> anyhow::Result<Vec<u8>> {
        Ok(store::encode(&self.data, &self.records, &self.lists)?)
    }
}

/// What the rows are measured on.
pub(crate) struct Ground {
    pub(crate) hub: Hub,
    pub(crate) portfolio: Portfolio,
    pub(crate) advisories: Advisories,
    pub(crate) rounds: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("longshore"),
    };
    ensure!(binary.exists(), "{} is not there: run bench/impact, which builds it", binary.display());
    let rows = tokio::runtime::Runtime::new()?.block_on(measure(&args, &binary))?;
    report::print(&rows, args.json)
}

async fn measure(args: &Args, binary: &Path) -> anyhow::Result<Vec<Row>> {
    let advisories = Advisories::read(&args.advisories)
        .with_context(|| format!("reading advisories from {}", args.advisories.display()))?;
    let portfolio = Portfolio::new(Names::of(&advisories.records)?, args.images);
    let (images, distinct) = (portfolio.images, portfolio.distinct());
    let filled = filled(&portfolio, binary, &rig::cache_folder()?.join("bench-impact")).await?;
    // What is measured changes the data: that which took minutes to make stays as it is.
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let status = tokio::process::Command::new("cp").arg("-r").arg("--reflink=auto").arg(&filled).arg(&data).status();
    ensure!(status.await?.success(), "the data cannot be copied to {}", data.display());
    let hub = Hub::start(binary, &data).await?;
    let ground = Ground { hub, portfolio, advisories, rounds: args.rounds };
    eprintln!("{images} images of {} components, {distinct} distinct", portfolio::COMPONENTS);
    let mut rows = Vec::new();
    let mut add = |more: Vec<Row>| {
        eprint!("{}", report::table(&more));
        rows.extend(more);
    };
    // All else is measured with the advisories that this takes in.
    add(fresh::all(&ground).await?);
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    if wanted(Part::Where) {
        add(ask::places(&ground).await?);
    }
    if wanted(Part::Pages) {
        add(ask::pages(&ground).await?);
    }
    if wanted(Part::Advisory) {
        add(fresh::one(&ground).await?);
    }
    if wanted(Part::Layer) {
        add(fresh::layer(&ground).await?);
    }
    ground.hub.stop()?;
    Ok(rows)
}

/// The data of a hub with the portfolio; made where it is not there.
async fn filled(portfolio: &Portfolio, binary: &Path, cache: &Path) -> anyhow::Result<PathBuf> {
    let schema = MIGRATIONS.last().map_or(0, |migration| migration.number);
    let done = cache.join(format!("{}-images-schema-{schema}", portfolio.images));
    if done.exists() {
        return Ok(done);
    }
    let begun = Instant::now();
    eprintln!("Filling a hub with {} images, once", portfolio.images);
    let data = cache.join("unfinished");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::create_dir_all(&data)?;
    let layer = Bytes::from(vec![0_u8; 1024]);
    let diff = Digest::sha256_of(&layer);
    let config = Bytes::from(format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
    ));
    let describe = |media_type: &str, content: &Bytes| {
        let digest = Digest::sha256_of(content);
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, content.len())
    };
    let (of_config, of_layer) = (describe(oci::media::OCI_CONFIG, &config), describe(oci::media::OCI_LAYER, &layer));
    let all: Vec<_> =
        (0..portfolio.images).map(|image| portfolio.pushed(image, &of_config, &of_layer)).collect::<Result<_, _>>()?;
    let hub = Hub::start(binary, &data).await?;
    for number in 0..portfolio.repositories() {
        let repository = portfolio::repository(number)?;
        for content in [&config, &layer] {
            hub.blob_push(&repository, content).await?;
        }
    }
    for some in all.chunks(PUSHES) {
        let pushes = some.iter().map(|one| hub.manifest_push(&one.repository, &one.tag, one.manifest.clone()));
        futures::future::try_join_all(pushes).await?;
    }
    hub.stop()?;
    eprintln!("{} manifests were pushed in {:.0?}", all.len(), begun.elapsed());
    let db = base::db::open(&DatabaseConfig::Sqlite { folder: data.clone() }, CONTEXT, MIGRATIONS).await?;
    for (at, some) in all.chunks(NOTED).enumerate() {
        let noted = some.iter().enumerate().map(|(within, one)| Noted {
            repository: one.repository.clone(),
            tag: one.tag.clone(),
            digest: one.digest,
            contents: portfolio.contents(at * NOTED + within),
        });
        contents_note(&db, noted.collect(), Micros::now()).await?;
        eprint!("\r{} images were noted after {:.0?} ", at * NOTED + some.len(), begun.elapsed());
        ensure!(begun.elapsed() < Duration::from_secs(4 * SECONDS_MAX), "filling takes too long");
    }
    eprintln!();
    db.close().await;
    std::fs::rename(&data, &done)?;
    Ok(done)
}

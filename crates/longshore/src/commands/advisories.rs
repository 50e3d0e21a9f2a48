//! `longshore advisories`: the file of advisories that `longshore inspect` compares with.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::inspect::advisory::place::Place;
use ::inspect::archive::escaped;
use ::inspect::finding::read::{self, ReadError, Report};
use ::inspect::finding::store::{self, Store, StoreError};
use ::inspect::finding::{Data, Gathered};
use api::{Micros, Problem};
use base::problem::causes;
use jiff::Timestamp;
use reqwest::redirect::Policy;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use crate::output;
use crate::reach::Global;

/// The file's name in the data folder.
const FILE_NAME: &str = "advisories";
/// How to get advisories, for whoever has none.
pub(super) const HINT: &str = "Get advisories with `longshore advisories update FROM`, where FROM is a folder, an archive \
                               or an address of OSV files.";

const CONNECT_SECONDS_MAX: u64 = 30;
/// Between two pieces of an answer.
const READ_SECONDS_MAX: u64 = 60;
const REDIRECTS_MAX: usize = 5;
/// Bytes that one address may give.
const DOWNLOAD_BYTES_MAX: u64 = 8 << 30;
/// Bytes of a mirror's list of ecosystems.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// Ecosystems that a mirror may list.
const ECOSYSTEMS_MAX: usize = 200;
/// Days after which advisories are old.
const OLD_DAYS: i64 = 14;

/// The advisories that `longshore inspect` compares with, in one file that needs no network
#[derive(clap::Subcommand)]
pub(super) enum Command {
    Update(UpdateArgs),
    Status(StatusArgs),
    Push(PushArgs),
    News(super::advisories_news::Args),
}

/// Bring advisories up to date.
///
/// FROM is what has advisories in OSV form: a folder, an archive (zip, tar, tar.gz, tar.zst, tar.xz), a single file, or
/// the http or https address of one. An address that ends with a slash is a mirror laid out as that of OSV: of each
/// ecosystem, ADDRESS/ECOSYSTEM/all.zip is read; --ecosystem chooses. CISA's catalogue of exploited vulnerabilities
/// (KEV, JSON) and the daily list of likelihoods (EPSS, CSV) are taken in the same way.
///
/// What a source had is replaced by what it has now; what came from others stays. The file is written whole or not at
/// all.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  longshore advisories update ./osv                         a folder with OSV files
  longshore advisories update debian.zip npm.zip kev.json   several at once
  longshore advisories update https://mirror.example/osv/ --ecosystem Debian --ecosystem npm")]
pub(super) struct UpdateArgs {
    /// Folders, archives, files or addresses
    #[arg(value_name = "FROM", required = true)]
    from: Vec<String>,
    /// Of a mirror only this ecosystem, as OSV names it; may be given more than once
    #[arg(long, value_name = "NAME")]
    ecosystem: Vec<String>,
    /// Forget what came from elsewhere
    #[arg(long)]
    fresh: bool,
    /// The file [default: advisories in the data folder]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Show how many advisories there are, where they come from and how old they are
#[derive(clap::Args)]
pub(super) struct StatusArgs {
    /// The file [default: advisories in the data folder]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Give the hub these advisories, in the place of those that it has
///
/// The hub compares the components of all images with what is new in them; no image is read again.
#[derive(clap::Args)]
pub(super) struct PushArgs {
    /// The file [default: advisories in the data folder]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

async fn push(global: &Global, named: Option<PathBuf>) -> api::Result<()> {
    let path = file(global, named);
    let missing = || {
        Problem::new(404, "advisories-missing", "There are no advisories")
            .detail(format!("{} does not exist", path.display()))
            .hint(HINT)
    };
    // What the hub would refuse is refused before it is sent.
    open(&path)?.ok_or_else(missing)?;
    let bytes = tokio::fs::read(&path).await.map_err(|error| problem(&path, &error.into()))?;
    let known = global.client()?.advisories_take(bytes).await?;
    if global.json {
        return output::json(&known);
    }
    let count = output::count(usize::try_from(known.count).unwrap_or(usize::MAX), "advisory");
    output::line(&format!("The hub has {count}"));
    Ok(())
}

pub(super) async fn run(global: &Global, command: Command) -> api::Result<()> {
    match command {
        Command::Update(args) => update(global, args).await,
        Command::Status(args) => status(global, args.file),
        Command::Push(args) => push(global, args.file).await,
        Command::News(args) => super::advisories_news::run(global, args).await,
    }
}

/// The file that was named, or the usual one.
pub(super) fn file(global: &Global, named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| global.data_folder().join(FILE_NAME))
}

/// The file of advisories; `None` where there is none.
pub(super) fn open(path: &Path) -> api::Result<Option<Store>> {
    match File::open(path) {
        Ok(file) => Store::open(file).map(Some).map_err(|error| problem(path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem(path, &error.into())),
    }
}

/// What is wrong with a file of advisories.
pub(super) fn problem(path: &Path, error: &StoreError) -> Problem {
    let hint = match error {
        StoreError::Read(_) => "Look at its permissions.",
        StoreError::Version { .. } => "Make it anew with `longshore advisories update FROM --fresh`, of this version.",
        _ => "Remove it, then make it anew with `longshore advisories update FROM`.",
    };
    Problem::new(422, "advisories-unreadable", "The advisories cannot be read")
        .detail(format!("{}: {error}", path.display()))
        .hint(hint)
}

/// Says on standard error how old they are, where that is old.
pub(super) fn warn_of_age(data: &Data, now: Timestamp) {
    if let Some(fetched) = data.fetched()
        && now.duration_since(fetched).as_hours() >= OLD_DAYS * 24
    {
        output::note(&format!("The advisories are {} old. {HINT}", age(fetched, now)));
    }
}

fn age(then: Timestamp, now: Timestamp) -> String {
    output::ago(Micros(then.as_microsecond()), Micros(now.as_microsecond()))
}

fn status(global: &Global, named: Option<PathBuf>) -> api::Result<()> {
    let path = file(global, named);
    let Some(store) = open(&path)? else {
        return Err(Problem::new(404, "advisories-missing", "There are no advisories")
            .detail(format!("{} does not exist", path.display()))
            .hint(HINT));
    };
    let data = store.data();
    if global.json {
        return output::json(data);
    }
    let now = Timestamp::now();
    show(&path, data, now);
    warn_of_age(data, now);
    Ok(())
}

fn show(path: &Path, data: &Data, now: Timestamp) {
    let changed = data.newest.map(|newest| format!(", the youngest changed {} ago", age(newest, now)));
    let advisories = output::count(usize::try_from(data.advisories).unwrap_or(usize::MAX), "advisory");
    output::note(&format!("{}: {advisories}{}", path.display(), changed.unwrap_or_default()));
    let rows: Vec<Vec<String>> = data
        .sources
        .iter()
        .map(|source| {
            let count = |number: u64| if number == 0 { String::new() } else { number.to_string() };
            vec![
                age(source.fetched, now),
                source.advisories.to_string(),
                count(source.withdrawn),
                count(source.unread),
                escaped(source.name.as_bytes()),
            ]
        })
        .collect();
    output::table(&["AGE", "ADVISORIES", "WITHDRAWN", "UNREAD", "SOURCE"], &rows, "");
    let mut beside = vec![match data.exploited {
        Some(number) => format!("{number} known to be exploited (KEV)"),
        None => "no list of exploited vulnerabilities (KEV)".to_owned(),
    }];
    beside.push(match data.likelihoods {
        Some(day) => format!("likelihoods (EPSS) of {}", day.strftime("%F")),
        None => "no likelihoods (EPSS)".to_owned(),
    });
    let mut on: Vec<String> = data.ecosystems.iter().cloned().collect();
    let mut systems: Vec<&str> = data.platforms.iter().map(|(id, ..)| id.as_str()).collect();
    systems.dedup();
    on.extend(systems.into_iter().map(str::to_owned));
    output::note(&format!("\nOn: {}\nBeside them: {}", escaped(on.join(", ").as_bytes()), beside.join(", ")));
}

/// What one source had, for programs.
#[derive(Serialize)]
struct Read {
    source: String,
    kept: u64,
    withdrawn: u64,
    older: u64,
    exploited: u64,
    likelihoods: u64,
    unread: u64,
    notes: Vec<String>,
}

async fn update(global: &Global, args: UpdateArgs) -> api::Result<()> {
    let path = file(global, args.file);
    let now = Timestamp::now();
    let mut gathered = match (args.fresh, open(&path)) {
        (false, Ok(Some(store))) => kept(&store).map_err(|error| problem(&path, &error))?,
        (false, Err(problem)) => return Err(problem),
        (true, _) | (false, Ok(None)) => Gathered::default(),
    };
    let progress = output::Progress::begin("Reading advisories");
    let mut done = Vec::new();
    for from in sources(global, &args.from, &args.ecosystem).await? {
        progress.now(&format!("Reading {}", from.name()));
        let (name, path, _download) = match from {
            From::Path(path) => {
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                (whole.display().to_string(), path, None)
            }
            From::Address(url) => {
                let file = download(global, &url).await?;
                (url.to_string(), file.path().to_owned(), Some(file))
            }
        };
        let (read, back) = tokio::task::spawn_blocking(move || {
            let read = read::read(&path, &name, &std::env::temp_dir(), &mut gathered, now);
            (read.map_err(|error| unreadable(&name, &error)).map(|report| said(name, report)), gathered)
        })
        .await
        .map_err(|error| Problem::internal(&error))?;
        gathered = back;
        done.push(read?);
    }
    progress.now("Writing");
    let target = path.clone();
    let data = tokio::task::spawn_blocking(move || write(gathered, &target))
        .await
        .map_err(|error| Problem::internal(&error))??;
    drop(progress);
    if global.json {
        return output::json(&done);
    }
    for read in &done {
        output::note(&sentence(read));
        read.notes.iter().for_each(|note| output::note(&format!("  not read: {}", escaped(note.as_bytes()))));
    }
    show(&path, &data, now);
    Ok(())
}

fn kept(store: &Store) -> Result<Gathered, StoreError> {
    Ok(Gathered::of(store.data(), store.records()?, store.lists()?)?)
}

fn write(gathered: Gathered, path: &Path) -> api::Result<Data> {
    let too_much = |error: &dyn std::fmt::Display| {
        Problem::new(422, "advisories-too-many", "The advisories cannot be kept").detail(error.to_string())
    };
    let (data, records, lists) = gathered.records().map_err(|error| too_much(&error))?;
    let bytes = store::encode(&data, &records, &lists).map_err(|error| too_much(&error))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            Problem::new(400, "advisories-unwritable", "The advisories cannot be written")
                .detail(format!("{}: {error}", folder.display()))
                .hint("Name a file that can be written with --file.")
        })?;
    }
    base::folder::file_replace(path, &bytes, 0o644).map_err(|error| {
        Problem::new(400, "advisories-unwritable", "The advisories cannot be written")
            .detail(error.to_string())
            .hint("Name a file that can be written with --file.")
    })?;
    Ok(data)
}

fn said(source: String, report: Report) -> Read {
    let Report { kept, withdrawn, older, exploited, likelihoods, unread, notes } = report;
    Read { source, kept, withdrawn, older, exploited, likelihoods, unread, notes }
}

fn sentence(read: &Read) -> String {
    let mut parts = Vec::new();
    let counted = [
        (read.kept, "taken"),
        (read.older, "known from elsewhere"),
        (read.withdrawn, "withdrawn"),
        (read.exploited, "known to be exploited"),
        (read.likelihoods, "likelihoods"),
        (read.unread, "not read"),
    ];
    parts.extend(counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    format!("{}: {}", read.source, parts.join(", "))
}

fn unreadable(name: &str, error: &ReadError) -> Problem {
    let status = match error {
        ReadError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => 404,
        _ => 422,
    };
    Problem::new(status, "source-unreadable", format!("{name} cannot be read"))
        .detail(error.to_string())
        .hint("Give a folder, an archive or an address of OSV files. Nothing was changed.")
}

/// Where advisories come from.
enum From {
    Path(PathBuf),
    Address(Url),
}

impl From {
    fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Address(url) => url.to_string(),
        }
    }
}

/// All sources, those of mirrors one by one.
async fn sources(global: &Global, from: &[String], ecosystems: &[String]) -> api::Result<Vec<From>> {
    let mut sources = Vec::new();
    for from in from {
        if !from.starts_with("http://") && !from.starts_with("https://") {
            sources.push(From::Path(PathBuf::from(from)));
            continue;
        }
        let wrong = |why: String| {
            Problem::new(400, "source-address", "That is no address of advisories")
                .detail(format!("{from}: {why}"))
                .hint("Write it as https://HOST/PATH/all.zip, or https://HOST/PATH/ for a mirror.")
        };
        let url: Url = from.parse().map_err(|error: url::ParseError| wrong(error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a password in it, which would be kept and shown".to_owned()));
        }
        if !url.path().ends_with('/') {
            sources.push(From::Address(url));
            continue;
        }
        let names = if ecosystems.is_empty() { listed(global, &url).await? } else { ecosystems.to_vec() };
        for name in names {
            let mut address = url.clone();
            if let Ok(mut path) = address.path_segments_mut() {
                path.pop_if_empty().push(&name).push("all.zip");
            }
            sources.push(From::Address(address));
        }
    }
    Ok(sources)
}

/// The ecosystems of a mirror, as its `ecosystems.txt` lists them, that are known here. Releases of a distribution are in
/// that of the distribution.
async fn listed(global: &Global, mirror: &Url) -> api::Result<Vec<String>> {
    let url = mirror.join("ecosystems.txt").map_err(|error| Problem::internal(&error))?;
    let file = fetch(global, &url, LIST_BYTES_MAX)
        .await
        .map_err(|problem| problem.hint("Name the ecosystems with --ecosystem, or give the address of an archive."))?;
    let text = tokio::fs::read_to_string(file.path()).await.map_err(|error| Problem::internal(&error))?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty() && !name.contains(':'));
    Ok(names.filter(|name| Place::parse(name).is_ok()).take(ECOSYSTEMS_MAX).map(str::to_owned).collect())
}

async fn download(global: &Global, url: &Url) -> api::Result<tempfile::NamedTempFile> {
    fetch(global, url, DOWNLOAD_BYTES_MAX).await
}

/// What an address gives, in a file that goes with what is given back.
async fn fetch(global: &Global, url: &Url, bytes_max: u64) -> api::Result<tempfile::NamedTempFile> {
    let failed = |why: String| {
        Problem::new(502, "source-unreachable", format!("{url} cannot be had"))
            .detail(why)
            .hint("Look at the address; a file that was fetched otherwise can be given by its path.")
    };
    let certificates = match global.ca_pem()? {
        Some(pem) => reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?,
        None => Vec::new(),
    };
    let redirect = Policy::custom(|attempt| {
        let was_secure = attempt.previous().first().is_some_and(|first| first.scheme() == "https");
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else if was_secure && attempt.url().scheme() != "https" {
            attempt.error("it leads from https to plain http")
        } else {
            attempt.follow()
        }
    });
    let client = reqwest::Client::builder()
        .tls_certs_merge(certificates)
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .read_timeout(Duration::from_secs(READ_SECONDS_MAX))
        .redirect(redirect)
        .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let mut response = client.get(url.clone()).send().await.map_err(|error| failed(causes(&error)))?;
    if !response.status().is_success() {
        return Err(failed(format!("it answers {}", response.status())));
    }
    let temporary = tempfile::NamedTempFile::new().map_err(|error| failed(error.to_string()))?;
    let file = temporary.reopen().map_err(|error| failed(error.to_string()))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut length = 0_u64;
    while let Some(bytes) = response.chunk().await.map_err(|error| failed(causes(&error)))? {
        length += bytes.len() as u64;
        if length > bytes_max {
            return Err(failed(format!("it is longer than {}", output::bytes(bytes_max))));
        }
        file.write_all(&bytes).await.map_err(|error| failed(error.to_string()))?;
    }
    file.flush().await.map_err(|error| failed(error.to_string()))?;
    Ok(temporary)
}

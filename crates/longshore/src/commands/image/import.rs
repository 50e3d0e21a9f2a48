//! `longshore image import`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::Problem;
use client::{
    Event, Failure, ImportReport, ImportRequest, Keychain, KeychainError, RepositoryReport, Scheme, Selection, Source,
    TagPattern,
};
use oci::RepositoryName;

use super::{Hub, problem};
use crate::bar::Bar;
use crate::output;
use crate::reach::Global;

/// How long one request waits, in all, for a registry that is busy or does not answer.
const PATIENCE: Duration = Duration::from_secs(300);
const REPOSITORIES_BYTES_MAX: u64 = 16 << 20;
/// Failures that are told again at the end.
const FAILURES_TOLD: usize = 10;

/// Bring images in from another registry, or from another hub.
///
/// Everything under HOST/PREFIX comes to the hub under the prefix given with --to: all repositories, their tags, the
/// images of every platform, and what refers to them: signatures, attestations, SBOMs. Manifests stay as they are, byte
/// for byte, so digests do not change; at the end both sides are read again and compared.
///
/// What the hub has is not brought again. When it breaks off, run the same command again: it goes on with the rest.
///
/// Credentials are those of `docker login` and `podman login`, with the credential helpers that they name. The
/// certificates in the file given with --ca are trusted for the source, too.
#[derive(clap::Args)]
pub(in crate::commands) struct Args {
    /// Where from: a registry, a prefix of its repositories, a repository, REPOSITORY:TAG or REPOSITORY@DIGEST
    #[arg(value_name = "HOST/PREFIX")]
    source: Source,
    /// What takes the prefix's place on the hub
    #[arg(long, value_name = "PREFIX")]
    to: RepositoryName,
    /// Only tags that fit, such as 'v*'; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    tags: Vec<TagPattern>,
    /// No tags that fit; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<TagPattern>,
    /// The repositories, one in each line, for a registry that does not list them; - is standard input
    #[arg(long, value_name = "FILE")]
    repositories: Option<PathBuf>,
    /// Images, and blobs, at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Say what would be brought, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Speak to the source without TLS; to one on loopback it is usual
    #[arg(long)]
    plain_http: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let hub = Hub::of(global)?;
    let mut config = hub.config.clone();
    let host = args.source.host().to_owned();
    match args.source.scheme() {
        Some(Scheme::Https) => config.https.push(host.clone()),
        Some(Scheme::Http) if !args.plain_http && !is_loopback(&host) => {
            return Err(Problem::new(400, "plain-http", "Passwords and images would go in the clear")
                .detail(format!("{host} is to be spoken to without TLS"))
                .hint("Write https://, or allow it with --plain-http."));
        }
        _ => {}
    }
    if args.plain_http && host != hub.host {
        config.plain_http.push(host.clone());
    }
    let path = args.source.path().map(RepositoryName::as_str).unwrap_or_default();
    let keychain = Keychain::read(&crate::reach::credential_files()).map_err(keychain_problem)?;
    if let Some(found) = keychain.find(&host, path).await.map_err(keychain_problem)? {
        config.credentials.insert(host.clone(), found);
    }
    let request = ImportRequest {
        repositories: args.repositories.as_deref().map(|path| repositories(path, &args.source)).transpose()?,
        selection: Selection { tags: args.tags, exclude: args.exclude },
        to: hub.repository(args.to)?,
        jobs: usize::from(args.jobs),
        dry_run: args.dry_run,
        source: args.source,
    };
    let source = request.source.clone();
    let client = client::Client::new(config).map_err(problem)?.patient(PATIENCE);
    let bar = Arc::new(Bar::begin(&format!("looking at {source}")));
    let watcher = {
        let bar = Arc::clone(&bar);
        let json = global.json;
        Arc::new(move |event: Event<'_>| watch(&bar, json, event))
    };
    let imported = client.import(request, watcher).await;
    bar.end();
    let report = imported.map_err(|error| match &error {
        client::ClientError::NoCatalog { .. } => problem(error).hint(
            "Write the repositories' names into a file, one in each line, and give it with --repositories FILE; or \
             import them one by one.",
        ),
        _ => problem(error),
    })?;
    show(global, &source, &report)
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The repositories that a file names; empty lines and what follows a `#` do not count.
fn repositories(path: &Path, source: &Source) -> api::Result<Vec<RepositoryName>> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(REPOSITORIES_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(REPOSITORIES_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| unreadable("The list of repositories cannot be read", path, &error))?;
    let mut names: Vec<RepositoryName> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        let wrong = |why: String| {
            Problem::new(422, "repositories-file", "The list of repositories is not right")
                .detail(format!("{}, line {}: {why}", path.display(), number + 1))
                .hint("Write each as the registry names it, without the host.")
        };
        let name: RepositoryName = name.parse().map_err(|error: oci::NameError| wrong(error.to_string()))?;
        if !source.covers(&name) {
            return Err(wrong(format!("{name} does not lie under {source}")));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn unreadable(title: &str, path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(400, "file-unreadable", title).detail(format!("{}: {error}", path.display()))
}

fn keychain_problem(error: KeychainError) -> Problem {
    Problem::new(400, "credentials-unreadable", "The registry's credentials cannot be had").detail(error.to_string())
}

/// For programs only the report at the end counts.
fn watch(bar: &Bar, json: bool, event: Event<'_>) {
    match event {
        Event::Repositories(number) => bar.now(&output::count(number, "repository")),
        Event::Tags(number) => bar.more(number),
        Event::Bytes(number) => bar.bytes(number),
        Event::Tag => bar.step(),
        Event::Failed(Failure { image, reason, .. }) if !json => bar.line(&format!("failed: {image}: {reason}")),
        Event::Repository(report) if !json && !bar.is_seen() => output::note(&line(report)),
        Event::Failed(_) | Event::Repository(_) => {}
    }
}

/// What was done with one repository, where there is no bar.
fn line(report: &RepositoryReport) -> String {
    let done = &report.done;
    let mut line = format!("{}: {}", report.source, output::count(report.tags as usize, "tag"));
    if done.manifests_sent.count + done.blobs_sent.count + done.blobs_mounted.count == 0 {
        line.push_str(", all there");
    } else {
        line.push_str(&format!(", {} sent", output::count(done.manifests_sent.count as usize, "manifest")));
        line.push_str(&format!(", {} of blobs", output::bytes(done.blobs_sent.bytes)));
    }
    if report.failed > 0 {
        line.push_str(&format!(", {} failed", report.failed));
    }
    line
}

fn show(global: &Global, source: &Source, report: &ImportReport) -> api::Result<()> {
    if global.json {
        output::json(report)?;
    } else {
        let rows: Vec<Vec<String>> =
            report.repositories.iter().map(|repository| row(repository, report.dry_run)).collect();
        let headings = ["REPOSITORY", "TAGS", "EQUAL", "MANIFESTS", "BLOBS", "MOUNTED", "THERE", "SENT"];
        output::table(&headings, &rows, "");
        output::note(&sentence(report));
    }
    if !report.has_catalog && !global.json {
        output::note(&format!(
            "{} does not list its repositories: {source} was brought, what lies under it was not looked for.",
            source.host()
        ));
    }
    if report.complete {
        return Ok(());
    }
    let mut detail: Vec<String> = Vec::new();
    detail.extend(
        report.stopped.as_ref().map(|why| format!("it was ended, because the rest would fare no better: {why}")),
    );
    let told = report.failures.iter().take(FAILURES_TOLD);
    detail.extend(told.map(|failure| format!("{}: {}", failure.image, failure.reason)));
    let more = report.failed.saturating_sub(FAILURES_TOLD as u64);
    if more > 0 {
        detail.push(format!("and {more} more"));
    }
    Err(Problem::new(500, "import-incomplete", "Not everything was brought in")
        .detail(detail.join("\n"))
        .hint("What was brought stays. See to the causes, then run the same command again: it goes on with the rest."))
}

fn row(report: &RepositoryReport, dry_run: bool) -> Vec<String> {
    let done = &report.done;
    let target = report.target.split_once('/').map_or(report.target.as_str(), |(_, name)| name);
    vec![
        target.to_owned(),
        report.tags.to_string(),
        if dry_run { "-".to_owned() } else { report.equal.to_string() },
        done.manifests_sent.count.to_string(),
        done.blobs_sent.count.to_string(),
        done.blobs_mounted.count.to_string(),
        done.blobs_there.count.to_string(),
        output::bytes(done.blobs_sent.bytes + done.manifests_sent.bytes),
    ]
}

/// The whole in one sentence.
fn sentence(report: &ImportReport) -> String {
    let sum = |of: fn(&RepositoryReport) -> u64| report.repositories.iter().map(of).sum::<u64>();
    let (tags, equal) = (sum(|repository| repository.tags), sum(|repository| repository.equal));
    let total = &report.total;
    let sent = output::bytes(total.blobs_sent.bytes + total.manifests_sent.bytes);
    let rest = format!(
        "{} mounted, {} there before",
        output::bytes(total.blobs_mounted.bytes),
        output::bytes(total.blobs_there.bytes + total.manifests_there.bytes)
    );
    let tags_said = output::count(tags as usize, "tag");
    match (report.dry_run, tags) {
        (true, _) => format!("\n{tags_said} would be brought: {sent} to send, {rest}. Nothing was written."),
        (false, 0)
            if report.failed == 0 && report.total.manifests_sent.count + report.total.manifests_there.count == 0 =>
        {
            "\nNothing was brought: no tag fits.".to_owned()
        }
        (false, 0) => format!("\nAn image without a tag: {sent} sent, {rest}."),
        (false, _) => format!("\n{equal} of {tags_said} equal on both sides: {sent} sent, {rest}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_usual_on_loopback_alone() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["registry.example.com", "10.0.0.1:5000", "localhost.example.com:5000", "127.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}

//! `longshore inspect`.

mod show;
mod thing;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use ::inspect::document::trivyignore;
use ::inspect::document::vex::{self, Statement};
use ::inspect::document::{self, Contents, Severity, WriteError};
use ::inspect::finding::store::Store;
use ::inspect::finding::{Against, IgnoreList, examine};
use ::inspect::licence::{Expression, POLICY_BYTES_MAX, Policy, Verdict};
use ::inspect::local;
use ::inspect::secret::Scanner;
use api::Problem;
use jiff::Timestamp;

use super::advisories;
use crate::output;
use crate::reach::Global;

/// The ignore files that are read in the current folder, the first that is there.
const IGNORE_FILES: [&str; 3] = [".trivyignore", ".trivyignore.yaml", ".trivyignore.yml"];
/// Bytes of a VEX document.
const VEX_BYTES_MAX: u64 = 256 << 20;
/// Reasons of one kind that a failure names.
const REASONS_SHOWN: usize = 5;

/// Say what is inside an image, a folder or a file, and what is wrong with it.
///
/// THING is an archive of `docker save`, an OCI layout (a folder, or a tar of one), a folder, or a file: a jar, war, wheel,
/// deb, rpm, zip, tar or program, or a bill of materials (CycloneDX, SPDX 2, Syft's JSON). It may also be an image of a
/// registry, HOST/REPOSITORY:TAG, or one that the container engine has: docker:NAME, or NAME alone where no file is called
/// so. Archives within archives are looked into. No hub is needed, and nothing is unpacked to the disk.
///
/// What is inside is compared with the advisories that `longshore advisories update` brought. What could not be examined
/// or compared is said, on standard error or in the document: without advisories nothing is said to be free of flaws.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  longshore inspect app.tar                                  an archive of docker save
  longshore inspect 127.0.0.1:5000/shop/cart:1.4             an image of a registry
  longshore inspect docker:redis:7 --fail-on high            an image of the engine; may end with 8
  longshore inspect app.jar --format sarif > app.sarif       for a code host
  longshore inspect vendor.cdx.json --fail-on high           a bill of materials of somebody else
  longshore inspect app.tar --licences licences.toml --secrets --complete")]
pub(super) struct Args {
    /// What to look into
    #[arg(value_name = "THING")]
    thing: String,
    /// Of an image of several platforms this one alone; of a registry's, this machine's unless told otherwise
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    platform: Option<oci::Platform>,
    /// How to say it; --json is short for --format json
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The file of advisories to compare with [default: that of `longshore advisories`]
    #[arg(long, value_name = "FILE")]
    advisories: Option<PathBuf>,
    /// Fail (8) where a vulnerability is this bad or worse; unknown is on any, a secret counts as high
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
    /// Trust what this VEX document states (OpenVEX, CycloneDX, CSAF); may be given more than once
    #[arg(long, value_name = "FILE")]
    vex: Vec<PathBuf>,
    /// What to ignore, as Trivy's [default: .trivyignore or .trivyignore.yaml in this folder]
    #[arg(long, value_name = "FILE")]
    ignore_file: Option<PathBuf>,
    /// Judge licences by this policy (TOML: allow, warn, deny); fail (8) on a denied one
    #[arg(long, value_name = "FILE")]
    licences: Option<PathBuf>,
    /// Look for keys, tokens and passwords, also in layers that a later one hides; takes longer
    #[arg(long)]
    secrets: bool,
    /// Fail (9) where anything was not examined, or not compared with advisories
    #[arg(long)]
    complete: bool,
    /// Speak to the registry without TLS; to one on loopback it is usual
    #[arg(long)]
    plain_http: bool,
    /// The container engine [default: DOCKER_HOST, or the usual socket]
    #[arg(long, value_name = "ADDRESS")]
    engine: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// Longshore's own JSON
    Json,
    /// CycloneDX 1.6, JSON
    Cyclonedx,
    /// SPDX 2.3, JSON
    Spdx,
    /// SARIF 2.1.0
    Sarif,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// On any, also those that nobody rated
    Unknown,
    /// Low or worse, or not rated
    Low,
    /// Medium or worse
    Medium,
    /// High or critical
    High,
    /// Critical
    Critical,
}

impl FailOn {
    /// Whether a finding of this severity is a failure. What nobody rated may be grave, so that it counts as low at least.
    fn refuses(self, severity: Severity) -> bool {
        match self {
            Self::Unknown => true,
            Self::Low => severity >= Severity::Low || severity == Severity::Unknown,
            Self::Medium => severity >= Severity::Medium,
            Self::High => severity >= Severity::High,
            Self::Critical => severity >= Severity::Critical,
        }
    }
}

/// What a finding is judged by.
struct Judges {
    store: Option<(PathBuf, Store)>,
    statements: Vec<Statement>,
    ignore: Vec<IgnoreList>,
    policy: Option<Policy>,
    now: Timestamp,
}

/// A component whose licences the policy does not allow.
struct Licensed {
    component: String,
    licences: String,
    verdict: Verdict,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let format = if global.json { Format::Json } else { args.format };
    // Before anything takes long.
    let judges = judges(global, &args)?;
    let progress = output::Progress::begin("Looking into it");
    let there = thing::find(global, &args, &progress).await?;
    progress.now("Looking into it");
    let named = args.thing.clone();
    let (secrets, platform) = (args.secrets, args.platform.clone());
    let (images, judges) = tokio::task::spawn_blocking(move || {
        let scanner = secrets.then(Scanner::new);
        let platform = platform.as_ref().filter(|_| there.has_platforms());
        let found = local::inspect_seeking(there.path(), platform, &std::env::temp_dir(), scanner.as_ref());
        let mut images = found.map_err(|error| thing::problem(&named, &error))?;
        for contents in &mut images {
            there.describe(&mut contents.image);
            judge(contents, &judges)?;
        }
        Ok::<_, Problem>((images, judges))
    })
    .await
    .map_err(|error| Problem::internal(&error))??;
    drop(progress);
    let licensed: Vec<Vec<Licensed>> =
        images.iter().map(|contents| licensed(contents, judges.policy.as_ref(), &judges)).collect();
    if format == Format::Table {
        for (contents, licensed) in images.iter().zip(&licensed) {
            show::table(contents, licensed);
        }
    } else {
        document(&images, format)?;
    }
    if let Some((_, store)) = &judges.store {
        advisories::warn_of_age(store.data(), judges.now);
    } else {
        output::note(&format!("\nNot compared with advisories, for there are none. {}", advisories::HINT));
    }
    verdict(&images, &licensed, &args)
}

fn judges(global: &Global, args: &Args) -> api::Result<Judges> {
    let path = advisories::file(global, args.advisories.clone());
    let store = advisories::open(&path)?;
    if store.is_none() && (args.fail_on.is_some() || args.advisories.is_some()) {
        return Err(Problem::new(404, "advisories-missing", "There are no advisories to compare with")
            .detail(format!("{} does not exist", path.display()))
            .hint(advisories::HINT));
    }
    let mut statements = Vec::new();
    for path in &args.vex {
        let bytes = bytes(path, VEX_BYTES_MAX, "The VEX document cannot be read")?;
        let read = vex::read(&bytes).map_err(|error| {
            Problem::new(422, "vex-invalid", "The VEX document cannot be understood")
                .detail(format!("{}: {error}", path.display()))
                .hint("Give an OpenVEX, CycloneDX or CSAF document.")
        })?;
        for note in &read.notes {
            output::note(&format!("{}: {}: {}", path.display(), note.at, note.why));
        }
        statements.extend(read.statements);
    }
    let policy = args.licences.as_deref().map(policy).transpose()?;
    let ignore = ignore(args.ignore_file.as_deref())?;
    Ok(Judges { store: store.map(|store| (path, store)), statements, ignore, policy, now: Timestamp::now() })
}

fn policy(path: &Path) -> api::Result<Policy> {
    const TITLE: &str = "The policy of licences cannot be read";
    let bytes = bytes(path, POLICY_BYTES_MAX as u64, TITLE)?;
    let wrong = |why: String, hint: String| {
        Problem::new(422, "policy-invalid", TITLE).detail(format!("{}: {why}", path.display())).hint(hint)
    };
    let text =
        String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned(), "Write it as TOML.".to_owned()))?;
    Policy::parse(&text).map_err(|error| wrong(format!("line {}: {}", error.line, error.what), error.hint))
}

fn ignore(named: Option<&Path>) -> api::Result<Vec<IgnoreList>> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => match IGNORE_FILES.iter().map(Path::new).find(|path| path.is_file()) {
            Some(path) => path.to_owned(),
            None => return Ok(Vec::new()),
        },
    };
    let bytes = bytes(&path, trivyignore::FILE_BYTES_MAX as u64, "The ignore file cannot be read")?;
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let entries = if is_yaml { trivyignore::read_yaml(&bytes) } else { trivyignore::read(&bytes) };
    let entries = entries.map_err(|error| {
        Problem::new(422, "ignore-file-invalid", "The ignore file cannot be understood")
            .detail(format!("{}: {error}", path.display()))
            .hint("Write an identifier in each line, with exp:YYYY-MM-DD where it is to end.")
    })?;
    Ok(vec![IgnoreList { file: path.display().to_string(), entries }])
}

/// A file that is read whole.
fn bytes(path: &Path, bytes_max: u64, title: &str) -> api::Result<Vec<u8>> {
    let failed = |status: u16, why: String| {
        Problem::new(status, "file-unreadable", title)
            .detail(format!("{}: {why}", path.display()))
            .hint("Look at the path and its permissions.")
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > bytes_max => Err(failed(422, format!("it is longer than {bytes_max} bytes"))),
        Ok(_) => Ok(bytes),
        Err(error) => Err(failed(400, error.to_string())),
    }
}

/// Compares what is inside with advisories, and findings with what is stated on them.
fn judge(contents: &mut Contents, judges: &Judges) -> api::Result<()> {
    let advisories = match &judges.store {
        Some((path, store)) => {
            let components =
                contents.components.iter().flat_map(|found| std::iter::once(&found.component).chain(&found.further));
            let read = store.advisories_on(components, judges.now);
            Some(read.map_err(|error| advisories::problem(path, &error))?)
        }
        None => None,
    };
    let against = Against {
        advisories: advisories.as_ref(),
        statements: &judges.statements,
        digests: &[],
        ignore: &judges.ignore,
        now: judges.now,
    };
    examine(contents, &against);
    Ok(())
}

/// The components whose licences are not simply allowed, denied ones first.
fn licensed(contents: &Contents, policy: Option<&Policy>, judges: &Judges) -> Vec<Licensed> {
    let Some(policy) = policy else { return Vec::new() };
    let mut all = Vec::new();
    for found in &contents.components {
        let stated: Vec<String> = found.licences.iter().map(|licence| licence.stated.clone()).collect();
        let candidate =
            trivyignore::Candidate { kind: trivyignore::Kind::Licence, ids: &stated, path: None, purls: &[] };
        let mut entries = judges.ignore.iter().flat_map(|list| &list.entries);
        if entries.any(|entry| entry.kind.is_some() && entry.applies(&candidate, judges.now)) {
            continue;
        }
        let expressions: Vec<Expression> = stated.iter().map(|stated| Expression::read(stated)).collect();
        let verdict = policy.judge_all(&expressions);
        if verdict != Verdict::Allow {
            let licences = if stated.is_empty() { "none stated".to_owned() } else { stated.join(", ") };
            let component = format!("{} {}", found.component.name, found.component.version);
            all.push(Licensed { component, licences, verdict });
        }
    }
    all.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.component.cmp(&b.component)));
    all
}

fn document(images: &[Contents], format: Format) -> api::Result<()> {
    let [contents] = images else {
        return Err(Problem::new(
            400,
            "several-images",
            format!("There are {} images, and a document is of one", images.len()),
        )
        .hint("choose one with --platform, or save one image alone"));
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = match format {
        Format::Cyclonedx => document::cyclonedx::write(contents, document::cyclonedx::Version::V1_6, &mut out),
        Format::Spdx => document::spdx::write(contents, &mut out),
        Format::Sarif => document::sarif::write(contents, &mut out),
        Format::Json | Format::Table => document::json::write(contents, &mut out),
    };
    let written = written.and_then(|()| Ok(writeln!(out).and_then(|()| out.flush())?));
    match written {
        // A reader that has gone away is no fault.
        Err(WriteError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Problem::new(500, "output", "The document cannot be written").detail(error.to_string())),
        Ok(()) => Ok(()),
    }
}

/// Whether all this is what the flags allow.
fn verdict(images: &[Contents], licensed: &[Vec<Licensed>], args: &Args) -> api::Result<()> {
    let mut found = Vec::new();
    if let Some(fail_on) = args.fail_on {
        let findings = images.iter().flat_map(|contents| &contents.findings);
        let bad: Vec<String> = findings
            .filter(|finding| finding.counts() && fail_on.refuses(finding.severity))
            .map(|finding| format!("{} ({}) of {}", finding.id, finding.severity.word(), finding.component))
            .collect();
        told(&mut found, "vulnerability", &bad);
        let secrets = images.iter().flat_map(|contents| &contents.secrets);
        let left: Vec<String> = secrets
            .filter(|_| fail_on.refuses(Severity::High))
            .map(|secret| format!("{} in {}", secret.rule, secret.place.text()))
            .collect();
        told(&mut found, "secret", &left);
    }
    let denied: Vec<String> = licensed
        .iter()
        .flatten()
        .filter(|licensed| licensed.verdict == Verdict::Deny)
        .map(|licensed| format!("{}: {}", licensed.component, licensed.licences))
        .collect();
    told(&mut found, "denied licence", &denied);
    if !found.is_empty() {
        return Err(Problem::new(409, "inspect-found", "It is refused for what is inside")
            .detail(found.join("\n"))
            .hint("Upgrade what has a fix; state what does no harm in a VEX document (--vex) or in .trivyignore."));
    }
    if args.complete {
        let mut missing = Vec::new();
        for contents in images {
            let unexamined = contents.unexamined.iter().map(|left| format!("{}: {}", left.place.text(), left.why));
            told(&mut missing, "part not examined", &unexamined.collect::<Vec<_>>());
            match &contents.matched {
                Some(matched) => told(&mut missing, "gap in the comparison with advisories", &matched.gaps),
                None => missing.push("it was compared with no advisories".to_owned()),
            }
        }
        if !missing.is_empty() {
            return Err(Problem::new(409, "inspect-incomplete", "Not everything was examined")
                .detail(missing.join("\n"))
                .hint(format!("What was not examined may hold anything. {}", advisories::HINT)));
        }
    }
    Ok(())
}

/// Adds what there is of one kind, the first of them by name.
fn told(lines: &mut Vec<String>, noun: &str, reasons: &[String]) {
    if reasons.is_empty() {
        return;
    }
    lines.push(format!("{}:", output::count(reasons.len(), noun)));
    let escaped = |text: &String| ::inspect::archive::escaped(text.as_bytes());
    lines.extend(reasons.iter().take(REASONS_SHOWN).map(|reason| format!("  {}", escaped(reason))));
    if reasons.len() > REASONS_SHOWN {
        lines.push(format!("  and {} more", reasons.len() - REASONS_SHOWN));
    }
}

fn platform(text: &str) -> Result<oci::Platform, String> {
    let mut parts = text.split('/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant, None) if !os.is_empty() && !architecture.is_empty() => {
            Ok(oci::Platform { architecture, os, variant, os_version: None, os_features: Vec::new() })
        }
        _ => Err("write it as linux/amd64 or linux/arm64/v8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_rated_fails_where_low_does() {
        let fails = |fail_on: FailOn| {
            [Severity::Unknown, Severity::None, Severity::Low, Severity::Medium, Severity::High, Severity::Critical]
                .map(|severity| fail_on.refuses(severity))
        };
        assert_eq!(fails(FailOn::Unknown), [true; 6]);
        assert_eq!(fails(FailOn::Low), [true, false, true, true, true, true]);
        assert_eq!(fails(FailOn::High), [false, false, false, false, true, true]);
        assert_eq!(fails(FailOn::Critical), [false, false, false, false, false, true]);
    }
}

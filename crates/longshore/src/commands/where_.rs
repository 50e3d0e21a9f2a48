//! `longshore where` and `longshore diff`.

use api::client::PageQuery;
use api::inspect::{
    Evidence, Exposure, FileDifference, FileKind, FileState, FilesDifference, Place, Sought, Where, WhereComponent,
    WhereImage,
};
use oci::Digest;

use crate::output;
use crate::reach::Global;

/// Hosts that a row names.
const HOSTS_SHOWN: usize = 5;
/// What is known at once.
const DIFFERENCES_SHOWN: usize = 200;

/// Say where something is: in which images, releases and environments, and on which hosts.
///
/// THING is a component (`log4j-core`, `log4j-core@2.14.1`, `maven/org.apache.logging.log4j:log4j-core@2.14.1`) or an
/// advisory by any of its names (`CVE-2021-44228`, `GHSA-jfh8-c2jp-5v3q`). Images that run somewhere come first. What runs
/// and was not examined is named, too: it may have it.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("sought").required(true).args(["thing", "licence"])))]
pub(super) struct Args {
    /// A component or an advisory
    #[arg(value_name = "THING")]
    thing: Option<String>,
    /// Whatever is under this licence, by its SPDX identifier
    #[arg(long, value_name = "ID")]
    licence: Option<String>,
    /// Also environments that had it once
    #[arg(long)]
    history: bool,
    /// One line for each place, as CSV
    #[arg(long)]
    csv: bool,
    /// Go on after this, the end of the list before
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// At most so many images
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
}

/// Say how one image differs from another: components, configuration, findings, files.
#[derive(clap::Args)]
pub(super) struct DiffArgs {
    /// The digest of the first image's manifest
    #[arg(value_name = "IMAGE")]
    first: Digest,
    /// The digest of the second
    #[arg(value_name = "IMAGE")]
    second: Digest,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let sought = match (&args.thing, args.licence) {
        (_, Some(id)) => Sought::licence(&id)?,
        (thing, None) => Sought::named(thing.as_deref().unwrap_or_default())?,
    };
    let page = PageQuery { after: args.after, limit: args.limit };
    let found = global.client()?.find(&sought, args.history, &page).await?;
    if global.json {
        return output::json(&found);
    }
    if args.csv {
        output::line(
            "repository,digest,tags,component,evidence,path,release,app,service,environment,from,to,hosts,lifted",
        );
        found.images.items.iter().flat_map(rows).for_each(|row| output::line(&csv(&row)));
    } else {
        table(&found, &sought);
    }
    super::more(found.images.next.as_ref(), "--after");
    Ok(())
}

/// One row for each image, component, release and environment.
fn rows(image: &WhereImage) -> Vec<[String; 14]> {
    let mut rows = Vec::new();
    for component in &image.components {
        let mut push = |release: [String; 3], exposure: Option<&Exposure>| {
            let [id, app, service] = release;
            rows.push([
                image.repository.to_string(),
                image.digest.to_string(),
                image.tags.join(" "),
                component.id.clone(),
                evidence(component.evidence).to_owned(),
                component.places.first().map(path).unwrap_or_default(),
                id,
                app,
                service,
                exposure.map(|exposure| exposure.environment.to_string()).unwrap_or_default(),
                exposure.map(|exposure| exposure.from.to_string()).unwrap_or_default(),
                exposure.and_then(|exposure| exposure.to).map(|to| to.to_string()).unwrap_or_default(),
                exposure.map(|exposure| hosts(exposure, usize::MAX)).unwrap_or_default(),
                component.lifted.clone().unwrap_or_default(),
            ]);
        };
        if image.releases.is_empty() {
            push(Default::default(), None);
        }
        for release in &image.releases {
            let named = || [release.release.to_string(), release.app.to_string(), release.service.to_string()];
            if release.environments.is_empty() {
                push(named(), None);
            }
            release.environments.iter().for_each(|exposure| push(named(), Some(exposure)));
        }
    }
    rows
}

/// A field that a spreadsheet would take for a formula, or a separator, is quoted.
fn csv(row: &[String]) -> String {
    let field = |text: &String| {
        let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.clone() };
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    row.iter().map(field).collect::<Vec<_>>().join(",")
}

fn hosts(exposure: &Exposure, shown: usize) -> String {
    let named: Vec<&str> = exposure.hosts.iter().take(shown).map(|host| host.as_str()).collect();
    let more = exposure.hosts.len().saturating_sub(shown);
    if more > 0 { format!("{} and {more} more", named.join(" ")) } else { named.join(" ") }
}

const fn evidence(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Installed => "installed",
        Evidence::Contained => "contained",
        Evidence::Inferred => "inferred",
    }
}

fn path(place: &Place) -> String {
    place.chain.join("!/")
}

fn table(found: &Where, sought: &Sought) {
    if let (Sought::Advisory { id }, None) = (sought, &found.advisory) {
        output::note(&format!("Nothing is known of {id} here. `longshore advisories push` takes in what others know."));
    }
    if let Some(advisory) = &found.advisory {
        let names = std::iter::once(&advisory.id).chain(&advisory.aliases).map(String::as_str).collect::<Vec<_>>();
        let severity = format!("{:?}", advisory.severity).to_lowercase();
        let exploited = if advisory.known_exploited { ", known to be exploited" } else { "" };
        output::note(&format!("{}: {severity}{exploited}", names.join(", ")));
        if let Some(summary) = &advisory.summary {
            output::note(&safe(summary));
        }
        if let Some(seen) = advisory.first_seen {
            output::note(&format!("first seen here {seen}"));
        }
    }
    output::note(&output::count(usize::try_from(found.images_count).unwrap_or(usize::MAX), "image"));
    let rows: Vec<Vec<String>> = found.images.items.iter().flat_map(image_rows).collect();
    let headings = ["IMAGE", "COMPONENT", "EVIDENCE", "RELEASE", "ENVIRONMENT", "SINCE", "UNTIL", "HOSTS", "PATH"];
    output::table(&headings, &rows, "");
    for image in &found.images.items {
        for component in &image.components {
            if let Some(why) = &component.lifted {
                output::note(&format!("{} in {} is lifted: {}", safe(&component.id), name(image), safe(why)));
            }
        }
    }
    for fix in &found.fixes {
        let environments: Vec<&str> = fix.environments.iter().map(|env| env.as_str()).collect();
        let wherever = if environments.is_empty() { "nowhere yet".to_owned() } else { environments.join(", ") };
        output::note(&match &fix.release {
            Some(release) => format!("{}/{} is fixed by {release}: in {wherever}", fix.app, fix.service),
            None => format!("{}/{} has no release yet that is fixed", fix.app, fix.service),
        });
    }
    if !found.not_examined.is_empty() {
        output::note("\nNot examined, and so not answered for:");
        for one in &found.not_examined {
            output::note(&format!("  {} on {}: {}", safe(&one.image), one.host, safe(&one.why)));
        }
    }
    if found.images_incomplete > 0 {
        let count = output::count(usize::try_from(found.images_incomplete).unwrap_or(usize::MAX), "image");
        output::note(&format!("{count} of the registry could not be examined in full"));
    }
    if found.is_comparing {
        output::note(
            "Components are still being compared with the advisories: there may be more. Ask again in some seconds.",
        );
    }
}

fn safe(text: &str) -> String {
    ::inspect::archive::escaped(text.as_bytes())
}

fn name(image: &WhereImage) -> String {
    match image.tags.first() {
        Some(tag) => format!("{}:{tag}", image.repository),
        None => format!("{}@{}", image.repository, image.digest.short()),
    }
}

fn image_rows(image: &WhereImage) -> Vec<Vec<String>> {
    let name = name(image);
    let component = |component: &WhereComponent| {
        let path = component.places.first().map(path).unwrap_or_default();
        let evidence = if component.lifted.is_some() { "lifted" } else { evidence(component.evidence) };
        (safe(&component.id), evidence, safe(&path))
    };
    let mut rows = Vec::new();
    for one in &image.components {
        let (id, evidence, path) = component(one);
        let mut push = |release: &str, exposure: Option<&Exposure>| {
            let time = |time: api::Micros| time.to_string();
            rows.push(vec![
                name.clone(),
                id.clone(),
                evidence.to_owned(),
                release.to_owned(),
                exposure.map(|exposure| exposure.environment.to_string()).unwrap_or_default(),
                exposure.map(|exposure| time(exposure.from)).unwrap_or_default(),
                exposure.and_then(|exposure| exposure.to).map(time).unwrap_or_default(),
                exposure.map(|exposure| hosts(exposure, HOSTS_SHOWN)).unwrap_or_default(),
                path.clone(),
            ]);
        };
        if image.releases.is_empty() {
            push("", None);
        }
        for release in &image.releases {
            let id = format!("{}/{} {}", release.app, release.service, release.release);
            if release.environments.is_empty() {
                push(&id, None);
            }
            release.environments.iter().for_each(|exposure| push(&id, Some(exposure)));
        }
    }
    rows
}

pub(super) async fn diff(global: &Global, args: DiffArgs) -> api::Result<()> {
    let difference = global.client()?.inside_difference(&args.first, &args.second).await?;
    if global.json {
        return output::json(&difference);
    }
    let list = |versions: &[String]| if versions.is_empty() { "-".to_owned() } else { safe(&versions.join(" ")) };
    let rows: Vec<Vec<String>> = difference
        .components
        .iter()
        .take(DIFFERENCES_SHOWN)
        .map(|one| vec![one.ecosystem.clone(), safe(&one.name), list(&one.before), list(&one.after)])
        .collect();
    output::table(&["TYPE", "NAME", "BEFORE", "AFTER"], &rows, "The components are the same.");
    if difference.components.len() > DIFFERENCES_SHOWN {
        output::note("and more: --json has them all");
    }
    for one in &difference.configuration {
        let value = |value: &Option<String>| value.as_deref().map_or("-".to_owned(), safe);
        output::line(&format!("{}: {} -> {}", safe(&one.key), value(&one.before), value(&one.after)));
    }
    for (word, findings) in [("new", &difference.findings_new), ("gone", &difference.findings_gone)] {
        for finding in findings {
            output::line(&format!("{word}: {} in {}", safe(&finding.id), safe(&finding.component)));
        }
    }
    files(&difference.files);
    Ok(())
}

fn files(files: &FilesDifference) {
    let cell = |state: &Option<FileState>| state.as_ref().map_or_else(|| "-".to_owned(), file);
    let row = |one: &FileDifference| vec![safe(&one.path), cell(&one.before), cell(&one.after)];
    let rows: Vec<Vec<String>> = files.items.iter().take(DIFFERENCES_SHOWN).map(row).collect();
    if !rows.is_empty() {
        output::line("");
        output::table(&["FILE", "BEFORE", "AFTER"], &rows, "");
    }
    if let Some(why) = &files.not_compared {
        return output::note(&format!("The files are not compared: {}", safe(why)));
    }
    output::note(&format!("files: {} added, {} removed, {} changed", files.added, files.removed, files.changed));
    let all = files.added.saturating_add(files.removed).saturating_add(files.changed);
    let more = all.saturating_sub(rows.len() as u64);
    if more > 0 {
        output::note(&format!("and {more} more; --json has the first {}", files.items.len()));
    }
}

fn file(state: &FileState) -> String {
    let link = || state.link.as_deref().map(safe).unwrap_or_default();
    let kind = match state.kind {
        FileKind::File => format!("{} bytes", state.size),
        FileKind::Directory => "directory".to_owned(),
        FileKind::Symlink => return format!("-> {}", link()),
        FileKind::HardLink => return format!("= {}", link()),
        FileKind::Device => "device".to_owned(),
        FileKind::Fifo => "pipe".to_owned(),
    };
    let content = state.content.as_deref().map(|digits| format!(" {}", digits.chars().take(12).collect::<String>()));
    format!("{kind} {:04o} {}:{}{}", state.mode, state.uid, state.gid, content.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_cannot_be_a_formula_or_another_field() {
        let row = ["=1+1".to_owned(), "a,b".to_owned(), "say \"x\"".to_owned(), "plain".to_owned()];
        assert_eq!(csv(&row), "'=1+1,\"a,b\",\"say \"\"x\"\"\",plain");
    }
}

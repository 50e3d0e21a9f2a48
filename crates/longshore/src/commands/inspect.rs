//! `longshore inspect`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ::inspect::archive::escaped;
use ::inspect::document::{self, Contents, Found, WriteError};
use ::inspect::image::ImageError;
use api::Problem;

use crate::output;
use crate::reach::Global;

/// Places that are named of one component.
const PLACES_SHOWN: usize = 1;
/// Things not examined that are named one by one.
const UNEXAMINED_SHOWN: usize = 20;

/// Say what is inside an image, a folder or a file.
///
/// THING is an archive of `docker save`, an OCI layout (a folder, or a tar of one), a folder, or a file: a jar, war, wheel,
/// deb, rpm, zip, tar or program. Archives within archives are looked into. No hub and no engine is needed, and nothing is
/// unpacked to the disk. What could not be examined is said, on standard error or in the document.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What to look into
    #[arg(value_name = "THING")]
    thing: PathBuf,
    /// Of an image of several platforms this one alone
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    platform: Option<oci::Platform>,
    /// How to say it; --json is short for --format json
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
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

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let format = if global.json { Format::Json } else { args.format };
    let progress = output::Progress::begin("Looking into it");
    let thing = args.thing.clone();
    let images = tokio::task::spawn_blocking(move || {
        ::inspect::local::inspect(&thing, args.platform.as_ref(), &std::env::temp_dir())
    })
    .await
    .map_err(|error| Problem::internal(&error))?
    .map_err(|error| problem(&args.thing, &error))?;
    drop(progress);
    if format == Format::Table {
        images.iter().for_each(table);
        return Ok(());
    }
    let [contents] = &*images else {
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

fn platform(text: &str) -> Result<oci::Platform, String> {
    let mut parts = text.split('/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant, None) if !os.is_empty() && !architecture.is_empty() => {
            Ok(oci::Platform { architecture, os, variant, os_version: None, os_features: Vec::new() })
        }
        _ => Err("write it as linux/amd64 or linux/arm64/v8".to_owned()),
    }
}

fn problem(thing: &Path, error: &ImageError) -> Problem {
    let what = format!("{} cannot be inspected", thing.display());
    let (status, kind, hint) = match error {
        ImageError::Read(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (404, "thing-unknown", "give the path of an image's archive or layout, of a folder or of a file")
        }
        ImageError::Read(_) => (400, "thing-unreadable", "look at its permissions"),
        ImageError::Platform { .. } => (404, "platform-unknown", "leave --platform out to see all of them"),
        _ => (422, "thing-broken", "make the archive anew: with `docker save`, or `skopeo copy … oci:FOLDER`"),
    };
    Problem::new(status, kind, what).detail(error.to_string()).hint(hint)
}

fn table(contents: &Contents) {
    let image = &contents.image;
    let digest = image.digest.as_deref().map(|digest| format!(" {digest}")).unwrap_or_default();
    let system = contents
        .operating_system
        .as_ref()
        .map(|system| format!(", {}", escaped(system.name.as_bytes())))
        .unwrap_or_default();
    let name = escaped(image.name.as_bytes());
    output::note(&format!("{name}{digest}: {}{system}", output::count(contents.components.len(), "component")));
    let rows: Vec<Vec<String>> = contents.components.iter().map(row).collect();
    output::table(&["TYPE", "NAME", "VERSION", "EVIDENCE", "LAYER", "WHERE"], &rows, "");
    let unexamined = &contents.unexamined;
    if !unexamined.is_empty() {
        output::note(&format!("\nNot examined: {}", output::count(unexamined.len(), "part")));
        for unexamined in unexamined.iter().take(UNEXAMINED_SHOWN) {
            output::note(&format!("  {}: {}", unexamined.place.text(), escaped(unexamined.why.as_bytes())));
        }
        if unexamined.len() > UNEXAMINED_SHOWN {
            output::note("  and more: --format json has them all");
        }
    }
}

fn row(found: &Found) -> Vec<String> {
    let component = &found.component;
    let layer = found.places.first().and_then(|place| place.layer).map(|layer| (layer + 1).to_string());
    let shown: Vec<String> = found.places.iter().take(PLACES_SHOWN).map(document::Place::text).collect();
    let more = found.places.len().saturating_sub(PLACES_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    vec![
        component.ecosystem.word().to_owned(),
        escaped(component.name.as_bytes()),
        escaped(component.version.as_bytes()),
        component.evidence.word().to_owned(),
        layer.unwrap_or_default(),
        shown.join(" ") + &more,
    ]
}

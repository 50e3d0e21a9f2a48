//! How long advisories take to be read, kept and matched: `osv_match ADVISORIES COMPONENTS`, where ADVISORIES is a folder
//! or archive of OSV files and COMPONENTS how many distinct components to make of the names in it.
#![allow(clippy::print_stdout, reason = "it measures and says so")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use inspect::advisory::place::Platform;
use inspect::component::{Component, Ecosystem, Evidence};
use inspect::finding::{Gathered, Package, read, store};
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let from = arguments.next().ok_or("give a folder or archive of OSV files")?;
    let wanted: usize = arguments.next().unwrap_or_else(|| "200000".to_owned()).parse()?;
    let now = Timestamp::now();
    let begun = Instant::now();
    let mut gathered = Gathered::default();
    let report = read::read(Path::new(&from), &from, &std::env::temp_dir(), &mut gathered, now)?;
    println!("read: {} advisories, {} not, {:?}", report.kept, report.unread, begun.elapsed());
    let begun = Instant::now();
    let (data, records, lists) = gathered.records()?;
    let bytes = store::encode(&data, &records, &lists)?;
    println!("kept: {} bytes, {:?}", bytes.len(), begun.elapsed());
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(path.path(), &bytes)?;
    let begun = Instant::now();
    let kept = store::Store::open(std::fs::File::open(path.path())?)?;
    let advisories = kept.advisories(now)?;
    println!("loaded: {} advisories, {:?}", advisories.len(), begun.elapsed());

    // Every version that an advisory names, and versions between.
    let mut components: BTreeMap<(Ecosystem, String, String), ()> = BTreeMap::new();
    'all: for round in 0.. {
        for record in &records {
            for affected in record.advisory()?.affected {
                let Ok(place) = affected.place else { continue };
                let stated = affected.ranges.iter().flat_map(|range| &range.events).map(|event| event.version());
                let stated = stated.chain(affected.versions.iter().map(String::as_str));
                for version in stated.take(4) {
                    let version = if round == 0 { version.to_owned() } else { format!("{round}.{version}") };
                    components.insert((place.ecosystem, affected.name.clone(), version), ());
                    if components.len() >= wanted {
                        break 'all;
                    }
                }
            }
        }
    }
    let components: Vec<Component> = components
        .into_keys()
        .map(|(ecosystem, name, version)| Component {
            ecosystem,
            name,
            version,
            architecture: None,
            source: None,
            licences: Vec::new(),
            evidence: Evidence::Installed,
        })
        .collect();
    let platform = Platform::from_os_release("almalinux", "9.4");
    let scope = advisories.on(Some(&platform));
    let begun = Instant::now();
    let hits: usize = components.iter().map(|component| advisories.hits(&scope, component).len()).sum();
    println!("hits: {hits} of {} components, {:?}", components.len(), begun.elapsed());
    let begun = Instant::now();
    let (mut findings, mut undecided) = (0, 0);
    for component in &components {
        let matches = advisories.matches(&scope, Package::from(component), component.evidence, &component.name);
        findings += matches.findings.len();
        undecided += matches.undecided.len();
    }
    println!("findings: {findings}, undecided: {undecided}, {:?}", begun.elapsed());
    let begun = Instant::now();
    let few = kept.advisories_on(components.iter().step_by(components.len() / 800), now)?;
    println!("loaded for 800 components: {} advisories, {:?}", few.len(), begun.elapsed());
    Ok(())
}

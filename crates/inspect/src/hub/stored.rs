//! What one layer says, as it is kept: what was found compressed, the paths' hashes as they are, since nothing in them
//! repeats. A layer that is kept is never read again.

use std::io::Read as _;

use super::packed::{Damaged, Reader, Writer};
use crate::component::{Component, Ecosystem, Evidence, Source};
use crate::layers::LayerTree;
use crate::os_release::OsRelease;
use crate::secret::{Confidence, Rule, Secret};
use crate::walk::{Examined, Fact, Layer, Package, Report};

/// Which way of looking at layers, and of keeping what was found, this program has: what another one kept is read anew.
/// To be raised with any change of what is found in a layer.
pub(super) const FORMAT: u32 = 4;
/// Bytes of a report that are unpacked at most.
const REPORT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of both parts at most; a layer that says more is read again for every image.
pub(super) const KEPT_BYTES_MAX: usize = 256 << 20;
const LEVEL: i32 = 3;

/// Both parts of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) report: Vec<u8>,
    pub(super) tree: Vec<u8>,
}

/// What is to be kept of a layer; none where that is too much.
pub(super) fn write(layer: &Layer) -> Option<Kept> {
    let mut writer = Writer::default();
    writer.number(layer.report.files_count);
    writer.byte(u8::from(layer.report.sought_secrets));
    writer.each(&layer.report.files, examined);
    let report = writer.finish();
    let tree = layer.tree.to_bytes();
    if report.len() as u64 > REPORT_BYTES_MAX {
        return None;
    }
    let report = zstd::bulk::compress(&report, LEVEL).ok()?;
    (report.len() + tree.len() <= KEPT_BYTES_MAX).then_some(Kept { report, tree })
}

/// The layer of which this was kept.
pub(super) fn read(kept: &Kept) -> Result<Layer, Damaged> {
    let unpacked = |_| Damaged("it cannot be unpacked");
    let mut report = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(kept.report.as_slice()).map_err(unpacked)?;
    (&mut decoder).take(REPORT_BYTES_MAX + 1).read_to_end(&mut report).map_err(unpacked)?;
    if report.len() as u64 > REPORT_BYTES_MAX {
        return Err(Damaged("it is longer than anything that is kept"));
    }
    let mut reader = Reader::new(&report);
    let (files_count, sought_secrets) = (reader.number()?, reader.byte()? != 0);
    let report = Report { files_count, sought_secrets, files: reader.each(examined_read)? };
    if !reader.is_at_end() {
        return Err(Damaged("it has more than it should"));
    }
    let tree = LayerTree::from_bytes(&kept.tree).ok_or(Damaged("the paths are cut off"))?;
    Ok(Layer { report, tree })
}

fn examined(writer: &mut Writer, file: &Examined) {
    writer.each(&file.chain, |writer, path| writer.bytes(path));
    writer.each(&file.facts, fact);
}

fn examined_read(reader: &mut Reader<'_>) -> Result<Examined, Damaged> {
    let chain = reader.each(|reader| Ok(reader.bytes()?.to_vec()))?;
    Ok(Examined { chain, facts: reader.each(fact_read)? })
}

fn texts(writer: &mut Writer, texts: &[String]) {
    writer.each(texts, |writer, text| writer.text(text));
}

fn fact(writer: &mut Writer, fact: &Fact) {
    match fact {
        Fact::Component(of) => {
            writer.byte(0);
            component(writer, of);
        }
        Fact::System(OsRelease { id, id_like, version_id, codename, pretty_name }) => {
            writer.byte(1);
            writer.text(id);
            texts(writer, id_like);
            writer.text_option(version_id.as_deref());
            writer.text_option(codename.as_deref());
            writer.text_option(pretty_name.as_deref());
        }
        Fact::Owns { package: of, paths } => {
            writer.byte(2);
            package(writer, of);
            writer.words(paths);
        }
        Fact::Licence { package: of, licences } => {
            writer.byte(3);
            package(writer, of);
            texts(writer, licences);
        }
        Fact::Origin { package: of, vendor, module } => {
            writer.byte(4);
            package(writer, of);
            writer.text_option(vendor.as_deref());
            writer.text_option(module.as_deref());
        }
        Fact::Unexamined(why) => {
            writer.byte(5);
            writer.text(why);
        }
        Fact::SameLicences { package, of } => {
            writer.byte(6);
            writer.text(package);
            writer.text(of);
        }
        Fact::BuildId(digits) => {
            writer.byte(7);
            writer.text(digits);
        }
        Fact::Secret(Secret { rule, confidence, line, column, excerpt }) => {
            writer.byte(8);
            writer.byte(position(&Rule::ALL, rule));
            writer.byte(position(&CONFIDENCE, confidence));
            writer.number(*line);
            writer.number(*column);
            writer.text(excerpt);
        }
    }
}

fn fact_read(reader: &mut Reader<'_>) -> Result<Fact, Damaged> {
    Ok(match reader.byte()? {
        0 => Fact::Component(component_read(reader)?),
        1 => Fact::System(OsRelease {
            id: reader.text()?,
            id_like: reader.each(Reader::text)?,
            version_id: reader.text_option()?,
            codename: reader.text_option()?,
            pretty_name: reader.text_option()?,
        }),
        2 => Fact::Owns { package: package_read(reader)?, paths: reader.words()? },
        3 => Fact::Licence { package: package_read(reader)?, licences: reader.each(Reader::text)? },
        4 => Fact::Origin {
            package: package_read(reader)?,
            vendor: reader.text_option()?,
            module: reader.text_option()?,
        },
        5 => Fact::Unexamined(reader.text()?),
        6 => Fact::SameLicences { package: reader.text()?, of: reader.text()? },
        7 => Fact::BuildId(reader.text()?),
        8 => {
            let rule = Rule::ALL.get(usize::from(reader.byte()?)).copied();
            let confidence = CONFIDENCE.get(usize::from(reader.byte()?)).copied();
            Fact::Secret(Secret {
                rule: rule.ok_or(Damaged("a rule is not known"))?,
                confidence: confidence.ok_or(Damaged("a confidence is not known"))?,
                line: reader.number()?,
                column: reader.number()?,
                excerpt: reader.text()?,
            })
        }
        _ => return Err(Damaged("it says something that is not known")),
    })
}

fn package(writer: &mut Writer, Package { name, version, architecture }: &Package) {
    writer.text(name);
    writer.text_option(version.as_deref());
    writer.text_option(architecture.as_deref());
}

fn package_read(reader: &mut Reader<'_>) -> Result<Package, Damaged> {
    Ok(Package { name: reader.text()?, version: reader.text_option()?, architecture: reader.text_option()? })
}

/// Every ecosystem, in the order of their numbers.
pub(super) const ECOSYSTEMS: [Ecosystem; 12] = [
    Ecosystem::Deb,
    Ecosystem::Rpm,
    Ecosystem::Apk,
    Ecosystem::Maven,
    Ecosystem::PyPi,
    Ecosystem::Npm,
    Ecosystem::Go,
    Ecosystem::Cargo,
    Ecosystem::Gem,
    Ecosystem::Composer,
    Ecosystem::NuGet,
    Ecosystem::Generic,
];
const CONFIDENCE: [Confidence; 3] = [Confidence::Low, Confidence::Medium, Confidence::High];
const EVIDENCE: [Evidence; 3] = [Evidence::Installed, Evidence::Contained, Evidence::Inferred];

fn position<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|known| known == one).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn component(writer: &mut Writer, component: &Component) {
    let Component { ecosystem, name, version, architecture, source, licences, evidence } = component;
    writer.byte(position(&ECOSYSTEMS, ecosystem));
    writer.byte(position(&EVIDENCE, evidence));
    writer.text(name);
    writer.text(version);
    writer.text_option(architecture.as_deref());
    writer.byte(u8::from(source.is_some()));
    if let Some(source) = source {
        writer.text(&source.name);
        writer.text(&source.version);
    }
    texts(writer, licences);
}

fn component_read(reader: &mut Reader<'_>) -> Result<Component, Damaged> {
    let ecosystem = ECOSYSTEMS.get(usize::from(reader.byte()?)).copied().ok_or(Damaged("an ecosystem is not known"))?;
    let evidence = EVIDENCE.get(usize::from(reader.byte()?)).copied().ok_or(Damaged("a class is not known"))?;
    Ok(Component {
        ecosystem,
        evidence,
        name: reader.text()?,
        version: reader.text()?,
        architecture: reader.text_option()?,
        source: match reader.byte()? {
            0 => None,
            _ => Some(Source { name: reader.text()?, version: reader.text()? }),
        },
        licences: reader.each(Reader::text)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{PathKey, TreeBuilder};
    use crate::path;

    fn layer() -> Layer {
        let package = Package { name: "zlib1g".to_owned(), version: Some("1:1.3".to_owned()), architecture: None };
        let component = Component {
            ecosystem: Ecosystem::Deb,
            name: "zlib1g".to_owned(),
            version: "1:1.3".to_owned(),
            architecture: Some("amd64".to_owned()),
            source: Some(Source { name: "zlib".to_owned(), version: "1:1.3".to_owned() }),
            licences: vec!["Zlib".to_owned()],
            evidence: Evidence::Installed,
        };
        let system = OsRelease {
            id: "debian".to_owned(),
            id_like: vec!["x".to_owned()],
            version_id: Some("12".to_owned()),
            codename: None,
            pretty_name: Some("Debian".to_owned()),
        };
        let facts = vec![
            Fact::Component(component),
            Fact::System(system),
            Fact::Owns { package: package.clone(), paths: vec![1, u64::MAX] },
            Fact::Licence { package: package.clone(), licences: vec!["MIT".to_owned()] },
            Fact::Origin { package, vendor: None, module: Some("m".to_owned()) },
            Fact::Unexamined("it is encrypted".to_owned()),
            Fact::SameLicences { package: "a".to_owned(), of: "b".to_owned() },
            Fact::BuildId("00ff".to_owned()),
            Fact::Secret(Secret {
                rule: Rule::Netrc,
                confidence: Confidence::High,
                line: 3,
                column: 400,
                excerpt: "password … (9 bytes)".to_owned(),
            }),
        ];
        let files = vec![Examined { chain: vec![b"a/\xff".to_vec(), b"b".to_vec()], facts }];
        let mut tree = TreeBuilder::new(PathKey::random());
        for (path, is_directory) in
            [("etc", true), ("etc/passwd", false), ("usr/.wh.bin", false), ("v/.wh..wh..opq", false)]
        {
            tree.record(&path::clean(path.as_bytes()).unwrap(), is_directory).unwrap();
        }
        Layer { report: Report { files, files_count: 7, sought_secrets: true }, tree: tree.finish() }
    }

    #[test]
    fn a_layer_that_was_kept_says_and_hides_the_same() {
        let before = layer();
        let after = read(&write(&before).unwrap()).unwrap();
        assert_eq!(after.report, before.report);
        for path in ["etc/passwd", "usr/bin", "usr/bin/x", "usr/lib", "v/x", "w"] {
            let path = path::clean(path.as_bytes()).unwrap();
            assert_eq!(after.tree.hides(&path), before.tree.hides(&path), "{path:?}");
        }
        assert_eq!(after.tree.len(), before.tree.len());
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let kept = write(&layer()).unwrap();
        for length in 0..kept.report.len() {
            let cut = Kept { report: kept.report[..length].to_vec(), tree: kept.tree.clone() };
            assert!(read(&cut).is_err(), "{length}");
        }
        for length in 0..kept.tree.len() {
            let cut = Kept { report: kept.report.clone(), tree: kept.tree[..length].to_vec() };
            assert!(read(&cut).is_err(), "{length}");
        }
    }
}

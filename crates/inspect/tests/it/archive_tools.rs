//! Archives that the usual tools make, read as those tools read them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use inspect::archive::{Budget, Compression, Decoder, Error, Limits, Source, ar, cpio, deb, rpm, zip};
use inspect::component::Evidence;
use inspect::content::Content;

/// Runs a tool in `folder`, and says which package brings it where it is not there.
fn run(folder: &Path, program: &str, arguments: &[&str], package: &str) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: install Debian's package {package}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn shell(folder: &Path, script: &str, package: &str) -> Vec<u8> {
    run(folder, "sh", &["-euc", script], package)
}

fn python(folder: &Path, script: &str) {
    run(folder, "python3", &["-c", script], "python3");
}

fn budget() -> Budget {
    Budget::new(Limits::default(), 1 << 20)
}

/// Text that compresses, and is not the same everywhere.
fn text(bytes: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|number| format!("line {} of {number}\n", number.wrapping_mul(2_654_435_761)).into_bytes())
        .take(bytes)
        .collect()
}

fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Name and bytes, or error, of every entry.
fn entries(bytes: &[u8]) -> Vec<(String, Result<Vec<u8>, Error>)> {
    let budget = budget();
    let archive = zip::Archive::open(Content::memory(bytes)).unwrap();
    let mut entries = archive.entries(&budget).unwrap();
    let mut read = Vec::new();
    while let Some(entry) = entries.next_entry().unwrap() {
        let name = String::from_utf8(entry.name().to_vec()).unwrap();
        let mut bytes = Vec::new();
        let result = entry.reader().and_then(|mut reader| Ok(reader.read_to_end(&mut bytes)?));
        assert_eq!(result.clone().ok(), result.is_ok().then_some(entry.size() as usize));
        read.push((name, result.map(|_| bytes)));
    }
    read
}

#[test]
fn zips_of_info_zip_are_read() {
    let (large, small) = (text(300_000), b"few".as_slice());
    let folder = folder_with(&[("large.txt", &large), ("folder/small.txt", small)]);
    let script = "zip -q -r a.zip large.txt folder; zip -q -0 -r stored.zip large.txt folder
        cat large.txt | zip -q streamed.zip - ; zip -q -fz64 z.zip - < large.txt
        zip -q -P secret encrypted.zip large.txt; (printf '#!/bin/sh\\nexit\\n'; cat a.zip) > run.zip
        cp run.zip adjusted.zip; zip -q -A adjusted.zip; zip -q -Z bzip2 b.zip large.txt
        zip -q -z commented.zip large.txt < folder/small.txt";
    shell(folder.path(), script, "zip");
    let read = |name: &str| entries(&fs::read(folder.path().join(name)).unwrap());
    let expected = vec![
        ("large.txt".to_owned(), Ok(large.clone())),
        ("folder/".to_owned(), Ok(Vec::new())),
        ("folder/small.txt".to_owned(), Ok(small.to_vec())),
    ];
    for name in ["a.zip", "stored.zip", "run.zip", "adjusted.zip"] {
        assert_eq!(read(name), expected, "{name}");
    }
    for name in ["streamed.zip", "z.zip"] {
        assert_eq!(read(name), [("-".to_owned(), Ok(large.clone()))], "{name}");
    }
    for name in ["b.zip", "commented.zip"] {
        assert_eq!(read(name), [("large.txt".to_owned(), Ok(large.clone()))], "{name}");
    }
    let encrypted = read("encrypted.zip");
    assert_eq!(encrypted.len(), 1);
    assert!(matches!(encrypted.first().unwrap().1, Err(Error::Encrypted { .. })));
    let script = fs::read(folder.path().join("run.zip")).unwrap();
    assert!(zip::is_behind(Content::memory(&script)).unwrap());
    assert!(!zip::is_behind(Content::memory(script.get(..script.len() - 30).unwrap())).unwrap());
}

#[test]
fn zips_of_python_are_read() {
    let large = text(200_000);
    let folder = folder_with(&[("large.txt", &large)]);
    python(
        folder.path(),
        r#"
import io, zipfile
data = open("large.txt", "rb").read()
class Pipe(io.RawIOBase):
    def __init__(self, name): self.file = open(name, "wb")
    def writable(self): return True
    def write(self, data): return self.file.write(data)
for method in (0, 8, 12):
    with zipfile.ZipFile(f"m{method}.zip", "w", method) as z:
        with z.open("large.txt", "w", force_zip64=True) as f: f.write(data)
        z.writestr("empty", b"")
    with zipfile.ZipFile(Pipe(f"p{method}.zip"), "w", method) as z:
        with z.open("large.txt", "w", force_zip64=True) as f: f.write(data)
        z.writestr("empty", b"")
with zipfile.ZipFile("many.zip", "w", strict_timestamps=False) as z:
    for i in range(66000): z.writestr(f"{i}", b"")
"#,
    );
    for name in ["m0", "m8", "m12", "p0", "p8", "p12"] {
        let read = entries(&fs::read(folder.path().join(format!("{name}.zip"))).unwrap());
        assert_eq!(read, [("large.txt".to_owned(), Ok(large.clone())), ("empty".to_owned(), Ok(Vec::new()))], "{name}");
    }
    let many = entries(&fs::read(folder.path().join("many.zip")).unwrap());
    assert_eq!(many.len(), 66_000);
    assert_eq!(many.last(), Some(&("65999".to_owned(), Ok(Vec::new()))));
}

#[test]
fn streams_of_the_usual_tools_are_read() {
    let plain = text(700_000);
    let folder = folder_with(&[("plain", &plain)]);
    let script = "gzip -k plain; xz -k plain; zstd -q plain; bzip2 -k plain; xz -k --format=lzma plain
        xz -c -9e --block-size=100000 -T2 plain > blocks.xz; xz -c --check=sha256 --x86 --lzma2=preset=1 plain > x86.xz
        zstd -q -c --ultra -22 --long=27 plain > long.zst; gzip -c -N plain > named.gz
        printf '\\120\\052\\115\\030\\003\\000\\000\\000abc' > skip
        for end in gz xz zst bz2; do cat plain.$end plain.$end > twice.$end; done
        cat skip plain.zst skip plain.zst skip > skipped.zst
        (cat plain.xz; head -c 8 /dev/zero; cat plain.xz; head -c 4 /dev/zero) > padded.xz
        (cat plain.gz plain.gz; head -c 1000 /dev/zero) > padded.gz";
    shell(folder.path(), script, "xz-utils, zstd, bzip2 and gzip");
    let twice = [plain.clone(), plain.clone()].concat();
    let ones =
        ["plain.gz", "plain.xz", "plain.zst", "plain.bz2", "plain.lzma", "blocks.xz", "x86.xz", "long.zst", "named.gz"];
    let twos = ["twice.gz", "twice.xz", "twice.zst", "twice.bz2", "skipped.zst", "padded.xz", "padded.gz"];
    let files = ones.iter().map(|name| (*name, &plain)).chain(twos.iter().map(|name| (*name, &twice)));
    for (name, expected) in files {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let compression = match name.rsplit('.').next().unwrap() {
            "gz" => Compression::Gzip,
            "xz" => Compression::Xz,
            "zst" => Compression::Zstd,
            "lzma" => Compression::Lzma,
            _ => Compression::Bzip2,
        };
        let decompress = |bytes: &[u8], piece: usize| {
            let budget = budget();
            let input = BufReader::with_capacity(piece, bytes);
            let mut plain = Vec::new();
            Decoder::new(compression, input, &budget)?.read_to_end(&mut plain)?;
            Ok::<_, Error>(plain)
        };
        for piece in [1, 1000, 1 << 20] {
            assert!(decompress(&bytes, piece).unwrap() == *expected, "{name} in pieces of {piece}");
        }
        // Cut off anywhere but between streams, or with something else behind it, it is not read as if it were whole.
        for length in [0, 1, 7, 40, bytes.len() / 3, bytes.len() * 2 / 3, bytes.len() - 1] {
            let zeros_only = bytes.iter().skip(length).all(|byte| *byte == 0) && name.starts_with("padded");
            let result = decompress(bytes.get(..length).unwrap(), 1 << 20);
            assert!(zeros_only && name.ends_with(".gz") || result.is_err(), "{name}, cut at {length}");
        }
        // Nor where a checksum or size differs. Of bzip2, the last bits fill the byte; of LZMA, nothing checks anything.
        let (first, last) = match name {
            "plain.gz" => (8, 1),
            "plain.xz" => (12, 1),
            "plain.zst" => (4, 1),
            "plain.bz2" => (4, 2),
            _ => (0, 1),
        };
        for back in last..=first {
            let mut wrong = bytes.clone();
            *wrong.get_mut(bytes.len() - back).unwrap() ^= 0x10;
            assert!(decompress(&wrong, 1 << 20).is_err(), "{name}, changed {back} from its end");
        }
        let longer = [&bytes, b"more of it".as_slice()].concat();
        assert!(matches!(decompress(&longer, 1 << 20), Err(Error::Broken { .. })), "{name} with something behind it");
    }
}

fn members<R: BufRead>(mut archive: ar::Archive<'_, R>) -> Vec<(String, Vec<u8>)> {
    let mut members = Vec::new();
    while let Some(header) = archive.next_header().unwrap() {
        let mut bytes = Vec::new();
        archive.member().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, header.size);
        members.push((String::from_utf8(header.name).unwrap(), bytes));
    }
    members
}

#[test]
fn ar_reads_what_ar_writes() {
    let long = "a-name-that-is-longer-than-sixteen-bytes.o";
    let folder = folder_with(&[("odd", b"odd"), (long, b"even"), ("with space", b""), ("last.o", b"x")]);
    run(folder.path(), "ar", &["qcS", "a.a", "odd", long, "with space", "last.o"], "binutils");
    let bytes = fs::read(folder.path().join("a.a")).unwrap();
    let budget = budget();
    let own = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let expected = [own("odd", b"odd"), own(long, b"even"), own("with space", b""), own("last.o", b"x")];
    assert_eq!(members(ar::Archive::new(bytes.as_slice(), &budget).unwrap()), expected);
    let bsd = b"!<arch>\n#1/20           0           0     0     100644  23        `\na long name, padded\0abc\n";
    assert_eq!(members(ar::Archive::new(bsd.as_slice(), &budget).unwrap()), [own("a long name, padded", b"abc")]);
}

#[test]
fn cpio_reads_what_cpio_writes() {
    let large = text(10_001);
    let folder = folder_with(&[("d/large", &large), ("d/empty", b"")]);
    let script = "ln -s large d/link; printf 'd\\nd/empty\\nd/large\\nd/link\\n' > names
        cpio --quiet -o -H newc < names > a.cpio; cpio --quiet -o -H crc < names > sums.cpio
        (cat a.cpio; head -c 512 /dev/zero; cat a.cpio) > twice.cpio; (cat a.cpio; gzip < a.cpio) > initrd.cpio";
    shell(folder.path(), script, "cpio");
    let read = |name: &str| {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let budget = budget();
        let mut archive = cpio::Archive::new(bytes.as_slice(), &budget).unwrap();
        let mut members = Vec::new();
        let end = loop {
            match archive.next_header() {
                Ok(Some(header)) => {
                    let mut bytes = Vec::new();
                    archive.member().read_to_end(&mut bytes).unwrap();
                    let kind = [header.is_directory(), header.is_file(), header.is_symlink()];
                    members.push((String::from_utf8(header.name).unwrap(), kind, bytes));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (members, end)
    };
    let own = |name: &str, kind, bytes: &[u8]| (name.to_owned(), kind, bytes.to_vec());
    let expected = vec![
        own("d", [true, false, false], b""),
        own("d/empty", [false, true, false], b""),
        own("d/large", [false, true, false], &large),
        own("d/link", [false, false, true], b"large"),
    ];
    for name in ["a.cpio", "sums.cpio"] {
        assert_eq!(read(name), (expected.clone(), Ok(())), "{name}");
    }
    assert_eq!(read("twice.cpio"), ([expected.clone(), expected.clone()].concat(), Ok(())));
    let (members, end) = read("initrd.cpio");
    assert_eq!(members, expected);
    assert!(matches!(end, Err(Error::Broken { .. })), "what is behind the first archive is told: {end:?}");
}

#[test]
fn debian_packages_are_read_as_dpkg_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let script = "apt-get download -qq -o APT::Sandbox::User=root hostname libc-bin 2>&1
        mkdir -p made/DEBIAN made/usr/share; printf 'Package: made\\nVersion: 1:2.0-3\\nArchitecture: all\\n\
Maintainer: none <none@example.org>\\nSource: origin (1.9-1)\\nDescription: made\\n more\\n' > made/DEBIAN/control
        echo file > made/usr/share/file
        for kind in gzip xz zstd none; do dpkg-deb --root-owner-group -Z$kind -b made made-$kind.deb > /dev/null; done";
    shell(folder.path(), script, "apt and dpkg, after apt-get update");
    let mut seen = 0;
    for file in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        seen += 1;
        let path = file.to_str().unwrap();
        let opened = fs::File::open(&file).unwrap();
        let length = opened.metadata().unwrap().len();
        let budget = Budget::new(Limits::default(), length);
        let mut package = deb::Package::new(Source::new(Content::file(&opened, 0, length)), &budget).unwrap();
        let mut parts = Vec::new();
        while let Some(part) = package.next_part().unwrap() {
            let mut bytes = Vec::new();
            match &part {
                deb::Part::Control(Some(compression)) | deb::Part::Data(Some(compression)) => {
                    Decoder::new(*compression, package.member(), &budget).unwrap().read_to_end(&mut bytes).unwrap();
                }
                _ => {
                    package.member().read_to_end(&mut bytes).unwrap();
                }
            }
            let tool = match part {
                deb::Part::Control(_) => "--ctrl-tarfile",
                _ => "--fsys-tarfile",
            };
            assert!(bytes == run(folder.path(), "dpkg-deb", &[tool, path], "dpkg"), "{path}: {part:?}");
            parts.push(part);
        }
        assert!(matches!(parts.as_slice(), [deb::Part::Control(_), deb::Part::Data(_)]), "{path}: {parts:?}");
        let component = deb::component(&run(folder.path(), "dpkg-deb", &["-f", path], "dpkg")).unwrap();
        let format = "--showformat=${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}";
        let shown = String::from_utf8(run(folder.path(), "dpkg-deb", &["-W", format, path], "dpkg")).unwrap();
        let source = component.source.clone();
        let (source, version) =
            source.map_or((component.name.clone(), component.version.clone()), |s| (s.name, s.version));
        let own =
            format!("{} {} {} {source} {version}", component.name, component.version, component.architecture.unwrap());
        assert_eq!(own, shown);
        assert_eq!(component.evidence, Evidence::Contained);
    }
    assert_eq!(seen, 6, "two of Debian's packages and four that were made here");
}

#[test]
fn rpm_packages_are_read_as_rpm_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let spec = "Name: made\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: s\nLicense: MIT AND Apache-2.0\n\
        BuildArch: noarch\n%description\nd\n%package -n other\nSummary: o\nVersion: 9\n%description -n other\no\n\
        %install\nmkdir -p %{buildroot}/usr/share\nseq 5000 > %{buildroot}/usr/share/file\n\
        %files\n/usr/share/file\n%files -n other\n";
    fs::write(folder.path().join("made.spec"), spec).unwrap();
    for payload in ["w9.gzdio", "w9.bzdio", "w6.xzdio", "w6.lzdio", "w3.zstdio"] {
        let top = format!("_topdir {}/{payload}", folder.path().display());
        let payload = format!("_binary_payload {payload}");
        run(folder.path(), "rpmbuild", &["-ba", "--quiet", "-D", &top, "-D", &payload, "made.spec"], "rpm");
    }
    let found = shell(folder.path(), "find . -name '*.rpm' | sort", "findutils");
    let found = String::from_utf8(found).unwrap();
    assert_eq!(found.lines().count(), 15);
    for path in found.lines() {
        let bytes = fs::read(folder.path().join(path)).unwrap();
        let budget = budget();
        let mut package = rpm::Package::new(bytes.as_slice(), &budget).unwrap();
        let component = package.component.clone();
        let format =
            "%{NAME} %{EVR} %|SOURCERPM?{%{ARCH}}:{src}| [%{FILENAMES} ][%{FILESIZES} ]%{LICENSE} %{SOURCERPM}";
        let shown = run(folder.path(), "rpm", &["-qp", "--nosignature", "--qf", format, path], "rpm");
        let compression = package.compression.unwrap();
        let payload = Decoder::new(compression, package.payload(), &budget).unwrap();
        let mut archive = cpio::Archive::new(payload, &budget).unwrap();
        let (mut names, mut sizes) = (String::new(), String::new());
        while let Some(header) = archive.next_header().unwrap() {
            let name = String::from_utf8(header.name).unwrap();
            names += &format!("{} ", name.strip_prefix('.').unwrap_or(&name));
            let read = std::io::copy(&mut archive.member(), &mut std::io::sink()).unwrap();
            sizes += &format!("{read} ");
        }
        let source_rpm = match (&component.source, path.ends_with(".src.rpm")) {
            (_, true) => "(none)".to_owned(),
            (Some(source), _) => format!("{}-{}.src.rpm", source.name, source.version),
            (None, _) => "made-1.2-3.src.rpm".to_owned(),
        };
        let architecture = component.architecture.unwrap();
        let licence = component.licences.join("; ");
        let (name, version) = (&component.name, &component.version);
        let own = format!("{name} {version} {architecture} {names}{sizes}{licence} {source_rpm}");
        assert_eq!(own, String::from_utf8(shown).unwrap(), "{path}");
        assert_eq!(component.source.is_some(), name == "other", "{path}");
    }
}

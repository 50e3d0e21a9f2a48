//! Generated archives, listed by this reader, GNU tar and Python's tarfile: what is accepted here is listed alike by all.
//!
//! `TAR_ARCHIVES` sets how many archives there are, `TAR_SEED` where to begin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "tar_differential/generate.rs"]
mod generate;
#[path = "tar_differential/headers.rs"]
mod headers;
#[path = "tar_differential/others.rs"]
mod others;

use std::collections::BTreeMap;
use std::io::BufReader;

use inspect::content::Content;
use inspect::tar::{Archive, Error, Kind, Source, Stream, Window};

/// Archives that a run has where nothing else is said.
const ARCHIVES: u64 = 3_000;
/// Archives that the other readers are given at once.
const BATCH: usize = 250;

/// What a reader says of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Without slashes at the end.
    pub(crate) name: Vec<u8>,
    /// `f`, `h`, `l`, `c`, `b`, `d` or `p`; `?` for others.
    pub(crate) kind: char,
    /// Bytes, or the two numbers of a device.
    pub(crate) size: String,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    /// `None` where the reader does not show it whole.
    pub(crate) mtime: Option<i64>,
}

impl Listed {
    fn is_like(&self, other: &Self) -> bool {
        let times = match (self.mtime, other.mtime) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        times && Self { mtime: None, ..self.clone() } == Self { mtime: None, ..other.clone() }
    }
}

fn are_alike(one: &[Listed], two: &[Listed]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.is_like(two))
}

/// Without slashes at the end.
pub(crate) fn trimmed(name: &[u8]) -> Vec<u8> {
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    name[..end].to_vec()
}

/// What one of the others says of an archive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) entries: Vec<Listed>,
    /// What it complained of; `None` where it read all.
    pub(crate) error: Option<String>,
    pub(crate) warnings: String,
}

fn own_list<S: Source>(source: S) -> (Vec<Listed>, Option<Error>) {
    let mut archive = Archive::new(source);
    let mut entries = Vec::new();
    loop {
        match archive.next() {
            Ok(Some(entry)) => entries.push(Listed {
                name: trimmed(entry.path),
                kind: match entry.kind {
                    Kind::File | Kind::Contiguous => 'f',
                    Kind::HardLink => 'h',
                    Kind::Symlink => 'l',
                    Kind::CharacterDevice => 'c',
                    Kind::BlockDevice => 'b',
                    Kind::Directory => 'd',
                    Kind::Fifo => 'p',
                },
                size: entry.device.map_or(entry.size.to_string(), |(major, minor)| format!("{major},{minor}")),
                link: entry.link.to_vec(),
                mode: entry.mode.into(),
                uid: entry.uid.into(),
                gid: entry.gid.into(),
                mtime: Some(entry.mtime),
            }),
            Ok(None) => return (entries, None),
            Err(error) => return (entries, Some(error)),
        }
    }
}

#[derive(Default)]
struct Tally {
    archives: u64,
    accepted: u64,
    alike: u64,
    alike_and_accepted: u64,
    refusals: BTreeMap<String, (u64, Vec<u64>)>,
    warnings: BTreeMap<String, u64>,
    differences: Vec<String>,
}

impl Tally {
    fn add(&mut self, seed: u64, kind: &str, bytes: &[u8], tar: &Verdict, python: &Verdict) {
        let (own, error) = own_list(Window::new(Content::memory(bytes)));
        let (streamed, stream_error) = own_list(Stream(BufReader::with_capacity(700, bytes)));
        // A stream shows an entry before it is known that its content is cut off.
        let same = streamed.starts_with(&own) && streamed.len() <= own.len() + 1;
        let same_end = error.is_some() || streamed.len() == own.len();
        assert!(
            same && same_end && error.is_some() == stream_error.is_some(),
            "archive {seed}: the two sources differ: {error:?}, {stream_error:?}"
        );
        self.archives += 1;
        let alike = tar.error.is_none() && python.error.is_none() && are_alike(&tar.entries, &python.entries);
        self.alike += u64::from(alike);
        match error {
            None => {
                self.accepted += 1;
                self.alike_and_accepted += u64::from(alike);
                for (name, other) in [("GNU tar", tar), ("tarfile", python)] {
                    if other.error.is_some() || !are_alike(&own, &other.entries) {
                        self.differences.push(format!(
                            "archive {seed} ({kind}): {name} {:?}\n  here {own:?}\n  there {:?}",
                            other.error, other.entries
                        ));
                    }
                }
                for line in tar.warnings.lines() {
                    *self.warnings.entry(others::without_names(line)).or_default() += 1;
                }
            }
            Some(error) if alike => {
                let reason = error.fault.to_string();
                let words = format!("{reason} [{kind}]");
                let entry = self.refusals.entry(words).or_default();
                entry.0 += 1;
                if entry.1.len() < 5 {
                    entry.1.push(seed);
                }
            }
            Some(_) => {}
        }
    }

    fn table(&self) -> String {
        let mut table = format!(
            "{} archives, {} accepted; {} read alike by both others, of which {} accepted ({:.2} %)\n",
            self.archives,
            self.accepted,
            self.alike,
            self.alike_and_accepted,
            100.0 * self.alike_and_accepted as f64 / self.alike.max(1) as f64
        );
        table += "refused here, read alike by both others:\n";
        let mut refusals: Vec<_> = self.refusals.iter().collect();
        refusals.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (reason, (count, seeds)) in refusals {
            table += &format!("{count:7}  {reason}  (archives {seeds:?})\n");
        }
        table += "warnings of GNU tar on what is accepted:\n";
        for (line, count) in &self.warnings {
            table += &format!("{count:7}  {line}\n");
        }
        table
    }
}

#[test]
fn a16_a17_what_is_accepted_is_listed_alike_by_gnu_tar_and_python() {
    let number = |name: &str, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
    };
    let (count, first) = (number("TAR_ARCHIVES", ARCHIVES), number("TAR_SEED", 1));
    let mut others = others::Others::start();
    let mut tally = Tally::default();
    let seeds: Vec<u64> = (first..first + count).collect();
    for seeds in seeds.chunks(BATCH) {
        let archives: Vec<_> = seeds.iter().map(|seed| generate::archive(*seed)).collect();
        let verdicts = others.list(archives.iter().map(|(bytes, _)| bytes.as_slice()));
        for ((seed, (bytes, kind)), (tar, python)) in seeds.iter().zip(&archives).zip(&verdicts) {
            tally.add(*seed, kind, bytes, tar, python);
        }
    }
    eprintln!("{}", tally.table());
    let shown = tally.differences.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        tally.differences.is_empty(),
        "{} listed differently:\n{shown}\n{}",
        tally.differences.len(),
        tally.table()
    );
    assert!(tally.alike * 4 > tally.archives, "too few archives are read alike by both others\n{}", tally.table());
    // A few archives scatter more than many.
    let least = if tally.archives < 20_000 { 985 } else { 990 };
    assert!(tally.alike_and_accepted * 1000 >= tally.alike * least, "too many are refused\n{}", tally.table());
}

/// A folder with all that an archive can hold, put into archives by the two others in all their formats.
const FOLDER: &str = r#"
mkdir -p folder/sub "folder/$(printf 'directory-%0100d' 1)" && cd folder
echo content > file && head -c 70000 /dev/zero > zeros && ln file hard && ln -s ../elsewhere symlink && mkfifo pipe
ln -s "$(printf 'target-%0150d' 1)" long-link && echo x > "$(printf 'directory-%0100d' 1)/$(printf 'file-%0120d' 2)"
printf 'x' > "umlaut-ü" && printf 'x' > "$(printf 'raw-\377')" && touch -d @1.25 early && chmod 4755 file
truncate -s 300000 sparse && printf 'data' | dd of=sparse bs=1 seek=100000 conv=notrunc 2>/dev/null
truncate -s 9000000000 huge-sparse && cd ..
for format in v7 oldgnu gnu ustar posix; do tar -cf $format.tar --format=$format --exclude=huge-sparse folder || true; done 2>/dev/null
for format in oldgnu gnu posix; do tar -cSf sparse-$format.tar --format=$format folder; done
for version in 0.0 0.1 1.0; do tar -cSf sparse-$version.tar --format=posix --sparse-version=$version folder; done
tar -cf labelled.tar --format=posix --pax-option=comment=x,mtime=77 folder/file
python3 -c '
import tarfile
for name, form in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
    with tarfile.open("python-%s.tar" % name, "w", format=form) as archive:
        def fits(entry): return None if name == "ustar" and (len(entry.name) > 90 or len(entry.linkname) > 90) or "huge" in entry.name else entry
        archive.add("folder", filter=fits)
'
ls *.tar
"#;

#[test]
fn what_the_others_write_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("sh")
        .args(["-ec", FOLDER])
        .env("LC_ALL", "C.UTF-8")
        .current_dir(folder.path())
        .output()
        .expect("install a shell (Debian package dash)");
    let names = String::from_utf8(made.stdout).unwrap();
    assert!(names.lines().count() == 15, "{names}{}", String::from_utf8_lossy(&made.stderr));
    let archives: Vec<_> = names.lines().map(|name| std::fs::read(folder.path().join(name)).unwrap()).collect();
    let verdicts = others::Others::start().list(archives.iter().map(Vec::as_slice));
    for ((name, bytes), (tar, python)) in names.lines().zip(&archives).zip(verdicts) {
        let (own, error) = own_list(Window::new(Content::memory(bytes)));
        assert!(error.is_none(), "{name}: {error:?}");
        assert!(!own.is_empty() && python.error.is_none() && tar.error.is_none(), "{name}: {tar:?} {python:?}");
        assert!(are_alike(&own, &tar.entries), "{name}\n{own:?}\n{:?}", tar.entries);
        assert!(are_alike(&own, &python.entries), "{name}\n{own:?}\n{:?}", python.entries);
    }
}

//! RPM databases that RPM, SQLite and Berkeley DB wrote, compared with what `rpm` says of them.
//!
//! Debian's RPM writes SQLite and reads Berkeley DB; Berkeley DB's own tools write that. It was built without ndb.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use inspect::cataloger::os::Fact;
use inspect::cataloger::rpm;
use inspect::content::Content;

fn run(program: &str, package: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install Debian's package {package}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Packages that differ in what is told: epochs, sources, modules, scripts without files, many files, many packages.
const SPECS: [&str; 3] = [
    "Name: alpha\nVersion: 1.2.3\nRelease: 4.el9\nEpoch: 2\nSummary: a\nLicense: MIT AND (Apache-2.0 OR GPL-2.0-only)\n\
     Vendor: Some Vendor, Inc.\nBuildArch: noarch\n%description\na\n%install\n\
     mkdir -p '%{buildroot}/usr/share/alpha/a folder/é'\ntouch '%{buildroot}/usr/share/alpha/a folder/é/one' \
     %{buildroot}/top\n%files\n/usr/share/alpha\n/top\n",
    "Name: beta\nVersion: 7~rc1\nRelease: 1^git\nEpoch: 0\nSummary: b\nLicense: BSD-3-Clause\n\
     ModularityLabel: beta:7:820:abcdef\n%description\nb\n%package libs\nVersion: 8\nSummary: l\n%description libs\nl\n\
     %install\nmkdir -p %{buildroot}/usr/lib/beta\n\
     for i in $(seq 1 3000); do touch %{buildroot}/usr/lib/beta/file-$i; done\n%files\n%files libs\n/usr/lib/beta\n",
    "%{lua: for i = 1, 300 do print('%package -n many'..i..'\\nSummary: m\\nLicense: L'..i..'\\n%description -n many'..\
     i..'\\nm\\n%files -n many'..i..'\\n') end}\nName: many\nVersion: 1\nRelease: 1\nSummary: m\nLicense: L\n\
     BuildArch: noarch\n%description\nm\n",
];

/// A database that RPM installed the packages into.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let top = format!("_topdir {}", folder.path().join("top").display());
        for (at, spec) in SPECS.iter().enumerate() {
            let path = folder.path().join(format!("{at}.spec"));
            // The main package's tags come before those of others.
            let spec = match spec.split_once("\nName: many") {
                Some((many, main)) => format!("Name: many{main}{many}\n"),
                None => (*spec).to_owned(),
            };
            fs::write(&path, spec).unwrap();
            run("rpmbuild", "rpm", &["--define", &top, "--quiet", "-bb", path.to_str().unwrap()]);
        }
        let root = folder.path().join("root");
        fs::create_dir_all(&root).unwrap();
        let mut arguments: Vec<PathBuf> = vec!["--root".into(), root, "--dbpath".into(), "/var/lib/rpm".into()];
        arguments.extend(["-i".into(), "--nodeps".into(), "--nosignature".into(), "--justdb".into()]);
        for architecture in fs::read_dir(folder.path().join("top/RPMS")).unwrap() {
            arguments.extend(fs::read_dir(architecture.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
        }
        run("rpm", "rpm", &arguments);
        folder
    });
    static DATABASE: OnceLock<PathBuf> = OnceLock::new();
    DATABASE.get_or_init(|| folder.path().join("root/var/lib/rpm"))
}

type Lines = BTreeMap<String, BTreeSet<String>>;

/// What `rpm` says: name, version, architecture, source package, licence, vendor and module; and the paths.
fn expected(folder: &Path, backend: &str) -> Lines {
    let format = "!%{NAME}|%{EVR}|%{ARCH}|%{SOURCERPM}|%{LICENSE}|%{VENDOR}|%{MODULARITYLABEL}\n[%{FILENAMES}\n]";
    let backend = format!("_db_backend {backend}");
    let folder = folder.to_str().unwrap();
    let text = run("rpm", "rpm", &["--define", &backend, "--dbpath", folder, "-qa", "--qf", format]);
    let mut lines = Lines::new();
    let mut package = String::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix('!') {
            package = line.to_owned();
            lines.insert(package.clone(), BTreeSet::new());
        } else if !line.is_empty() {
            let path = line.strip_prefix('/').unwrap().to_owned();
            assert!(lines.get_mut(&package).unwrap().insert(path));
        }
    }
    lines
}

fn told(database: &Path, log: Option<&Path>) -> Lines {
    let open = |path: &Path| {
        let file = File::open(path).unwrap();
        let length = file.metadata().unwrap().len();
        (file, length)
    };
    let (file, length) = open(database);
    let log = log.map(open);
    let log = log.as_ref().map(|(file, length)| Content::file(file, 0, *length));
    let mut packages: Vec<(inspect::component::Component, String, BTreeSet<String>)> = Vec::new();
    rpm::read(b"var/lib/rpm/Packages", Content::file(&file, 0, length), log, &mut |fact| match fact {
        Fact::Package(component) => packages.push((component, "(none)|(none)".to_owned(), BTreeSet::new())),
        Fact::Origin { package, vendor, module } => {
            let last = packages.last_mut().unwrap();
            assert_eq!(last.0.name, package.name);
            last.1 = format!("{}|{}", vendor.unwrap_or("(none)"), module.unwrap_or("(none)"));
        }
        Fact::Owns { package, paths } => {
            let last = packages.last_mut().unwrap();
            assert_eq!((last.0.name.as_str(), Some(last.0.version.as_str())), (package.name, package.version));
            paths.for_each(|path| assert!(last.2.insert(String::from_utf8(path.to_vec()).unwrap())));
        }
        other => panic!("{other:?}"),
    });
    packages
        .into_iter()
        .map(|(component, origin, paths)| {
            let (name, version) = (&component.name, &component.version);
            let own = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest);
            let source = component.source.map_or(format!("{name}-{own}.src.rpm"), |source| {
                format!("{}-{}.src.rpm", source.name, source.version)
            });
            let architecture = component.architecture.unwrap();
            (format!("{name}|{version}|{architecture}|{source}|{}|{origin}", component.licences.join("; ")), paths)
        })
        .collect()
}

/// SQLite, with its answers.
fn sqlite(database: &Path, commands: &str) -> String {
    run("sqlite3", "sqlite3", &[database.to_str().unwrap(), commands])
}

#[test]
fn what_rpm_wrote_with_sqlite_is_what_rpm_says() {
    let expected = expected(installed(), "sqlite");
    assert_eq!(expected.len(), 303);
    assert_eq!(told(&installed().join("rpmdb.sqlite"), None), expected);
}

#[test]
fn what_was_removed_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("rpmdb.sqlite");
    fs::copy(installed().join("rpmdb.sqlite"), &database).unwrap();
    let mut arguments: Vec<String> =
        ["--dbpath", folder.path().to_str().unwrap(), "-e", "--justdb", "--nodeps"].map(str::to_owned).to_vec();
    arguments.push("beta-libs".to_owned());
    arguments.extend((1..300).filter(|at| at % 3 != 0).map(|at| format!("many{at}")));
    run("rpm", "rpm", &arguments);
    let expected = expected(folder.path(), "sqlite");
    assert_eq!(expected.len(), 303 - 1 - 200);
    assert_eq!(told(&database, None), expected);
}

#[test]
fn every_page_size_and_a_log_give_the_same() {
    let expected = expected(installed(), "sqlite");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("rpmdb.sqlite-wal");
    for size in [512, 1024, 4096, 65536] {
        let copy = folder.path().join("rpmdb.sqlite");
        let _ = (fs::remove_file(&copy), fs::remove_file(&log));
        fs::copy(installed().join("rpmdb.sqlite"), &copy).unwrap();
        let setting = format!("PRAGMA journal_mode=DELETE; PRAGMA page_size={size}; VACUUM;");
        sqlite(&copy, &setting);
        assert_eq!(told(&copy, None), expected, "{size}");
        // All rows are taken out, and put in again with a log that stays beside the database.
        let rows = folder.path().join("rows");
        let _ = fs::remove_file(&rows);
        sqlite(
            &copy,
            &format!(
                "ATTACH '{}' AS o; CREATE TABLE o.r AS SELECT * FROM Packages; DELETE FROM Packages; VACUUM;",
                rows.display()
            ),
        );
        assert_eq!(told(&copy, None), Lines::new(), "{size}");
        let mut child = Command::new("sqlite3")
            .arg(&copy)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("install Debian's package sqlite3");
        let commands = format!(
            ".bail on\n.dbconfig no_ckpt_on_close on\nPRAGMA journal_mode=WAL;\nPRAGMA wal_autocheckpoint=0;\n\
             ATTACH '{}' AS o;\nINSERT INTO main.Packages SELECT * FROM o.r WHERE hnum % 2;\n\
             INSERT INTO main.Packages SELECT * FROM o.r WHERE hnum % 2 = 0;\n",
            rows.display(),
        );
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), commands.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(fs::metadata(&log).unwrap().len() > 1 << 16);
        assert_eq!(told(&copy, Some(&log)), expected, "{size} with a log");
        assert_eq!(told(&copy, None), Lines::new(), "{size} without its log");
    }
}

#[test]
fn what_berkeley_db_wrote_is_what_rpm_says() {
    let rows = sqlite(&installed().join("rpmdb.sqlite"), "SELECT hnum, hex(blob) FROM Packages");
    let expected = expected(installed(), "sqlite");
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("Packages");
    for (size, order) in [(512, 1234), (4096, 1234), (4096, 4321), (65536, 1234)] {
        let key = |number: u32| match order {
            1234 => number.swap_bytes(),
            _ => number,
        };
        let mut dump = format!("VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={size}\ndb_lorder={order}\n");
        // With a small fill factor there are many buckets, and with a large one long chains.
        dump += if size == 512 { "h_ffactor=40\nHEADER=END\n" } else { "HEADER=END\n" };
        writeln!(dump, " {:08x}\n {:08x}", 0, key(303)).unwrap();
        for row in rows.lines() {
            let (number, blob) = row.split_once('|').unwrap();
            writeln!(dump, " {:08x}\n {}", key(number.parse().unwrap()), blob.to_lowercase()).unwrap();
        }
        dump += "DATA=END\n";
        let text = folder.path().join("dump");
        fs::write(&text, dump).unwrap();
        let _ = fs::remove_file(&database);
        run("db5.3_load", "db5.3-util", &["-f", text.to_str().unwrap(), database.to_str().unwrap()]);
        assert_eq!(self::expected(folder.path(), "bdb_ro"), expected, "{size} {order}, by rpm");
        assert_eq!(told(&database, None), expected, "{size} {order}");
    }
}

//! Notes against `readelf`, version strings against the programs' own word, release files.

use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::cataloger::Found;
use crate::component::{Ecosystem, Evidence};
use crate::content::Content;
use crate::executable;

fn run(program: &str, arguments: &[&str], package: &str) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|_| panic!("{program} is missing; install Debian's {package}"));
    String::from_utf8(output.stdout).unwrap()
}

/// `/bin/true` with this note as its section `.note.package`.
fn with_note(owner: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    note.extend((owner.len() as u32).to_le_bytes());
    note.extend((value.len() as u32).to_le_bytes());
    note.extend(kind.to_le_bytes());
    for part in [owner, value] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let (list, program) = (folder.path().join("note"), folder.path().join("program"));
    std::fs::write(&list, note).unwrap();
    let section = format!("--add-section=.note.package={}", list.display());
    let status = Command::new("objcopy").arg(section).arg("/bin/true").arg(&program).status();
    assert!(status.expect("objcopy is missing; install Debian's binutils").success());
    std::fs::read(program).unwrap()
}

fn notes_of(bytes: &[u8]) -> Notes {
    read_notes(&executable::open(Content::memory(bytes)).unwrap().images[0])
}

#[test]
fn the_build_identifier_is_that_of_readelf() {
    let printed = run("readelf", &["-n", "/bin/true"], "binutils");
    let (_, identifier) = printed.split_once("Build ID: ").unwrap();
    let bytes = std::fs::read("/bin/true").unwrap();
    let notes = notes_of(&bytes);
    assert_eq!(notes.build_id.as_deref(), identifier.split_whitespace().next());
    assert_eq!((notes.package, notes.notes), (None, Vec::new()));
    // The segments tell the same to who has no sections.
    let mut stripped = bytes;
    stripped[40..48].fill(0);
    stripped[60..64].fill(0);
    assert_eq!(notes_of(&stripped).build_id, notes.build_id);
}

#[test]
fn package_metadata_is_a_component() {
    let json =
        br#"{"type":"rpm","name":"systemd","version":"255.4-1.fc40","architecture":"x86_64","osCpe":"cpe:/o:f"}"#;
    let package = notes_of(&with_note(b"FDO\0", 0xcafe_1a7e, json)).package.unwrap();
    assert_eq!(
        (package.ecosystem, package.name.as_str(), package.version.as_str()),
        (Ecosystem::Rpm, "systemd", "255.4-1.fc40")
    );
    assert_eq!((package.architecture.as_deref(), package.evidence), (Some("x86_64"), Evidence::Contained));
    let broken = notes_of(&with_note(b"FDO\0", 0xcafe_1a7e, b"{\"name\":"));
    assert!(broken.package.is_none() && broken.notes.len() == 1 && broken.build_id.is_some(), "{broken:?}");
    assert_eq!(notes_of(&with_note(b"XYZ\0", 0xcafe_1a7e, json)).package, None);
}

fn told(found: &Found) -> Vec<String> {
    found.components.iter().map(|component| format!("{}@{}", component.name, component.version)).collect()
}

fn versions(file_name: &str, bytes: &[u8]) -> Vec<String> {
    told(&catalog_versions(file_name.as_bytes(), Content::memory(bytes)))
}

#[test]
fn programs_of_this_system_tell_their_versions() {
    let file = |path: &str| std::fs::read(path).unwrap();
    let bash = run("bash", &["-c", "echo ${BASH_VERSINFO[0]}.${BASH_VERSINFO[1]}.${BASH_VERSINFO[2]}"], "bash");
    assert_eq!(versions("bash", &file("/bin/bash")), [format!("bash@{}", bash.trim())]);
    let perl = run("perl", &["-e", "printf '%vd', $^V"], "perl-base");
    assert_eq!(versions("perl", &file("/usr/bin/perl")), [format!("perl@{perl}")]);
    let openssl = run("openssl", &["version"], "openssl");
    let openssl = openssl.split_whitespace().nth(1).unwrap();
    assert_eq!(versions("openssl", &file("/usr/bin/openssl")), [format!("openssl@{openssl}")]);
    let libraries = run("ldd", &["/bin/bash"], "libc-bin");
    let libc = libraries.split_whitespace().find(|word| word.ends_with("/libc.so.6")).unwrap();
    let glibc = run("ldd", &["--version"], "libc-bin");
    let glibc = glibc.lines().next().unwrap().rsplit(' ').next().unwrap();
    assert_eq!(versions("libc.so.6", &file(libc)), [format!("glibc@{glibc}")]);
}

/// What stands in public releases beside the version, in as few bytes as tell it.
const RELEASES: &[(&str, &[u8], &str)] = &[
    ("python3.11", b"\x003.11.2\0", "python@3.11.2"),
    ("libpython3.7m.so.1.0", b"\x003.7.4\0", "python@3.7.4"),
    ("libpython3.12.so.1.0", b"\x003.12.0rc1\0", "python@3.12.0rc1"),
    ("libpypy3-c.so", b"[PyPy 7.3.14 with GCC", "pypy@7.3.14"),
    ("node", b"node.js/v22.9.0\0", "node@22.9.0"),
    ("node", b"\0v6.17.1\0", "node@6.17.1"),
    ("redis-server", b"\x007.2.3buildkitsandbox-1702957734000000000\0", "redis@7.2.3"),
    ("redis-server", b"\x004.0.11841ce7054bd9-1542359302000000000\0", "redis@4.0.11"),
    ("redis-server", b"Redis version 2.8.23\0", "redis@2.8.23"),
    ("valkey-server", b"valkey9.0.0buildkitsandbox-1764887574000000000\0", "valkey@9.0.0"),
    ("nginx", b"\0nginx version: nginx/1.25.1\0", "nginx@1.25.1"),
    ("nginx", b"\0nginx version: openresty/1.21.4.3\0", "nginx@1.21.4"),
    ("postgres", b"\0PostgreSQL 16.1 (Debian)\0", "postgresql@16.1"),
    ("postgres", b"\0PostgreSQL 15beta4\0", "postgresql@15beta4"),
    ("mysqld", b"/usr/src/mysql-8.0.37/sql/x.cc\0", "mysql-server@8.0.37"),
    ("mysqld", b"/usr/src/mysql-cluster-gpl-8.0.37/sql/x.cc\0/mysql-8.0.36/\0", "mysql-cluster@8.0.37"),
    ("mariadbd", b"\x0010.6.15-MariaDB\0", "mariadb@10.6.15"),
    ("mysql", b"shutdown\x008.0.37\0\0\0mysql_real_escape\0", "mysql@8.0.37"),
    ("mysql", b"/BUILD/percona-server-8.0.35-27/percona-\0", "percona-server@8.0.35"),
    ("httpd", b"\0Apache/2.4.54\0", "httpd@2.4.54"),
    ("php", b"X-Powered-By: PHP/8.3.0RC2\0", "php-cli@8.3.0RC2"),
    ("php-fpm8.2", b"X-Powered-By: PHP/8.2.7\0", "php-fpm@8.2.7"),
    ("ruby", b"ruby 2.7.7p221 (2022-11-24", "ruby@2.7.7p221"),
    ("libruby-3.1.so.3.1.2", b"ruby 3.1.2 (2022", "ruby@3.1.2"),
    ("libjvm.so", b" for linux-amd64 JRE (17.0.15+6-Debian-1deb12u1), built on", "openjdk@17.0.15+6-Debian-1deb12u1"),
    ("java", b"\0openjdk\0java\x000.0\x0011.0.17+8-LTS\0", "openjdk@11.0.17+8-LTS"),
    ("java", b"\x001.8\0\0\x001.8.0_451-b10\0java\0", "jre@1.8.0_451-b10"),
    ("libcrypto.so.3", b"\0OpenSSL 3.0.15 3 Sep 2024\0", "openssl@3.0.15"),
    ("libcrypto.so.1.1", b"\0OpenSSL 1.1.1w  11 Sep 2023\0", "openssl@1.1.1w"),
    ("openssl", b"\0OpenSSL 1.1.1 (compatible; AWS-LC 1.69.0)\0", "aws-lc@1.69.0"),
    ("busybox", b"BusyBox v1.36.1 (", "busybox@1.36.1"),
    ("libcurl.so.4.8.0", b"\0libcurl/7.88.1\0", "curl@7.88.1"),
    ("haproxy", b"HA-Proxy version 1.5.14 2015/07/02\0", "haproxy@1.5.14"),
    ("haproxy", b"\x002.7.3-1065b10\0\0HAProxy version follows\0", "haproxy@2.7.3"),
    ("memcached", b"memcached 1.6.21\0", "memcached@1.6.21"),
    ("beam.smp", b"\0\x0026.1.2\0\0\0Erlang/OTP\0", "erlang@26.1.2"),
    ("erlexec", b"/usr/src/otp_src_25.3.2.6/erts/\0", "erlang@25.3.2.6"),
    ("liblua5.4.so.0", b"$LuaVersion: Lua 5.4.4  Copyright", "lua@5.4.4"),
    ("libsqlite3.so.0", b"SQLite format 3\0.. \x003.40.1\0", "sqlite@3.40.1"),
    ("libz.so.1.2.13", b" deflate 1.2.13 Copyright", "zlib@1.2.13"),
    ("ld-musl-x86_64.so.1", b"musl libc (x86_64)\0\x001.2.4\0", "musl@1.2.4"),
    ("libQt6Core.so.6", b"\0\0Qt 6.5.0 (x86_64", "qtbase@6.5.0"),
    ("deno", b"Deno/1.41.0cli/worker.rs", "deno@1.41.0"),
    ("dart", b"\x003.6.0-216.1.beta (beta) (Mon", "dart@3.6.0-216.1.beta"),
    ("julia", b"\0__init__\x001.12.6\0branch\0", "julia@1.12.6"),
    ("mongod", b"6.0.27\0tcmalloc\0", "mongodb@6.0.27"),
    ("envoy", b"\x001.34.5\0..envoy.reloadable_features", "envoy@1.34.5"),
    ("libkrb5.so.3", b"KRB5_BRAND: krb5-1.18.4-final 1.18.4 2021", "krb5@1.18.4"),
    ("arangosh", b"curl-version\x003.12.5 enterprise [linux]\0", "arangodb@3.12.5"),
    ("fluent-bit", b"\x003.0.2\0%sFluent Bit v%s", "fluent-bit@3.0.2"),
    ("chrome", b"\x00127.0.6533.119\0Default\0", "chrome@127.0.6533.119"),
    ("jq", b"\x001.7.1\0DEBUG:", "jq@1.7.1"),
    ("gzip", b"%s: not in gzip format\n\0 bad\x001.12\0", "gzip@1.12"),
    ("libstd-0123456789abcdef.so", b"clang LLVM (rustc version 1.48.0 (7eac88abb 2020-11-16))", "rust@1.48.0"),
    ("application.ini", b"[App]\nName=Firefox\nVersion=151.0\n", "firefox@151.0"),
];

#[test]
fn releases_tell_their_versions() {
    for (file_name, bytes, expected) in RELEASES {
        assert!(wants(file_name.as_bytes()), "{file_name}");
        assert_eq!(versions(file_name, bytes), [*expected], "{file_name}");
    }
    let legacy = b"-cluster-gpl\x005.7.33-ndb-7.6.17\0";
    assert_eq!(versions("mysqld", legacy), ["mysql-server@5.7.33", "mysql-cluster@7.6.17"]);
}

#[test]
fn what_only_looks_like_a_version_is_none() {
    for (file_name, bytes) in [
        ("python3", &b"\x003.0.2\0"[..]),
        ("python3.11", b"\x003.10.2\0"),
        ("bash", b"@(#)Bash version x"),
        ("libz.so.1", b" deflate 99999999999999.1 Copyright"),
        ("gzip", b"BusyBox v1.36.1\x001.12\0"),
        ("redis-server", b"-000000000\0"),
        ("nginx", b"nginx version: "),
    ] {
        assert_eq!(versions(file_name, bytes), Vec::<String>::new(), "{file_name}");
    }
    for other in ["cat", "python-config", "libnothing.so", "phpize", "", "release", "noded"] {
        assert!(!wants(other.as_bytes()), "{other}");
    }
}

#[test]
fn release_files_of_java_runtimes_are_told() {
    let text = b"IMPLEMENTOR=\"Eclipse Adoptium\"\nJAVA_RUNTIME_VERSION=\"25.0.3+9-LTS\"\nJAVA_VERSION=\"25.0.3\"\nOS_ARCH=\"x86_64\"\n";
    let found = catalog_release(Content::memory(text));
    assert_eq!(told(&found), ["openjdk@25.0.3+9-LTS"]);
    assert_eq!(found.components[0].architecture.as_deref(), Some("x86_64"));
    assert_eq!(
        told(&catalog_release(Content::memory(b"JAVA_VERSION=\"1.8.0_412\"\nOS_NAME=\"Linux\"\n"))),
        ["openjdk@1.8.0_412"]
    );
    assert_eq!(catalog_release(Content::memory(b"VERSION=12\n")), Found::default());
    assert_eq!(catalog_release(Content::memory(&[b'x'; 70_000])), Found::default());
}

proptest! {
    /// A version string is found wherever in a file it stands.
    #[test]
    fn a_version_is_found_across_windows(at in 0usize..600 * 1024, which in 0..RELEASES.len()) {
        let (file_name, text, expected) = RELEASES[which];
        let mut bytes = vec![0xffu8; 600 * 1024];
        bytes.splice(at..at, text.iter().copied());
        prop_assert_eq!(versions(file_name, &bytes), [expected]);
    }

    #[test]
    fn a26_any_bytes_are_searched(
        which in 0..RELEASES.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        repeat in 1usize..40,
    ) {
        let (file_name, text, _) = RELEASES[which];
        let mut bytes = text.repeat(repeat);
        for (place, value) in changes {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        let found = catalog_versions(file_name.as_bytes(), Content::memory(&bytes));
        prop_assert!(found.components.iter().all(|component| component.version.len() <= 64));
    }

    #[test]
    fn a26_any_notes_are_walked(bytes in prop::collection::vec(any::<u8>(), 0..200), size in any::<u32>()) {
        let mut note = vec![4, 0, 0, 0];
        note.extend(size.to_le_bytes());
        note.extend(bytes);
        let _ = notes::walk(&note, executable::Endian::Little, &mut Notes::default());
        let _ = notes::walk(&note, executable::Endian::Big, &mut Notes::default());
    }
}

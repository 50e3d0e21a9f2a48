//! What systems say of themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn told(path: &str, text: &str) -> Result<(OsRelease, Option<Error>), Error> {
    assert!(wants(path.as_bytes()));
    read(path.as_bytes(), Content::memory(text.as_bytes()))
}

fn line(release: &OsRelease) -> String {
    let or = |value: &Option<String>| value.clone().unwrap_or("-".to_owned());
    let (version, codename, pretty) = (or(&release.version_id), or(&release.codename), or(&release.pretty_name));
    format!("{}|{version}|{codename}|{pretty}|{}", release.id, release.id_like.join(","))
}

#[test]
fn each_file_names_its_system() {
    for (path, text, expected) in [
        (
            "etc/os-release",
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n\
             VERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n",
            "debian|12|bookworm|Debian GNU/Linux 12 (bookworm)|",
        ),
        (
            "usr/lib/os-release",
            "# comment\r\nNAME='Rocky Linux'\r\n\r\nID=\"rocky\"\r\nID_LIKE=\"rhel centos fedora\"\r\nVERSION_ID=\"9.3\"",
            "rocky|9.3|-|Rocky Linux|rhel,centos,fedora",
        ),
        ("etc/os-release", "NAME=x\n", "linux|-|-|x|"),
        ("etc/os-release", "ID=a\nID=b\nPRETTY_NAME=\"a \\\"b\\\" \\$c \\x\"\n", "b|-|-|a \"b\" $c \\x|"),
        ("etc/alpine-release", "3.19.1\n", "alpine|3.19.1|-|Alpine Linux v3.19.1|"),
        ("etc/debian_version", "12.5\n", "debian|12|-|Debian GNU/Linux 12.5|"),
        ("etc/debian_version", "trixie/sid\n", "debian|-|trixie|Debian GNU/Linux trixie/sid|"),
        (
            "etc/redhat-release",
            "CentOS Linux release 7.9.2009 (Core)\n",
            "centos|7.9.2009|Core|CentOS Linux release 7.9.2009 (Core)|",
        ),
        (
            "etc/redhat-release",
            "Red Hat Enterprise Linux release 8.9 (Ootpa)",
            "rhel|8.9|Ootpa|Red Hat Enterprise Linux release 8.9 (Ootpa)|",
        ),
        ("etc/redhat-release", "Other OS release 5\n", "other|5|-|Other OS release 5|"),
    ] {
        let (release, broken) = told(path, text).unwrap();
        assert_eq!((line(&release).as_str(), broken), (expected, None));
    }
}

#[test]
fn what_a_shell_would_read_otherwise_is_told_and_the_rest_is_read() {
    for broken in [
        "NAME=\"open",
        "NAME=$OTHER",
        "NAME=`id`",
        "NAME=a b",
        "NAME=\"a\"b",
        "nonsense",
        "NA ME=a",
        "NAME='a'b'",
        "NAME=a\\",
    ] {
        let (release, why) = told("etc/os-release", &format!("ID=debian\n{broken}\nVERSION_ID=12\n")).unwrap();
        assert_eq!((line(&release).as_str(), why), ("debian|12|-|-|", Some(Error::Line { line: 2 })), "{broken}");
    }
    assert_eq!(told("etc/os-release", ""), Err(Error::Nothing));
    assert_eq!(told("etc/os-release", "nonsense\n"), Err(Error::Line { line: 1 }));
    assert_eq!(told("etc/debian_version", "<html>\n"), Err(Error::Nothing));
    assert_eq!(told("etc/redhat-release", "\n"), Err(Error::Nothing));
    let long = format!("ID={}\nVERSION_ID=1\n", "x".repeat(VALUE_BYTES_MAX + 1));
    assert_eq!(told("etc/os-release", &long).unwrap().1, Some(Error::TooLong { line: 1 }));
    let large = "#".repeat(BYTES_MAX + 1);
    assert_eq!(told("etc/os-release", &large), Err(Error::Read { kind: io::ErrorKind::FileTooLarge }));
    let bytes = read(b"etc/os-release", Content::memory(b"ID=\xff"));
    assert_eq!(bytes, Err(Error::Text));
}

#[test]
fn the_file_in_etc_counts_before_the_others() {
    assert!(rank(b"etc/os-release") < rank(b"usr/lib/os-release"));
    assert!(rank(b"usr/lib/os-release") < rank(b"etc/debian_version"));
    assert_eq!(rank(b"etc/hostname"), None);
}

proptest! {
    /// Whatever the value, quoted as os-release(5) says it comes back.
    #[test]
    fn quoting_is_undone(value in "[ -~é]{0,30}") {
        let escaped: String = value
            .chars()
            .flat_map(|char| matches!(char, '$' | '"' | '\\' | '`').then_some('\\').into_iter().chain([char]))
            .collect();
        let double = format!("\"{escaped}\"");
        prop_assert_eq!(unquote(&double), Some(value.clone()));
        if !value.contains('\'') {
            let single = format!("'{value}'");
            prop_assert_eq!(unquote(&single), Some(value));
        }
    }

    #[test]
    fn a26_text_at_random_never_panics(bytes: Vec<u8>, text in "((ID|NAME|#|=|\"|'|\\\\|\\$|a|\n| ){0,30})") {
        for path in FILES {
            let _ = read(path, Content::memory(&bytes));
            let _ = read(path, Content::memory(text.as_bytes()));
        }
    }
}

//! What a path says of the file's contents.

/// What the path of a file says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// It lies among tests, examples or documentation.
    pub(super) is_test: bool,
    /// Its lines are settings: names and values without quotes.
    pub(super) is_settings: bool,
    /// It is Git's store of logins.
    pub(super) is_git_credentials: bool,
    /// It is a `.netrc`.
    pub(super) is_netrc: bool,
    /// It is a `.pgpass`.
    pub(super) is_pgpass: bool,
}

/// How the names of folders begin whose files are no one's own.
const TEST_FOLDERS: &[&[u8]] =
    &[b"test", b"example", b"fixture", b"doc", b"demo", b"mock", b"sample", b"spec", b"__test", b"selftest"];

/// How the names of files end whose lines are settings.
const SETTINGS: &[&[u8]] = &[
    b".env",
    b".ini",
    b".cfg",
    b".conf",
    b".config",
    b".properties",
    b".yaml",
    b".yml",
    b".toml",
    b".envrc",
    b".tfvars",
    b".npmrc",
    b".pypirc",
    b".cnf",
    b"credentials",
    b".my.cnf",
    b"Dockerfile",
];

impl Place {
    pub(super) fn of(path: &[u8]) -> Self {
        let mut parts = path.rsplit(|byte| *byte == b'/');
        let name = parts.next().unwrap_or_default();
        let is_test_part = |part: &[u8]| {
            TEST_FOLDERS
                .iter()
                .any(|start| part.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start)))
        };
        Self {
            is_test: parts.any(is_test_part) || is_test_name(name),
            is_settings: SETTINGS.iter().any(|end| name.ends_with(end)) || name.starts_with(b".env"),
            is_git_credentials: name == b".git-credentials" || path.ends_with(b"git/credentials"),
            is_netrc: matches!(name, b".netrc" | b"_netrc"),
            is_pgpass: matches!(name, b".pgpass" | b"pgpass.conf"),
        }
    }
}

/// `test_x.py`, `x_test.go`, `x.spec.js`.
fn is_test_name(name: &[u8]) -> bool {
    let marks: [&[u8]; 3] = [b"_test.", b".test.", b".spec."];
    name.starts_with(b"test_") || marks.iter().any(|mark| memchr::memmem::find(name, mark).is_some())
}

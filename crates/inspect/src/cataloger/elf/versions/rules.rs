//! The programs that are known by their version strings. The strings were found in the programs' public releases.

use super::search::Place::{self, After, Before, BeforeSkip, BeforeText, Host, In, Lead, SecondText, Skip, Within};
use super::shape::End::{self, Any, Apart, One};
use super::shape::Shape;
use super::shape::Suffix::{self, Letters, Tags, Word};

/// A program.
pub(super) struct Rule {
    /// Its name in findings.
    pub(super) product: &'static str,
    /// The names of its files.
    pub(super) names: &'static [Name],
    /// Of the rules of one family that fit a file, only the first is told.
    pub(super) family: &'static str,
    /// Bytes that must stand anywhere in the file.
    pub(super) requires: &'static [u8],
    /// What its version stands beside, best first.
    pub(super) signatures: &'static [Signature],
}

/// The name of a file.
pub(super) enum Name {
    /// The whole.
    Is(&'static str),
    /// How it begins.
    Begins(&'static str),
    /// How it begins and what it has after that: the suffix of libraries, usually.
    Has(&'static str, &'static str),
    /// A program's name that a version may follow.
    Versioned(&'static str),
}

/// What a version stands beside.
pub(super) struct Signature {
    /// Empty where the file's name makes it.
    pub(super) anchor: &'static [u8],
    pub(super) place: Place,
    pub(super) shape: Shape,
    /// One of these must stand soon after the version; any text will do where there is none.
    pub(super) near: &'static [&'static [u8]],
}

impl Name {
    pub(super) fn first(&self) -> u8 {
        let (Self::Is(text) | Self::Begins(text) | Self::Has(text, _) | Self::Versioned(text)) = self;
        text.bytes().next().unwrap_or_default()
    }

    pub(super) fn fits(&self, file_name: &[u8]) -> bool {
        let rest = |begin: &str| file_name.strip_prefix(begin.as_bytes());
        match self {
            Self::Is(name) => file_name == name.as_bytes(),
            Self::Begins(begin) => rest(begin).is_some(),
            Self::Has(begin, text) => {
                rest(begin).is_some_and(|rest| memchr::memmem::find(rest, text.as_bytes()).is_some())
            }
            Self::Versioned(begin) => {
                rest(begin).is_some_and(|rest| rest.iter().all(|byte| byte.is_ascii_digit() || b".-".contains(byte)))
            }
        }
    }
}

const fn rule(product: &'static str, names: &'static [Name], signatures: &'static [Signature]) -> Rule {
    Rule { product, names, family: product, requires: b"", signatures }
}

const fn of(family: &'static str, rule: Rule) -> Rule {
    Rule { family, ..rule }
}

const fn requires(requires: &'static [u8], rule: Rule) -> Rule {
    Rule { requires, ..rule }
}

const fn at(anchor: &'static [u8], place: Place, numbers: (usize, usize), suffix: Suffix, end: End) -> Signature {
    Signature { anchor, place, shape: Shape { numbers, suffix, end }, near: &[] }
}

/// Three numbers after the anchor, which is most programs.
const fn after(anchor: &'static [u8]) -> Signature {
    at(anchor, After, (3, 3), Suffix::None, Apart)
}

const NUL: End = One(b"\0");
const PRE: Suffix =
    Tags(&["-alpha", "-beta", "-rc", "-alpha.", "-beta.", "-rc.", "-dev", "-dev.", "alpha", "beta", "rc"]);
const PHP_PRE: Suffix = Tags(&["alpha", "beta", "RC"]);
/// Names of one family of programs that share their strings.
const MYSQL: &[Name] = &[Name::Is("mysql"), Name::Is("mysqld"), Name::Is("mysqldump"), Name::Is("mysqladmin")];
const MARIADB: &[Name] = &[
    Name::Is("mysql"),
    Name::Is("mysqld"),
    Name::Is("mariadb"),
    Name::Is("mariadbd"),
    Name::Is("mariadb-dump"),
    Name::Is("mariadb-admin"),
];
const NDB: &[Name] = &[Name::Is("mysqld"), Name::Is("ndbd"), Name::Is("ndbmtd"), Name::Is("ndb_mgmd")];
const ERLANG: &[Name] = &[Name::Is("erlexec"), Name::Is("beam.smp"), Name::Is("liberts_internal.a")];
const OPENSSL: &[Name] = &[Name::Is("openssl"), Name::Has("libcrypto", ".so"), Name::Has("libssl", ".so")];
const JAVA: &[Name] =
    &[Name::Is("java"), Name::Is("javac"), Name::Is("jdb"), Name::Is("libjvm.so"), Name::Is("libjli.so")];
const PHP: &[Signature] = &[at(b"X-Powered-By: PHP/", After, (3, 3), PHP_PRE, Apart)];
const ENVOY_NEAR: &[&[u8]] =
    &[b"envoy_", b"envoy.", b"envoy/", b"envoy:", b"Unable to", b"ValidationError", b"RELEASE", b"TLS client"];

pub(super) const RULES: &[Rule] = &[
    // Interpreters and runtimes.
    rule("python", &[Name::Versioned("python"), Name::Has("libpython", ".so")], &[at(b"", In(1), (3, 3), Word, NUL)]),
    rule("pypy", &[Name::Has("libpypy", ".so")], &[after(b"[PyPy ")]),
    rule(
        "node",
        &[Name::Is("node"), Name::Is("nodejs"), Name::Has("libnode", ".so")],
        &[
            after(b"node.js/v"),
            at(b"\0node v", After, (3, 3), Suffix::None, NUL),
            at(b"\0v0.", In(2), (3, 3), Suffix::None, NUL),
            at(b"\0v4.", In(2), (3, 3), Suffix::None, NUL),
            at(b"\0v5.", In(2), (3, 3), Suffix::None, NUL),
            at(b"\0v6.", In(2), (3, 3), Suffix::None, NUL),
        ],
    ),
    rule(
        "deno",
        &[Name::Is("deno")],
        &[
            after(b"Deno/"),
            at(b"deno-canary/", Skip(40), (3, 3), Suffix::None, Apart),
            at(b"release/v", After, (3, 3), Suffix::None, Apart),
            at(b"deno-", Skip(40), (3, 3), Suffix::None, Apart),
            at(b"DENO", BeforeSkip(40), (3, 3), Suffix::None, Apart),
        ],
    ),
    rule(
        "bun",
        &[Name::Is("bun")],
        &[after(b"Bun v"), after(b"bun v"), after(b"bun "), after(b"bun-v"), after(b"bun-")],
    ),
    rule(
        "dart",
        &[Name::Is("dart")],
        &[
            at(b" (stable)", BeforeText, (3, 3), Suffix::None, Apart),
            at(b" (beta)", BeforeText, (3, 3), Word, Any),
            at(b" (dev)", BeforeText, (3, 3), Word, Any),
        ],
    ),
    rule("php-cli", &[Name::Versioned("php"), Name::Versioned("php-cgi")], PHP),
    rule("php-fpm", &[Name::Begins("php-fpm")], PHP),
    rule("libphp", &[Name::Has("libphp", ".so")], PHP),
    rule(
        "perl",
        &[Name::Versioned("perl"), Name::Has("libperl", ".so")],
        &[after(b"/lib/perl5/"), after(b"/perl5/site_perl/"), after(b"/perl/")],
    ),
    rule(
        "ruby",
        &[Name::Versioned("ruby"), Name::Has("libruby", ".so")],
        &[at(b"ruby ", After, (3, 3), Tags(&["p", "preview", "rc", "dev"]), One(b" "))],
    ),
    of(
        "lua",
        rule(
            "luajit",
            &[Name::Begins("luajit"), Name::Has("libluajit", ".so")],
            &[at(b"LuaJIT ", After, (3, 3), Tags(&["-beta", "-rolling", "."]), Apart)],
        ),
    ),
    of(
        "lua",
        rule(
            "lua",
            &[Name::Versioned("lua"), Name::Versioned("luac"), Name::Has("liblua", ".so")],
            &[
                at(b"$LuaVersion: Lua ", After, (2, 3), Suffix::None, Apart),
                at(b"$Lua: Lua ", After, (2, 3), Suffix::None, Apart),
            ],
        ),
    ),
    rule(
        "erlang",
        ERLANG,
        &[
            at(b"/src/otp_src_", After, (2, 5), PRE, One(b"/")),
            at(b"/src/otp-", After, (2, 5), PRE, One(b"/")),
            at(b"Erlang/OTP", BeforeText, (2, 5), PRE, Apart),
            at(b"Erlang/OTP ", Within(200, 0), (2, 5), PRE, NUL),
        ],
    ),
    rule("elixir", &[Name::Is("elixir")], &[at(b"ELIXIR_VERSION=", After, (3, 3), PRE, Apart)]),
    rule("elixir", &[Name::Is("elixir.app")], &[at(b"{vsn,\"", After, (3, 3), PRE, One(b"\""))]),
    rule("swipl", &[Name::Is("swipl")], &[at(b"swipl-", After, (3, 3), Suffix::None, One(b"/"))]),
    rule(
        "julia",
        &[Name::Has("libjulia", ".so"), Name::Is("julia")],
        &[
            at(b"\0__init__\0", After, (3, 3), PRE, NUL),
            at(b"\0branch\0", Before, (3, 3), PRE, Any),
            at(b"\0verify_methods\0", Within(40, 0), (3, 3), PRE, NUL),
            at(b"\0julia version", BeforeText, (3, 3), PRE, Any),
            at(b"\0#kw#\0", After, (3, 3), PRE, NUL),
            at(b"\0ObjectIdDict\0", After, (3, 3), PRE, NUL),
            at(b"\0require\0", After, (3, 3), PRE, NUL),
        ],
    ),
    of("java", rule("graalvm", JAVA, &[at(b"-jvmci-", Lead(b"\0", 40), (3, 4), Word, NUL)])),
    of(
        "java",
        rule(
            "openjdk",
            JAVA,
            &[
                at(b"\0openjdk\0java\0", SecondText, (3, 7), Word, NUL),
                at(b"openjdk\0java", BeforeText, (3, 7), Word, Any),
                at(b"-amd64 JRE (", After, (3, 7), Word, One(b")")),
                at(b"-aarch64 JRE (", After, (3, 7), Word, One(b")")),
                at(b"\0openjdk\0", Within(600, 0), (3, 7), Tags(&["+"]), NUL),
            ],
        ),
    ),
    of("java", requires(b"openjdk", rule("openjdk", JAVA, &[at(b"\0", After, (3, 7), Tags(&["+", "+-"]), NUL)]))),
    of("java", rule("jre", &[Name::Is("java")], &[at(b"\0", After, (3, 7), Word, NUL)])),
    of("java", rule("jdk", &[Name::Is("jdb"), Name::Is("javac")], &[at(b"\0", After, (3, 7), Word, NUL)])),
    rule(
        "rust",
        &[Name::Has("libstd-", ".so"), Name::Has("libstd-", ".dylib"), Name::Begins("librustc_driver-")],
        &[
            at(b"rustc version ", After, (3, 3), Suffix::None, One(b" ")),
            at(b"c ", After, (3, 3), Suffix::None, One(b" ")),
        ],
    ),
    rule(
        "haskell/ghc",
        &[Name::Begins("ghc")],
        &[at(b"\0GHC ", After, (3, 3), Suffix::None, NUL), at(b"\0libHSghc-", After, (3, 3), Suffix::None, One(b"-"))],
    ),
    rule(
        "haskell/cabal",
        &[Name::Is("cabal")],
        &[
            at(b"\0Cabal-", After, (3, 4), Suffix::None, One(b"-")),
            at(b"cabal-install-", After, (3, 4), Suffix::None, One(b"-")),
        ],
    ),
    rule(
        "haskell/stack",
        &[Name::Is("stack")],
        &[at(b", Git", Lead(b"Version ", 32), (3, 3), Suffix::None, One(b","))],
    ),
    rule(
        "composer",
        &[Name::Begins("composer")],
        &[at(b"'pretty_version'", Within(16, b'\''), (3, 3), PHP_PRE, One(b"'"))],
    ),
    rule("wp-cli", &[Name::Is("wp")], &[after(b"wp-cli/wp-cli ")]),
    // Databases and caches.
    rule(
        "redis",
        &[Name::Is("redis-server"), Name::Is("redis-cli"), Name::Is("redis-sentinel")],
        &[
            at(b"buildkitsandbox-", Before, (3, 3), Suffix::None, Apart),
            at(b"000000000\0", Host, (3, 3), Suffix::None, Apart),
            after(b"Redis version "),
        ],
    ),
    rule(
        "valkey",
        &[Name::Is("valkey-server"), Name::Is("valkey-cli")],
        &[
            at(b"buildkitsandbox-", Before, (3, 3), Suffix::None, Apart),
            at(b"000000000\0", Host, (3, 3), Suffix::None, Apart),
        ],
    ),
    rule("memcached", &[Name::Is("memcached")], &[after(b"memcached ")]),
    rule(
        "postgresql",
        &[Name::Is("postgres")],
        &[at(b"\0PostgreSQL ", After, (1, 3), PRE, Apart), at(b"?PostgreSQL ", After, (1, 3), PRE, Apart)],
    ),
    of(
        "mysql",
        rule(
            "mariadb",
            MARIADB,
            &[at(b"-MariaDB", Before, (3, 3), PRE, Apart), at(b"/mariadb-", After, (3, 3), PRE, One(b"-"))],
        ),
    ),
    of("mysql", rule("percona-server", MYSQL, &[at(b"/percona-server-", After, (3, 3), PRE, Apart)])),
    of("mysql", rule("percona-xtradb-cluster", MYSQL, &[at(b"/Percona-XtraDB-Cluster-", After, (3, 3), PRE, Apart)])),
    rule("mysql-server", &[Name::Is("mysqld")], &[at(b"-cluster-gpl\0", After, (3, 3), Suffix::None, One(b"-"))]),
    of(
        "mysql",
        rule(
            "mysql-cluster",
            NDB,
            &[
                at(b"/mysql-cluster-gpl-", After, (3, 3), PRE, One(b"/")),
                at(b"-ndb-", After, (3, 3), Suffix::None, NUL),
            ],
        ),
    ),
    of("mysql", rule("mysql-server", &[Name::Is("mysqld")], &[at(b"/mysql-", After, (3, 3), PRE, One(b"/"))])),
    of(
        "mysql",
        rule(
            "mysql",
            MYSQL,
            &[at(b"/mysql-", After, (3, 3), PRE, One(b"/-")), at(b"mysql", BeforeText, (3, 3), PRE, Apart)],
        ),
    ),
    rule("percona-xtrabackup", &[Name::Is("xtrabackup")], &[at(b"/percona-xtrabackup-", After, (3, 3), PRE, Apart)]),
    rule(
        "mongodb",
        &[Name::Is("mongod"), Name::Is("mongos")],
        &[
            at(b"tcmalloc", Before, (3, 3), PRE, Apart),
            at(b"heap_size", Before, (3, 3), PRE, Apart),
            at(b"cppdefines", Before, (3, 3), PRE, Apart),
        ],
    ),
    rule(
        "arangodb",
        &[Name::Is("arangosh"), Name::Is("arangod")],
        &[
            at(b" [linux]", Before, (3, 3), Tags(&["-"]), Apart),
            at(b" enterprise [linux]", Before, (3, 3), Tags(&["-"]), Apart),
        ],
    ),
    requires(
        b"SQLite format 3",
        rule("sqlcipher", &[Name::Is("sqlcipher")], &[at(b"\0", After, (3, 3), Suffix::None, NUL)]),
    ),
    requires(
        b"SQLite format 3",
        rule(
            "sqlite",
            &[Name::Is("sqlite3"), Name::Has("libsqlite3", ".so")],
            &[at(b"\x003.", In(1), (3, 4), Suffix::None, NUL)],
        ),
    ),
    // Servers and proxies.
    rule(
        "nginx",
        &[Name::Is("nginx"), Name::Is("openresty")],
        &[at(b"nginx version: ", Within(48, b'/'), (3, 3), Suffix::None, Any)],
    ),
    rule("httpd", &[Name::Is("httpd"), Name::Is("apache2")], &[after(b"Apache/")]),
    rule("lighttpd", &[Name::Is("lighttpd")], &[at(b"\0lighttpd/", After, (3, 3), Suffix::None, NUL)]),
    rule("proftpd", &[Name::Is("proftpd")], &[at(b"\0ProFTPD Version ", After, (3, 3), Letters, NUL)]),
    rule(
        "haproxy",
        &[Name::Is("haproxy")],
        &[
            at(b", released 20", Lead(b"version ", 48), (2, 3), Tags(&["-dev", "-rc"]), Any),
            at(b"HA-Proxy version ", After, (2, 3), Tags(&["-dev"]), Any),
            at(b"HAProxy version", BeforeText, (2, 3), Tags(&["-dev"]), Any),
        ],
    ),
    rule(
        "envoy",
        &[Name::Is("envoy")],
        &[
            Signature { near: ENVOY_NEAR, ..at(b"\x001.", In(1), (3, 3), Tags(&["-dev"]), NUL) },
            Signature { near: &[], ..at(b"envoy_quic_", Within(1000, 0), (3, 3), Tags(&["-dev"]), NUL) },
            Signature { near: &[], ..at(b"[source/", Within(220, 0), (3, 3), Tags(&["-dev"]), NUL) },
        ],
    ),
    rule(
        "fluent-bit",
        &[Name::Is("fluent-bit")],
        &[
            at(b"%sFluent Bit", BeforeText, (3, 3), Suffix::None, Apart),
            at(b"Fluent Bit", BeforeText, (3, 3), Suffix::None, Apart),
            at(b"\x1b[1m\0%sFluent", BeforeText, (3, 3), Suffix::None, Apart),
        ],
    ),
    rule(
        "openldap",
        &[Name::Begins("ldap"), Name::Is("slapd")],
        &[at(b"$OpenLDAP: ", Within(32, b' '), (3, 3), Suffix::None, Apart)],
    ),
    rule("krb5", &[Name::Has("libkrb5", ".so")], &[at(b"KRB5_BRAND: krb5-", After, (2, 3), Suffix::None, One(b"-"))]),
    rule(
        "heimdal-krb5",
        &[Name::Has("libkrb5", ".so")],
        &[at(b"$Version: Heimdal ", After, (2, 3), Suffix::None, Apart)],
    ),
    rule("openssh", &[Name::Is("sshd"), Name::Is("ssh")], &[at(b"OpenSSH_", After, (2, 2), Tags(&["p"]), Apart)]),
    // Libraries.
    of("openssl", rule("aws-lc", OPENSSL, &[at(b"AWS-LC ", After, (3, 3), Suffix::None, One(b")"))])),
    of("openssl", rule("libressl", OPENSSL, &[after(b"\0LibreSSL ")])),
    of(
        "openssl",
        rule(
            "openssl",
            OPENSSL,
            &[
                at(b"\0OpenSSL ", After, (3, 3), Tags(&["-alpha", "-beta", "-pre"]), One(b" -+\0")),
                at(b"\0OpenSSL ", After, (3, 3), Letters, Apart),
            ],
        ),
    ),
    rule(
        "zlib",
        &[Name::Has("libz", ".so")],
        &[
            at(b" deflate ", After, (2, 4), Suffix::None, One(b" ")),
            at(b" inflate ", After, (2, 4), Suffix::None, One(b" ")),
        ],
    ),
    requires(
        b"GNU C Library",
        rule(
            "glibc",
            &[Name::Is("libc.so.6"), Name::Has("libc-2", ".so")],
            &[at(b"release version ", After, (2, 3), Suffix::None, Apart)],
        ),
    ),
    requires(
        b"musl libc",
        rule(
            "musl",
            &[Name::Has("ld-musl-", ".so"), Name::Has("libc.musl-", ".so")],
            &[at(b"\x001.", In(1), (3, 3), Suffix::None, NUL)],
        ),
    ),
    of("curl", rule("curl", &[Name::Is("curl")], &[after(b"curl/"), after(b"\0curl ")])),
    of("curl", rule("curl", &[Name::Has("libcurl", ".so")], &[after(b"libcurl/")])),
    rule("xz", &[Name::Is("xz")], &[at(b"\0xz (XZ Utils) ", After, (3, 3), Tags(&["alpha", "beta"]), NUL)]),
    rule("xz", &[Name::Has("liblzma", ".so")], &[at(b"", In(1), (3, 3), Tags(&["alpha", "beta"]), NUL)]),
    rule(
        "qtbase",
        &[Name::Has("libQt", "Core.so")],
        &[at(b"\0\0Qt ", After, (3, 3), Suffix::None, One(b" ")), after(b"QtCore library version ")],
    ),
    rule(
        "ffmpeg",
        &[Name::Is("ffmpeg"), Name::Is("ffprobe")],
        &[at(b"%s version ", After, (2, 3), Suffix::None, Apart)],
    ),
    rule(
        "ffmpeg",
        &[Name::Begins("libav"), Name::Begins("libswresample"), Name::Begins("libswscale")],
        &[at(b"FFmpeg version ", After, (2, 3), Suffix::None, Apart)],
    ),
    // Tools.
    rule("busybox", &[Name::Begins("busybox")], &[after(b"BusyBox v")]),
    rule("bash", &[Name::Is("bash")], &[at(b"@(#)Bash version ", After, (3, 3), Suffix::None, One(b"("))]),
    rule(
        "util-linux",
        &[Name::Is("getopt"), Name::Is("mount"), Name::Is("lsblk")],
        &[at(b"\0util-linux ", After, (2, 3), Suffix::None, NUL)],
    ),
    rule("gcc", &[Name::Versioned("gcc")], &[after(b"GCC: (GNU) ")]),
    requires(b"Zstandard", rule("zstd", &[Name::Is("zstd")], &[at(b"\0v", After, (3, 3), Suffix::None, NUL)])),
    requires(b"not in gzip format", rule("gzip", &[Name::Is("gzip")], &[at(b"\0", After, (2, 2), Suffix::None, NUL)])),
    rule("jq", &[Name::Is("jq")], &[at(b"\0", After, (2, 3), Suffix::None, NUL)]),
    rule(
        "chrome",
        &[Name::Is("chrome"), Name::Is("chromium")],
        &[at(b"\0Default", BeforeText, (4, 4), Suffix::None, Any)],
    ),
    requires(
        b"Name=Firefox",
        rule("firefox", &[Name::Is("application.ini")], &[at(b"\nVersion=", After, (2, 4), Word, Apart)]),
    ),
];

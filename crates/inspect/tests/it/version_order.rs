//! The version orders against each ecosystem's own tool: thousands of pairs in one call of the tool.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Ordering;
use std::io::Write;
use std::process::{Command, Stdio};

use inspect::version::Scheme;

/// xorshift64*, so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from((self.next() >> 33) % limit as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Versions are put together from parts: first ones and others. Of a pair, the second is mostly a small change of the
/// first, because versions that have nothing in common test little.
struct Grammar {
    first: &'static [&'static str],
    parts: &'static [&'static str],
    most_parts: usize,
}

impl Grammar {
    fn version(&self, random: &mut Random) -> Vec<&'static str> {
        let mut parts = vec![random.pick(self.first)];
        for _ in 0..random.below(self.most_parts + 1) {
            parts.push(random.pick(self.parts));
        }
        parts
    }

    fn changed(&self, random: &mut Random, parts: &[&'static str]) -> Vec<&'static str> {
        let mut parts = parts.to_vec();
        let at = random.below(parts.len() + 1);
        match random.below(4) {
            0 if at > 0 && at < parts.len() => drop(parts.remove(at)),
            1 if at > 0 && at < parts.len() => parts[at] = random.pick(self.parts),
            2 => parts[0] = random.pick(self.first),
            3 if at > 0 => parts.truncate(at),
            _ => parts.insert(at.max(1), random.pick(self.parts)),
        }
        parts
    }

    fn pairs(&self, seed: u64, count: usize) -> Vec<(String, String)> {
        let mut random = Random(seed);
        (0..count)
            .map(|_| {
                let first = self.version(&mut random);
                let second =
                    if random.below(5) == 0 { self.version(&mut random) } else { self.changed(&mut random, &first) };
                (first.concat(), second.concat())
            })
            .collect()
    }
}

/// Runs a tool once with these lines as input, and gives its lines.
fn run(mut command: Command, install: &str, input: &str) -> Vec<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start ({error}); install {install}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && written.is_ok(), "{name} failed; is {install} installed?\n{errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn lines(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(a, b)| format!("{a}\t{b}\n")).collect()
}

fn program(name: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

/// Holds the order against what the tool said of each pair: `-1`, `0`, `1`, or `E` where it is no version to the tool.
/// `differs` names the pairs of which the tool's order is known to be no order.
fn check(scheme: Scheme, pairs: &[(String, String)], said: &[String], differs: impl Fn(&str) -> bool) {
    assert_eq!(pairs.len(), said.len(), "the tool did not answer for every pair");
    let mut counts = [0; 4];
    let mut wrong = Vec::new();
    let mut excused = 0;
    for ((a, b), said) in pairs.iter().zip(said) {
        let expected = match said.as_str() {
            "-1" => Ordering::Less,
            "0" => Ordering::Equal,
            "1" => Ordering::Greater,
            "E" => {
                counts[3] += 1;
                continue;
            }
            other => panic!("the tool said {other:?} of {a} and {b}"),
        };
        counts[usize::try_from(expected as i8 + 1).unwrap()] += 1;
        let found = scheme.compare(a, b);
        if found.as_ref() == Ok(&expected) {
            continue;
        }
        if differs(a) || differs(b) {
            excused += 1;
        } else {
            wrong.push(format!("{a} {b}: {found:?}, the tool says {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} pairs differ:\n{}",
        wrong.len(),
        pairs.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    let [less, equal, greater, refused] = counts;
    let answered = less + equal + greater;
    assert!(
        less > answered / 10
            && greater > answered / 10
            && equal > answered / 100
            && answered > 1500
            && excused < answered / 10,
        "the pairs test little: {less} less, {equal} equal, {greater} greater, {refused} refused, {excused} excused"
    );
}

const HUGE: &str = "123456789012345678901234567890";

#[test]
fn dpkg() {
    let grammar = Grammar {
        first: &["0", "1", "01", "1:1", "0:1", "00:1", "2:0", "1.0", "1.2.3", "10", HUGE],
        parts: &[
            "~",
            "~~",
            "~rc1",
            "+",
            ".",
            "-",
            "-0",
            "-1",
            "-1ubuntu1",
            ".0",
            ".00",
            "a",
            "Z",
            "z",
            "0",
            "00",
            "9",
            "+b1",
            "+dfsg",
            "~bpo12+1",
            ":2",
            HUGE,
            "000000000000000000000000000001",
        ],
        most_parts: 4,
    };
    let pairs = grammar.pairs(1, 2000);
    let script = r#"while IFS="$(printf '\t')" read -r a b; do
        if ! dpkg --validate-version "$a" || ! dpkg --validate-version "$b"; then echo E
        elif dpkg --compare-versions "$a" lt "$b"; then echo -1
        elif dpkg --compare-versions "$a" eq "$b"; then echo 0
        else echo 1; fi 2>/dev/null
    done"#;
    let said = run(program("sh", &["-c", script]), "dpkg", &lines(&pairs));
    check(Scheme::Dpkg, &pairs, &said, |_| false);
}

#[test]
fn rpm() {
    let grammar = Grammar {
        first: &["0", "1", "01", "1:1", "0:1", "00:1", "a", "1.0", "1.2.3", "10", HUGE, "~1", "^1", ":1"],
        parts: &[
            "~",
            "~~",
            "~rc1",
            "^",
            "^^",
            "^git1",
            "+",
            ".",
            "_",
            "-0",
            "-1",
            "-1.el9",
            "-1.el9_4",
            "-1.el10",
            ".0",
            ".00",
            "a",
            "Z",
            "z",
            "ab",
            "0",
            "00",
            "9",
            HUGE,
            "000000000000000000000000000001",
        ],
        most_parts: 4,
    };
    let pairs = grammar.pairs(2, 6000);
    let script = r#"%{lua: for line in io.lines() do
        local a, b = line:match("^(.-)\t(.*)$")
        io.write(rpm.vercmp(a, b), "\n")
    end}"#;
    let said = run(program("rpm", &["--eval", script]), "the Debian package rpm", &lines(&pairs));
    let said: Vec<String> = said.into_iter().filter(|line| !line.is_empty()).collect();
    check(Scheme::Rpm, &pairs, &said, |_| false);
}

#[test]
fn maven() {
    let grammar = Grammar {
        first: &["0", "1", "01", "1.0", "1.0.0", "1.2.3", "10", "alpha", "2.0-beta9", HUGE, "1234567890"],
        parts: &[
            ".",
            "-",
            ".0",
            "-0",
            ".1",
            "-1",
            "1",
            "01",
            "-alpha",
            "-beta",
            ".beta2",
            "-rc",
            "-rc-1",
            "RC1",
            "-cr2",
            "a",
            "a1",
            "b2",
            "-m3",
            "-SNAPSHOT",
            ".Final",
            "-ga",
            ".RELEASE",
            "-sp",
            "-sp2",
            ".x",
            "-foo",
            "-foo2",
            "_1",
            HUGE,
            "123456789012",
        ],
        most_parts: 4,
    };
    let pairs = grammar.pairs(3, 6000);
    // The class compares each of its arguments with the next.
    let mut command = program(
        "java",
        &["-cp", "/usr/share/java/maven-artifact-3.x.jar", "org.apache.maven.artifact.versioning.ComparableVersion"],
    );
    command.args(pairs.iter().flat_map(|(a, b)| [a, b]));
    let said: Vec<String> = run(command, "the Debian packages default-jre-headless and libmaven3-core-java", "")
        .into_iter()
        .filter(|line| line.starts_with("   "))
        .step_by(2)
        .map(|line| match line.split_whitespace().nth(1) {
            Some("<") => "-1".to_owned(),
            Some(">") => "1".to_owned(),
            _ => "0".to_owned(),
        })
        .collect();
    // The two things that make Maven's own order go round in circles: a qualifier between a dot and another separator,
    // and a list that has nothing but a list.
    let differs = |version: &str| {
        let separators = |c: char| c == '.' || c == '-';
        let words: Vec<_> = version.split_inclusive(separators).collect();
        let between = words.windows(2).any(|pair| {
            let word = pair[1].trim_end_matches(separators);
            pair[0].ends_with('.') && word.ends_with(|c: char| !c.is_ascii_digit()) && pair[1] != word
        });
        let mut spread = String::new();
        for c in version.chars() {
            let last = spread.chars().last().unwrap_or('.');
            let changes = !separators(c) && !separators(last) && c.is_ascii_digit() != last.is_ascii_digit();
            if changes || (last == '.' && !separators(c) && !c.is_ascii_digit()) {
                spread.push('-');
            }
            spread.push(c.to_ascii_lowercase());
        }
        let is_null = |word: &str| word.bytes().all(|b| b == b'0') || matches!(word, "final" | "ga" | "release");
        let mut lists = spread.rsplit('-');
        lists.next();
        between || lists.any(|list| list.trim_end_matches('.').split('.').all(is_null))
    };
    check(Scheme::Maven, &pairs, &said, differs);
}

#[test]
fn pep440() {
    let grammar = Grammar {
        first: &["0", "1", "01", "1.0", "1.0.0", "v1", "0!1", "1!0", "1.2.3", "10", HUGE],
        parts: &[
            ".0", ".1", ".00", "a", "a1", "-alpha-2", ".beta.3", "b", "rc1", "c1", "-pre", "preview2", ".post",
            ".post1", "-1", "-r4", "rev5", ".dev", ".dev0", "dev1", "_", "+abc", "+1", "+01.a", ".a", "A", HUGE,
        ],
        most_parts: 4,
    };
    let pairs = grammar.pairs(4, 12000);
    let script = r#"
import sys
from packaging.version import InvalidVersion, Version
for line in sys.stdin:
    try:
        a, b = map(Version, line.rstrip("\n").split("\t"))
        print((a > b) - (a < b))
    except InvalidVersion:
        print("E")
"#;
    let said = run(program(crate::tool("python3"), &["-c", script]), "the Python package packaging", &lines(&pairs));
    check(Scheme::Pep440, &pairs, &said, |_| false);
}

const SEMVER: Grammar = Grammar {
    first: &["0.0.0", "1.0.0", "1.2.3", "0.1.10", "1.10.0", "10.0.0", "1.2.9007199254740991", "v1.2.3"],
    parts: &[
        "-",
        "-0",
        "-1",
        "-a",
        "-alpha",
        "-alpha.1",
        "-beta",
        "-rc.1",
        "-RC.1",
        ".0",
        ".1",
        ".10",
        ".2",
        ".a",
        ".A",
        ".-",
        "a",
        "1",
        "--",
        "+b",
        "+b.1",
        "+001",
        ".12345678901234567890",
        "-20260101120000-0123456789ab",
        "+incompatible",
    ],
    most_parts: 4,
};

fn node(loose: bool) -> Command {
    let script = format!(
        r#"
const path = require('path')
const at = [path.join(process.execPath, '../../lib/node_modules/npm'), '/usr/share/nodejs/npm', '/usr/share/nodejs']
const semver = require(require.resolve('semver', {{ paths: at }}))
for (const line of require('fs').readFileSync(0, 'utf8').trimEnd().split('\n')) {{
  try {{ console.log(semver.compare(...line.split('\t'), {loose})) }} catch {{ console.log('E') }}
}}"#
    );
    program("node", &["-e", &script])
}

#[test]
fn semver() {
    let pairs = SEMVER.pairs(5, 8000);
    let said = run(node(false), "nodejs and npm", &lines(&pairs));
    check(Scheme::SemVer, &pairs, &said, |_| false);
}

#[test]
fn npm() {
    let mut pairs = SEMVER.pairs(6, 8000);
    let loose = Grammar { first: &["=1.2.3", "v1.02.3", " = v1.2.3", "01.0.0", "1.2.3", "1.2.3beta"], ..SEMVER };
    pairs.extend(loose.pairs(7, 4000));
    let said = run(node(true), "nodejs and npm", &lines(&pairs));
    // node-semver reads `1.2.34.5` as `1.2.3-4.5`.
    let fourth = |version: &str| {
        let numbers: Vec<_> = version.trim_start_matches(['=', 'v', ' ']).splitn(4, '.').collect();
        numbers.len() == 4 && numbers[..3].iter().all(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    check(Scheme::Npm, &pairs, &said, fourth);
}

#[test]
fn go() {
    let grammar =
        Grammar { first: &["v0.0.0", "v1.0.0", "v1.2.3", "v1", "v1.2", "v0.1.10", "v10.0.0", "v2.0.0"], ..SEMVER };
    let pairs = grammar.pairs(8, 8000);
    let script = r#"package main
import ("bufio"; "fmt"; "os"; "strings"; "golang.org/x/mod/semver")
func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		a, b, _ := strings.Cut(in.Text(), "\t")
		if semver.IsValid(a) && semver.IsValid(b) { fmt.Println(semver.Compare(a, b)) } else { fmt.Println("E") }
	}
}"#;
    let folder = std::env::temp_dir().join(format!("version-order-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = folder.join("main.go");
    std::fs::write(&source, script).unwrap();
    let mut command = program("go", &["run", source.to_str().unwrap()]);
    command.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", folder.join("cache"));
    command.env("GOFLAGS", "").env("GOTOOLCHAIN", "local");
    let said = run(command, "the Debian packages golang-go and golang-golang-x-mod-dev", &lines(&pairs));
    std::fs::remove_dir_all(&folder).unwrap();
    check(Scheme::Go, &pairs, &said, |_| false);
    // The database writes them without their v.
    for (a, b) in &pairs {
        assert_eq!(Scheme::Go.compare(&a[1..], &b[1..]).ok(), Scheme::Go.compare(a, b).ok());
    }
}

#[test]
fn rubygems() {
    let grammar = Grammar {
        first: &["0", "1", "01", "1.0", "1.0.0", "1.2.3", "10", "1a", HUGE],
        parts: &[
            ".0", ".00", ".1", ".01", ".a", ".b", ".A", "a", "b2", ".rc1", ".pre", ".pre.0", "-1", "-0", "-a", "-",
            ".0.0.1", ".0.a", ".beta.10", ".z9", HUGE,
        ],
        most_parts: 5,
    };
    let pairs = grammar.pairs(9, 8000);
    let script = r#"STDIN.each_line(chomp: true) do |line|
  a, b = line.split("\t")
  begin
    puts Gem::Version.new(a) <=> Gem::Version.new(b)
  rescue ArgumentError
    puts "E"
  end
end"#;
    let said = run(program("ruby", &["-e", script]), "the Debian package ruby", &lines(&pairs));
    check(Scheme::RubyGems, &pairs, &said, |_| false);
}

#[test]
fn packagist() {
    let grammar = Grammar {
        first: &[
            "0",
            "1",
            "v1",
            "1.0",
            "1.0.0",
            "1.2.3.4",
            "01.2",
            "10",
            "99999",
            "20100102",
            "2010-01-02",
            "2010.01",
            "201001021",
            "2010-01-02-10-20-30-5",
            "1.x",
            "123456",
        ],
        parts: &[
            ".0",
            ".1",
            ".x",
            ".*",
            "-",
            ".",
            "_",
            "-dev",
            ".dev",
            "dev",
            "-alpha",
            "-alpha1",
            "a2",
            "-beta.1",
            "b",
            "-beta-2.3",
            "-RC1",
            "rc",
            "-patch1",
            "-pl2",
            "p3",
            "-stable",
            "+build",
            "+b.1",
            "@beta",
            " as 2.0",
            ".9999999",
            "-5",
            ":01",
            "-01",
            ".20260101000000",
        ],
        most_parts: 3,
    };
    let pairs = grammar.pairs(10, 12000);
    let script = r#"
require '/usr/share/php/Composer/Semver/autoload.php';
$parser = new Composer\Semver\VersionParser();
foreach (explode("\n", rtrim(stream_get_contents(STDIN), "\n")) as $line) {
    try {
        [$a, $b] = array_map([$parser, 'normalize'], explode("\t", $line));
        if (!strncmp($a, 'dev-', 4) || !strncmp($b, 'dev-', 4)) { echo "E\n"; continue; }
        echo Composer\Semver\Comparator::lessThan($a, $b) ? -1 : (Composer\Semver\Comparator::greaterThan($a, $b) ? 1 : 0), "\n";
    } catch (UnexpectedValueException $e) { echo "E\n"; }
}"#;
    let said =
        run(program("php", &["-r", script]), "the Debian packages php-cli and php-composer-semver", &lines(&pairs));
    check(Scheme::Packagist, &pairs, &said, |_| false);
}

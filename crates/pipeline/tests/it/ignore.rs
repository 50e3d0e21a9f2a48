//! `.dockerignore` against Docker itself: what `COPY . /` of a real build contains, and what its library matches.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use engine::build::Ignore;
use pipeline::context::select;
use pipeline::git::{Entry, EntryKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// Lists of patterns that are tried.
const CASES: usize = 5000;

const FILES: [&str; 14] = [
    "a",
    "b.o",
    "ab.txt",
    "dir/a",
    "dir/b.o",
    "dir/sub/a",
    "dir/sub/b.o",
    "dir/sub/deep/a.txt",
    "other/a",
    "other/ab",
    "other/dir/a",
    ".hidden",
    "dir/.hidden",
    "x-y",
];

fn tree() -> Vec<Entry> {
    let mut paths: BTreeSet<(String, EntryKind)> = BTreeSet::new();
    for file in FILES.iter().chain(&["Dockerfile", ".dockerignore"]) {
        paths.insert(((*file).to_owned(), EntryKind::File));
        let mut rest = *file;
        while let Some((folder, _)) = rest.rsplit_once('/') {
            paths.insert((folder.to_owned(), EntryKind::Folder));
            rest = folder;
        }
    }
    paths.into_iter().map(|(path, kind)| Entry { path, kind, id: String::new(), size_bytes: 0 }).collect()
}

fn ours(text: &str) -> Option<BTreeSet<String>> {
    let ignore = Ignore::parse(text).ok()?;
    Some(
        select(tree(), &ignore, "Dockerfile")
            .unwrap()
            .into_iter()
            .map(|entry| entry.path)
            .filter(is_compared)
            .collect(),
    )
}

/// The classic builder sends both of these whatever the patterns say, and so the image may have them.
fn is_compared(path: &String) -> bool {
    path != "Dockerfile" && path != ".dockerignore"
}

fn docker(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    // The builder of the command line reads the file itself.
    let output =
        Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").current_dir(folder).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn dockers(text: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\nLABEL dev.longshore.test=ignore\nCOPY . /\n")
        .unwrap();
    std::fs::write(folder.path().join(".dockerignore"), text).unwrap();
    let word = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    let image = word(docker(folder.path(), &["build", "-q", "."]));
    let container = word(docker(folder.path(), &["create", "--label", "dev.longshore.test=ignore", &image, "x"]));
    let exported = docker(folder.path(), &["export", &container]);
    docker(folder.path(), &["rm", &container]);
    docker(folder.path(), &["rmi", &image]);
    let mut archive = tar::Archive::new(exported.as_slice());
    // The engine puts these into every container.
    let own = ["dev", "etc", "proc", "sys", ".dockerenv"];
    let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    let paths = paths.map(|path| path.trim_end_matches('/').to_owned());
    paths.filter(|path| !own.contains(&path.split('/').next().unwrap_or_default())).filter(is_compared).collect()
}

#[test]
fn a_file_is_read_as_docker_reads_it() {
    for text in [
        "# dir\n#a\n\n  dir/sub  \n",
        "\u{feff}a\n/other/\n",
        "*\n! dir/a\n!other/a*\n",
        "./dir/../b.o\r\n.hidden\r\n",
        "dir\n!dir/sub/\ndir/sub/deep\n",
    ] {
        assert_eq!(ours(text), Some(dockers(text)), "{text}");
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("dir"),
        Just("sub"),
        Just("other"),
        Just("deep"),
        Just("*"),
        Just("*.o"),
        Just("a*"),
        Just("?"),
        Just("[a-d]*"),
        Just("[^a]*"),
        Just(".hidden"),
        Just("**"),
        Just("x\\-y"),
        Just("."),
        Just(".."),
        Just("d?r"),
    ];
    let exception = prop::collection::vec(part.clone(), 1..4);
    let plain = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let literal = prop_oneof![Just("dir"), Just("dir/sub"), Just("dir/sub/deep"), Just("other"), Just("other/dir")];
    let last = prop_oneof![Just("a"), Just("*"), Just("*.o"), Just("?"), Just("a*"), Just("sub")];
    prop_oneof![
        4 => (plain, prop_oneof![Just(""), Just("/")], prop_oneof![Just(""), Just("/")])
            .prop_map(|(pattern, before, after)| format!("{before}{pattern}{after}")),
        2 => (literal, last).prop_map(|(folder, last)| format!("!{folder}/{last}")),
        1 => exception.prop_map(|parts| format!("!{}", parts.join("/"))),
        1 => Just("# dir".to_owned()),
        1 => Just("  dir/a  ".to_owned()),
    ]
}

/// What the library says that all of Docker reads patterns with, of paths with their folders before them.
const LIBRARY: &str = r##"package main
import ("bufio"; "fmt"; "os"; "path/filepath"; "strings"; "github.com/moby/patternmatcher")
func kept(lines []string, paths []string) string {
	var patterns []string
	for _, line := range lines {
		if strings.HasPrefix(line, "#") { continue }
		line = strings.TrimSpace(line)
		if line == "" { continue }
		not := strings.HasPrefix(line, "!")
		if not { line = strings.TrimSpace(line[1:]) }
		if line != "" {
			line = filepath.Clean(line)
			if len(line) > 1 && line[0] == '/' { line = line[1:] }
		}
		if not { line = "!" + line }
		patterns = append(patterns, line)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil { return "E" }
	above := map[string]patternmatcher.MatchInfo{}
	here := map[string]bool{}
	for _, path := range paths {
		out, info, err := matcher.MatchesUsingParentResults(path, above[filepath.Dir(path)])
		if err != nil { return "E" }
		above[path] = info
		for ; !out && path != "."; path = filepath.Dir(path) { here[path] = true }
	}
	var said []string
	for _, path := range paths { if here[path] { said = append(said, path) } }
	return strings.Join(said, "\t")
}
func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() { fmt.Println(kept(strings.Split(in.Text(), "\t"), os.Args[1:])) }
}"##;

#[test]
fn patterns_mean_what_docker_takes_them_for() {
    let mut runner = TestRunner::default();
    let texts: Vec<Vec<String>> =
        (0..CASES).map(|_| prop::collection::vec(pattern(), 1..5).new_tree(&mut runner).unwrap().current()).collect();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.go");
    std::fs::write(&source, LIBRARY).unwrap();
    let input = folder.path().join("patterns");
    std::fs::write(&input, texts.iter().map(|patterns| patterns.join("\t") + "\n").collect::<String>()).unwrap();
    let mut command = Command::new("go");
    command.arg("run").arg(&source).args(tree().iter().map(|entry| &entry.path).filter(|path| is_compared(path)));
    command.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", folder.path().join("cache"));
    command.env("GOFLAGS", "").env("GOTOOLCHAIN", "local").stdin(std::fs::File::open(&input).unwrap());
    let output = command.output().expect("go is needed, of Debian's golang-go");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "is golang-github-moby-patternmatcher-dev installed?\n{errors}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), CASES);
    for (patterns, said) in texts.iter().zip(said.lines()) {
        let theirs =
            (said != "E").then(|| said.split('\t').filter(|path| !path.is_empty()).map(str::to_owned).collect());
        assert_eq!(ours(&patterns.join("\n")), theirs, "{patterns:?}");
    }
}

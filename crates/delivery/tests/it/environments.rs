//! Files of environments: what is read, and what is refused with line and nearest key.

use api::delivery::{Environment, EnvironmentSpec};
use api::{Micros, Problem};
use delivery::environments::{compare, parse};

const FILE: &str = "\
environments:
  qa:
    target: {docker: {hosts: [h1]}}
  prod:
    after: qa
    apps: [shop]
    target:
      docker:
        labels: {stage: prod}
    rollout:
      max_unavailable: 2
";

fn refusal(text: &str) -> String {
    let error =
        parse(text, "environments.yaml").and_then(|parsed| compare(&parsed, &[], "environments.yaml")).unwrap_err();
    let problem = Problem::from(error);
    format!("{} hint: {}", problem.detail, problem.hint.unwrap_or_default())
}

#[test]
fn a_file_is_read_in_its_order_and_compared_with_what_holds() {
    let parsed = parse(FILE, "environments.yaml").unwrap();
    let names: Vec<String> = parsed.environments.iter().map(|(name, _, line)| format!("{name}:{line}")).collect();
    assert_eq!(names, ["qa:3", "prod:5"]);
    let held = |spec: &EnvironmentSpec| Environment {
        name: "qa".parse().unwrap(),
        spec: spec.clone(),
        revision: 3,
        applied_at: Micros(0),
    };
    let same = held(&parsed.environments[0].1);
    let changes = compare(&parsed, std::slice::from_ref(&same), "f").unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].name.as_str(), changes[0].from.is_none()), ("prod", true));
    assert_eq!(changes[0].to.rollout.step_seconds_max, 300);

    let mut other = same;
    other.spec.rollout.max_unavailable = 9;
    assert_eq!(compare(&parsed, &[other], "f").unwrap().len(), 2);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let cases = [
        (
            FILE.replace("max_unavailable: 2", "max_unavailible: 2"),
            "environments.yaml:11:",
            "unknown key `max_unavailible`",
            "Did you mean `max_unavailable`?",
        ),
        (FILE.replace("after: qa", "after: qaa"), "environments.yaml:5:", "comes after `qaa`", "Did you mean `qa`?"),
        (FILE.replace("hosts: [h1]", "hosts: []"), "environments.yaml:3:", "without hosts and labels", "hosts: [NAME]"),
        (
            FILE.replace("max_unavailable: 2", "max_unavailable: 0"),
            "environments.yaml:5:",
            "max_unavailable 0",
            "at least 1",
        ),
        (FILE.replace("docker:\n", "dokcer:\n"), "environments.yaml:8:", "`dokcer`", "`docker`"),
        (FILE.replace("[shop]", "[Shop]"), "environments.yaml:6:", "Shop", "Correct the file"),
        (
            FILE.replace(
                "    target: {docker: {hosts: [h1]}}\n",
                "    after: prod\n    target: {docker: {hosts: [h1]}}\n",
            ),
            "environments.yaml:3:",
            "in a circle",
            "Take one `after` away",
        ),
        (
            format!("{FILE}  qa:\n    target: {{docker: {{hosts: [h2]}}}}\n"),
            "environments.yaml:12:",
            "qa",
            "Correct the file",
        ),
        ("environments: {}".to_owned(), "environments.yaml", "names no environment", "at least one"),
        ("a: &a [x]\nb: [*a".to_owned(), "environments.yaml:", "", ""),
    ];
    for (text, place, what, hint) in cases {
        let said = refusal(&text);
        assert!(said.starts_with(place) && said.contains(what) && said.contains(hint), "{said}");
    }
}

#[test]
fn a40_alias_bombs_are_refused_in_bounded_time() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![previous; 10].join(", ")));
    }
    bomb.push_str("environments: *a11\n");
    let began = std::time::Instant::now();
    assert!(parse(&bomb, "f").is_err());
    assert!(parse(&"[".repeat(100_000), "f").is_err());
    assert!(began.elapsed().as_secs() < 10);
}

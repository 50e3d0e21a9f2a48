//! Exit codes: one map from problem to code, documented in `longshore --help`.

use api::Problem;

/// Something else went wrong.
pub(crate) const OTHER: u8 = 1;
/// The command line, or a file that it names, is not right.
pub(crate) const INPUT: u8 = 2;
/// What was named does not exist.
pub(crate) const UNKNOWN: u8 = 3;
/// Refused as things stand.
pub(crate) const REFUSED: u8 = 4;
/// The hub, the engine or another machine cannot be reached.
pub(crate) const UNREACHABLE: u8 = 5;
/// A build failed.
pub(crate) const BUILD: u8 = 6;
/// A rollout failed; the environment kept its releases.
pub(crate) const ROLLOUT: u8 = 7;
/// An inspection found what it was told to refuse.
pub(crate) const FOUND: u8 = 8;
/// An inspection that was to be complete left something out.
pub(crate) const INCOMPLETE: u8 = 9;

/// The table that `--help` shows.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  something else went wrong
  2  the command line, or a file that it names, is not right
  3  what was named does not exist
  4  refused as things stand
  5  the hub, the engine or another machine cannot be reached
  6  a build failed
  7  a rollout failed; the environment kept its releases
  8  an inspection found what it was told to refuse
  9  an inspection that was to be complete left something out";

/// The exit code for a problem.
pub(crate) fn code(problem: &Problem) -> u8 {
    match (problem.kind.as_str(), problem.status) {
        ("build-failed", _) => BUILD,
        ("inspect-found", _) => FOUND,
        ("inspect-incomplete", _) => INCOMPLETE,
        ("step-failed" | "step-timed-out" | "rollout-failed", _) => ROLLOUT,
        (_, 400 | 413 | 415 | 422) => INPUT,
        (_, 404 | 410) => UNKNOWN,
        (_, 401 | 403 | 405 | 409 | 412 | 429) => REFUSED,
        (_, 502..=504) => UNREACHABLE,
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_in_the_help_can_be_reached_and_none_is_missing() {
        let by_status = [("x", 500), ("x", 422), ("x", 404), ("x", 409), ("x", 503)];
        let by_kind =
            [("build-failed", 422), ("step-failed", 409), ("inspect-found", 409), ("inspect-incomplete", 409)];
        let reached: Vec<u8> =
            by_status.iter().chain(&by_kind).map(|(kind, status)| code(&Problem::new(*status, *kind, ""))).collect();
        assert_eq!(reached, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        for code in reached {
            assert!(HELP.contains(&format!("\n  {code}  ")), "{code} is not in the help");
        }
    }
}

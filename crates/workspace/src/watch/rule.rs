//! What is to be watched, and which paths a rule means.

use std::path::{Path, PathBuf};

use engine::ExecOptions;
use engine::build::{Ignore, IgnoreError, Matcher};

/// What editors and tools leave beside files while they work, and Git's own files. Any rule's `ignore` can take them back
/// with `!`.
const PASSING: &str = "**/.git\n**/*~\n**/.#*\n**/#*#\n**/.*.sw?\n**/4913\n**/.goutputstream-*\n**/*.kate-swp\n\
                       **/*___jb_tmp___\n**/*___jb_old___\n**/*-go-tmp-umask\n";

/// One entry of a service's `develop.watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What is watched: a file, or a folder with all below it. Absolute; a symbolic link is followed when the watch begins.
    pub path: PathBuf,
    /// What a change leads to.
    pub action: Action,
    /// Patterns of paths below [`Rule::path`] that are left out, as in a `.dockerignore`. They come after the `.dockerignore`
    /// of the service's build, so that `!` can take back what that leaves out.
    pub ignore: Vec<String>,
    /// Patterns of paths that are meant at all; none means all.
    pub include: Vec<String>,
}

/// What a change leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The service's image is built again, and its containers are replaced.
    Rebuild,
    /// The service's containers are restarted.
    Restart,
    /// What changed is copied into the service's containers.
    Sync {
        /// Absolute path in the containers that stands for the rule's path.
        target: String,
        /// A new container gets everything, not only what changed since its image was built.
        initial: bool,
        /// What follows.
        then: After,
    },
}

/// What follows a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// The containers are restarted.
    Restart,
    /// A command is run in each of the containers.
    Exec(ExecOptions),
}

/// What is watched for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRules {
    /// The service.
    pub service: String,
    /// Folder that its image is built from, absolute, and its Dockerfile below it; `None` for a service that is not built.
    pub build: Option<(PathBuf, String)>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// Why a rule cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A pattern is wrong.
    #[error("{whose} cannot be read: {error}; correct the pattern")]
    Pattern {
        /// Where the pattern stands.
        whose: String,
        /// What is wrong with it.
        error: IgnoreError,
    },
    /// A path that must be absolute is not.
    #[error("service {service} watches {path:?} with a target or path that is not absolute; write the whole path")]
    Relative {
        /// The service.
        service: String,
        /// The path.
        path: PathBuf,
    },
    /// A service without a build is to be rebuilt.
    #[error("service {service} watches {path:?} to be rebuilt, but it has no build; give it one, or another action")]
    NoBuild {
        /// The service.
        service: String,
        /// The watched path.
        path: PathBuf,
    },
}

impl Rule {
    pub(super) fn check(&self, of: &ServiceRules) -> Result<(), RuleError> {
        let (service, path) = (of.service.clone(), self.path.clone());
        match &self.action {
            _ if !self.path.is_absolute() => Err(RuleError::Relative { service, path }),
            Action::Sync { target, .. } if !target.starts_with('/') => Err(RuleError::Relative { service, path }),
            Action::Rebuild if of.build.is_none() => Err(RuleError::NoBuild { service, path }),
            _ => Ok(()),
        }
    }
}

/// Tells which paths below a rule's path it means. Remembers what it found for folders.
#[derive(Debug)]
pub(super) struct Filter {
    passing: Matcher<'static>,
    /// The `.dockerignore` of the build, and how its paths follow from the rule's.
    build: Option<(Matcher<'static>, Base)>,
    ignore: Matcher<'static>,
    include: Option<Matcher<'static>>,
}

/// Where a build's context stands beside a rule's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    /// The rule's path is this path in the context; the context itself is empty.
    Within(String),
    /// The context is this path below the rule's.
    Below(String),
}

impl Base {
    /// The path in the context of a path below the rule's; `None` outside of it.
    fn path(&self, below: &str) -> Option<String> {
        match self {
            Self::Within(prefix) if prefix.is_empty() => Some(below.to_owned()),
            Self::Within(prefix) => Some(format!("{prefix}/{below}")),
            Self::Below(context) => below.strip_prefix(context)?.strip_prefix('/').map(str::to_owned),
        }
    }
}

impl Filter {
    /// For a rule whose path is this one by now; `build` is the folder and text of the service's `.dockerignore`.
    pub(super) fn new(rule: &Rule, path: &Path, build: Option<(&Path, &str)>) -> Result<Self, RuleError> {
        let wrong = |whose: &str| {
            let whose = format!("{whose} {}", rule.path.display());
            move |error| RuleError::Pattern { whose, error }
        };
        let build = match build {
            Some((context, text)) => {
                let base = match (path.strip_prefix(context), context.strip_prefix(path)) {
                    (Ok(within), _) => Some(Base::Within(within.to_string_lossy().into_owned())),
                    (_, Ok(below)) => Some(Base::Below(below.to_string_lossy().into_owned())),
                    _ => None,
                };
                let ignore = Ignore::parse(text).map_err(wrong("the .dockerignore for"))?;
                base.map(|base| (ignore.into_matcher(), base))
            }
            None => None,
        };
        let include = Ignore::of(&rule.include).map_err(wrong("`include` of the watch on"))?;
        Ok(Self {
            passing: Ignore::parse(PASSING).map_err(wrong("the built-in patterns for"))?.into_matcher(),
            build,
            ignore: Ignore::of(&rule.ignore).map_err(wrong("`ignore` of the watch on"))?.into_matcher(),
            include: (!include.is_empty()).then(|| include.into_matcher()),
        })
    }

    /// Whether the rule means this path below its own; the rule's own path is empty, and always meant.
    pub(super) fn takes(&mut self, path: &str) -> bool {
        path.is_empty()
            || (!self.is_ignored(path) && self.include.as_mut().is_none_or(|include| include.is_ignored(path)))
    }

    fn is_ignored(&mut self, path: &str) -> bool {
        if let Some(verdict) = self.ignore.verdict(path) {
            return verdict;
        }
        if let Some((matcher, base)) = &mut self.build
            && let Some(path) = base.path(path)
            && let Some(verdict) = matcher.verdict(&path)
        {
            return verdict;
        }
        self.passing.is_ignored(path)
    }

    /// Whether something below this folder can be meant.
    pub(super) fn descends(&mut self, folder: &str) -> bool {
        if folder.is_empty() {
            return true;
        }
        if self.is_ignored(folder) {
            let kept_in_build = self.build.as_mut().is_some_and(|(matcher, base)| match base.path(folder) {
                Some(path) => matcher.may_match_below(&path, true),
                // A build's context may begin further down.
                None => true,
            });
            if !kept_in_build && !self.ignore.may_match_below(folder, true) {
                return false;
            }
        }
        let include =
            |include: &mut Matcher<'static>| include.is_ignored(folder) || include.may_match_below(folder, false);
        self.include.as_mut().is_none_or(include)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(rule_path: &str, ignore: &[&str], include: &[&str], build: Option<(&str, &str)>) -> Filter {
        let list = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let path = PathBuf::from(rule_path);
        let rule = Rule { path: path.clone(), action: Action::Rebuild, ignore: list(ignore), include: list(include) };
        Filter::new(&rule, &path, build.map(|(context, text)| (Path::new(context), text))).unwrap()
    }

    #[test]
    fn patterns_are_those_of_the_build_then_those_of_the_rule() {
        let dockerignore = "node_modules\n*.md\nsrc/*.log\nbuild\n!build/keep";
        let mut whole = filter("/app", &["!README.md"], &[], Some(("/app", dockerignore)));
        for (path, taken) in [
            ("src/main.rs", true),
            ("node_modules", false),
            ("node_modules/x/y", false),
            ("README.md", true),
            ("CHANGES.md", false),
            ("src/a.log", false),
            ("build/keep", true),
            ("build/other", false),
            (".git", false),
            ("deep/.git/HEAD", false),
            ("src/.main.rs.swp", false),
            ("src/main.rs~", false),
            ("src/4913", false),
            ("", true),
        ] {
            assert_eq!(whole.takes(path), taken, "{path}");
        }
        assert!(!whole.descends("node_modules") && whole.descends("build") && whole.descends("src"));
        assert!(!whole.descends("build/other/deep"));

        let mut part = filter("/app/src", &["/generated"], &[], Some(("/app", dockerignore)));
        assert!(part.takes("main.rs") && part.takes("x.md") && !part.takes("a.log") && !part.takes("generated/x"));
        let mut around = filter("/", &[], &[], Some(("/app", dockerignore)));
        assert!(around.takes("other/node_modules") && !around.takes("app/node_modules/x") && around.takes("app/src/x"));
        assert!(around.descends("app") && !around.descends("app/node_modules"));
        let mut beside = filter("/other", &[], &[], Some(("/app", dockerignore)));
        assert!(beside.takes("node_modules/x"));
    }

    #[test]
    fn only_what_is_included_is_meant() {
        let mut go = filter("/app", &["vendor"], &["**/*.go", "go.mod", "assets"], None);
        for (path, taken) in [
            ("main.go", true),
            ("a/b/c.go", true),
            ("go.mod", true),
            ("a/go.mod", false),
            ("assets/img/x.png", true),
            ("vendor/x.go", false),
            ("a", false),
        ] {
            assert_eq!(go.takes(path), taken, "{path}");
        }
        assert!(go.descends("a/b") && !go.descends("vendor"));
        let mut narrow = filter("/app", &[], &["src/*.go"], None);
        assert!(narrow.descends("src") && !narrow.descends("docs") && !narrow.takes("src"));
        let taken_back = filter("/app", &["!.git"], &[], None).takes(".git/HEAD");
        assert!(taken_back);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let of = |build| ServiceRules { service: "web".to_owned(), build, rules: Vec::new() };
        let rule = |path: &str, action| Rule { path: path.into(), action, ignore: Vec::new(), include: Vec::new() };
        let sync = |target: &str| Action::Sync { target: target.to_owned(), initial: false, then: After::Nothing };
        let built = of(Some(("/app".into(), "Dockerfile".to_owned())));
        assert_eq!(rule("/app", Action::Rebuild).check(&built), Ok(()));
        assert!(matches!(rule("/app", Action::Rebuild).check(&of(None)), Err(RuleError::NoBuild { .. })));
        assert!(matches!(rule("app", Action::Restart).check(&built), Err(RuleError::Relative { .. })));
        assert!(matches!(rule("/app", sync("srv")).check(&built), Err(RuleError::Relative { .. })));
        assert_eq!(rule("/app", sync("/srv")).check(&of(None)), Ok(()));
    }
}

//! The modules' text of build information. Source: Go's `runtime/debug`, `BuildInfo.String` and `ParseBuildInfo`.

/// Modules of one program at most.
pub const MODULES_MAX: usize = 16_384;
/// Build settings of one program at most.
pub const SETTINGS_MAX: usize = 1_024;

/// What the linker wrote about a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInformation {
    /// The toolchain, such as `go1.22.1`.
    pub go_version: String,
    /// The main package's path.
    pub path: String,
    /// The module that the main package is of; none where it was built outside modules.
    pub main: Option<Module>,
    /// The other modules.
    pub dependencies: Vec<Module>,
    /// Settings of the build, such as `vcs.revision`, in their order.
    pub settings: Vec<(String, String)>,
    /// What of the text was not understood.
    pub notes: Vec<String>,
}

/// A module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Its path, which is its name.
    pub path: String,
    /// Its version; `(devel)` or empty where it is not known.
    pub version: String,
    /// What was built in its place.
    pub replacement: Option<Box<Module>>,
}

impl BuildInformation {
    /// The value of a build setting.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Reads the text; a line that is not understood is noted and passed over.
pub fn parse(go_version: &str, text: &str) -> BuildInformation {
    let mut information = BuildInformation { go_version: go_version.to_owned(), ..BuildInformation::default() };
    let mut broken = 0usize;
    // Whether the module before is the main one, for what replaces it.
    let mut last_is_main = true;
    // Not `lines`: to Go a carriage return is part of the line.
    for line in text.split('\n') {
        let (kind, rest) = line.split_once('\t').unwrap_or((line, ""));
        let understood = match kind {
            "path" => {
                information.path = rest.to_owned();
                true
            }
            "mod" => {
                last_is_main = true;
                information.main = module(rest);
                information.main.is_some()
            }
            "dep" if information.dependencies.len() == MODULES_MAX => {
                information
                    .notes
                    .push(format!("Go build information: more than {MODULES_MAX} modules; the rest was not read"));
                break;
            }
            "dep" => {
                last_is_main = false;
                module(rest).map(|module| information.dependencies.push(module)).is_some()
            }
            "=>" => {
                let replaced =
                    if last_is_main { information.main.as_mut() } else { information.dependencies.last_mut() };
                match (replaced, module(rest)) {
                    (Some(replaced), Some(by)) => {
                        replaced.replacement = Some(Box::new(by));
                        true
                    }
                    _ => false,
                }
            }
            "build" => setting(rest)
                .filter(|_| information.settings.len() < SETTINGS_MAX)
                .map(|setting| information.settings.push(setting))
                .is_some(),
            // A later Go may write more than is known here.
            _ => true,
        };
        broken += usize::from(!understood);
    }
    if broken > 0 {
        information.notes.push(format!("Go build information: {broken} lines are broken and were not read"));
    }
    information
}

fn module(line: &str) -> Option<Module> {
    let mut fields = line.split('\t');
    let path = fields.next().filter(|path| !path.is_empty())?;
    Some(Module { path: path.to_owned(), version: fields.next().unwrap_or_default().to_owned(), replacement: None })
}

/// `key=value`, each of which is in quotes where it has to be.
fn setting(line: &str) -> Option<(String, String)> {
    let (key, rest) = if line.starts_with(['"', '`']) {
        unquote(line)?
    } else {
        let at = line.find('=')?;
        (line.get(..at)?.to_owned(), line.get(at..)?)
    };
    let value = rest.strip_prefix('=')?;
    let value = if value.starts_with(['"', '`']) { unquote(value)?.0 } else { value.to_owned() };
    Some((key, value))
}

/// A string of Go's syntax, and what comes after it. Escapes of other characters than those of `\\`, `\"`, `\t`, `\n`
/// and `\r` are kept as they stand.
fn unquote(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (value, rest) = raw.split_once('`')?;
        return Some((value.to_owned(), rest));
    }
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 2..)?)),
            '\\' => match characters.next()?.1 {
                't' => value.push('\t'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                same @ ('\\' | '"') => value.push(same),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

/// The version that `-X importpath.name=value` among the linker's flags gives to a variable named after versions. One
/// of the program's own packages is taken before others, and of those none of another module's path.
pub(super) fn flag_version(flags: &str, module: &str) -> Option<String> {
    let mut best: Option<(u8, String)> = None;
    let mut words = Words(flags);
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-X").or_else(|| word.strip_prefix("--X")) {
            Some("") => words.next().unwrap_or_default(),
            Some(joined) => joined.strip_prefix('=').unwrap_or(joined).to_owned(),
            None => continue,
        };
        let Some((variable, value)) = assignment.split_once('=') else { continue };
        let value = value.trim_matches(['\'', '"']);
        let Some(rank) = rank(variable, module) else { continue };
        if is_version(value) && best.as_ref().is_none_or(|(before, _)| rank < *before) {
            best = Some((rank, value.to_owned()));
        }
    }
    best.map(|(_, version)| version)
}

/// How well a variable fits, best first; `None` where it says nothing of the main module's version.
fn rank(variable: &str, module: &str) -> Option<u8> {
    let (package, name) = variable.rsplit_once('.')?;
    let by_name = match name.to_ascii_lowercase().as_str() {
        "version" | "ver" => 0,
        "buildversion" | "gitversion" | "appversion" | "releaseversion" | "currentversion" | "programversion" => 1,
        "release" | "gittag" | "tag" | "buildtag" | "gitdescribe" | "versionstring" => 2,
        _ => return None,
    };
    let by_package = if package == "main" {
        0
    } else if package.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        1
    } else {
        return None;
    };
    Some(by_name * 2 + by_package)
}

/// `v1.2.3`, `1.2`, `2.0.0-rc.1+build`: digits and points first, then what semantic versions may have.
fn is_version(value: &str) -> bool {
    let value = value.strip_prefix('v').unwrap_or(value);
    let numbers = value.split(['-', '+']).next().unwrap_or_default();
    numbers.contains('.')
        && numbers.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+_~".contains(&byte))
}

/// Splits flags as Go does: at spaces, where quotes hold a word together.
struct Words<'t>(&'t str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let text = self.0.trim_start();
        if text.is_empty() {
            return None;
        }
        let mut word = String::new();
        let mut quote = None;
        let mut end = text.len();
        for (at, character) in text.char_indices() {
            match quote {
                Some(open) if character == open => quote = None,
                Some(_) => word.push(character),
                None if matches!(character, '"' | '\'') => quote = Some(character),
                None if character.is_whitespace() => {
                    end = at;
                    break;
                }
                None => word.push(character),
            }
        }
        self.0 = text.get(end..).unwrap_or_default();
        Some(word)
    }
}

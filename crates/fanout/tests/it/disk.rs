//! A small file system of its own, in a file, that can be filled and whose power can be cut. Needs root, as mounting does.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const UNMOUNT_TIME_MAX: Duration = Duration::from_secs(60);
const UNMOUNT_PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} is needed (Debian: mount, e2fsprogs, xfsprogs): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed (these tests need root and loop devices): {said}");
}

impl Disk {
    pub(crate) fn ext4(bytes: u64) -> Self {
        // Nothing is kept back for root.
        Self::new(bytes, "mkfs.ext4", &["-q", "-F", "-m", "0"])
    }

    /// XFS takes no less than 300 MB; the file is sparse.
    pub(crate) fn xfs() -> Self {
        Self::new(384 << 20, "mkfs.xfs", &["-q"])
    }

    fn new(bytes: u64, program: &str, options: &[&str]) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        File::create(disk.image()).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(disk.mounted()).unwrap();
        let image = disk.image();
        run(program, &options.iter().map(Path::new).chain([image.as_path()]).collect::<Vec<_>>());
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Where its files are.
    pub(crate) fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn mount(&self) {
        run("mount", &["-o".as_ref(), "loop".as_ref(), &self.image(), &self.mounted()]);
    }

    /// Leaves so much room and no more.
    pub(crate) fn fill(&self, free_kib: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.mounted().join("ballast")).unwrap();
        for piece in [1 << 20, 1 << 12, 1 << 10] {
            let zeros = vec![0; piece];
            while ballast.write_all(&zeros).is_ok() {}
            ballast.sync_all().unwrap();
        }
        let size = ballast.metadata().unwrap().len();
        ballast.set_len(size.saturating_sub(free_kib * 1024)).unwrap();
        ballast.sync_all().unwrap();
    }

    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.mounted().join("ballast")).unwrap();
        File::open(self.mounted()).unwrap().sync_all().unwrap();
    }

    /// From here on nothing reaches the disk, not even the journal: what is not on disk is gone.
    pub(crate) fn cut_power(&self) {
        /// `EXT4_IOC_SHUTDOWN`, which XFS calls `XFS_IOC_GOINGDOWN`: `_IOR('X', 125, __u32)`.
        const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
        /// Both call it "no log flush".
        const NO_LOG_FLUSH: u32 = 2;
        let folder = File::open(self.mounted()).unwrap();
        // SAFETY: the request reads one u32 behind the pointer, which is what the setter passes.
        #[allow(unsafe_code)]
        unsafe {
            rustix::ioctl::ioctl(&folder, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)).unwrap();
        }
    }

    /// Mounts again what the disk has. A process that something else is just starting may hold the dead file system for a
    /// moment, and with it the loop device: then the next mount would find it dead still.
    pub(crate) fn power_on(&self) {
        let begun = Instant::now();
        loop {
            if Command::new("umount").arg(self.mounted()).output().unwrap().status.success() {
                self.mount();
                let probe = self.mounted().join("probe");
                if std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe)).is_ok() {
                    return;
                }
            }
            assert!(begun.elapsed() < UNMOUNT_TIME_MAX, "the file system stays busy");
            std::thread::sleep(UNMOUNT_PAUSE);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).output();
    }
}

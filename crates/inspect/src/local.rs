//! Inspects what lies on this machine: an image's archive or layout, a folder, a file, a bill of materials.

use std::ffi::CStr;
use std::fs::{File, Metadata};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::archive::{Budget, Limits, escaped};
use crate::assemble::{Assembled, assemble};
use crate::bill;
use crate::content::Content;
use crate::document::{self, Contents, Tool};
use crate::image::{self, Image, ImageError, Place};
use crate::secret::Scanner;
use crate::walk::{self, Gathering, Layer, Walk};

/// Threads that read layers at most. Each may hold a decompressor's window.
const THREADS_MAX: usize = 4;
/// Folders within folders that are walked.
const FOLDERS_MAX: usize = 256;

/// Looks at what lies at `path`; of an image of several platforms at the one asked for, or at all. Unnamed temporary
/// files are made in `folder`.
///
/// # Errors
/// There is nothing, it cannot be read, or is an image that is broken. What can be read only in part is told in what is
/// given back.
pub fn inspect(path: &Path, platform: Option<&oci::Platform>, folder: &Path) -> Result<Vec<Contents>, ImageError> {
    inspect_seeking(path, platform, folder, None)
}

/// The same, looking for secrets where there is a scanner.
///
/// # Errors
/// As with [`inspect`].
pub fn inspect_seeking(
    path: &Path,
    platform: Option<&oci::Platform>,
    folder: &Path,
    scanner: Option<&Scanner>,
) -> Result<Vec<Contents>, ImageError> {
    let name = path.to_string_lossy().into_owned();
    match image::open(path, platform)? {
        Place::Images(images) => Ok(images.into_iter().map(|image| of_image(&name, image, folder, scanner)).collect()),
        Place::Folder => {
            let budget = Budget::new(Limits::default(), u64::MAX);
            let mut walk = Walk::new(&budget, folder).seeking(scanner);
            let place = File::open(path).map_err(ImageError::Read)?;
            let device = place.metadata().map_err(ImageError::Read)?.dev();
            of_folder(&mut walk, &place, device, &mut Vec::new(), 0);
            Ok(vec![of_one(name, walk)])
        }
        Place::File(file) => {
            let own_name = path.file_name().unwrap_or(path.as_os_str()).as_bytes();
            if let Some(stated) = bill::assembled(&file, &escaped(own_name))? {
                return Ok(vec![contents(document::Image { name, ..document::Image::default() }, stated)]);
            }
            let length = file.metadata().map_err(ImageError::Read)?.len();
            let budget = Budget::new(Limits::default(), length);
            let mut walk = Walk::new(&budget, folder).seeking(scanner);
            walk.file(own_name, Content::file(&file, 0, length));
            Ok(vec![of_one(name, walk)])
        }
    }
}

/// The layers are read side by side, the largest first.
fn of_image(path: &str, image: Image, folder: &Path, scanner: Option<&Scanner>) -> Contents {
    let size = |at: usize| image.layers.get(at).and_then(|layer| layer.blob.as_ref().ok()).map_or(0, image::Blob::len);
    let mut order: Vec<usize> = (0..image.layers.len()).collect();
    order.sort_by_key(|at| size(*at));
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX).min(order.len());
    let (next, done) = (Mutex::new(order), Mutex::new(Gathering::default()));
    let work = || {
        loop {
            let Some(at) = next.lock().ok().and_then(|mut order| order.pop()) else { return };
            let read = image.layers.get(at).map(|layer| read(layer, folder, scanner));
            if let (Some(read), Ok(mut done)) = (read, done.lock()) {
                done.add(at, read);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let layers: Vec<Layer> = done.into_inner().unwrap_or_default().finish().into_values().collect();
    contents(described(path, &image), assemble(&layers))
}

fn read(layer: &image::Layer, folder: &Path, scanner: Option<&Scanner>) -> Layer {
    match &layer.blob {
        Ok(blob) => walk::layer_seeking(blob.content(), folder, Limits::default(), scanner),
        Err(why) => Layer::unread(why),
    }
}

fn described(path: &str, image: &Image) -> document::Image {
    let digest = |digest: &oci::Digest| digest.to_string();
    document::Image {
        name: image.name.clone().unwrap_or_else(|| path.to_owned()),
        digest: image.digest.as_ref().map(digest),
        platform: Some(document::Platform {
            os: image.config.os.clone(),
            architecture: image.config.architecture.clone(),
            variant: image.config.variant.clone(),
        }),
        created: image.config.created.as_deref().and_then(|created| created.parse().ok()),
        labels: image.config.config.labels.clone(),
        layers: image
            .layers
            .iter()
            .map(|layer| document::Layer {
                digest: digest(layer.digest.as_ref().unwrap_or(&layer.diff_id)),
                diff_id: digest(&layer.diff_id),
                size: layer.blob.as_ref().map_or(0, image::Blob::len),
                created_by: layer.created_by.clone(),
            })
            .collect(),
        ..document::Image::default()
    }
}

/// A folder as it lies there. Links are not followed, also where someone puts one in the place of what was there (a20),
/// and other file systems are not entered.
fn of_folder(walk: &mut Walk<'_>, folder: &File, device: u64, path: &mut Vec<u8>, depth: usize) {
    let mut names = Vec::new();
    match Dir::read_from(folder) {
        Ok(entries) => entries.for_each(|entry| match entry {
            Ok(entry) => names.push(entry.file_name().to_owned()),
            Err(error) => walk.unexamined(path, error),
        }),
        Err(error) => return walk.unexamined(path, error),
    }
    names.retain(|name| !matches!(name.to_bytes(), b"." | b".."));
    names.sort_unstable();
    for name in names {
        let at = path.len();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name.to_bytes());
        match opened(folder, &name) {
            Ok(Some((file, metadata))) if metadata.is_file() => {
                walk.file(path, Content::file(&file, 0, metadata.len()));
            }
            Ok(Some((_, metadata))) if metadata.dev() != device => {
                walk.unexamined(path, "another file system, which is not entered");
            }
            Ok(Some((inner, _))) if depth < FOLDERS_MAX => of_folder(walk, &inner, device, path, depth + 1),
            Ok(Some(_)) => walk.unexamined(path, "too many folders within one another"),
            Ok(None) => {}
            Err(error) => walk.unexamined(path, error),
        }
        path.truncate(at);
    }
}

/// What has this name in a folder, where it is a file or a folder itself.
fn opened(folder: &File, name: &CStr) -> io::Result<Option<(File, Metadata)>> {
    // To open a device or a pipe may do something by itself.
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if (metadata.dev(), metadata.ino()) != (stat.st_dev, stat.st_ino) {
        return Err(io::Error::other("it was exchanged while it was looked at"));
    }
    Ok(Some((file, metadata)))
}

fn of_one(name: String, walk: Walk<'_>) -> Contents {
    let mut assembled = assemble(&[Layer::only(walk.finish())]);
    for component in &mut assembled.components {
        component.places.iter_mut().for_each(|place| place.layer = None);
    }
    assembled.unexamined.iter_mut().for_each(|unexamined| unexamined.place.layer = None);
    assembled.secrets.iter_mut().for_each(|secret| secret.place.layer = None);
    contents(document::Image { name, ..document::Image::default() }, assembled)
}

/// What was found, as all documents are written from it.
pub(crate) fn contents(image: document::Image, assembled: Assembled) -> Contents {
    Contents {
        tool: Tool { name: "longshore".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        image,
        operating_system: assembled.operating_system,
        components: assembled.components,
        findings: Vec::new(),
        matched: None,
        secrets: assembled.secrets,
        unexamined: assembled.unexamined,
    }
}

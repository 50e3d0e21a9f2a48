//! Attacks a16 to a27 on whole images: what is found is found all the same, what is not read is told, nothing is
//! written, no link is followed, and what is kept of an image is bounded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use inspect::archive::Limits;
use inspect::assemble::assemble;
use inspect::content::Content;
use inspect::{local, walk};
use proptest::prelude::*;

use crate::image::{
    self, archive, bytes, file, gzip, header, inspected, installed, long_name, metadata, names, package, padded, pax,
    special, unexamined, zip,
};

/// Longer than any of these takes, even on a busy machine; what has no end takes longer.
const WHILE: Duration = Duration::from_secs(60);

/// What of the contents was not examined, in one line.
fn only(contents: &inspect::document::Contents) -> String {
    let unexamined = unexamined(contents);
    let [one] = &*unexamined else { panic!("{unexamined:#?}") };
    one.clone()
}

/// The same file as one reader sees it, and an archive within it as another does.
#[test]
fn a16_sizes_that_disagree_end_the_archive_and_are_told() {
    let inner = padded(&package("b/", "smuggled"));
    let pax_size = inner.len().to_string();
    let entries = [
        package("a/", "before"),
        pax(&[("size", pax_size.as_bytes())]),
        // Readers that go by the header find the smuggled entry next, others pass over it as content.
        header(b"carrier", b'0', 8, |_| {}),
        inner,
        package("c/", "after"),
    ];
    let layer = archive(&entries);
    for (how, layers) in [
        ("layer", vec![layer.clone()]),
        ("compressed layer", vec![gzip(&layer)]),
        ("file", vec![archive(&[file(b"data.tar", &layer)])]),
        ("compressed file", vec![archive(&[file(b"data.tgz", &gzip(&layer))])]),
        ("entry of a zip", vec![archive(&[file(b"data.zip", &zip(&[("a.tar", &layer)]))])]),
    ] {
        let contents = inspected(&layers);
        assert_eq!(names(&contents), ["before"], "{how}");
        let why = only(&contents);
        assert!(why.contains("the PAX header says") && why.contains("the entry's own header 8"), "{how}: {why}");
        assert!(!contents.is_complete());
    }
}

/// What does not fit into eleven octal digits has its size in a PAX record, rightly.
#[test]
fn a16_a_size_beyond_what_the_header_holds_is_taken_from_the_pax_record() {
    const SIZE: u64 = (8 << 30) + 1234;
    for field in [&b"77777777777\0"[..], b"00000000000\0"] {
        let head = [
            pax(&[("size", SIZE.to_string().as_bytes())]),
            header(b"large", b'0', 0, |block| block[124..136].copy_from_slice(field)),
        ]
        .concat();
        let mut layer = tempfile::tempfile().unwrap();
        layer.write_all(&head).unwrap();
        let end = head.len() as u64 + SIZE.next_multiple_of(512);
        layer.seek(SeekFrom::Start(end)).unwrap();
        layer.write_all(&archive(&[package("", "behind")])).unwrap();
        let length = layer.metadata().unwrap().len();
        let read = walk::layer(Content::file(&layer, 0, length), &std::env::temp_dir(), Limits::default());
        let assembled = assemble(&[read]);
        assert!(assembled.unexamined.is_empty(), "{:?}", assembled.unexamined);
        assert_eq!(assembled.components.len(), 1);
    }
}

#[test]
fn a17_a_pax_override_on_a_long_name_is_refused() {
    let path = installed("", "ambiguous");
    let attacks = [
        // Whose size is it: the long name's or the file's?
        vec![pax(&[("size", b"600")]), long_name(path.as_bytes()), file(b"short", &[b'x'; 600])],
        // Which of the two names is it?
        vec![pax(&[("path", b"innocent")]), long_name(path.as_bytes()), file(b"short", &metadata("ambiguous"))],
        vec![long_name(path.as_bytes()), pax(&[("path", b"innocent")]), file(b"short", &metadata("ambiguous"))],
        vec![long_name(path.as_bytes()), long_name(b"innocent"), file(b"short", &metadata("ambiguous"))],
    ];
    for entries in attacks {
        let entries = [vec![package("", "before")], entries, vec![package("", "after")]].concat();
        let contents = inspected(&[archive(&entries)]);
        assert_eq!(names(&contents), ["before"]);
        assert!(only(&contents).contains("tar archive, at byte "), "{}", only(&contents));
    }
}

/// Unpackers end with the directory, some of them with what lay in it before: neither is lost.
#[test]
fn a18_a_symlink_then_a_directory_of_the_same_name_hides_nothing() {
    let lower = archive(&[package("app/", "lower")]);
    let upper = archive(&[
        special(b"app", b'2', b"elsewhere"),
        special(b"app/", b'5', b""),
        package("app/", "upper"),
        // And the other way round: what is written through a link lies where its name says.
        special(b"other/", b'5', b""),
        special(b"other", b'2', b"elsewhere"),
        package("other/", "through"),
    ]);
    let contents = inspected(&[lower, upper]);
    assert_eq!(names(&contents), ["lower", "through", "upper"]);
}

#[test]
fn a19_names_that_lead_out_of_the_image_are_told_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    let outside = canary.to_str().unwrap();
    let mut entries = vec![package("", "before")];
    for name in ["../../x", "a/../../x", outside, "/../x"] {
        entries.push(file(name.as_bytes(), b"written"));
    }
    entries.push(file(installed("/../", "rooted").as_bytes(), &metadata("rooted")));
    entries.push(file(installed("../", "outside").as_bytes(), &metadata("outside")));
    let contents = inspected(&[archive(&entries)]);
    assert!(!canary.exists() && !folder.path().join("x").exists());
    // With a slash in front `..` stays at the root, as it does in a shell.
    assert_eq!(names(&contents), ["before", "rooted"]);
    let told = unexamined(&contents);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told.iter().all(|why| why.contains("leads out of the image")), "{told:#?}");
}

#[test]
fn a19_links_are_not_followed_out_of_the_image_nor_within_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join(installed("", "secret").replace('/', "-"));
    std::fs::write(&secret, metadata("secret")).unwrap();
    let secret = secret.to_str().unwrap().as_bytes();
    let entries = [
        // To files of this machine, by each kind of link.
        special(installed("a/", "symlink").as_bytes(), b'2', secret),
        special(installed("b/", "hard").as_bytes(), b'1', secret),
        special(installed("c/", "out").as_bytes(), b'1', b"../../etc/passwd"),
        // Through a link to a folder: the path is its text.
        special(b"etc", b'2', b"/"),
        special(b"usr", b'2', b".."),
        file(b"elsewhere/os-release", b"ID=evil\n"),
        special(b"lib", b'2', b"elsewhere"),
        // A link to itself, and two that lead to one another.
        special(installed("d/", "self").as_bytes(), b'1', installed("d/", "self").as_bytes()),
        special(installed("e/", "one").as_bytes(), b'1', installed("e/", "two").as_bytes()),
        special(installed("e/", "two").as_bytes(), b'1', installed("e/", "one").as_bytes()),
        package("", "after"),
    ];
    let contents = inspected(&[archive(&entries)]);
    assert_eq!(names(&contents), ["after"]);
    assert_eq!(contents.operating_system, None);
    let told = unexamined(&contents);
    assert_eq!(told.len(), 5, "each hard link that leads nowhere: {told:#?}");
    assert!(told.iter().all(|why| why.contains("a hard link")), "{told:#?}");
}

/// A folder that someone else may write to, while it is looked at.
#[test]
fn a20_what_is_swapped_for_a_link_while_a_folder_is_read_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    for (at, name) in [(&outside, "secret"), (&inside, "public")] {
        std::fs::create_dir_all(at.join("site/p.dist-info")).unwrap();
        std::fs::write(at.join("site/p.dist-info/METADATA"), metadata(name)).unwrap();
    }
    let (file, hidden) = (inside.join("site/p.dist-info/METADATA"), inside.join("hidden"));
    let (site, moved) = (inside.join("site"), inside.join("moved"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // The file itself, and then a folder on the way to it.
                for (place, aside, target) in
                    [(&file, &hidden, outside.join("site/p.dist-info/METADATA")), (&site, &moved, outside.join("site"))]
                {
                    std::fs::rename(place, aside).unwrap();
                    symlink(&target, place).unwrap();
                    std::fs::remove_file(place).unwrap();
                    std::fs::rename(aside, place).unwrap();
                }
            }
        });
        let is_followed = (0..2_000).any(|_| {
            let contents = local::inspect(&inside, None, &std::env::temp_dir()).unwrap();
            names(&contents[0]).contains(&"secret")
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!is_followed, "a link was followed");
    });
}

#[test]
fn a21_a_dev_symlink_and_a_working_directory_that_is_one_are_only_names() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().to_str().unwrap().as_bytes();
    let entries = [
        special(b"dev", b'2', target),
        file(b"dev/null", b"written"),
        special(b"app", b'2', target),
        package("app/", "through"),
        special(b"proc", b'2', b"/proc/self"),
        file(b"proc/fd/1", b"written"),
    ];
    let contents = inspected(&[archive(&entries)]);
    assert_eq!(names(&contents), ["through"]);
    assert_eq!(contents.components[0].places[0].text(), format!("/{}", installed("app/", "through")));
    assert!(image::is_empty(folder.path()), "something was written through the link");
}

#[test]
fn a22_odd_whiteouts_hide_nothing_and_are_told() {
    let lower = || archive(&[package("app/", "kept"), package("", "root")]);
    for name in [".wh.", ".wh..", ".wh...", "app/.wh.", "app/.wh..", "app/.wh...", ".wh..wh..opq", "app/.wh..wh.aufs"] {
        // As a file, as a directory and as a link: the type does not matter.
        for entry in
            [file(name.as_bytes(), b""), special(name.as_bytes(), b'5', b""), special(name.as_bytes(), b'2', b"x")]
        {
            let contents = inspected(&[lower(), archive(&[entry])]);
            assert_eq!(names(&contents), ["kept", "root"], "{name}");
            assert!(!contents.is_complete(), "{name}");
        }
    }
    // A whiteout of something else, of a part of a name, and below a file.
    for name in ["app/.wh.other", ".wh.ap", ".wh.app.", "app/.wh.kept-1.0.dist-inf", "other/.wh.app"] {
        let contents = inspected(&[lower(), archive(&[file(name.as_bytes(), b"")])]);
        assert_eq!((names(&contents), contents.is_complete()), (vec!["kept", "root"], true), "{name}");
    }
    // Those that are what they seem.
    for name in [".wh.app", "app/.wh..wh..opq", "app/.wh.kept-1.0.dist-info", "app/kept-1.0.dist-info/.wh.METADATA"] {
        let contents = inspected(&[lower(), archive(&[file(name.as_bytes(), b"")])]);
        assert_eq!((names(&contents), contents.is_complete()), (vec!["root"], true), "{name}");
    }
    // A whiteout is of layers below, whatever stands before it in its own.
    let own = archive(&[package("app/", "own"), file(b".wh.app", b""), file(b"app/.wh..wh..opq", b"")]);
    assert_eq!(names(&inspected(&[lower(), own])), ["own", "root"]);
}

#[test]
fn a22_devices_pipes_setuid_and_attributes_are_passed_over() {
    let path = installed("", "setuid");
    let device = |name: &[u8], flag| {
        header(name, flag, 0, |block| {
            block[329..337].copy_from_slice(b"0000001\0");
            block[337..345].copy_from_slice(b"0000003\0");
        })
    };
    let entries = [
        device(b"dev/null", b'3'),
        device(b"dev/sda", b'4'),
        // Names that somebody wants, as things that must never be opened.
        device(installed("", "device").as_bytes(), b'3'),
        special(b"var/lib/dpkg/status", b'6', b""),
        special(b"etc/os-release", b'3', b""),
        pax(&[
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\xff\xff\xff\xff"),
            ("SCHILY.xattr.user.x", &[7; 9000]),
        ]),
        header(path.as_bytes(), b'0', metadata("setuid").len() as u64, |block| {
            block[100..108].copy_from_slice(b"0007777\0");
        }),
        padded(&metadata("setuid")),
    ];
    let contents = inspected(&[archive(&entries)]);
    assert_eq!(names(&contents), ["setuid"]);
    assert_eq!((contents.operating_system.as_ref(), unexamined(&contents)), (None, Vec::new()));
}

/// Which of two entries of one name is left depends on who unpacks: both are told.
#[test]
fn a22_of_duplicate_entries_none_is_lost() {
    let path = installed("", "twice");
    let path = path.as_bytes();
    let entries = [
        file(path, &metadata("first")),
        file(path, &metadata("second")),
        // Under other spellings of the same name.
        file(&[b"./".as_slice(), path].concat(), &metadata("third")),
        file(&[b"a/..//".as_slice(), path].concat(), &metadata("fourth")),
        // And at last as something else.
        special(path, b'2', b"nowhere"),
    ];
    assert_eq!(names(&inspected(&[archive(&entries)])), ["first", "fourth", "second", "third"]);
}

#[test]
fn a22_a_nul_in_a_name_is_refused() {
    let path = installed("", "hidden");
    let with_nul = [path.as_bytes(), b"\0.txt"].concat();
    let contents = inspected(&[archive(&[
        package("", "before"),
        pax(&[("path", &with_nul)]),
        file(b"short", &metadata("hidden")),
    ])]);
    assert_eq!(names(&contents), ["before"]);
    assert!(only(&contents).contains("NUL"), "{}", only(&contents));
    // In a zip it takes the entry alone.
    let inner = zip(&[(std::str::from_utf8(&with_nul).unwrap(), &metadata("hidden")), (&path, &metadata("beside"))]);
    let contents = inspected(&[archive(&[file(b"a.zip", &inner)])]);
    assert_eq!(names(&contents), ["beside"]);
    assert!(only(&contents).contains("NUL"), "{}", only(&contents));
}

#[test]
fn a23_huge_owners_end_the_archive_and_a_huge_group_file_costs_nothing() {
    let large = header(b"large", b'0', 0, |block| {
        block[108..116].copy_from_slice(&[0x80, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff]);
    });
    let negative = header(b"negative", b'0', 0, |block| block[116..124].fill(0xff));
    for entry in [large, negative, [pax(&[("uid", b"18446744073709551616")]), file(b"pax", b"")].concat()] {
        let contents = inspected(&[archive(&[package("", "before"), entry, package("", "after")])]);
        assert_eq!(names(&contents), ["before"]);
        assert!(!contents.is_complete());
    }
    // The largest owner that there is, and a file that whoever runs the image would read whole.
    let nobody = header(b"nobody", b'0', 0, |block| block[108..116].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff"));
    let begun = Instant::now();
    let group = "group:x:1:member\n".repeat(2 << 20);
    let contents = inspected(&[archive(&[nobody, file(b"etc/group", group.as_bytes()), package("", "after")])]);
    assert_eq!((names(&contents), contents.is_complete()), (vec!["after"], true));
    assert!(begun.elapsed() < WHILE);
}

/// Zeros without end, compressed in each way, as a layer and as a file of one.
#[test]
fn a24_bombs_are_told_and_what_stands_before_them_is_found() {
    const ZEROS: u64 = 400 << 20;
    let begun = [package("", "before"), header(b"zeros", b'0', ZEROS, |_| {})].concat();
    let mut gzipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut zstandard = zstd::Encoder::new(Vec::new(), 1).unwrap();
    {
        let (gzipped, zstandard) = (&mut gzipped, &mut zstandard);
        let mut both = |bytes: &[u8]| {
            gzipped.write_all(bytes).unwrap();
            zstandard.write_all(bytes).unwrap();
        };
        both(&begun);
        let zeros = vec![0; 1 << 20];
        (0..ZEROS >> 20).for_each(|_| both(&zeros));
        both(&archive(&[package("", "after")]));
    }
    for bomb in [gzipped.finish().unwrap(), zstandard.finish().unwrap()] {
        assert!(bomb.len() < 4 << 20);
        let clock = Instant::now();
        let contents = inspected(std::slice::from_ref(&bomb));
        assert_eq!(names(&contents), ["before"]);
        assert!(only(&contents).contains("over the limit of 250"), "{}", only(&contents));
        let contents = inspected(&[archive(&[file(b"bomb.tar", &bomb), package("", "beside")])]);
        assert_eq!(names(&contents), ["before", "beside"]);
        assert!(only(&contents).starts_with("/bomb.tar: "), "{}", only(&contents));
        assert!(only(&contents).contains("over the limit of 250"), "{}", only(&contents));
        assert!(clock.elapsed() < WHILE);
    }
}

/// Each member stays below the ratio of one; there are many.
#[test]
fn a24_many_small_bombs_end_at_the_limit_of_all() {
    let limits = Limits { expansion_free_bytes: 8 << 20, expansion: 20, ..Limits::default() };
    // Of what holds nothing else only the beginning is decompressed.
    let small = gzip(&archive(&[file(b"zeros", &vec![0; 1 << 20])]));
    let mut entries: Vec<_> = (0..200).map(|at| file(format!("{at}.tgz").as_bytes(), &small)).collect();
    entries.push(package("", "after"));
    let layer = archive(&entries);
    let read = walk::layer(Content::memory(&layer), &std::env::temp_dir(), limits);
    let assembled = assemble(&[read]);
    assert_eq!(assembled.components.len(), 1, "what is not compressed is still read");
    assert!(assembled.unexamined.iter().all(|item| item.why.contains("bytes decompressed in all")));
    assert!((20..200).contains(&assembled.unexamined.len()), "{}", assembled.unexamined.len());
}

#[test]
fn a25_archives_within_archives_are_read_to_a_depth_and_no_further() {
    let begun = Instant::now();
    let mut bomb = zip(&[("zeros.bin", &vec![0; 10 << 20])]);
    for _ in 0..5 {
        let names: Vec<String> = (0..16).map(|at| format!("{at}.zip")).collect();
        bomb = zip(&names.iter().map(|name| (name.as_str(), bomb.as_slice())).collect::<Vec<_>>());
    }
    let mut deep = zip(&[(&installed("", "deepest"), &metadata("deepest"))]);
    for at in 0..20 {
        deep = match at % 3 {
            0 => gzip(&archive(&[file(b"a.zip", &deep)])),
            1 => zip(&[("a.tar.gz", &deep)]),
            _ => archive(&[file(b"a.zip", &deep)]),
        };
    }
    let near = gzip(&archive(&[file(b"a.jar", &zip(&[(&installed("", "near"), &metadata("near"))]))]));
    let layer =
        archive(&[file(b"deep.bin", &deep), file(b"near.tgz", &near), file(b"42.zip", &bomb), package("", "after")]);
    let limits = Limits { expansion_free_bytes: 64 << 20, ..Limits::default() };
    let assembled = assemble(&[walk::layer(Content::memory(&layer), &std::env::temp_dir(), limits)]);
    let found = |name: &str| assembled.components.iter().any(|found| found.component.name == name);
    assert!(found("near") && found("after") && !found("deepest"));
    let told = |path: &str, why: &str| {
        assembled.unexamined.iter().any(|item| item.place.text().starts_with(path) && item.why.contains(why))
    };
    assert!(told("/deep.bin!/", "archives within each other"), "{:#?}", assembled.unexamined);
    assert!(told("/42.zip!/", "over the limit"), "{:#?}", assembled.unexamined);
    assert!(begun.elapsed() < WHILE);
}

#[test]
fn a25_zip_slip_is_told_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let absolute = folder.path().join("canary");
    let slip = zip(&[
        ("../../canary", b"written"),
        (absolute.to_str().unwrap(), b"written"),
        ("..\\..\\canary", b"written"),
        ("C:\\canary", b"written"),
        ("a/../../canary.jar", b"written"),
        (&installed("", "beside"), &metadata("beside")),
    ]);
    let contents = inspected(&[archive(&[file(b"lib/slip.jar", &slip)])]);
    assert!(image::is_empty(folder.path()));
    assert!(names(&contents).contains(&"beside"), "{:?}", names(&contents));
    let told = unexamined(&contents);
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(told.iter().all(|why| why.starts_with("/lib/slip.jar: ")), "{told:#?}");
}

/// Every database that an operating system's packages are kept in: its path, its bytes, how many packages it has, and
/// whether each byte of it matters.
const DATABASES: [(&str, &[u8], usize, bool); 6] = [
    ("var/lib/rpm/Packages", include_bytes!("../../src/cataloger/rpm/fixtures/Packages"), 3, true),
    ("usr/lib/sysimage/rpm/Packages.db", include_bytes!("../../src/cataloger/rpm/fixtures/Packages.db"), 3, true),
    ("usr/share/rpm/rpmdb.sqlite", include_bytes!("../../src/cataloger/rpm/fixtures/rpmdb.sqlite"), 2, true),
    ("var/lib/dpkg/status", include_bytes!("../../src/cataloger/dpkg/fixtures/status"), 7, false),
    ("lib/apk/db/installed", include_bytes!("../../src/cataloger/apk/fixtures/installed"), 3, false),
    ("var/lib/chisel/manifest.wall", include_bytes!("../../src/cataloger/dpkg/fixtures/manifest.wall"), 2, false),
];

/// Packages of the database in a layer, and whether something was not examined.
fn packages(path: &str, bytes: &[u8]) -> (usize, bool) {
    let layer = archive(&[file(path.as_bytes(), bytes), package("", "behind")]);
    let read = walk::layer(Content::memory(&layer), &std::env::temp_dir(), Limits::default());
    let assembled = assemble(&[read]);
    let found = |name: &str| assembled.components.iter().any(|found| found.component.name == name);
    assert!(found("behind"), "{path}: what comes behind the database is not read");
    (assembled.components.len() - 1, !assembled.unexamined.is_empty())
}

/// Chisel's manifest lies compressed in an image.
fn stored(path: &str, bytes: &[u8]) -> Vec<u8> {
    if path.ends_with(".wall") { zstd::encode_all(bytes, 3).unwrap() } else { bytes.to_vec() }
}

#[test]
fn a26_databases_cut_off_anywhere_are_never_whole_unsaid() {
    for (path, bytes, count, is_binary) in DATABASES {
        assert_eq!(packages(path, &stored(path, bytes)).0, count, "{path}");
        let bytes = if is_binary { bytes.to_vec() } else { stored(path, bytes) };
        for end in (0..bytes.len()).step_by(bytes.len() / 60) {
            let (found, is_told) = packages(path, &bytes[..end]);
            // A text may end in the middle of what would take the last package back, or between two packages.
            assert!(found <= count + usize::from(!is_binary), "{path} cut at {end}: {found} packages");
            assert!(is_told || !is_binary || found == count, "{path} cut at {end}: {found} packages");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a26_broken_databases_in_a_layer_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4, 1_usize..400), 1..8),
    ) {
        for (path, bytes, count, is_binary) in DATABASES {
            let mut bytes = bytes.to_vec();
            for (at, byte, kind, length) in &changes {
                let at = at.index(bytes.len());
                let end = (at + length).min(bytes.len());
                match kind {
                    0 => bytes[at] = *byte,
                    1 => bytes[at..end].fill(*byte),
                    2 => drop(bytes.drain(at..end)),
                    _ => bytes = [&bytes[..end], &bytes[at..]].concat(),
                }
                if bytes.is_empty() {
                    bytes.push(*byte);
                }
            }
            let (found, is_told) = packages(path, &stored(path, &bytes));
            prop_assert!(found <= count + changes.len() * 2, "{path}: {found}");
            prop_assert!(found > 0 || is_told || !is_binary, "{path}: nothing is found, and nothing is said");
        }
    }
}

/// What a layer of a few megabytes may make whoever imports it keep.
const KEPT_BYTES_MAX: usize = 64 << 20;

fn kept(layer: &[u8]) -> (usize, Vec<String>) {
    let contents = inspected(&[layer.to_vec()]);
    assert!(!contents.is_complete());
    (bytes(&contents), unexamined(&contents))
}

/// Text of that many bytes which compresses some fifty times: less than what counts as a bomb.
fn dull(number: u64, length: usize) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::new();
    while text.len() < 1024 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text += &format!("{state:016x}");
    }
    let mut text = text.repeat(length / 1024 + 1);
    text.truncate(length);
    text
}

/// A name is told with what is wrong with it, and there may be any number of long ones.
#[test]
fn a27_names_that_are_too_long_are_told_in_short() {
    let name = vec![1; 60 * 1024];
    let named: Vec<u8> = [long_name(&name), file(b"short", b"")].concat();
    let (kept, told) = kept(&archive(&[named.repeat(400)]));
    assert_eq!(told.len(), 400);
    assert!(kept < 1 << 20, "{kept} bytes");
    let names: Vec<String> = (0..400).map(|at| format!("{at}{}", "\u{1}".repeat(60 * 1024))).collect();
    let inner = zip(&names.iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>());
    let (kept, told) = self::kept(&archive(&[file(b"a.zip", &inner)]));
    assert_eq!(told.len(), 400);
    assert!(kept < 1 << 20, "{kept} bytes");
}

/// Hard links to what is not there wait for it until the layer has been read.
#[test]
fn a27_hard_links_to_nothing_do_not_pile_up() {
    let folder = "f/".repeat(120) + &"f".repeat(200) + &"/g".repeat(120) + "/";
    let links: Vec<Vec<u8>> =
        (0..30_000).map(|at| special(format!("{folder}{at}/requirements.txt").as_bytes(), b'1', b"nothing")).collect();
    let (kept, told) = kept(&gzip(&archive(&links)));
    assert!(told.iter().any(|why| why.contains("too many hard links")), "{:?}", told.last());
    assert!(kept < KEPT_BYTES_MAX, "{kept} bytes");
}

/// Small files that say much: each field is within its limit, and there are many.
#[test]
fn a27_a_layer_cannot_say_more_than_is_kept() {
    let apk: String = (0..600).map(|at| format!("P:p{at}\nV:1\nL:{}\n\n", dull(at, 60 << 10))).collect();
    let many: Vec<_> = (0..600)
        .map(|at| {
            let licence = dull(at, 900);
            let licences: String =
                (0..60).map(|number| format!("Classifier: License :: {number} {licence}\n")).collect();
            let text = format!("Metadata-Version: 2.1\nName: p{at}\nVersion: 1\n{licences}");
            file(format!("p{at}.dist-info/METADATA").as_bytes(), text.as_bytes())
        })
        .collect();
    for layer in [archive(&[file(b"lib/apk/db/installed", apk.as_bytes())]), archive(&many)] {
        let layer = gzip(&layer);
        assert!(layer.len() < 4 << 20, "{} bytes", layer.len());
        let (kept, told) = kept(&layer);
        assert!(told.iter().any(|why| why.contains("more is found than is kept")), "{told:?}");
        assert!((4 << 20..KEPT_BYTES_MAX).contains(&kept), "{kept} bytes");
    }
}

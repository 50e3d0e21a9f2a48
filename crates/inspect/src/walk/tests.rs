//! Layers, one over the other, as the walk and the joining of them see them.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::archive::Limits;
use crate::assemble::assemble;
use crate::content::Content;

/// A layer of files, and of hard links where a target is given.
fn of(entries: &[(&str, Result<&str, &str>)]) -> Layer {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let mut header = ::tar::Header::new_ustar();
        header.set_mode(0o644);
        match entry {
            Ok(text) => {
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
            Err(target) => {
                header.set_entry_type(::tar::EntryType::Link);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    layer(Content::memory(&builder.into_inner().unwrap()), &std::env::temp_dir(), Limits::default())
}

fn names(layers: &[Layer]) -> Vec<(String, Vec<String>)> {
    let found = assemble(layers);
    assert!(found.unexamined.is_empty(), "{:?}", found.unexamined);
    let places = |found: crate::document::Found| found.places.iter().map(crate::document::Place::text).collect();
    found.components.into_iter().map(|found| (found.component.name.clone(), places(found))).collect()
}

const METADATA: &str = "Metadata-Version: 2.1\nName: requests\nVersion: 2.31.0\n";
const INSTALLED: &str = "site/requests-2.31.0.dist-info/METADATA";

#[test]
fn a_hard_link_says_what_its_file_says_also_when_that_is_gone() {
    for cached in ["cache/requests-2.31.0.dist-info/METADATA", "cache/blob"] {
        let layers = [
            of(&[(cached, Ok(METADATA)), (INSTALLED, Err(cached))]),
            of(&[("cache/.wh.requests-2.31.0.dist-info", Ok("")), ("cache/.wh.blob", Ok(""))]),
        ];
        assert_eq!(names(&layers), [("requests".to_owned(), vec![format!("/{INSTALLED}")])], "{cached}");
    }
}

#[test]
fn what_an_upper_layer_hides_is_not_listed() {
    let layers = [of(&[(INSTALLED, Ok(METADATA))]), of(&[("site/.wh..wh..opq", Ok(""))])];
    assert_eq!(names(&layers), []);
}

#[test]
fn a27_hard_links_to_a_large_file_are_told_and_do_not_use_up_the_memory() {
    let lock: String = (0..2_000).map(|at| format!("p{at}==1\n")).collect();
    let links: Vec<String> = (0..300).map(|at| format!("{at}/requirements.txt")).collect();
    let mut entries = vec![("requirements.txt", Ok(&*lock))];
    entries.extend(links.iter().map(|link| (&**link, Err("requirements.txt"))));
    let found = assemble(&[of(&entries)]);
    let places = found.components.first().map_or(0, |found| found.places.len());
    assert!((10..300).contains(&places), "{places}");
    assert!(found.unexamined.iter().all(|item| item.why.starts_with("more is found than is kept")));
    assert_eq!((found.components.len(), found.unexamined.len()), (2_000, 1));
}

#[test]
fn a_file_deeper_than_a_layer_goes_is_listed_where_there_are_no_layers() {
    let limits = Budget::new(Limits::default(), 0);
    let folder = std::env::temp_dir();
    let mut walk = Walk::new(&limits, &folder);
    walk.file(format!("{}{INSTALLED}", "a/".repeat(300)).as_bytes(), Content::memory(METADATA.as_bytes()));
    assert_eq!(names(&[Layer::only(walk.finish())]).len(), 1);
}

//! Finding projects, reading contexts, giving ports.

use std::collections::{BTreeMap, BTreeSet};

use compose::model::Build;
use proptest::prelude::*;
use workspace::ports::{Assigned, Declared, assign};
use workspace::project::Checkout;
use workspace::source::Context;
use workspace::state::{State, Store};

fn write(folder: &std::path::Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn a_project_is_found_from_below_with_the_laptops_overlays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    write(
        &root,
        &[
            ("compose.yaml", "name: shop\nservices: {web: {image: a}, tool: {image: b, profiles: [x]}}"),
            ("compose.dev.yaml", "services: {web: {command: ['${MODE}', '${PLACE}']}}"),
            (".env", "MODE=dev\nPLACE=file"),
            ("compose.override.yaml", "services: {web: {command: [override], user: me}}"),
            ("compose.prod.yaml", "services: {web: {command: [prod]}}"),
            ("web/src/main", ""),
        ],
    );
    let checkout = Checkout::find(&root.join("web/src"), &[]).unwrap();
    assert_eq!(checkout.folder, root);
    let outside = |name: &str| (name == "PLACE").then(|| "outside".to_owned());
    let loaded = checkout.load(None, &BTreeSet::new(), &outside).unwrap();
    assert_eq!(loaded.app.as_str(), "shop");
    assert_eq!(loaded.project.services.keys().collect::<Vec<_>>(), ["web"]);
    let web = &loaded.project.services["web"];
    assert_eq!(
        (web.command.as_deref(), web.user.as_deref()),
        (Some(["dev".to_owned(), "outside".to_owned()].as_slice()), Some("me"))
    );
    let tools = checkout.load(Some("other"), &BTreeSet::from(["x".to_owned()]), &|_| None).unwrap();
    assert_eq!((tools.app.as_str(), tools.project.services.len()), ("other", 2));
    assert_ne!(checkout.hash(None), checkout.hash(Some("other")));
    let nothing = tempfile::tempdir().unwrap();
    let error = Checkout::find(nothing.path(), &[]).unwrap_err();
    assert!(error.why.contains("compose.yaml") && error.hint.unwrap().contains("-f"));
}

#[test]
fn a_context_changes_with_what_goes_into_it_and_with_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[
            ("web/Dockerfile", "FROM scratch"),
            ("web/.dockerignore", "*.log\nnode_modules"),
            ("web/app.py", "1"),
            ("web/node_modules/a/b", "1"),
        ],
    );
    let build = Build { context: "web".to_owned(), ..Build::default() };
    let digest = |build: &Build| Context::read(folder.path(), build).unwrap().digest(build).unwrap();
    let first = digest(&build);
    write(folder.path(), &[("web/x.log", "1"), ("web/node_modules/a/c", "2"), ("web/app.py", "1")]);
    assert_eq!(digest(&build), first, "what is left out, and a file that was written again");
    write(folder.path(), &[("web/app.py", "2")]);
    let changed = digest(&build);
    assert_ne!(changed, first);
    let argument = Build { args: BTreeMap::from([("A".to_owned(), "1".to_owned())]), ..build.clone() };
    assert_ne!(digest(&argument), changed);
    write(folder.path(), &[("web/app.py", "1")]);
    assert_eq!(digest(&build), first, "back again");
    let absent = Build { dockerfile: Some("Other".to_owned()), ..build };
    assert!(Context::read(folder.path(), &absent).unwrap_err().why.contains("Other"));
}

#[test]
fn a_state_is_read_back_and_names_of_other_checkouts_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("state");
    let store = |name: &str| {
        let checkout = folder.path().join(name);
        std::fs::create_dir_all(&checkout).unwrap();
        let checkout = Checkout { folder: checkout, files: Vec::new() };
        let state = State::new(
            name.to_owned(),
            checkout.hash(None),
            checkout.folder.clone(),
            "shop".parse().unwrap(),
            "prod".parse().unwrap(),
        );
        (Store::new(&root, &checkout, None), state)
    };
    let (one, state) = store("one");
    assert_eq!(one.state().unwrap(), None);
    assert!(one.names_of_others().unwrap().is_empty());
    let lock = one.lock().unwrap();
    assert!(one.lock().is_err());
    one.state_save(&state).unwrap();
    assert_eq!(one.state().unwrap(), Some(state));
    drop(lock);
    let (two, _) = store("two");
    assert_eq!(two.names_of_others().unwrap(), BTreeSet::from(["one".to_owned()]));
    std::fs::remove_dir(folder.path().join("one")).unwrap();
    assert!(two.names_of_others().unwrap().is_empty(), "its checkout is gone");
}

proptest! {
    #[test]
    fn ports_are_distinct_free_and_the_same_again(
        wanted in prop::collection::vec((0_u8..4, 1_u16..5, prop::option::of(8000_u16..8006)), 0..8),
        taken in prop::collection::btree_set(8000_u16..8010, 0..6),
    ) {
        let declared: BTreeSet<Declared> = wanted
            .into_iter()
            .map(|(service, target, published)| Declared { service: service.to_string(), slot: 1, target, protocol: Default::default(), published })
            .collect();
        let declared: Vec<Declared> = declared.into_iter().collect();
        let none = BTreeSet::new();
        let first = assign(&declared, &Assigned::new(), &none, &mut |port| !taken.contains(&port)).unwrap();
        prop_assert_eq!(first.len(), declared.len());
        let distinct: BTreeSet<u16> = first.values().copied().collect();
        prop_assert_eq!(distinct.len(), first.len());
        prop_assert!(distinct.is_disjoint(&taken));
        for one in &declared {
            let others = declared.iter().filter(|other| other.published == one.published).count();
            if let Some(port) = one.published && !taken.contains(&port) && others == 1 {
                let lower = distinct.contains(&port);
                prop_assert!(lower, "a port that is free is given to somebody");
            }
        }
        // With everything running, nothing is free, and nothing moves.
        let again = assign(&declared, &first, &distinct, &mut |_| false).unwrap();
        prop_assert_eq!(again, first);
    }
}

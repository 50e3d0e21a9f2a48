//! Archives and layouts, and those that lead out of themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use super::*;

/// An archive as `docker save` writes it: each name with its bytes, or with what it is a link to.
fn archive(folder: &Path, members: &[(&str, Result<&[u8], &str>)]) -> PathBuf {
    let path = folder.join("image.tar");
    let mut builder = ::tar::Builder::new(File::create(&path).unwrap());
    for (name, member) in members {
        let mut header = ::tar::Header::new_ustar();
        match member {
            Ok(bytes) => {
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, name, *bytes).unwrap();
            }
            Err(target) => {
                header.set_entry_type(::tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    builder.finish().unwrap();
    path
}

fn configuration(layers: usize) -> Vec<u8> {
    let diff_ids: Vec<String> = (0..layers).map(|at| Digest::sha256_of(&[at as u8]).to_string()).collect();
    let history = [r#"{"created_by":"FROM"}"#, r#"{"created_by":"ENV","empty_layer":true}"#, r#"{"created_by":"RUN"}"#];
    format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}},"history":[{}]}}"#,
        history.join(",")
    )
    .into_bytes()
}

fn images(path: &Path) -> Result<Vec<Image>, ImageError> {
    match open(path, None)? {
        Place::Images(images) => Ok(images),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_of_docker_has_its_layers_with_their_steps_and_follows_its_links() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(2);
    let manifest = br#"[{"Config":"c.json","RepoTags":["team/app:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let members: [(&str, Result<&[u8], &str>); 4] = [
        ("a/layer.tar", Ok(b"bytes of the layer")),
        ("b/layer.tar", Err("../a/layer.tar")),
        ("c.json", Ok(&config)),
        ("manifest.json", Ok(manifest)),
    ];
    let found = images(&archive(folder.path(), &members)).unwrap();
    let [image] = &*found else { panic!("{found:?}") };
    assert_eq!((image.name.as_deref(), image.id), (Some("team/app:1"), Digest::sha256_of(&config)));
    let steps: Vec<_> = image.layers.iter().map(|layer| layer.created_by.as_deref()).collect();
    assert_eq!(steps, [Some("FROM"), Some("RUN")]);
    for layer in &image.layers {
        assert_eq!(&*layer.blob.as_ref().unwrap().content().whole(100).unwrap(), b"bytes of the layer");
    }
}

#[test]
fn a15_no_name_in_an_archive_or_layout_leads_out_of_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), configuration(0)).unwrap();
    for name in ["../secret", "/etc/passwd", "link"] {
        let manifest = format!(r#"[{{"Config":"{name}","RepoTags":null,"Layers":[]}}]"#);
        let members = [("manifest.json", Ok(manifest.as_bytes())), ("link", Err("../../secret"))];
        let refused = images(&archive(folder.path(), &members)).unwrap_err();
        assert!(matches!(refused, ImageError::Missing(_)), "{name}: {refused}");
    }
    let layout = folder.path().join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let digest = Digest::sha256_of(b"x");
    std::os::unix::fs::symlink("../../../secret", layout.join(files::name(&digest))).unwrap();
    let refused = Files::folder(&layout).unwrap().by_digest(&digest).unwrap_err();
    assert!(matches!(refused, ImageError::Missing(_)), "{refused}");
}

#[test]
fn what_contradicts_itself_is_refused_and_what_lacks_a_layer_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(1);
    let with = |layers: &str| {
        let manifest = format!(r#"[{{"Config":"c.json","RepoTags":[],"Layers":{layers}}}]"#);
        images(&archive(folder.path(), &[("c.json", Ok(&config)), ("manifest.json", Ok(manifest.as_bytes()))]))
    };
    assert!(matches!(with("[]").unwrap_err(), ImageError::Layers { manifest: 0, config: 1 }));
    let found = with(r#"["gone.tar"]"#).unwrap();
    let gone = found.first().and_then(|image| image.layers.first()).unwrap();
    assert_eq!(gone.blob.as_ref().unwrap_err(), "gone.tar is not there");
}

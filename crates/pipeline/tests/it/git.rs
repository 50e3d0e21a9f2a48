//! Repositories as they are met: bare and not, branches, tags, shortened ids, odd names.

use pipeline::context::write_tar;
use pipeline::git::{EntryKind, Git, GitError};

use crate::support::Repository;

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_ref_leads_to_its_commit() {
    let data = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    let first = repository.commit(&[("a.txt", "one")]);
    repository.git(&["tag", "v1"]);
    repository.git(&["tag", "-a", "v1-annotated", "-m", "x"]);
    repository.git(&["branch", "topic/long-name"]);
    let second = repository.commit(&[("a.txt", "two")]);
    let git = Git::new(data.path().to_owned());
    let mirror = git.fetch(&repository.path()).await.unwrap();
    for (reference, wanted) in [
        ("main", &second),
        ("HEAD", &second),
        ("refs/heads/main", &second),
        ("v1", &first),
        ("v1-annotated", &first),
        ("topic/long-name", &first),
        (first.as_str(), &first),
        (&first[..8], &first),
    ] {
        assert_eq!(mirror.resolve(reference).await.unwrap().id, *wanted, "{reference}");
    }
    assert!(mirror.resolve("main").await.unwrap().seconds > 0);

    let GitError::ReferenceUnknown { near, .. } = mirror.resolve("topic/long-nam").await.unwrap_err() else { panic!() };
    assert_eq!(near.first().map(String::as_str), Some("topic/long-name"));
    assert!(matches!(mirror.resolve("0000000").await, Err(GitError::ReferenceUnknown { .. })));
    repository.git(&["tag", "main", "v1"]);
    let mirror = git.fetch(&repository.path()).await.unwrap();
    assert!(matches!(mirror.resolve("main").await, Err(GitError::ReferenceAmbiguous { .. })));

    // A commit that no branch leads to any more is still found by its id, and moved branches are followed.
    repository.git(&["tag", "-d", "main"]);
    repository.git(&["reset", "-q", "--hard", &first]);
    repository.git(&["branch", "-D", "topic/long-name"]);
    let mirror = git.fetch(&format!("file://{}", repository.path())).await.unwrap();
    assert_eq!(mirror.resolve("main").await.unwrap().id, first);
    assert!(matches!(mirror.resolve("topic/long-name").await, Err(GitError::ReferenceUnknown { .. })));
    let mirror = git.fetch(&repository.path()).await.unwrap();
    assert_eq!(mirror.resolve(&second).await.unwrap().id, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_another_user_is_fetched_and_one_that_is_none_is_named() {
    let data = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    let first = repository.commit(&[("a.txt", "one")]);
    repository.give_to(65534);
    let git = Git::new(data.path().to_owned());
    let mirror = git.fetch(&repository.path()).await.unwrap();
    assert_eq!(mirror.resolve("main").await.unwrap().id, first);

    let nowhere = format!("{}/nowhere", repository.path());
    let GitError::Unreachable { repository: named, why } = git.fetch(&nowhere).await.unwrap_err() else { panic!() };
    assert_eq!(named, nowhere);
    assert!(why.contains("does not appear to be a git repository"), "{why}");
    assert!(matches!(git.fetch("http://127.0.0.1:1/x.git").await, Err(GitError::Unreachable { .. })));
    assert!(matches!(git.fetch("ext::sh -c 'touch /tmp/owned'").await, Err(GitError::RepositoryInvalid { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tar_follows_from_the_commit_alone() {
    let data = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    repository.write("web/run.sh", "#!/bin/sh\n");
    repository.executable("web/run.sh");
    repository.symlink("web/link", "../outside");
    let long = format!("web/{}/{}.txt", "d".repeat(90), "ü".repeat(60));
    repository.write(&long, "long");
    repository.write("web/empty", "");
    repository.write("web/-rf", "a name like an option");
    let commit = repository.commit(&[("other/x", "not in the context")]);
    repository.write("web/untracked", "not in the commit");
    let git = Git::new(data.path().to_owned());
    let mirror = git.fetch(&repository.path()).await.unwrap();
    let entries = mirror.list(&commit, "web").await.unwrap();
    assert!(entries.iter().any(|entry| entry.path == "link" && entry.kind == EntryKind::Symlink));
    let tar = || {
        let mut bytes = Vec::new();
        write_tar(&mut bytes, mirror.folder(), &entries, 1_000_000_000).unwrap();
        bytes
    };
    let bytes = tar();
    assert_eq!(bytes, tar());
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (1_000_000_000, 0, 0));
        let target = entry.link_name().unwrap().map(|target| target.display().to_string());
        seen.push((
            entry.path().unwrap().display().to_string(),
            header.mode().unwrap(),
            header.size().unwrap(),
            target,
        ));
    }
    let long = long.trim_start_matches("web/").to_owned();
    let folder = format!("{}/", "d".repeat(90));
    assert_eq!(
        seen,
        [
            ("-rf".to_owned(), 0o644, 21, None),
            (folder, 0o755, 0, None),
            (long, 0o644, 4, None),
            ("empty".to_owned(), 0o644, 0, None),
            ("link".to_owned(), 0o777, 0, Some("../outside".to_owned())),
            ("run.sh".to_owned(), 0o755, 10, None),
        ]
    );
    assert!(matches!(mirror.list(&commit, "nothing").await, Err(GitError::FolderUnknown { .. })));
    assert!(matches!(mirror.list(&commit, "web/run.sh").await, Err(GitError::FolderUnknown { .. })));
}

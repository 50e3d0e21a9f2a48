//! What only layers tell: how the files of two images differ, and what a later layer deletes.

use api::client::{HubClient, PageQuery};
use api::inspect::FileDifference;
use base::guard::TokenFile;

use crate::inside::{SECONDS_MAX, SYSTEM, archive, configuration, examined, status};
use crate::lone::Lone;

/// Made up, and put together here, so that nobody's scanner takes this file for a leak.
const PASSWORD: [&str; 2] = ["machine registry.example login ci password ", "c4mVqX9tLw2zRkPb"];

#[tokio::test(flavor = "multi_thread")]
async fn files_that_differ_are_told_and_secrets_that_a_later_layer_deletes_where_they_are_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Lone::start(folder.path(), "", &[]);
    let client =
        HubClient::new(hub.url("/").parse().unwrap(), Some(TokenFile::create_or_read(folder.path()).unwrap())).unwrap();
    let packages = status(&[("zlib1g", "1:1.2.13.dfsg-1")]);
    let base = archive(&[
        ("etc/os-release", SYSTEM),
        ("var/lib/dpkg/status", &packages),
        ("app/main", "the first"),
        ("app/old", "it goes"),
        ("srv/.netrc", &PASSWORD.concat()),
    ]);
    let first = [base.clone(), archive(&[("app/note", "alike")])];
    let second = [
        base,
        archive(&[("app/note", "alike"), ("app/main", "the other"), ("app/.wh.old", ""), ("srv/.wh..netrc", "")]),
    ];
    let before = hub.push("team/app", "1", &configuration(&first), &first).await;
    let after = hub.push("team/app", "2", &configuration(&second), &second).await;
    examined(&client, &before).await;
    assert_eq!(examined(&client, &after).await.secrets, None);

    let files = client.inside_difference(&before, &after).await.unwrap().files;
    assert_eq!((files.added, files.removed, files.changed, &files.not_compared), (0, 2, 1, &None));
    let names: Vec<&str> = files.items.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["/app/main", "/app/old", "/srv/.netrc"]);
    let FileDifference { before: Some(one), after: Some(other), .. } = &files.items[0] else { panic!("{files:?}") };
    assert_eq!((one.size, other.size), (9, 9));
    assert!(one.content.is_some() && one.content != other.content);
    let same = client.inside_difference(&after, &after).await.unwrap().files;
    assert_eq!(same, api::inspect::FilesDifference::default());

    // Asked for, they are looked for in what is known already.
    std::fs::write(folder.path().join("hub.toml"), "[inspect]\nsecrets = true\n").unwrap();
    hub.kill_and_start();
    let inside = rig::until("secrets are not looked for", SECONDS_MAX, || async {
        client.inside(&after).await.ok().filter(|inside| inside.secrets.is_some())
    })
    .await
    .unwrap();
    assert_eq!(inside.secrets, Some(1));
    let found = client.inside_secrets(&after, &PageQuery::default()).await.unwrap().items;
    assert_eq!((found.len(), &*found[0].rule, found[0].deleted), (1, "netrc-password", true));
    assert_eq!((found[0].place.layer, &*found[0].place.chain), (Some(0), &["/srv/.netrc".to_owned()][..]));
    let evidence = client.inside_evidence(&after).await.unwrap();
    assert_eq!(evidence.inside.secrets, Some(1));
    let page = hub.client.get(hub.url(&format!("/images/team/app@{after}/findings"))).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("netrc-password") && page.contains("deleted by a later layer"), "{page}");
    assert!(!page.contains(PASSWORD[1]) && !format!("{found:?}").contains(PASSWORD[1]));
    hub.stop();
}

//! The pages of images in a real browser.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::lone::Lone;
use crate::page::looks;

const SHOWN: Duration = Duration::from_secs(30);
/// A small telephone, and a screen.
const WIDTHS: [u32; 2] = [360, 1200];
const HEADS: &str = "return [...document.querySelectorAll('tbody th')].map((cell) => cell.innerText.trim());";

#[tokio::test(flavor = "multi_thread")]
async fn images_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    seen(&hub).await.unwrap();
    hub.stop();
}

async fn seen(hub: &Lone) -> anyhow::Result<()> {
    let browser = Browser::start().await?;
    browser.open(&hub.url("/images")).await?;
    browser.until("document.querySelector('h2')?.textContent === 'No image yet'", SHOWN).await?;
    sound(&browser, hub).await?;

    let config = json!({
        "os": "linux", "architecture": "arm64", "variant": "v8", "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Entrypoint": ["python3", "server.py"], "Env": ["GREETING=two words"], "ExposedPorts": { "80/tcp": {} } },
        "history": [{ "created_by": "ADD rootfs.tar /" }, { "created_by": "RUN make install" }],
    });
    let layer = |bytes: usize| Bytes::from(vec![7; bytes]);
    hub.push("team/vote", "1.0", &config, &[layer(3_000)]).await;
    let large = hub.push("team/vote", "2.0", &config, &[layer(700_000), layer(3_000)]).await;
    hub.push("team/vote", "a-small-one", &config, &[layer(10)]).await;
    hub.push("tools/cli", "v1", &config, &[layer(10)]).await;

    browser.open(&hub.url("/images")).await?;
    ensure!(browser.run(HEADS).await? == json!(["team/vote", "tools/cli"]));
    sound(&browser, hub).await?;
    browser.open(&hub.url("/images?search=cli")).await?;
    ensure!(browser.run(HEADS).await? == json!(["tools/cli"]));
    browser.open(&hub.url("/images")).await?;

    browser.click("a[href='/images/team/vote']").await?;
    browser.until("document.querySelector('h1')?.textContent === 'team/vote'", SHOWN).await?;
    ensure!(browser.run(HEADS).await? == json!(["a-small-one", "2.0", "1.0"]), "those pushed last come first");
    sound(&browser, hub).await?;
    for (order, tags) in [("largest", ["2.0", "1.0", "a-small-one"]), ("name", ["1.0", "2.0", "a-small-one"])] {
        browser.click(&format!("a[href='/images/team/vote?order={order}']")).await?;
        browser
            .until(&format!("document.querySelector('[aria-current=true]')?.textContent === '{order}'"), SHOWN)
            .await?;
        ensure!(browser.run(HEADS).await? == json!(tags), "{order}");
    }

    browser.click("a[href='/images/team/vote:2.0']").await?;
    browser.until("document.querySelector('h1')?.textContent === '2.0'", SHOWN).await?;
    sound(&browser, hub).await?;
    let text = browser.run("return document.querySelector('main').innerText;").await?;
    let text = text.as_str().unwrap_or_default();
    for part in [
        "linux/arm64/v8",
        r#"["python3","server.py"]"#,
        "GREETING=two words",
        "80/tcp",
        "ADD rootfs.tar /",
        "RUN make install",
    ] {
        ensure!(text.contains(part), "no {part} in {text}");
    }
    let layers = "return document.querySelector('#layers').closest('section').querySelectorAll('tbody tr').length;";
    ensure!(browser.run(layers).await? == 2);
    browser.click("pre.command button").await?;
    browser.until("document.querySelector('pre.command button').textContent === 'Copied'", SHOWN).await?;
    let copied = browser.clipboard().await?;
    ensure!(copied == format!("docker pull {}/team/vote@{large}", hub.host), "{copied}");
    browser.console_silent().await
}

/// A page can be read at every width, its links lead somewhere, and all that it loads is the hub's own.
pub(crate) async fn sound(browser: &Browser, hub: &Lone) -> anyhow::Result<()> {
    looks(browser, &WIDTHS).await?;
    let loaded = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name);").await?;
    let links = browser.run("return [...document.links].map((link) => link.href);").await?;
    let addresses: Vec<&str> =
        [&loaded, &links].into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str).collect();
    ensure!(!addresses.is_empty());
    for address in addresses {
        ensure!(address.starts_with(&hub.url("/")), "{address} is not the hub's");
        let status = hub.client.get(address).send().await?.status();
        ensure!(status == 200, "{address}: {status}");
    }
    Ok(())
}

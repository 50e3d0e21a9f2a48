//! The overview page in a real browser, while the hub builds, promotes, fails, dies and comes back.

use std::time::Duration;

use anyhow::{Context, ensure};
use api::delivery::PlanState;
use serde_json::Value;

use crate::browser::Browser;
use crate::scene::{LIMIT, Scene, folder, on_scene};

/// How long the page may take to show what the hub knows.
const SHOWN: Duration = Duration::from_secs(15);
/// From a telephone to a large screen, in pixels.
const WIDTHS: [u32; 4] = [400, 700, 900, 1600];
/// What a stranger's container writes into its log.
const HOSTILE: &str = "<script>window.owned = 1</script><img src=x onerror='window.owned = 2'></pre>";

#[test]
fn the_page_shows_what_happens_without_being_asked_again() {
    on_scene(folder("tests/app"), |mut scene| async move {
        let result = followed(&mut scene).await;
        (scene, result)
    });
}

async fn followed(scene: &mut Scene) -> anyhow::Result<()> {
    let browser = Browser::start().await?;
    browser.open(&scene.stage.url()).await?;
    // Whatever is seen from here on came by itself: a page that was loaded again would not know this.
    browser.run("window.loadedOnce = true;").await?;
    browser.until("document.querySelector('#live.good')?.textContent === 'live'", SHOWN).await?;
    browser.until("document.querySelector('#first-steps h2')", SHOWN).await?;
    for host in scene.hosts {
        browser.until(&format!("document.querySelector('#host-{host} .dot.good')"), SHOWN).await?;
    }

    scene.environments().await?;
    scene.build().await?;
    browser.until("document.getElementById('app-app') && !document.getElementById('first-steps')", SHOWN).await?;
    let table = "return [...document.querySelectorAll('.matrix th')].map((cell) => cell.textContent.trim());";
    let heads = browser.run(table).await?;
    ensure!(heads == serde_json::json!(["Service", "Newest build", "prod", "prepare job", "web"]), "{heads}");
    ensure!(cell(&browser).await?.contains("not there"), "nothing was promoted yet");

    promotion_seen(&browser, scene).await?;
    looks(&browser, &WIDTHS).await.context("with an app in place")?;
    failure_seen(&browser, scene).await?;
    looks(&browser, &WIDTHS).await.context("with a failure")?;
    ensure!(browser.run("return window.loadedOnce === true;").await? == Value::Bool(true), "the page was loaded again");
    browser.console_silent().await?;

    hub_lost_and_found(&browser, scene).await?;
    way_out(&browser, scene).await
}

/// What the page says of `web` in prod.
async fn cell(browser: &Browser) -> anyhow::Result<String> {
    let script = "return [...document.querySelectorAll('.matrix tbody tr')].at(-1).lastElementChild.innerText;";
    Ok(browser.run(script).await?.as_str().unwrap_or_default().to_owned())
}

/// A promotion appears, goes on host by host, and ends.
async fn promotion_seen(browser: &Browser, scene: &Scene) -> anyhow::Result<()> {
    let plan = scene.promote("app", "prod").await?;
    let heading = "document.querySelector('#under-way + .plan h3')?.innerText.startsWith('Promotion of app to prod')";
    browser.until(heading, SHOWN).await?;
    let summary = "document.querySelector('.summary[role=status]').textContent.includes('1 rollout is under way')";
    browser.until(summary, SHOWN).await?;
    for host in scene.hosts {
        let names = "[...document.querySelectorAll('.chip strong')].map((name) => name.textContent)";
        let chip = format!("{names}.includes('{host}')");
        browser.until(&chip, SHOWN).await?;
    }
    browser.until("document.querySelector('progress').value > 0", LIMIT).await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    browser.until("!document.getElementById('under-way')", SHOWN).await?;
    browser.until(&format!("document.querySelector('#plan-{} > .tag.good')", plan.id), SHOWN).await?;
    let shown = cell(browser).await?;
    for host in scene.hosts {
        ensure!(shown.contains(&format!("{host} healthy")), "{host} is not said to run it: {shown}");
    }
    let release = scene.client().overview().await.map_err(crate::scene::refused)?;
    let there = &release.apps[0].services[1].environments[&plan.env];
    ensure!(shown.contains(&there.release.digest.to_string()[7..19]), "{shown} is not {there:?}");
    Ok(())
}

/// A release that fails is the first thing on the page; its log, full of markup, is text; what a person does with the
/// page survives its changes.
async fn failure_seen(browser: &Browser, scene: &Scene) -> anyhow::Result<()> {
    let failing = format!("raise SystemExit({HOSTILE:?})\nserver = Server");
    scene.repository.edit("web/server.py", "server = Server", &failing)?;
    scene.repository.commit("A version that does not start")?;
    scene.build().await?;
    let plan = scene.promote("app", "prod").await?;
    let plan = scene.stage.plan_end(&plan.id, LIMIT).await?;
    ensure!(plan.state == PlanState::Failed, "{plan:#?}");
    browser.until("document.querySelector('main h2').textContent === 'Needs attention'", SHOWN).await?;
    let link = format!(".attention a[href='#plan-{}']", plan.id);
    browser.click(&link).await?;
    let summary = format!("#plan-{} summary", plan.id);
    browser.click(&summary).await?;
    browser.run("window.seenAt = document.getElementById('overview').dataset.now;").await?;
    browser.until("document.getElementById('overview').dataset.now !== window.seenAt", SHOWN).await?;
    let text = format!("return document.querySelector('#plan-{} details[open] pre').innerText;", plan.id);
    let log = browser.run(&text).await?;
    ensure!(log.as_str().is_some_and(|log| log.contains(HOSTILE)), "the log is not shown as it is: {log}");
    ensure!(browser.run("return window.owned ?? null;").await?.is_null(), "the log's script ran");
    let focus = format!("return document.activeElement === document.querySelector('{summary}');");
    ensure!(browser.run(&focus).await? == Value::Bool(true), "the focus was lost when the page changed");
    Ok(())
}

/// At every width, in both colours: nothing hangs over, everything can be read, every link leads somewhere.
pub(crate) async fn looks(browser: &Browser, widths: &[u32]) -> anyhow::Result<()> {
    let mut grounds = Vec::new();
    for width in widths {
        for scheme in ["light", "dark"] {
            browser.screen(*width, scheme).await?;
            let set = format!("innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches");
            browser.until(&set, SHOWN).await?;
            let found = browser.run(include_str!("page.js")).await?;
            ensure!(found["wider"] == serde_json::json!([]), "{width} {scheme}: too wide: {:#}", found["wider"]);
            ensure!(found["faint"] == serde_json::json!([]), "{width} {scheme}: too faint: {:#}", found["faint"]);
            ensure!(found["astray"] == serde_json::json!([]), "{width} {scheme}: links: {:#}", found["astray"]);
            ensure!(found["nameless"] == serde_json::json!([]), "{width} {scheme}: nameless: {:#}", found["nameless"]);
            grounds.push(found["ground"].as_str().unwrap_or_default().to_owned());
        }
    }
    ensure!(grounds[0] != grounds[1] && grounds.chunks(2).all(|pair| pair == &grounds[..2]), "{grounds:?}");
    Ok(())
}

/// The page says that the hub is gone, and follows it again when it is back.
async fn hub_lost_and_found(browser: &Browser, scene: &mut Scene) -> anyhow::Result<()> {
    scene.stage.hub_kill()?;
    browser.until("document.querySelector('#live.bad')", SHOWN).await?;
    scene.stage.hub_start().await?;
    browser.until("document.querySelector('#live.good') && window.loadedOnce", LIMIT).await
}

/// An address that is none, and the way back.
async fn way_out(browser: &Browser, scene: &Scene) -> anyhow::Result<()> {
    browser.open(&format!("{}no/such/page", scene.stage.url())).await?;
    browser.until("document.querySelector('h1')?.textContent === 'There is no such page'", SHOWN).await?;
    browser.click("main a[href='/']").await?;
    browser.until("location.pathname === '/' && document.getElementById('app-app')", SHOWN).await
}

//! Headless Chromium, driven through WebDriver (<https://www.w3.org/TR/webdriver2/>) as ChromeDriver speaks it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long one command of the driver may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How often the driver is asked whether it has ended.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// How often until it is killed.
const END_ASKS_MAX: u32 = 100;

/// A browser of its own, with a profile of its own; gone when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    // Kept open: the driver must not die of a closed pipe.
    output: BufReader<ChildStdout>,
    client: Client,
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver cannot be started\n\nhint: apt-get install chromium chromium-driver")?;
        let output = BufReader::new(driver.stdout.take().context("no output of chromedriver")?);
        let client = Client::builder().timeout(COMMAND_LIMIT).no_proxy().build()?;
        // From here on a failure ends the driver.
        let mut browser = Self { driver, output, client, session: String::new(), profile };
        let mut lines = browser.output.by_ref().lines().map_while(Result::ok);
        let told = lines.find(|line| line.contains("started successfully on port "));
        let told = told.context("chromedriver did not say on which port it listens")?;
        let port: u16 = told.rsplit("on port ").next().unwrap_or_default().trim_end_matches('.').parse()?;
        browser.session = format!("http://127.0.0.1:{port}/session");
        let folder = format!("--user-data-dir={}", browser.profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &folder,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser
            .command("", wanted)
            .await
            .context("Chromium cannot be started\n\nhint: apt-get install chromium chromium-driver")?;
        let id = session["sessionId"].as_str().context("a session without id")?;
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    async fn command(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let answer = self.client.post(format!("{}{path}", self.session)).json(&body).send().await?;
        let mut answer: Value = answer.json().await?;
        let value = answer["value"].take();
        if let Some(error) = value["error"].as_str() {
            bail!("{path}: {error}: {}", value["message"].as_str().unwrap_or_default());
        }
        Ok(value)
    }

    async fn devtools(&self, command: &str, parameters: Value) -> anyhow::Result<Value> {
        self.command("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    pub(crate) async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.command("/url", json!({"url": url})).await.map(drop)
    }

    /// What a function body returns in the page.
    pub(crate) async fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.command("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true in the page.
    pub(crate) async fn until(&self, expression: &str, limit: Duration) -> anyhow::Result<()> {
        let script = format!("return Boolean({expression});");
        let what = format!("the page does not come to {expression}");
        let holds = rig::until(&what, limit, || async {
            self.run(&script).await.ok().filter(|value| value == &Value::Bool(true))
        });
        match holds.await {
            Ok(_) => Ok(()),
            Err(error) => {
                let page = self.run("return location + '\\n' + document.body.innerText;").await.unwrap_or_default();
                Err(error.context(page.as_str().unwrap_or("and does not answer").to_owned()))
            }
        }
    }

    /// Clicks, as a person would, on the first element that a selector finds.
    pub(crate) async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let found = self.command("/element", json!({"using": "css selector", "value": selector})).await?;
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        let id = id.with_context(|| format!("{selector} is not found"))?;
        self.command(&format!("/element/{id}/click"), json!({})).await.map(drop)
    }

    /// Sets the screen's width in pixels and what colours the person prefers: `light` or `dark`.
    pub(crate) async fn screen(&self, width: u32, scheme: &str) -> anyhow::Result<()> {
        let screen = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await?;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await?;
        Ok(())
    }

    /// What was copied last.
    pub(crate) async fn clipboard(&self) -> anyhow::Result<String> {
        self.devtools("Browser.grantPermissions", json!({"permissions": ["clipboardReadWrite"]})).await?;
        let text = self.run("return navigator.clipboard.readText();").await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Fails with what the page wrote to the console since it was asked last.
    pub(crate) async fn console_silent(&self) -> anyhow::Result<()> {
        let said = self.command("/se/log", json!({"type": "browser"})).await?;
        ensure!(said.as_array().is_some_and(Vec::is_empty), "the console has {said:#}");
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Told to end, the driver ends its browser too.
        if let Ok(pid) = i32::try_from(self.driver.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = (0..END_ASKS_MAX).any(|_| {
            std::thread::sleep(END_INTERVAL);
            !matches!(self.driver.try_wait(), Ok(None))
        });
        if !ended {
            let _ = self.driver.kill();
            let _ = self.driver.wait();
        }
        self.browser_end();
    }
}

impl Browser {
    /// The driver does not always take its browser along: whoever has the profile's folder on its command line is it.
    fn browser_end(&self) {
        let folder = self.profile.path().as_os_str().as_encoded_bytes();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| line.windows(folder.len()).any(|part| part == folder)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

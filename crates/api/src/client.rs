//! The hub's API over HTTP, as the command line uses it.

use std::time::Duration;

use futures::stream::BoxStream;
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::access::{HostRevoked, HostToken, HostTokenRequest};
use crate::delivery::{
    Environment, EnvironmentChange, EnvironmentReleases, Host, Instance, LogLine, LogRequest, Overview, Plan,
    PromoteRequest, Release, ReleaseFilter, RollbackRequest, ServiceDifference, Why,
};
use crate::fanout::{Preheat, PreheatRequest, Swarm, SwarmHost};
use crate::inspect::{
    Advisories, Alert, Component, ContentsEvidence, DocumentFormat, Finding, ImageDifference, Inside, InsideFilter,
    Inventory, Secret, Sought, Unexamined, Where,
};
use crate::pipeline::{BuildRequest, Run, RunLogLine};
use crate::registry::Going;
use base::guard::TokenFile;
use oci::{Digest, RepositoryName};

use crate::{AppName, EnvName, HostName, Page, Problem, Result, ServiceAddress, lines};

/// How long the hub may take to answer anything but a stream.
const ANSWER_SECONDS_MAX: u64 = 60;
/// How long connecting may take.
const CONNECT_SECONDS_MAX: u64 = 5;
/// The most bytes of an answer that is not a stream.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A hub, reached over HTTP.
#[derive(Debug, Clone)]
pub struct HubClient {
    hub: Url,
    token: Option<TokenFile>,
    http: reqwest::Client,
}

/// Where a page of a list begins and how long it is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PageQuery {
    /// Begin after this item: the `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl HubClient {
    /// A client for the hub at `hub` (`http://127.0.0.1:5000`), with the token that changes need.
    pub fn new(hub: Url, token: Option<TokenFile>) -> Result<Self> {
        Self::with(hub, token, Vec::new())
    }

    /// The same for a hub whose certificate leads to one of these CAs (PEM), which the system need not know.
    pub fn trusting(hub: Url, token: Option<TokenFile>, ca: &[u8]) -> Result<Self> {
        let ca = reqwest::Certificate::from_pem_bundle(ca)
            .map_err(|error| Problem::new(400, "ca-invalid", "The hub's CA is not PEM").detail(error.to_string()))?;
        Self::with(hub, token, ca)
    }

    fn with(hub: Url, token: Option<TokenFile>, ca: Vec<reqwest::Certificate>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(ca)
            .no_proxy()
            .build()
            .map_err(|error| {
                Problem::new(500, "client-setup", "The HTTP client cannot be set up").detail(error.to_string())
            })?;
        Ok(Self { hub, token, http })
    }

    /// Where the hub is.
    pub fn hub(&self) -> &Url {
        &self.hub
    }

    /// Queues a run of the build server.
    pub async fn run_create(&self, request: &BuildRequest) -> Result<Run> {
        self.post("builds", request).await
    }

    /// A run as it stands.
    pub async fn run_get(&self, id: &str) -> Result<Run> {
        self.get(&format!("builds/{}", segment(id)), &()).await
    }

    /// A run's log from line `from` on; with `follow`, until the run has ended.
    pub async fn run_log(&self, id: &str, from: u64, follow: bool) -> Result<BoxStream<'static, Result<RunLogLine>>> {
        self.stream(
            &format!("builds/{}/log", segment(id)),
            &[("from", from.to_string()), ("follow", follow.to_string())],
        )
        .await
    }

    /// A release by id or the beginning of one.
    pub async fn release_get(&self, id: &str) -> Result<Release> {
        self.get(&format!("releases/{}", segment(id)), &()).await
    }

    /// Releases, newest first.
    pub async fn release_list(&self, filter: &ReleaseFilter, page: &PageQuery) -> Result<Page<Release>> {
        self.answer(self.request(Method::GET, "releases").query(filter).query(page)).await
    }

    /// Compares or applies a file of environments.
    pub async fn env_apply(&self, text: String, file_name: &str, dry_run: bool) -> Result<Vec<EnvironmentChange>> {
        let request = self
            .request(Method::POST, "environments")
            .query(&[("file_name", file_name), ("dry_run", if dry_run { "true" } else { "false" })])
            .header(reqwest::header::CONTENT_TYPE, "application/yaml")
            .body(text);
        self.answer(request).await
    }

    /// Environments in their order.
    pub async fn env_list(&self) -> Result<Vec<Environment>> {
        self.get("environments", &()).await
    }

    /// What an environment has of an app; `None` when that is what `known` (the tag of an earlier answer) already says.
    /// With it comes the answer's own tag.
    pub async fn env_releases(
        &self,
        app: &AppName,
        env: &EnvName,
        known: Option<&str>,
    ) -> Result<Option<(EnvironmentReleases, String)>> {
        let path = format!("environments/{}/releases", segment(env.as_str()));
        let mut request = self.request(Method::GET, &path).query(&[("app", app.as_str())]);
        if let Some(known) = known {
            request = request.header(reqwest::header::IF_NONE_MATCH, format!("\"{known}\""));
        }
        let sent = request.timeout(Duration::from_secs(ANSWER_SECONDS_MAX)).send().await;
        if sent.as_ref().is_ok_and(|response| response.status() == reqwest::StatusCode::NOT_MODIFIED) {
            return Ok(None);
        }
        let response = self.accepted(sent).await?;
        let tag = response.headers().get(reqwest::header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.unwrap_or_default().trim_matches('"').to_owned();
        let releases = self.parsed(response).await?;
        Ok(Some((releases, tag)))
    }

    /// What differs between two environments, or between the newest build and one.
    pub async fn env_diff(
        &self,
        app: &AppName,
        from: Option<&EnvName>,
        to: &EnvName,
    ) -> Result<Vec<ServiceDifference>> {
        let mut query = vec![("app", app.as_str())];
        query.extend(from.map(|from| ("from", from.as_str())));
        self.get(&format!("environments/{}/diff", segment(to.as_str())), &query).await
    }

    /// Promotes.
    pub async fn promote(&self, request: &PromoteRequest) -> Result<Plan> {
        self.post("promotions", request).await
    }

    /// Rolls back.
    pub async fn rollback(&self, request: &RollbackRequest) -> Result<Plan> {
        self.post("rollbacks", request).await
    }

    /// A plan as it stands.
    pub async fn plan_get(&self, id: &str) -> Result<Plan> {
        self.get(&format!("plans/{}", segment(id)), &()).await
    }

    /// Plans, newest first.
    pub async fn plan_list(
        &self,
        app: Option<&AppName>,
        env: Option<&EnvName>,
        page: &PageQuery,
    ) -> Result<Page<Plan>> {
        let mut query = Vec::new();
        query.extend(app.map(|app| ("app", app.as_str())));
        query.extend(env.map(|env| ("env", env.as_str())));
        self.answer(self.request(Method::GET, "plans").query(&query).query(page)).await
    }

    /// What a plan, or the way into an environment, waits for.
    pub async fn why(&self, address: &ServiceAddress, env: &EnvName) -> Result<Why> {
        self.get("why", &[("address", address.to_string()), ("env", env.to_string())]).await
    }

    /// Hosts by name.
    pub async fn host_list(&self, page: &PageQuery) -> Result<Page<Host>> {
        self.get("hosts", page).await
    }

    /// A one-time token for a host.
    pub async fn host_token_create(&self, request: &HostTokenRequest) -> Result<HostToken> {
        self.post("host-tokens", request).await
    }

    /// Revokes all certificates of a host.
    pub async fn host_revoke(&self, host: &HostName) -> Result<HostRevoked> {
        self.post(&format!("hosts/{}/revoke", segment(host.as_str())), &()).await
    }

    /// Has a release's image fetched by all hosts of an environment, and says how far they are.
    pub async fn preheat(&self, request: &PreheatRequest) -> Result<Preheat> {
        self.post("preheats", request).await
    }

    /// Images that hosts have or fetch.
    pub async fn swarm_list(&self, page: &PageQuery) -> Result<Page<Swarm>> {
        self.get("fanout", page).await
    }

    /// The hosts of one of them.
    pub async fn swarm_hosts(&self, digest: &Digest, page: &PageQuery) -> Result<Page<SwarmHost>> {
        self.get(&format!("fanout/{}", segment(&digest.to_string())), page).await
    }

    /// What runs in an environment.
    pub async fn instance_list(&self, app: &AppName, env: &EnvName) -> Result<Vec<Instance>> {
        self.get("instances", &[("app", app.as_str()), ("env", env.as_str())]).await
    }

    /// Output of a service's containers.
    pub async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.stream("logs", request).await
    }

    /// What the rules of retention would remove now.
    pub async fn retention_list(&self, repository: Option<&RepositoryName>, page: &PageQuery) -> Result<Page<Going>> {
        #[derive(Serialize)]
        struct Query<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            repository: Option<&'a RepositoryName>,
            #[serde(flatten)]
            page: &'a PageQuery,
        }
        self.get("registry/retention", &Query { repository, page }).await
    }

    /// Asks the hub's registry: a path under `/v2/`, with a query if it has one. The answer is the registry's, whatever
    /// its status.
    pub async fn registry(&self, method: Method, path: &str, headers: reqwest::header::HeaderMap) -> Result<Response> {
        let url = self.hub.join(path).map_err(|error| {
            Problem::new(400, "path-invalid", "This is no path of a registry").detail(format!("{path}: {error}"))
        })?;
        self.http.request(method, url).headers(headers).send().await.map_err(|error| self.unreachable(&error))
    }

    /// How an image stands.
    pub async fn inside(&self, digest: &Digest) -> Result<Inside> {
        self.get(&inside(digest, ""), &()).await
    }

    /// What is in an image, counted.
    pub async fn inside_inventory(&self, digest: &Digest) -> Result<Inventory> {
        self.get(&inside(digest, "/inventory"), &()).await
    }

    /// What is in an image.
    pub async fn inside_components(
        &self,
        digest: &Digest,
        filter: &InsideFilter,
        page: &PageQuery,
    ) -> Result<Page<Component>> {
        self.answer(self.request(Method::GET, &inside(digest, "/components")).query(filter).query(page)).await
    }

    /// What is wrong with an image, the worst first.
    pub async fn inside_findings(
        &self,
        digest: &Digest,
        filter: &InsideFilter,
        page: &PageQuery,
    ) -> Result<Page<Finding>> {
        self.answer(self.request(Method::GET, &inside(digest, "/findings")).query(filter).query(page)).await
    }

    /// What of an image was not examined.
    pub async fn inside_unexamined(&self, digest: &Digest, page: &PageQuery) -> Result<Page<Unexamined>> {
        self.get(&inside(digest, "/unexamined"), page).await
    }

    /// Keys, tokens and passwords in an image's layers.
    pub async fn inside_secrets(&self, digest: &Digest, page: &PageQuery) -> Result<Page<Secret>> {
        self.get(&inside(digest, "/secrets"), page).await
    }

    /// All of what is in an image, as a document.
    pub async fn inside_document(&self, digest: &Digest, format: DocumentFormat) -> Result<Vec<u8>> {
        let word = match format {
            DocumentFormat::Json => "json",
            DocumentFormat::Cyclonedx => "cyclonedx",
            DocumentFormat::Spdx => "spdx",
            DocumentFormat::Sarif => "sarif",
        };
        let request = self.request(Method::GET, &inside(digest, &format!("/document/{word}")));
        let sent = request.timeout(Duration::from_secs(ANSWER_SECONDS_MAX)).send().await;
        let response = self.accepted(sent).await?;
        self.body(response).await
    }

    /// What gates ask of an image, signed.
    pub async fn inside_evidence(&self, digest: &Digest) -> Result<ContentsEvidence> {
        self.get(&inside(digest, "/evidence"), &()).await
    }

    /// How the second image differs from the first.
    pub async fn inside_difference(&self, first: &Digest, second: &Digest) -> Result<ImageDifference> {
        let second = segment(&second.to_string());
        self.get(&inside(first, &format!("/difference/{second}")), &()).await
    }

    /// Which images, releases, environments and hosts have what is sought; with `history` also those that had it.
    pub async fn find(&self, sought: &Sought, history: bool, page: &PageQuery) -> Result<Where> {
        let mut query = vec![("history", history.to_string())];
        match sought {
            Sought::Component { ecosystem, name, version } => {
                query.push(("component", name.clone()));
                query.extend(ecosystem.clone().map(|ecosystem| ("ecosystem", ecosystem)));
                query.extend(version.clone().map(|version| ("version", version)));
            }
            Sought::Advisory { id } => query.push(("advisory", id.clone())),
            Sought::Licence { id } => query.push(("licence", id.clone())),
        }
        self.answer(self.request(Method::GET, "where").query(&query).query(page)).await
    }

    /// What is known of what is wrong with components.
    pub async fn advisories(&self) -> Result<Advisories> {
        self.get("advisories", &()).await
    }

    /// Takes in a file of advisories in the place of the one before.
    pub async fn advisories_take(&self, file: Vec<u8>) -> Result<Advisories> {
        self.answer(self.request(Method::PUT, "advisories").body(file)).await
    }

    /// What new advisories meant for what the hub knows, the last first.
    pub async fn alerts(&self, page: &PageQuery) -> Result<Page<Alert>> {
        self.get("advisories/news", page).await
    }

    /// All that the overview page shows.
    pub async fn overview(&self) -> Result<Overview> {
        self.get("overview", &()).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.hub.clone();
        url.set_path(&format!("/api/v1/{path}"));
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(reqwest::header::AUTHORIZATION, token.authorization()),
            None => request,
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T> {
        self.answer(self.request(Method::GET, path).query(query)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    async fn stream<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<BoxStream<'static, Result<T>>> {
        let request = self.request(Method::GET, path).query(query);
        let response = self.accepted(request.send().await).await?;
        Ok(lines::decode(response.bytes_stream()))
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let sent = request.timeout(Duration::from_secs(ANSWER_SECONDS_MAX)).send().await;
        let response = self.accepted(sent).await?;
        self.parsed(response).await
    }

    async fn parsed<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Problem::new(502, "answer-unreadable", "The hub's answer cannot be read")
                .detail(format!("{error}"))
                .hint("Hub and command may differ in version: `longshore version` shows both.")
        })
    }

    async fn accepted(&self, sent: std::result::Result<Response, reqwest::Error>) -> Result<Response> {
        let response = sent.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = self.body(response).await?;
        Err(serde_json::from_slice::<Problem>(&body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            Problem::new(status, "answer-unexpected", format!("{} answered {status}", self.hub))
                .detail(&text)
                .hint("Is this the address of a Longshore hub? Set it with --hub.")
        }))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(
                    Problem::new(502, "answer-too-long", "The hub's answer is too long").detail("more than 64 MiB")
                );
            }
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Problem {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Problem::new(503, "hub-unreachable", format!("The hub at {} cannot be reached", self.hub))
            .detail(cause.to_string())
            .hint("Start one with `longshore hub`, or name another with --hub or LONGSHORE_HUB.")
    }
}

fn inside(digest: &Digest, rest: &str) -> String {
    format!("inside/{}{rest}", segment(&digest.to_string()))
}

fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

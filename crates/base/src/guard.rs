//! Who may talk to a listener: Host and Origin checks against web pages that reach in from a browser (a47), and the token
//! that changes need.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, Uri, header};

use crate::folder::{FolderError, file_read, file_replace};
use crate::problem::Problem;

/// The names and addresses that a listener answers to. A request for any other host is refused: after DNS rebinding a
/// browser sends the attacker's name.
#[derive(Clone, Debug)]
pub struct HostGuard {
    names: Arc<BTreeSet<String>>,
}

impl HostGuard {
    /// A guard for these host names and addresses, without ports. `localhost` and the loopback addresses are among
    /// them only when given.
    pub fn new<I: IntoIterator<Item = S>, S: AsRef<str>>(names: I) -> Self {
        let names = names.into_iter().filter_map(|name| normal_name(name.as_ref())).collect();
        Self { names: Arc::new(names) }
    }

    /// Checks the Host (or HTTP/2 authority) and, when there is one, the Origin.
    ///
    /// # Errors
    /// 421 `host-unknown`, 403 `origin-foreign`, 400 `host-invalid`.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if self.is_plain(uri, headers) {
            return Ok(());
        }
        let authority = authority(uri, headers)?;
        let name = normal_name(host_of(&authority)).ok_or_else(host_invalid)?;
        if !self.names.contains(&name) {
            return Err(Problem::new(421, "host-unknown", "This server does not answer to that name")
                .detail(format!("the request is for `{name}`"))
                .hint("use the address that the server was started with, or add the name to its configuration"));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) if is_same_origin(origin, &authority) => Ok(()),
            _ => Err(Problem::new(403, "origin-foreign", "A page of another site may not call this server")
                .detail("the request's Origin differs from the host that it is for")
                .hint("open the server's own pages, or call it from a program")),
        }
    }

    /// What most requests are: one Host header that is written as the guard writes it, and nothing else to look at.
    fn is_plain(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        uri.authority().is_none()
            && !headers.contains_key(header::ORIGIN)
            && host.to_str().is_ok_and(|host| self.names.contains(host_of(host)))
    }

    /// The answer to a request that [`HostGuard::check`] refuses.
    pub fn refusal(&self, request: &Request) -> Option<Response> {
        let problem = self.check(request.uri(), request.headers()).err()?;
        tracing::warn!(kind = %problem.kind, detail = %problem.detail, "request refused");
        Some(problem.into_response())
    }
}

fn host_invalid() -> Problem {
    Problem::new(400, "host-invalid", "The request does not say clearly which host it is for")
        .hint("send exactly one valid Host header")
}

fn authority(uri: &Uri, headers: &HeaderMap) -> Result<String, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::to_str).transpose().map_err(|_| host_invalid())?;
    if hosts.next().is_some() {
        return Err(host_invalid());
    }
    match (host, uri.authority().map(http::uri::Authority::as_str)) {
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => Err(host_invalid()),
        (Some(one), _) | (None, Some(one)) => Ok(one.to_ascii_lowercase()),
        (None, None) => Err(host_invalid()),
    }
}

/// The host of `host`, `host:port` or `[v6]:port`.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => {
            if host.contains(':') && !host.ends_with(']') { authority } else { host }
        }
        _ => authority,
    }
}

/// One spelling per name: addresses without brackets in canonical form, names in lowercase without the final dot.
fn normal_name(host: &str) -> Option<String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    let valid = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    valid.then_some(name)
}

fn is_same_origin(origin: &HeaderValue, authority: &str) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let port_default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |text: &str| {
        text.to_ascii_lowercase().strip_suffix(port_default).map_or_else(|| text.to_ascii_lowercase(), str::to_owned)
    };
    plain(rest) == plain(authority)
}

const TOKEN_FILE: &str = "token";
const TOKEN_MODE: u32 = 0o600;
const TOKEN_RANDOM_BYTES: usize = 32;
const TOKEN_FILE_BYTES_MAX: u64 = 256;

/// The token that changes need on a loopback listener. Who can read the data folder has it; others do not.
#[derive(Clone)]
pub struct TokenFile {
    token: Arc<str>,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenFile(…)")
    }
}

impl TokenFile {
    /// Reads the data folder's token, or makes one (32 random bytes as hex in a file of mode 0600).
    ///
    /// # Errors
    /// The folder cannot be read or written, or the system has no randomness.
    pub fn create_or_read(data_folder: &Path) -> Result<Self, FolderError> {
        if let Some(existing) = Self::read(data_folder)? {
            return Ok(existing);
        }
        let path = data_folder.join(TOKEN_FILE);
        let mut bytes = [0u8; TOKEN_RANDOM_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| FolderError::Io {
            path: path.clone(),
            action: "made",
            source: std::io::Error::other("the system gives no random numbers"),
        })?;
        let token = hex::encode(bytes);
        file_replace(&path, format!("{token}\n").as_bytes(), TOKEN_MODE)?;
        Ok(Self { token: token.into() })
    }

    /// Reads the data folder's token; `None` when there is none, or it is too short to be one.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(data_folder: &Path) -> Result<Option<Self>, FolderError> {
        let content = file_read(&data_folder.join(TOKEN_FILE), TOKEN_FILE_BYTES_MAX)?;
        let text = content.and_then(|content| String::from_utf8(content).ok());
        Ok(text
            .map(|text| text.trim().to_owned())
            .filter(|token| token.len() >= TOKEN_RANDOM_BYTES)
            .map(|token| Self { token: token.into() }))
    }

    /// The value of the `Authorization` header that carries the token.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Whether the request carries the token; takes the same time wherever a wrong one differs.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, given)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else { return false };
        scheme.eq_ignore_ascii_case("bearer")
            && aws_lc_rs::constant_time::verify_slices_are_equal(given.trim().as_bytes(), self.token.as_bytes()).is_ok()
    }
}

/// Middleware for `axum::middleware::from_fn_with_state`: methods other than GET, HEAD and OPTIONS need the token.
pub async fn changes_need_token(State(token): State<TokenFile>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads || token.is_in(request.headers()) {
        return next.run(request).await;
    }
    let given = request.headers().contains_key(header::AUTHORIZATION);
    let problem = if given {
        Problem::new(401, "token-wrong", "The token is not this server's")
    } else {
        Problem::new(401, "token-missing", "Changes need the server's token")
    };
    let mut response = problem
        .hint("it is in the file `token` of the hub's data folder: name that folder with --data (LONGSHORE_DATA), as a user who may read it")
        .into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    async fn status(app: &Router, method: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a47_foreign_hosts_and_origins_are_refused() {
        let guard = HostGuard::new(["localhost", "127.0.0.1", "[::1]", "hub.example"]);
        let guarded = move |request: Request| {
            let guard = guard.clone();
            async move { guard.refusal(&request).unwrap_or_default() }
        };
        let app = Router::new().route("/", get(guarded));
        let origin = |host, origin| [("host", host), ("origin", origin)];
        for fine in ["localhost:5000", "127.0.0.1", "[::1]:5000", "[0:0::1]", "HUB.example.:1"] {
            assert_eq!(status(&app, "GET", &[("host", fine)]).await, 200, "{fine}");
        }
        for foreign in ["evil.example:5000", "127.0.0.2", "localhost.evil.example", "[::2]:5000"] {
            assert_eq!(status(&app, "GET", &[("host", foreign)]).await, 421, "{foreign}");
        }
        for invalid in ["", "a b", "user@localhost", ":5000", "::1:5000x"] {
            assert_eq!(status(&app, "GET", &[("host", invalid)]).await, 400, "{invalid}");
        }
        assert_eq!(status(&app, "GET", &[]).await, 400);
        assert_eq!(status(&app, "GET", &[("host", "localhost"), ("host", "evil.example")]).await, 400);
        assert_eq!(status(&app, "GET", &origin("localhost:5000", "http://localhost:5000")).await, 200);
        assert_eq!(status(&app, "GET", &origin("hub.example", "https://hub.example:443")).await, 200);
        for foreign in
            ["http://evil.example", "null", "http://localhost:8080", "http://localhost", "file://localhost:5000"]
        {
            assert_eq!(status(&app, "GET", &origin("localhost:5000", foreign)).await, 403, "{foreign}");
        }
    }

    #[tokio::test]
    async fn changes_need_the_folders_token() {
        let folder = tempfile::tempdir().unwrap();
        assert!(TokenFile::read(folder.path()).unwrap().is_none());
        let token = TokenFile::create_or_read(folder.path()).unwrap();
        let again = TokenFile::create_or_read(folder.path()).unwrap();
        assert_eq!(token.authorization(), again.authorization());
        assert!(!format!("{token:?}").contains(&token.token[..8]));
        let app = Router::new()
            .route("/", get(|| async {}).post(|| async {}))
            .layer(from_fn_with_state(again, changes_need_token));
        let right = token.authorization();
        assert_eq!(status(&app, "GET", &[]).await, 200);
        assert_eq!(status(&app, "POST", &[("authorization", &right)]).await, 200);
        for wrong in ["", "Bearer", "Bearer ", "Basic abc", &right[..right.len() - 1]] {
            assert_eq!(status(&app, "POST", &[("authorization", wrong)]).await, 401, "{wrong}");
        }
        assert_eq!(status(&app, "POST", &[]).await, 401);
        assert_eq!(status(&app, "POST", &[("authorization", &right), ("authorization", &right)]).await, 401);
    }
}

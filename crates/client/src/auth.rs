//! Token services and Basic authentication (RFC 7235 challenges, the distribution project's token specification).

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use jiff::Timestamp;
use oci::Challenge;
use reqwest::RequestBuilder;
use serde::Deserialize;
use url::Url;

use crate::request::{read_bounded, unreachable};
use crate::{Client, ClientError, guard, retry};

/// A token's life when the service does not say, as the specification has it.
const TOKEN_SECONDS_DEFAULT: u64 = 60;
/// A token is renewed so long before its end.
const TOKEN_SECONDS_SPARE: u64 = 10;
const TOKENS_MAX: usize = 1000;
/// Basic authentication is the same for every scope.
const BASIC: &str = "basic";
/// The user that stands for a refresh token in the password's place, as Docker writes it.
const IDENTITY_TOKEN_USER: &str = "<token>";
const TOKEN_ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The value of an Authorization header, for a time.
#[derive(Clone)]
pub(crate) struct Token {
    header: String,
    until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Client {
    /// The Authorization header for a scope that was granted before.
    pub(crate) fn authorization(&self, host: &str, scope: &str) -> Option<String> {
        let tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = [scope, BASIC].iter().find_map(|scope| tokens.get(&(host.to_owned(), (*scope).to_owned())));
        token.filter(|token| token.until > Instant::now()).map(|token| token.header.clone())
    }

    /// Answers a 401: gets a token, or sends the password where the registry itself asks for it.
    pub(crate) async fn authenticate(
        &self,
        host: &str,
        base: &Url,
        scope: &str,
        headers: &HeaderMap,
    ) -> Result<bool, ClientError> {
        let challenges =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(Challenge::parse);
        let mut token = None;
        for challenge in challenges {
            token = match challenge.scheme.as_str() {
                "bearer" => self.token_fetch(host, base, scope, &challenge).await?.map(|token| (scope, token)),
                "basic" => self.basic(host).map(|header| (BASIC, Token { header, until: after(3600) })),
                _ => None,
            };
            if token.is_some() {
                break;
            }
        }
        let Some((scope, token)) = token else { return Ok(false) };
        let mut tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            let now = Instant::now();
            tokens.retain(|_, token| token.until > now);
            if tokens.len() >= TOKENS_MAX {
                tokens.clear();
            }
        }
        tokens.insert((host.to_owned(), scope.to_owned()), token);
        Ok(true)
    }

    fn basic(&self, host: &str) -> Option<String> {
        let credentials = self.0.config.credentials.get(host)?;
        let text = format!("{}:{}", credentials.user, credentials.password);
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)))
    }

    /// The realm is the registry's word alone, and the password goes there: it must be as trustworthy as the registry (a12).
    async fn token_fetch(
        &self,
        host: &str,
        base: &Url,
        scope: &str,
        challenge: &Challenge,
    ) -> Result<Option<Token>, ClientError> {
        let protocol = |reason: &str| ClientError::Protocol { host: host.to_owned(), reason: reason.to_owned() };
        let realm = challenge.parameters.get("realm").ok_or_else(|| protocol("a Bearer challenge without a realm"))?;
        let realm = Url::parse(realm).map_err(|_| protocol("a realm that is not a URL"))?;
        let untrusted = |reason| ClientError::Untrusted {
            host: host.to_owned(),
            target: realm.origin().ascii_serialization(),
            reason,
        };
        if let Some(reason) = guard::refusal(base, &realm) {
            return Err(untrusted(reason));
        }
        if realm.scheme() != "https" && !guard::is_loopback(&realm) && realm.origin() != base.origin() {
            return Err(untrusted("a token service must use https"));
        }
        if !guard::names_private(base) && guard::resolves_private(&realm).await && !guard::resolves_private(base).await
        {
            return Err(untrusted("a public registry may not lead to a private address"));
        }
        let response = self.token_request(host, realm, scope, challenge.parameters.get("service")).send().await;
        let response = response.map_err(|source| unreachable(host, source))?;
        let status = response.status();
        if retry::passes(status) {
            let seconds = retry::asked(response.headers(), Timestamp::now()).map(retry::whole_seconds);
            return Err(ClientError::Busy { host: host.to_owned(), action: "give a token", seconds });
        }
        if !status.is_success() {
            return Ok(None);
        }
        let body = read_bounded(host, response, TOKEN_ANSWER_BYTES_MAX).await?;
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| protocol("a token that is not JSON"))?;
        let seconds = answer.expires_in.unwrap_or(TOKEN_SECONDS_DEFAULT).clamp(1, 24 * 3600);
        let token = answer.token.or(answer.access_token).ok_or_else(|| protocol("an answer without a token"))?;
        Ok(Some(Token {
            header: format!("Bearer {token}"),
            until: after(seconds.saturating_sub(TOKEN_SECONDS_SPARE).max(1)),
        }))
    }
}

impl Client {
    /// Asks with a password in a GET, with a refresh token in a POST (OAuth 2, as cloud registries want it).
    fn token_request(&self, host: &str, mut realm: Url, scope: &str, service: Option<&String>) -> RequestBuilder {
        let service = service.map(String::as_str);
        let credentials = self.0.config.credentials.get(host);
        if let Some(credentials) = credentials.filter(|credentials| credentials.user == IDENTITY_TOKEN_USER) {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", &credentials.password);
            form.append_pair("client_id", "longshore").append_pair("scope", scope);
            form.append_pair("service", service.unwrap_or_default());
            let request = self.0.http.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            return request.body(form.finish());
        }
        {
            let mut query = realm.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            query.extend_pairs(scope.split(' ').filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope)));
        }
        let request = self.0.http.get(realm);
        match self.basic(host) {
            Some(basic) => request.header(AUTHORIZATION, basic),
            None => request,
        }
    }
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

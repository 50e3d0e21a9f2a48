//! Token services and Basic authentication (RFC 7235 challenges, the distribution project's token specification).

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::HeaderMap;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;

use crate::{Client, ClientError, guard};

/// A token's life when the service does not say, as the specification has it.
const TOKEN_SECONDS_DEFAULT: u64 = 60;
/// A token is renewed so long before its end.
const TOKEN_SECONDS_SPARE: u64 = 10;
const TOKENS_MAX: usize = 1000;
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

/// One challenge: its scheme in lowercase, and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: String,
    pub(crate) parameters: HashMap<String, String>,
}

/// Reads `Scheme name="value", …`. Values may be quoted; a broken rest is ignored.
pub(crate) fn challenge(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let mut parameters = HashMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let value = if let Some(quoted) = after.strip_prefix('"') {
            let (value, after) = quoted.split_once('"')?;
            rest = after;
            value
        } else {
            let (value, after) = after.split_once(',').unwrap_or((after, ""));
            rest = after;
            value.trim()
        };
        parameters.entry(name).or_insert_with(|| value.to_owned());
    }
    (!scheme.is_empty()).then(|| Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
}

impl Client {
    /// The Authorization header for a scope that was granted before.
    pub(crate) fn authorization(&self, host: &str, scope: &str) -> Option<String> {
        let tokens = self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&(host.to_owned(), scope.to_owned()))?;
        (token.until > Instant::now()).then(|| token.header.clone())
    }

    /// Answers a 401: gets a token, or sends the password where the registry itself asks for it.
    pub(crate) async fn authenticate(
        &self,
        host: &str,
        base: &Url,
        scope: &str,
        headers: &HeaderMap,
    ) -> Result<bool, ClientError> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| challenge(value.to_str().ok()?));
        let mut token = None;
        for challenge in challenges {
            token = match challenge.scheme.as_str() {
                "bearer" => self.token_fetch(host, base, scope, &challenge).await?,
                "basic" => self.basic(host).map(|header| Token { header, until: after(3600) }),
                _ => None,
            };
            if token.is_some() {
                break;
            }
        }
        let Some(token) = token else { return Ok(false) };
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
        let mut realm = Url::parse(realm).map_err(|_| protocol("a realm that is not a URL"))?;
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
        {
            let mut query = realm.query_pairs_mut();
            if let Some(service) = challenge.parameters.get("service") {
                query.append_pair("service", service);
            }
            if !scope.is_empty() {
                query.append_pair("scope", scope);
            }
        }
        let mut request = self.0.http.get(realm);
        if let Some(basic) = self.basic(host) {
            request = request.header(AUTHORIZATION, basic);
        }
        let response = request
            .send()
            .await
            .map_err(|source| ClientError::Unreachable { host: host.to_owned(), source: source.without_url() })?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let body = crate::request::read_bounded(host, response, TOKEN_ANSWER_BYTES_MAX).await?;
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| protocol("a token that is not JSON"))?;
        let seconds = answer.expires_in.unwrap_or(TOKEN_SECONDS_DEFAULT).clamp(1, 24 * 3600);
        let token = answer.token.or(answer.access_token).ok_or_else(|| protocol("an answer without a token"))?;
        Ok(Some(Token {
            header: format!("Bearer {token}"),
            until: after(seconds.saturating_sub(TOKEN_SECONDS_SPARE).max(1)),
        }))
    }
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::challenge;

    #[test]
    fn challenges_are_read() {
        let read =
            challenge(r#"Bearer realm="https://a/t?x=1,2",service="s", scope="repository:a/b:pull,push",error=x"#)
                .unwrap();
        assert_eq!(read.scheme, "bearer");
        assert_eq!(read.parameters["realm"], "https://a/t?x=1,2");
        assert_eq!(read.parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(read.parameters["error"], "x");
        assert_eq!(challenge("Basic realm=\"x\"").unwrap().scheme, "basic");
        assert_eq!(challenge("").map(|read| read.scheme), None);
        assert!(challenge("Bearer realm=\"open").is_none());
    }
}

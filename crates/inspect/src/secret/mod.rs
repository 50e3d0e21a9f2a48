//! Secrets left in files: keys, tokens and passwords, with checks that keep false alarms down.
//!
//! One pass looks for literal beginnings; only around those is anything checked, each within a stated distance. A secret
//! itself never leaves this module: what is told is its rule, its place and its known prefix.

mod assignment;
mod check;
mod files;
mod pem;
mod place;
mod scan;
mod token;

#[cfg(test)]
mod tests;

pub use scan::{LOOK_AHEAD_BYTES, LOOK_BACK_BYTES, SECRETS_MAX, Scanner, WINDOW_BYTES};

/// What kind of secret it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An AWS access key id; with its secret key beside it, [`Confidence::High`].
    AwsAccessKey,
    /// A GitHub token.
    GithubToken,
    /// A GitLab token.
    GitlabToken,
    /// A Slack token.
    SlackToken,
    /// A Slack webhook address.
    SlackWebhook,
    /// A Stripe key.
    StripeKey,
    /// An npm token.
    NpmToken,
    /// A PyPI token.
    PypiToken,
    /// A Google API key, OAuth client secret or access token.
    GoogleKey,
    /// A key of an Azure storage account or service bus.
    AzureKey,
    /// A registry login in a Docker or Podman configuration.
    DockerLogin,
    /// A signed JSON web token.
    Jwt,
    /// A private key in PEM or OpenSSH form.
    PrivateKey,
    /// A private key that is encrypted with a passphrase.
    EncryptedPrivateKey,
    /// A password in `.netrc`.
    Netrc,
    /// A password in `.pgpass`.
    Pgpass,
    /// A login in `.git-credentials`.
    GitCredentials,
    /// A password in an address.
    AddressPassword,
    /// A value that a name such as `password` or `api_key` is given.
    Assignment,
}

impl Rule {
    /// All of them, in the order in which they are declared.
    pub(crate) const ALL: [Self; 19] = [
        Self::AwsAccessKey,
        Self::GithubToken,
        Self::GitlabToken,
        Self::SlackToken,
        Self::SlackWebhook,
        Self::StripeKey,
        Self::NpmToken,
        Self::PypiToken,
        Self::GoogleKey,
        Self::AzureKey,
        Self::DockerLogin,
        Self::Jwt,
        Self::PrivateKey,
        Self::EncryptedPrivateKey,
        Self::Netrc,
        Self::Pgpass,
        Self::GitCredentials,
        Self::AddressPassword,
        Self::Assignment,
    ];

    /// The rule's name in reports: `github-token`.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::AwsAccessKey => "aws-access-key",
            Rule::GithubToken => "github-token",
            Rule::GitlabToken => "gitlab-token",
            Rule::SlackToken => "slack-token",
            Rule::SlackWebhook => "slack-webhook",
            Rule::StripeKey => "stripe-key",
            Rule::NpmToken => "npm-token",
            Rule::PypiToken => "pypi-token",
            Rule::GoogleKey => "google-key",
            Rule::AzureKey => "azure-key",
            Rule::DockerLogin => "docker-login",
            Rule::Jwt => "jwt",
            Rule::PrivateKey => "private-key",
            Rule::EncryptedPrivateKey => "encrypted-private-key",
            Rule::Netrc => "netrc-password",
            Rule::Pgpass => "pgpass-password",
            Rule::GitCredentials => "git-credentials",
            Rule::AddressPassword => "address-password",
            Rule::Assignment => "assignment",
        }
    }
}

/// How sure it is that something is a secret that matters. One class lower in the folders of tests and examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// It has the form; many such are harmless.
    Low,
    /// Form and randomness fit.
    Medium,
    /// A checksum, a structure or a file made for secrets says so.
    High,
}

impl Confidence {
    const fn lower(self) -> Self {
        match self {
            Confidence::High => Confidence::Medium,
            Confidence::Medium | Confidence::Low => Confidence::Low,
        }
    }
}

/// One secret, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// What kind it is.
    pub rule: Rule,
    /// How sure that is.
    pub confidence: Confidence,
    /// Line, from 1.
    pub line: u64,
    /// Column in bytes, from 1.
    pub column: u64,
    /// What may be shown of it: a known prefix or the name it is given to, and how many bytes it has.
    pub excerpt: String,
}

/// A secret as the checks tell it.
#[derive(Debug)]
struct Found {
    rule: Rule,
    confidence: Confidence,
    /// Where the secret begins in the bytes that were given.
    start: usize,
    /// Where it ends; nothing before that is looked at again.
    end: usize,
    excerpt: String,
}

impl Found {
    /// A secret of which `shown` may be told.
    fn new(rule: Rule, confidence: Confidence, start: usize, end: usize, shown: &str) -> Self {
        let length = end.saturating_sub(start);
        Self { rule, confidence, start, end, excerpt: format!("{shown}… ({length} bytes)") }
    }
}

//! What access refuses, by kind, each with cause and next step.

use api::{HostName, Micros, Problem};
use base::db::DbError;

/// The kinds of [`AccessError`]; the kebab-case name of each is the `kind` on the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessErrorKind {
    /// The token's text is not that of a token.
    TokenInvalid,
    /// The token is of another hub.
    TokenForeign,
    /// The token was never made here, was removed long after its end, or its secret is wrong.
    TokenUnknown,
    /// The token's time is over.
    TokenExpired,
    /// The token was used, with another key or for another host.
    TokenSpent,
    /// The token is for another host.
    TokenHost,
    /// A token is asked for with a life that is zero or too long.
    TokenSeconds,
    /// Labels are too many, too long or have control characters.
    LabelsInvalid,
    /// A host of that name exists.
    HostExists,
    /// No certificate is kept of a host of that name.
    HostUnknown,
    /// The certificate request cannot be read, or is not signed by its own key.
    CsrInvalid,
    /// A call that needs a certificate came without.
    CertificateMissing,
    /// The certificate was not issued by this hub to a host.
    CertificateUnknown,
    /// The certificate's time is over.
    CertificateExpired,
    /// The certificate was revoked.
    CertificateRevoked,
    /// The host has too many good certificates.
    CertificateTooMany,
    /// The database or the CA failed.
    Internal,
}

/// A refusal or failure of access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// See [`AccessErrorKind::TokenInvalid`].
    #[error("this is not a host token; a token looks like `lsh1.ID.SECRET.FINGERPRINT`")]
    TokenInvalid,
    /// See [`AccessErrorKind::TokenForeign`].
    #[error("the token belongs to another hub: its CA is {token}, this hub's is {hub}")]
    TokenForeign {
        /// Fingerprint in the token.
        token: String,
        /// Fingerprint of this hub's CA.
        hub: String,
    },
    /// See [`AccessErrorKind::TokenUnknown`].
    #[error("this hub does not know the token")]
    TokenUnknown,
    /// See [`AccessErrorKind::TokenExpired`].
    #[error("the token could be used until {0}")]
    TokenExpired(Micros),
    /// See [`AccessErrorKind::TokenSpent`].
    #[error("the token was used by host `{host}` at {at}")]
    TokenSpent {
        /// Who used it.
        host: HostName,
        /// When.
        at: Micros,
    },
    /// See [`AccessErrorKind::TokenHost`].
    #[error("the token is for host `{token}`, and `{asked}` asks")]
    TokenHost {
        /// The host it is for.
        token: HostName,
        /// The host that wants to use it.
        asked: HostName,
    },
    /// See [`AccessErrorKind::TokenSeconds`].
    #[error("a token cannot be used for {seconds} seconds; give 1 to {} seconds", api::access::TOKEN_SECONDS_MAX)]
    TokenSeconds {
        /// What was asked for.
        seconds: u64,
    },
    /// See [`AccessErrorKind::LabelsInvalid`].
    #[error("{0}")]
    LabelsInvalid(String),
    /// See [`AccessErrorKind::HostExists`].
    #[error("a host named `{0}` is enrolled already, and the token does not name it")]
    HostExists(HostName),
    /// See [`AccessErrorKind::HostUnknown`].
    #[error("this hub keeps no certificate of a host named `{0}`")]
    HostUnknown(HostName),
    /// See [`AccessErrorKind::CsrInvalid`].
    #[error("the certificate request cannot be used: {0}")]
    CsrInvalid(String),
    /// See [`AccessErrorKind::CertificateMissing`].
    #[error("the call needs a host's certificate, and none was presented")]
    CertificateMissing,
    /// See [`AccessErrorKind::CertificateUnknown`].
    #[error("the certificate was not issued to a host by this hub")]
    CertificateUnknown,
    /// See [`AccessErrorKind::CertificateExpired`].
    #[error("the certificate of host `{host}` is valid until {until}")]
    CertificateExpired {
        /// The host.
        host: HostName,
        /// The end of its validity.
        until: Micros,
    },
    /// See [`AccessErrorKind::CertificateRevoked`].
    #[error("the certificate of host `{host}` was revoked at {at}")]
    CertificateRevoked {
        /// The host.
        host: HostName,
        /// When.
        at: Micros,
    },
    /// See [`AccessErrorKind::CertificateTooMany`].
    #[error("host `{0}` has too many certificates that are still good")]
    CertificateTooMany(HostName),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The CA cannot sign, or what is stored of it is damaged.
    #[error("the CA cannot be used: {0}")]
    Ca(String),
}

impl From<rcgen::Error> for AccessError {
    fn from(error: rcgen::Error) -> Self {
        Self::Ca(error.to_string())
    }
}

impl From<base::tls::TlsError> for AccessError {
    fn from(error: base::tls::TlsError) -> Self {
        Self::Ca(error.to_string())
    }
}

const HINT_TOKEN: &str = "make a new token on the hub with `longshore host token`";
const HINT_ENROL: &str =
    "enrol the host again: `longshore host token --host NAME` on the hub, then `longshore agent --join TOKEN`";

impl AccessError {
    /// The kind of error.
    pub fn kind(&self) -> AccessErrorKind {
        use AccessErrorKind as K;
        match self {
            Self::TokenInvalid => K::TokenInvalid,
            Self::TokenForeign { .. } => K::TokenForeign,
            Self::TokenUnknown => K::TokenUnknown,
            Self::TokenExpired(_) => K::TokenExpired,
            Self::TokenSpent { .. } => K::TokenSpent,
            Self::TokenHost { .. } => K::TokenHost,
            Self::TokenSeconds { .. } => K::TokenSeconds,
            Self::LabelsInvalid(_) => K::LabelsInvalid,
            Self::HostExists(_) => K::HostExists,
            Self::HostUnknown(_) => K::HostUnknown,
            Self::CsrInvalid(_) => K::CsrInvalid,
            Self::CertificateMissing => K::CertificateMissing,
            Self::CertificateUnknown => K::CertificateUnknown,
            Self::CertificateExpired { .. } => K::CertificateExpired,
            Self::CertificateRevoked { .. } => K::CertificateRevoked,
            Self::CertificateTooMany(_) => K::CertificateTooMany,
            Self::Db(_) | Self::Ca(_) => K::Internal,
        }
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        use AccessErrorKind as K;
        let (status, kind, title, hint) = match error.kind() {
            K::TokenInvalid => (
                400,
                "token-invalid",
                "The token is not valid",
                "copy the whole line that `longshore host token` printed",
            ),
            K::TokenForeign => (
                403,
                "token-foreign",
                "The token is of another hub",
                "use the address of the hub that made the token, or make a token on this one",
            ),
            K::TokenUnknown => (403, "token-unknown", "The token is unknown", HINT_TOKEN),
            K::TokenExpired => (403, "token-expired", "The token has expired", HINT_TOKEN),
            K::TokenSpent => (403, "token-spent", "The token was used already", HINT_TOKEN),
            K::TokenHost => (
                403,
                "token-host",
                "The token is for another host",
                "use the host's own name, or make a token for this one with `longshore host token --host NAME`",
            ),
            K::TokenSeconds => {
                (400, "token-seconds", "The token's life is not possible", "give a shorter or longer --ttl")
            }
            K::LabelsInvalid => (
                400,
                "labels-invalid",
                "The labels are not valid",
                "use short keys and values without control characters",
            ),
            K::HostExists => (
                409,
                "host-exists",
                "The host's name is taken",
                "choose another name; to replace the machine, make a token for it with `longshore host token --host NAME`",
            ),
            K::HostUnknown => (404, "host-unknown", "There is no such host", "`longshore host ls` lists hosts"),
            K::CsrInvalid => (
                400,
                "csr-invalid",
                "The certificate request is not valid",
                "send a PKCS #10 request in PEM, signed by its own ECDSA or Ed25519 key",
            ),
            K::CertificateMissing => (401, "certificate-missing", "A host's certificate is needed", HINT_ENROL),
            K::CertificateUnknown => (401, "certificate-unknown", "The certificate is not a host's", HINT_ENROL),
            K::CertificateExpired => (401, "certificate-expired", "The certificate has expired", HINT_ENROL),
            K::CertificateRevoked => (403, "certificate-revoked", "The certificate was revoked", HINT_ENROL),
            K::CertificateTooMany => (
                429,
                "certificate-too-many",
                "The host has too many certificates",
                "wait until some expire, or enrol the host again",
            ),
            K::Internal => {
                return match error {
                    AccessError::Db(error) => error.into(),
                    other => Problem::internal(&other),
                };
            }
        };
        Problem::new(status, kind, title).detail(error.to_string()).hint(hint)
    }
}

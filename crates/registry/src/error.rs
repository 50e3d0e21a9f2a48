//! What the registry refuses, in the words of the distribution specification and as problems.

use api::{HostName, Problem};
use axum::response::{IntoResponse, Response};
use base::db::{DbError, DbErrorKind};
use base::units::Size;
use blobs::{BlobError, BlobErrorKind};
use http::{HeaderValue, StatusCode, header};
use oci::{Digest, ManifestError, ManifestReference, NameError, PathError, RepositoryName, Tag, UploadName};
use serde_json::json;

use crate::TAGS_PER_PUSH_MAX;
use crate::upstream::UpstreamError;

/// Why the registry refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path, or a name in it, is not one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The method is not for this path.
    #[error("{method} is not for this path; {allowed} are")]
    Method {
        /// The method.
        method: String,
        /// Those that are, as the `Allow` header has them.
        allowed: &'static str,
    },
    /// The caller may not.
    #[error("hosts read images and do nothing else: {what} cannot be changed here")]
    Denied {
        /// The repository.
        what: String,
    },
    /// The host may not have it.
    #[error(
        "host {host} may not pull {what}: the rules under [[registry.hosts]] in hub.toml ask for labels that its token did not give it; to change that, enrol it with `longshore host token --host {host} --label KEY=VALUE`"
    )]
    HostDenied {
        /// The host.
        host: HostName,
        /// The repository.
        what: String,
    },
    /// It is filled by pulls alone.
    #[error("{repository} is pulled through from {host}: push there, or to a repository that has no upstream")]
    Mirror {
        /// The repository.
        repository: RepositoryName,
        /// Its upstream.
        host: String,
    },
    /// An upstream cannot be set up.
    #[error("the upstream of `{prefix}` cannot be set up: {reason}")]
    UpstreamSetup {
        /// Its prefix.
        prefix: RepositoryName,
        /// Why.
        reason: String,
    },
    /// An upstream did not give what was asked of it.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// No such repository.
    #[error("there is no repository {repository}")]
    RepositoryUnknown {
        /// The repository.
        repository: RepositoryName,
    },
    /// No manifest can have such a tag.
    #[error("no manifest has that name: {0}")]
    TagUnknown(NameError),
    /// More tags for one manifest than one request may write.
    #[error("{count} tags are too many for one request; write at most {TAGS_PER_PUSH_MAX}, then the rest")]
    TooManyTags {
        /// How many there are.
        count: usize,
    },
    /// No such manifest.
    #[error("{repository} has no manifest {reference}")]
    ManifestUnknown {
        /// The repository.
        repository: RepositoryName,
        /// Tag or digest.
        reference: ManifestReference,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Other bytes than the digest in the path says.
    #[error("the manifest's bytes do not have the digest {expected}; nothing was kept")]
    ManifestDigest {
        /// The digest in the path.
        expected: Digest,
    },
    /// Something that the manifest needs is not there.
    #[error("the manifest needs {digest}, which {repository} does not have; push it first")]
    NeedMissing {
        /// The repository.
        repository: RepositoryName,
        /// What is missing.
        digest: Digest,
    },
    /// Something that the manifest needs has another size than it says.
    #[error("the manifest gives {digest} {said} bytes and it has {size}; push a manifest that says so")]
    NeedSize {
        /// What it needs.
        digest: Digest,
        /// As the manifest says.
        said: u64,
        /// As it is.
        size: u64,
    },
    /// Too many manifests about one subject.
    #[error("{subject} has as many referrers as it may; delete some first")]
    TooManyReferrers {
        /// The subject.
        subject: Digest,
    },
    /// The manifest's body is too long, or broke off.
    #[error("the manifest cannot be read: {reason}")]
    ManifestBody {
        /// Why.
        reason: String,
        /// Whether it is too long.
        too_long: bool,
    },
    /// Someone needs it.
    #[error("{digest} is kept: {reason}")]
    Kept {
        /// What was to be deleted.
        digest: Digest,
        /// Who needs it.
        reason: String,
    },
    /// A rule says that the tag never changes.
    #[error(
        "{repository}:{tag} is immutable by the rule for `{rule}` and leads to {digest}; push under another tag, or have the platform team change the rule"
    )]
    TagImmutable {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What it leads to.
        digest: Box<Digest>,
        /// The pattern of the rule.
        rule: String,
    },
    /// A quota is used up.
    #[error(
        "the quota is used up: the rule for `{rule}` allows {quota}, {used} are held and this brings {adding} or more; delete images, or have the platform team raise the quota"
    )]
    QuotaExceeded {
        /// The pattern of the rule.
        rule: String,
        /// What it allows.
        quota: Size,
        /// What is held.
        used: Size,
        /// What was to come.
        adding: Size,
    },
    /// No such blob in the repository.
    #[error("{repository} has no blob {digest}")]
    BlobUnknown {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// A collector of another hub took the bytes while they came.
    #[error("blob {digest} was being removed while it came; push it again")]
    BlobCollected {
        /// The blob.
        digest: Digest,
    },
    /// A blob that a caller wanted whole is longer than it bears.
    #[error("blob {digest} has {size} bytes, at most {bytes_max} were asked for")]
    BlobTooLong {
        /// The blob.
        digest: Digest,
        /// Its length.
        size: u64,
        /// What the caller bears.
        bytes_max: u64,
    },
    /// The bytes of a blob could not be read.
    #[error("blob {digest} cannot be read: {source}")]
    BlobRead {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: std::io::Error,
    },
    /// No such upload in the repository.
    #[error("{repository} has no upload {upload}; begin a new one")]
    UploadUnknown {
        /// The repository.
        repository: RepositoryName,
        /// The upload.
        upload: UploadName,
    },
    /// A parameter or header is missing or wrong.
    #[error("{what}")]
    Request {
        /// What is wrong, and what is expected.
        what: String,
        /// The specification's code for it.
        code: Code,
    },
    /// A list cannot go on from there.
    #[error("the page's `after` is not one that this list gives out in this order; begin at the first page")]
    Cursor,
    /// The store of blobs refused or failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A row is not what this version writes.
    #[error("the registry's data is damaged: {what}")]
    Damaged {
        /// Where.
        what: String,
    },
}

/// The error codes of the distribution specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A blob is not known to the registry.
    BlobUnknown,
    /// An upload cannot be continued so.
    BlobUploadInvalid,
    /// An upload is not known.
    BlobUploadUnknown,
    /// A digest is malformed, or not that of the content.
    DigestInvalid,
    /// A manifest needs a blob that is not there.
    ManifestBlobUnknown,
    /// A manifest is refused.
    ManifestInvalid,
    /// A manifest is not known.
    ManifestUnknown,
    /// A repository's name is malformed.
    NameInvalid,
    /// A repository is not known.
    NameUnknown,
    /// A length does not fit.
    SizeInvalid,
    /// A tag's name is malformed.
    TagInvalid,
    /// The caller may not.
    Denied,
    /// The registry does not do this.
    Unsupported,
    /// Too many at once.
    TooManyRequests,
    /// The registry failed.
    Unknown,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl Error {
    /// Status and code on the wire.
    fn answer(&self) -> (StatusCode, Code) {
        match self {
            Self::Path(PathError::Unknown { .. }) => (StatusCode::NOT_FOUND, Code::Unsupported),
            Self::Path(PathError::Repository(_)) => (StatusCode::BAD_REQUEST, Code::NameInvalid),
            Self::Path(PathError::Tag(_)) => (StatusCode::BAD_REQUEST, Code::TagInvalid),
            Self::Path(PathError::Digest(_)) => (StatusCode::BAD_REQUEST, Code::DigestInvalid),
            Self::Path(PathError::Upload { .. }) | Self::UploadUnknown { .. } => {
                (StatusCode::NOT_FOUND, Code::BlobUploadUnknown)
            }
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported),
            Self::Denied { .. } | Self::HostDenied { .. } | Self::QuotaExceeded { .. } | Self::Mirror { .. } => {
                (StatusCode::FORBIDDEN, Code::Denied)
            }
            Self::UpstreamSetup { .. } => (StatusCode::BAD_REQUEST, Code::Unknown),
            Self::Upstream(error) => upstream_answer(error),
            Self::RepositoryUnknown { .. } => (StatusCode::NOT_FOUND, Code::NameUnknown),
            Self::ManifestUnknown { .. } | Self::TagUnknown(_) => (StatusCode::NOT_FOUND, Code::ManifestUnknown),
            Self::TooManyTags { .. } => (StatusCode::URI_TOO_LONG, Code::SizeInvalid),
            Self::Manifest(ManifestError::TooLarge { .. } | ManifestError::TooManyReferences { .. })
            | Self::ManifestBody { too_long: true, .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            Self::TooManyReferrers { .. } => (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests),
            Self::Manifest(_) | Self::NeedSize { .. } | Self::ManifestBody { too_long: false, .. } => {
                (StatusCode::BAD_REQUEST, Code::ManifestInvalid)
            }
            Self::ManifestDigest { .. } => (StatusCode::BAD_REQUEST, Code::DigestInvalid),
            Self::NeedMissing { .. } => (StatusCode::NOT_FOUND, Code::ManifestBlobUnknown),
            Self::TagImmutable { .. } => (StatusCode::CONFLICT, Code::Denied),
            // What the specification has for a deletion that a registry does not do.
            Self::Kept { .. } => (StatusCode::METHOD_NOT_ALLOWED, Code::Denied),
            Self::BlobUnknown { .. } => (StatusCode::NOT_FOUND, Code::BlobUnknown),
            Self::BlobCollected { .. } => (StatusCode::SERVICE_UNAVAILABLE, Code::BlobUnknown),
            Self::BlobTooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            Self::Cursor => (StatusCode::BAD_REQUEST, Code::Unsupported),
            Self::Request { code, .. } => (StatusCode::BAD_REQUEST, *code),
            Self::Blob(error) => blob_answer(error),
            Self::Database(error) if error.kind() == DbErrorKind::Full => {
                (StatusCode::INSUFFICIENT_STORAGE, Code::Unknown)
            }
            Self::Database(error) if error.is_temporary() => (StatusCode::SERVICE_UNAVAILABLE, Code::Unknown),
            Self::Database(_) | Self::Damaged { .. } | Self::BlobRead { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown)
            }
        }
    }
}

fn upstream_answer(error: &UpstreamError) -> (StatusCode, Code) {
    match error {
        UpstreamError::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests),
        UpstreamError::Denied { .. } => (StatusCode::FORBIDDEN, Code::Denied),
        UpstreamError::NotFound { .. } => (StatusCode::NOT_FOUND, Code::NameUnknown),
        UpstreamError::Unavailable { .. } | UpstreamError::Wrong { .. } => (StatusCode::BAD_GATEWAY, Code::Unknown),
        UpstreamError::Here(error) => error.answer(),
    }
}

fn blob_answer(error: &BlobError) -> (StatusCode, Code) {
    match error {
        BlobError::UploadUnknown { .. } => (StatusCode::NOT_FOUND, Code::BlobUploadUnknown),
        BlobError::OffsetMismatch { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid),
        BlobError::RangeUnsatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid),
        BlobError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
        BlobError::TooManyUploads => (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests),
        BlobError::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, Code::Unknown),
        _ => match error.kind() {
            BlobErrorKind::NotFound => (StatusCode::NOT_FOUND, Code::BlobUnknown),
            BlobErrorKind::Invalid => (StatusCode::BAD_REQUEST, Code::DigestInvalid),
            BlobErrorKind::Conflict => (StatusCode::CONFLICT, Code::BlobUploadInvalid),
            BlobErrorKind::Limit => (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests),
            BlobErrorKind::Client => (StatusCode::BAD_REQUEST, Code::BlobUploadInvalid),
            BlobErrorKind::Storage => (StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown),
        },
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.answer();
        let message = if let Self::Database(error) = &self
            && status != StatusCode::INTERNAL_SERVER_ERROR
        {
            tracing::warn!(%error, "the database cannot do it now");
            match status {
                StatusCode::INSUFFICIENT_STORAGE => {
                    "there is no space left for the registry's database; make room there"
                }
                _ => "the registry's database cannot do it now; try again",
            }
            .to_owned()
        } else if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "the registry failed");
            "the registry failed; its log says why".to_owned()
        } else {
            tracing::debug!(error = %self, %status, "refused");
            self.to_string()
        };
        let body = json!({ "errors": [{ "code": code.as_str(), "message": message, "detail": null }] }).to_string();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Self::Blob(BlobError::OffsetMismatch { size, .. }) = &self
            && let Ok(range) = HeaderValue::try_from(format!("0-{}", size.saturating_sub(1)))
        {
            response.headers_mut().insert(header::RANGE, range);
        }
        if let Self::Method { allowed, .. } = &self {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        if let Self::Kept { .. } = &self {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if let Self::Upstream(UpstreamError::Busy { seconds, .. }) = &self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        if let Self::Blob(BlobError::RangeUnsatisfiable { size, .. }) = &self
            && let Ok(range) = HeaderValue::try_from(format!("bytes */{size}"))
        {
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code) = error.answer();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return Self::internal(&error);
        }
        if let Error::UpstreamSetup { .. } = error {
            return Self::new(status.as_u16(), "config-invalid", "The hub's configuration is not right")
                .detail(error.to_string())
                .hint("Correct its [[registry.upstreams]] in hub.toml, or leave it out.");
        }
        let kind = format!("registry-{}", code.as_str().to_ascii_lowercase().replace('_', "-"));
        Self::new(status.as_u16(), kind, "The registry refused").detail(error.to_string())
    }
}

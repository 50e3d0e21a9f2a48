//! Whether a statement speaks of a component in an image, why not where it does not, and which of several prevails.

use std::cmp::Reverse;

use super::{Identifier, Product, Statement, Status};
use crate::document::Hash;
use crate::purl::Purl;

/// The image that a finding is in.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The digests it goes by: of its manifest, of an index that names it, of its configuration.
    pub digests: &'a [String],
    /// The repository with its host; where it stands without one, no host that is stated is compared.
    pub repository: Option<&'a str>,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The architecture, `amd64`.
    pub architecture: Option<&'a str>,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The vulnerability's identifier and its aliases.
    pub vulnerability: &'a [String],
    /// The component's package URLs: one for each of its names.
    pub purls: &'a [Purl],
    /// The hashes of its file.
    pub hashes: &'a [Hash],
}

/// Whether a statement speaks of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applies {
    /// It does.
    Yes,
    /// It does not.
    No(Reason),
}

/// Why a statement does not speak of a finding: the nearest miss among all that it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// It is about another vulnerability.
    #[error("it is about {stated}")]
    OtherVulnerability {
        /// Which.
        stated: String,
    },
    /// It names no product.
    #[error("it names no product")]
    NoProduct,
    /// It names products only by what nothing can be compared with.
    #[error("it names its product only as \"{stated}\", which cannot be compared")]
    NotComparable {
        /// A CPE, an address or a name.
        stated: String,
    },
    /// It is about another product.
    #[error("it is about the product {stated}")]
    OtherProduct {
        /// Which.
        stated: String,
    },
    /// It is about this product, but about another part of it.
    #[error("it is about the part {stated} of this product")]
    OtherPart {
        /// Which.
        stated: String,
    },
    /// A package URL that agrees but for a qualifier or the subpath.
    #[error("it is about {key} \"{stated}\", this one has \"{found}\"")]
    OtherQualifier {
        /// Which qualifier.
        key: String,
        /// Its value in the statement.
        stated: String,
        /// Its value here; empty for none.
        found: String,
    },
    /// A package URL that agrees but for the version.
    #[error("it is about version {stated}, this one has \"{found}\"")]
    OtherVersion {
        /// The statement's.
        stated: String,
        /// The version here; empty for none.
        found: String,
    },
}

/// Whether `statement` speaks of `target` in the image `subject`.
///
/// A product is the image or the component itself. A package URL that states no version means all versions; its
/// qualifiers must all be there, further ones do not matter. Where a product has subcomponents, one of them must be
/// the component.
pub fn applies(statement: &Statement, subject: &Subject<'_>, target: &Target<'_>) -> Applies {
    let same = |stated: &String| target.vulnerability.iter().any(|id| id.eq_ignore_ascii_case(stated));
    if !statement.vulnerabilities.iter().any(same) {
        return Applies::No(Reason::OtherVulnerability { stated: statement.vulnerabilities.join(", ") });
    }
    let mut nearest = Reason::NoProduct;
    for product in &statement.products {
        match product_applies(product, subject, target) {
            Ok(()) => return Applies::Yes,
            Err(reason) => nearest = nearest.max(reason),
        }
    }
    Applies::No(nearest)
}

fn product_applies(product: &Product, subject: &Subject<'_>, target: &Target<'_>) -> Result<(), Reason> {
    let image = any(&product.identifiers, |identifier| is_image(identifier, subject));
    if product.subcomponents.is_empty() {
        let component = any(&product.identifiers, |identifier| is_component(identifier, target));
        return match (image, component) {
            (Ok(()), _) | (_, Ok(())) => Ok(()),
            (Err(a), Err(b)) => Err(a.max(b)),
        };
    }
    image?;
    let mut nearest = Reason::NoProduct;
    for part in &product.subcomponents {
        match any(part, |identifier| is_component(identifier, target)) {
            Ok(()) => return Ok(()),
            Err(Reason::OtherProduct { stated }) => nearest = nearest.max(Reason::OtherPart { stated }),
            Err(reason) => nearest = nearest.max(reason),
        }
    }
    Err(nearest)
}

fn any(identifiers: &[Identifier], check: impl Fn(&Identifier) -> Result<(), Reason>) -> Result<(), Reason> {
    let mut nearest = Reason::NoProduct;
    for identifier in identifiers {
        match check(identifier) {
            Ok(()) => return Ok(()),
            Err(reason) => nearest = nearest.max(reason),
        }
    }
    Err(nearest)
}

fn is_image(identifier: &Identifier, subject: &Subject<'_>) -> Result<(), Reason> {
    match identifier {
        Identifier::Purl(purl) if matches!(purl.package_type(), "oci" | "docker") => image_purl(purl, subject),
        Identifier::Purl(purl) => Err(Reason::OtherProduct { stated: purl.to_string() }),
        Identifier::Hash(hash) => {
            let digest = digest(hash);
            match subject.digests.contains(&digest) {
                true => Ok(()),
                false => Err(Reason::OtherProduct { stated: digest }),
            }
        }
        Identifier::Other(stated) => Err(Reason::NotComparable { stated: stated.clone() }),
    }
}

fn digest(hash: &Hash) -> String {
    format!("{}:{}", hash.algorithm.oci_name(), hash.hex)
}

fn image_purl(purl: &Purl, subject: &Subject<'_>) -> Result<(), Reason> {
    let other = || Reason::OtherProduct { stated: purl.to_string() };
    let stated = purl.version().filter(|version| version.contains(':'));
    // A digest says all: the same image under another name is the same image.
    if let Some(stated) = stated
        && subject.digests.iter().any(|digest| digest == stated)
    {
        return qualifier(purl, "arch", subject.architecture);
    }
    let repository = subject.repository.ok_or_else(other)?;
    let name = repository.rsplit('/').next().unwrap_or(repository);
    if !name.eq_ignore_ascii_case(purl.name()) {
        return Err(other());
    }
    match purl.qualifier("repository_url") {
        Some(url) => {
            let url = url.trim_end_matches('/');
            // Either the whole repository, or what the name lies in.
            let within = repository.rsplit_once('/').map(|(within, _)| within);
            let is_hosted = repository.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']));
            let is = |known: &str| {
                url == known || !is_hosted && url.strip_suffix(known).is_some_and(|host| host.ends_with('/'))
            };
            if !is(repository) && !within.is_some_and(is) {
                return Err(other());
            }
        }
        // Type docker states the repository as its namespace.
        None => {
            let namespace = purl.namespace().map(|namespace| format!("/{namespace}/{}", purl.name()));
            if namespace.is_some_and(|path| !format!("/{repository}").ends_with(&path)) {
                return Err(other());
            }
        }
    }
    qualifier(purl, "arch", subject.architecture)?;
    qualifier(purl, "tag", subject.tag)?;
    match purl.version() {
        None => Ok(()),
        Some(version) if Some(version) == subject.tag => Ok(()),
        Some(version) => {
            let found = subject.digests.first().cloned().unwrap_or_default();
            Err(Reason::OtherVersion { stated: version.to_owned(), found })
        }
    }
}

fn qualifier(purl: &Purl, key: &str, found: Option<&str>) -> Result<(), Reason> {
    match purl.qualifier(key) {
        Some(stated) if Some(stated) != found => Err(Reason::OtherQualifier {
            key: key.to_owned(),
            stated: stated.to_owned(),
            found: found.unwrap_or_default().to_owned(),
        }),
        _ => Ok(()),
    }
}

fn is_component(identifier: &Identifier, target: &Target<'_>) -> Result<(), Reason> {
    match identifier {
        Identifier::Purl(stated) => {
            let mut nearest = Reason::OtherProduct { stated: stated.to_string() };
            for found in target.purls {
                match covers(stated, found) {
                    Ok(()) => return Ok(()),
                    Err(reason) => nearest = nearest.max(reason),
                }
            }
            Err(nearest)
        }
        Identifier::Hash(hash) if target.hashes.contains(hash) => Ok(()),
        Identifier::Hash(hash) => Err(Reason::OtherProduct { stated: digest(hash) }),
        Identifier::Other(stated) => Err(Reason::NotComparable { stated: stated.clone() }),
    }
}

/// Whether `stated` means `found`.
fn covers(stated: &Purl, found: &Purl) -> Result<(), Reason> {
    let named =
        |purl: &Purl| (purl.package_type().to_owned(), purl.namespace().map(str::to_owned), purl.name().to_owned());
    if named(stated) != named(found) {
        return Err(Reason::OtherProduct { stated: stated.to_string() });
    }
    for (key, value) in stated.qualifiers() {
        if found.qualifier(key) != Some(value) {
            let found = found.qualifier(key).unwrap_or_default().to_owned();
            return Err(Reason::OtherQualifier { key: key.to_owned(), stated: value.to_owned(), found });
        }
    }
    if let Some(subpath) = stated.subpath()
        && found.subpath() != Some(subpath)
    {
        let found = found.subpath().unwrap_or_default().to_owned();
        return Err(Reason::OtherQualifier { key: "subpath".to_owned(), stated: subpath.to_owned(), found });
    }
    match stated.version() {
        Some(version) if found.version() != Some(version) => Err(Reason::OtherVersion {
            stated: version.to_owned(),
            found: found.version().unwrap_or_default().to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The index of the statement that prevails among those that apply: the latest; of one time the higher version of a
/// document, then the one that names parts, then the more cautious status, then the greater document and place.
pub fn prevailing(statements: &[&Statement]) -> Option<usize> {
    let rank = |statement: &Statement| {
        let parts = statement.products.iter().any(|product| !product.subcomponents.is_empty());
        (statement.timestamp, statement.version, parts, caution(statement.status))
    };
    (0..statements.len()).max_by(|&a, &b| match (statements.get(a), statements.get(b)) {
        (Some(x), Some(y)) => {
            rank(x).cmp(&rank(y)).then_with(|| (&x.document, &x.at).cmp(&(&y.document, &y.at))).then_with(|| {
                // Two that nothing tells apart: the first.
                Reverse(a).cmp(&Reverse(b))
            })
        }
        _ => std::cmp::Ordering::Equal,
    })
}

fn caution(status: Status) -> u8 {
    match status {
        Status::NotAffected => 0,
        Status::Fixed => 1,
        Status::UnderInvestigation => 2,
        Status::Affected => 3,
    }
}

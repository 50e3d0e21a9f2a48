//! Which identifiers name the same vulnerability.

use std::collections::HashMap;

use super::osv::Advisory;

#[cfg(test)]
mod tests;

/// The most identifiers that are joined.
pub const MAX_ALIASES: usize = 4_000_000;

/// Identifiers in groups, each of which is one vulnerability with one preferred identifier.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    positions: HashMap<Box<str>, u32>,
    /// Each identifier's parent, or itself.
    parents: Vec<u32>,
    /// The size of the group, where it is its own parent.
    sizes: Vec<u32>,
    /// The preferred identifier of the group, where it is its own parent.
    preferred: Vec<Box<str>>,
}

/// [`MAX_ALIASES`] is passed; what is not joined stays apart, so that findings are shown more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_ALIASES} identifiers of vulnerabilities")]
pub struct TooManyAliases;

impl Aliases {
    /// Joins an advisory's identifier with those that it calls the same.
    ///
    /// An advisory that names two CVEs or more is about each of them, and is none of them: it would make them one. Where
    /// it names its subjects as `upstream`, it is the same only if there is just one.
    ///
    /// # Errors
    /// Where [`MAX_ALIASES`] is passed.
    pub fn add(&mut self, advisory: &Advisory) -> Result<(), TooManyAliases> {
        let id = advisory.id.as_str();
        self.position(id)?;
        if let Some(cve) = embedded(id) {
            self.join(id, cve)?;
        }
        let upstream = match advisory.upstream.as_slice() {
            [only] => Some(only),
            _ => None,
        };
        let same = || advisory.aliases.iter().chain(upstream).map(String::as_str);
        let mut cves = same().chain([id]).filter(|id| is_cve(id));
        if let Some(first) = cves.next()
            && cves.any(|other| other != first)
        {
            return Ok(());
        }
        same().try_for_each(|alias| self.join(id, alias))
    }

    /// The vulnerabilities that an advisory is about each, where it is the same as none of them: those of a
    /// distribution's notice, which may bring fixes for any number. Empty where the advisory is the vulnerability itself.
    pub fn subjects(advisory: &Advisory) -> Vec<&str> {
        if advisory.upstream.len() > 1 {
            return distinct(advisory.upstream.iter());
        }
        let cves = distinct(advisory.aliases.iter().chain(&advisory.upstream).filter(|id| is_cve(id)));
        if cves.len() > 1 {
            return cves;
        }
        // Distributions with RPM state what their notices fix as related.
        if advisory.aliases.is_empty() && advisory.upstream.is_empty() && is_notice(&advisory.id) {
            return distinct(advisory.related.iter().filter(|id| is_cve(id)));
        }
        Vec::new()
    }

    /// Joins two identifiers, and all that each is joined with.
    ///
    /// # Errors
    /// Where [`MAX_ALIASES`] is passed.
    pub fn join(&mut self, a: &str, b: &str) -> Result<(), TooManyAliases> {
        let (a, b) = (self.position(a)?, self.position(b)?);
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return Ok(());
        }
        let size = |root: u32| self.sizes.get(root as usize).copied().unwrap_or(1);
        let (small, large) = if size(a) < size(b) { (a, b) } else { (b, a) };
        let sum = size(a).saturating_add(size(b));
        let moved = self.preferred.get_mut(small as usize).map(std::mem::take).unwrap_or_default();
        if let Some(kept) = self.preferred.get_mut(large as usize)
            && order(&moved) < order(kept)
        {
            *kept = moved;
        }
        if let Some(parent) = self.parents.get_mut(small as usize) {
            *parent = large;
        }
        if let Some(size) = self.sizes.get_mut(large as usize) {
            *size = sum;
        }
        Ok(())
    }

    /// The identifier under which a vulnerability is shown: the CVE of its group, else the GHSA, else the first of the
    /// others. The same whatever the order in which they were joined. An identifier that is not known is its own.
    pub fn preferred<'a>(&'a self, id: &'a str) -> &'a str {
        let Some(position) = self.positions.get(id) else { return id };
        self.preferred.get(self.root_of(*position) as usize).map_or(id, |preferred| preferred)
    }

    /// Whether two identifiers name the same vulnerability.
    pub fn same(&self, a: &str, b: &str) -> bool {
        a == b || self.preferred(a) == self.preferred(b)
    }

    /// All identifiers by the preferred one of their group, in order.
    pub fn groups(&self) -> HashMap<&str, Vec<&str>> {
        let mut groups: HashMap<&str, Vec<&str>> = HashMap::new();
        for id in self.positions.keys() {
            groups.entry(self.preferred(id)).or_default().push(id);
        }
        groups.values_mut().for_each(|ids| ids.sort_unstable_by_key(|id| order(id)));
        groups
    }

    fn position(&mut self, id: &str) -> Result<u32, TooManyAliases> {
        if let Some(position) = self.positions.get(id) {
            return Ok(*position);
        }
        if self.parents.len() >= MAX_ALIASES {
            return Err(TooManyAliases);
        }
        let position = u32::try_from(self.parents.len()).map_err(|_| TooManyAliases)?;
        self.positions.insert(id.into(), position);
        self.parents.push(position);
        self.sizes.push(1);
        self.preferred.push(id.into());
        Ok(position)
    }

    /// Groups are joined small to large, so this takes no more steps than the logarithm of their size.
    fn root_of(&self, mut position: u32) -> u32 {
        while let Some(parent) = self.parents.get(position as usize).filter(|parent| **parent != position) {
            position = *parent;
        }
        position
    }

    fn root(&mut self, position: u32) -> u32 {
        let root = self.root_of(position);
        if let Some(parent) = self.parents.get_mut(position as usize) {
            *parent = root;
        }
        root
    }
}

fn is_cve(id: &str) -> bool {
    id.starts_with("CVE-")
}

fn distinct<'a>(ids: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut ids: Vec<&str> = ids.map(String::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A notice of a distribution that is numbered by itself.
fn is_notice(id: &str) -> bool {
    let prefix = id.split('-').next().unwrap_or_default();
    matches!(
        prefix,
        "ALSA" | "ALBA" | "ALEA" | "RLSA" | "RXSA" | "RHSA" | "RHBA" | "RHEA" | "MGASA" | "SUSE" | "openSUSE"
    )
}

/// The CVE within a distribution's identifier for it: `DEBIAN-CVE-2021-44228`.
fn embedded(id: &str) -> Option<&str> {
    let at = id.find("-CVE-")?;
    let (prefix, cve) = (id.get(..at)?, id.get(at + 1..)?);
    matches!(prefix, "DEBIAN" | "UBUNTU" | "ALPINE" | "BELL" | "ECHO" | "MINI" | "AZL").then_some(cve)
}

/// Which identifier is preferred: the lesser.
fn order(id: &str) -> (u8, &str) {
    let rank = if is_cve(id) {
        0
    } else if id.starts_with("GHSA-") {
        1
    } else {
        2
    };
    (rank, id)
}

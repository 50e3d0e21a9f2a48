//! Names to addresses, for the connection that is about to be made: a name that was public when it was looked at and is
//! private when it is connected to (DNS rebinding) leads nowhere (a14).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::guard::{is_link_local, is_private};

/// Registries that are remembered. A client has a handful; what is forgotten is looked at anew.
const MEANT_MAX: usize = 1000;
/// Where the addresses of proxies stand, in either case: the platform team's word, wherever it leads.
const PROXY_VARIABLES: [&str; 3] = ["http_proxy", "https_proxy", "all_proxy"];

/// Resolves names as the machine does, and keeps to itself what a registry may not lead to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Resolver {
    meant: Arc<Mutex<HashMap<String, Reach>>>,
    proxies: Arc<[String]>,
}

/// What is known of a registry that was asked for by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Unknown,
    Private,
    Public,
}

impl Default for Resolver {
    fn default() -> Self {
        let variables = PROXY_VARIABLES.into_iter().flat_map(|name| [name.to_owned(), name.to_ascii_uppercase()]);
        let proxies = variables.filter_map(|name| {
            let text = std::env::var(name).ok()?;
            let url = url::Url::parse(&text).or_else(|_| url::Url::parse(&format!("http://{text}"))).ok()?;
            url.host_str().map(str::to_ascii_lowercase)
        });
        Self { meant: Arc::default(), proxies: proxies.collect() }
    }
}

impl Resolver {
    /// Remembers that a registry was asked for by this name: it was not led to by another.
    pub(crate) fn meant(&self, address: &str) {
        let host = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => address,
        };
        let host = host.to_ascii_lowercase();
        let mut meant = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        if meant.contains_key(&host) {
            return;
        }
        if meant.len() >= MEANT_MAX {
            meant.clear();
        }
        let reach = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) if is_private(address) => Reach::Private,
            Ok(_) => Reach::Public,
            Err(_) => Reach::Unknown,
        };
        meant.insert(host, reach);
    }

    /// Which of a name's addresses may be connected to.
    fn permitted(&self, name: &str, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let name = name.to_ascii_lowercase();
        if self.proxies.contains(&name) {
            return addresses;
        }
        // No registry has such an address, and machines in a cloud have their secrets there.
        addresses.retain(|address| !is_link_local(address.ip()));
        let mut meant = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        let leads_private = meant.values().any(|reach| *reach == Reach::Private);
        let may_be_private = match meant.get_mut(&name) {
            Some(reach) => {
                if *reach == Reach::Unknown && !addresses.is_empty() {
                    let is_private = addresses.iter().all(|address| is_private(address.ip()));
                    *reach = if is_private { Reach::Private } else { Reach::Public };
                }
                *reach == Reach::Private
            }
            None => leads_private,
        };
        if !may_be_private {
            addresses.retain(|address| !is_private(address.ip()));
        }
        addresses
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let is_known = !found.is_empty();
            let permitted = resolver.permitted(name.as_str(), found);
            if is_known && permitted.is_empty() {
                let reason =
                    format!("{} has private addresses, which a public registry may not lead to", name.as_str());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason).into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "203.0.113.7";
    const PRIVATE: [&str; 4] = ["10.0.0.5", "127.0.0.1", "::1", "::ffff:192.168.0.1"];

    fn permitted(resolver: &Resolver, name: &str, addresses: &[&str]) -> usize {
        let addresses = addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
        resolver.permitted(name, addresses).len()
    }

    fn resolver(meant: &[&str]) -> Resolver {
        let resolver = Resolver { meant: Arc::default(), proxies: Arc::new(["proxy.corp".to_owned()]) };
        meant.iter().for_each(|address| resolver.meant(address));
        resolver
    }

    #[test]
    fn a14_a_public_registry_leads_to_no_private_address_however_names_change() {
        for address in PRIVATE {
            let resolver = resolver(&["registry.example.com:443"]);
            assert_eq!(permitted(&resolver, "registry.example.com", &[PUBLIC]), 1);
            assert_eq!(permitted(&resolver, "cdn.example.com", &[PUBLIC]), 1);
            // The token service, the place of blobs, or the registry itself changes its address.
            assert_eq!(permitted(&resolver, "cdn.example.com", &[address]), 0, "{address}");
            assert_eq!(permitted(&resolver, "cdn.example.com", &[address, PUBLIC]), 1, "{address}");
            assert_eq!(permitted(&resolver, "REGISTRY.example.com", &[address]), 0, "{address}");
            assert_eq!(permitted(&resolver, "proxy.corp", &[address]), 1, "a proxy is the platform team's word");
        }
    }

    #[test]
    fn a_private_registry_may_lead_to_private_addresses() {
        for meant in ["10.0.0.1:5000", "[::1]:5000", "localhost", "harbor.corp"] {
            let resolver = resolver(&[meant]);
            if !meant.starts_with(['1', '[']) {
                assert_eq!(permitted(&resolver, meant, &["127.0.0.1"]), 1);
            }
            assert_eq!(permitted(&resolver, "objects.corp", &["10.0.0.6"]), 1, "{meant}");
            assert_eq!(permitted(&resolver, "objects.corp", &["169.254.169.254", "fe80::1"]), 0, "{meant}");
        }
    }
}

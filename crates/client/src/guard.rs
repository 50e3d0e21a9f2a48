//! Where a registry may lead us: never from a public one to private addresses, never to plain http (a12, a13).

use std::net::IpAddr;

use reqwest::redirect::Policy;
use url::{Host, Url};

const REDIRECTS_MAX: usize = 5;

/// Whether an address belongs to this machine or its surroundings.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // 100.64.0.0/10 is what carriers share.
            let is_shared = a == 100 && b & 0xc0 == 64;
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || is_shared
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_private(IpAddr::V4(v4));
            }
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// Whether an address is of one link alone.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.is_link_local(),
            None => v6.is_unicast_link_local(),
        },
    }
}

/// Whether a URL says by itself that it leads to a private place.
pub(crate) fn names_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_private(address.into()),
        Some(Host::Ipv6(address)) => is_private(address.into()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        None => true,
    }
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Why one URL may not lead to another.
pub(crate) fn refusal(from: &Url, to: &Url) -> Option<&'static str> {
    if from.scheme() == "https" && to.scheme() != "https" {
        return Some("it would leave https");
    }
    if !matches!(to.scheme(), "http" | "https") {
        return Some("it is not an http address");
    }
    if !names_private(from) && names_private(to) {
        return Some("a public registry may not lead to a private address");
    }
    None
}

/// Whether a name that looks public resolves to a private address. What cannot be resolved leads nowhere.
pub(crate) async fn resolves_private(url: &Url) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return true };
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.into_iter().any(|address| is_private(address.ip())),
        Err(_) => false,
    }
}

/// Few, and within the rules. The library takes the Authorization header off when the host changes.
pub(crate) fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let from = attempt.previous().last();
        let reason = from.and_then(|from| refusal(from, attempt.url()));
        if let Some(reason) = reason {
            attempt.error(reason)
        } else if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else {
            attempt.follow()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a12_a13_where_a_registry_may_not_lead() {
        let refused = |from: &str, to: &str| refusal(&from.parse().unwrap(), &to.parse().unwrap()).is_some();
        for to in [
            "https://127.0.0.1/t",
            "https://10.1.2.3/t",
            "https://192.168.0.1/t",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/t",
            "https://0.0.0.0/t",
            "https://2130706433/t",
            "https://0x7f.1/t",
            "https://localhost/t",
            "https://a.localhost./t",
            "https://[::1]/t",
            "https://[fe80::1]/t",
            "https://[fd00::1]/t",
            "https://[::ffff:127.0.0.1]/t",
            "http://auth.example.com/t",
            "file:///etc/passwd",
        ] {
            assert!(refused("https://registry.example.com/", to), "{to} was followed");
        }
        assert!(!refused("https://registry.example.com/", "https://auth.example.com/t"));
        assert!(!refused("http://127.0.0.1:5000/", "http://127.0.0.1:5001/t"));
        assert!(!refused("https://10.0.0.5/", "https://10.0.0.6/t"));
    }
}

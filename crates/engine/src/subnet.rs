//! An IPv4 subnet whose lower half the engine hands out to containers, and whose upper half is Longshore's for virtual
//! addresses of services.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest prefix of a subnet that still has room for both halves.
const PREFIX_BITS_MAX: u8 = 29;

/// An IPv4 subnet, written `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    network: Ipv4Addr,
    prefix_bits: u8,
}

/// A text that is not an IPv4 subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 subnet such as 10.1.0.0/16")]
pub struct SubnetError(String);

impl Subnet {
    /// First address: names the subnet, belongs to nobody.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Length of the prefix in bits.
    pub fn prefix_bits(self) -> u8 {
        self.prefix_bits
    }

    /// The host's own address on it: the first after the network's.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits().saturating_add(1))
    }

    /// Last address.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | self.host_mask())
    }

    /// The half that the engine hands out.
    #[must_use]
    pub fn lower_half(self) -> Self {
        Self { network: self.network, prefix_bits: (self.prefix_bits + 1).min(32) }
    }

    /// Whether there is room for an upper half that is worth having.
    pub fn has_upper_half(self) -> bool {
        self.prefix_bits <= PREFIX_BITS_MAX
    }

    /// The `n`-th address from the top, counted from 0, the broadcast address left out. `None` when the upper half has
    /// no more: the engine could hand such an address to a container.
    pub fn virtual_address(self, n: u32) -> Option<Ipv4Addr> {
        if !self.has_upper_half() {
            return None;
        }
        let address = Ipv4Addr::from_bits(self.broadcast().to_bits().checked_sub(n.checked_add(1)?)?);
        (self.contains(address) && !self.lower_half().contains(address)).then_some(address)
    }

    /// Whether the address lies in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & !self.host_mask() == self.network.to_bits()
    }

    fn host_mask(self) -> u32 {
        u32::MAX.checked_shr(u32::from(self.prefix_bits)).unwrap_or(0)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let wrong = || SubnetError(text.to_owned());
        let (network, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let network: Ipv4Addr = network.parse().map_err(|_invalid| wrong())?;
        let prefix_bits: u8 = prefix.parse().map_err(|_invalid| wrong())?;
        if prefix_bits > 32 {
            return Err(wrong());
        }
        let subnet = Self { network, prefix_bits };
        // An engine may give the gateway's address with the prefix; the subnet is the same.
        Ok(Self { network: Ipv4Addr::from_bits(network.to_bits() & !subnet.host_mask()), prefix_bits })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix_bits)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_of_a_subnet() {
        let subnet: Subnet = "172.20.0.0/16".parse().unwrap();
        assert_eq!(subnet.gateway().to_string(), "172.20.0.1");
        assert_eq!(subnet.lower_half().to_string(), "172.20.0.0/17");
        assert_eq!(subnet.virtual_address(0).unwrap().to_string(), "172.20.255.254");
        assert_eq!(subnet.virtual_address(32_766).unwrap().to_string(), "172.20.128.0");
        assert_eq!(subnet.virtual_address(32_767), None);
        for wrong in ["", "172.20.0.0", "172.20.0.0/33", "172.20.0/16", "::/64", "172.20.0.0/-1"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn virtual_addresses_are_never_handed_out(bits in any::<u32>(), prefix in 0_u8..=32, n in any::<u32>()) {
            let subnet: Subnet = format!("{}/{prefix}", Ipv4Addr::from_bits(bits)).parse().unwrap();
            prop_assert_eq!(subnet.to_string().parse::<Subnet>().unwrap(), subnet);
            for n in [0, n % 64, n] {
                if let Some(address) = subnet.virtual_address(n) {
                    prop_assert!(subnet.contains(address));
                    prop_assert!(!subnet.lower_half().contains(address));
                    prop_assert_ne!(address, subnet.broadcast());
                    prop_assert_ne!(address, subnet.gateway());
                }
            }
        }
    }
}

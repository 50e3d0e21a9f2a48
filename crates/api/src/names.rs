//! Names of apps, services, environments and hosts: short, lower-case, safe in labels, paths and DNS.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: what a DNS label holds.
const NAME_BYTES_MAX: usize = 63;

/// A name that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {given:?} is not valid: use 1 to 63 of a-z, 0-9, '-' and '_', and begin with a letter or a digit")]
pub struct InvalidName {
    kind: &'static str,
    given: String,
}

fn is_valid(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(allowed)
        && name.bytes().all(|byte| allowed(byte) || byte == b'-' || byte == b'_')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(given: &str) -> Result<Self, InvalidName> {
                if is_valid(given) {
                    Ok(Self(given.to_owned()))
                } else {
                    Err(InvalidName { kind: $kind, given: given.chars().take(NAME_BYTES_MAX + 1).collect() })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(given: String) -> Result<Self, InvalidName> {
                given.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// An app: a Compose project.
    AppName,
    "app"
);
name!(
    /// A service: one microservice in an app.
    ServiceName,
    "service"
);
name!(
    /// An environment: qa, staging, prod.
    EnvName,
    "environment"
);
name!(
    /// A machine with a container engine and an agent.
    HostName,
    "host"
);

/// `APP` or `APP/SERVICE`, as every command takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceAddress {
    /// The app.
    pub app: AppName,
    /// The service; none means the whole app.
    pub service: Option<ServiceName>,
}

impl FromStr for ServiceAddress {
    type Err = InvalidName;
    fn from_str(given: &str) -> Result<Self, InvalidName> {
        match given.split_once('/') {
            None => Ok(Self { app: given.parse()?, service: None }),
            Some((app, service)) => Ok(Self { app: app.parse()?, service: Some(service.parse()?) }),
        }
    }
}

impl TryFrom<String> for ServiceAddress {
    type Error = InvalidName;
    fn try_from(given: String) -> Result<Self, InvalidName> {
        given.parse()
    }
}

impl From<ServiceAddress> for String {
    fn from(address: ServiceAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            None => write!(f, "{}", self.app),
            Some(service) => write!(f, "{}/{service}", self.app),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_valid_name_survives_the_wire(name in "[a-z0-9][a-z0-9_-]{0,62}") {
            let parsed: AppName = name.parse().unwrap();
            let wire = serde_json::to_string(&parsed).unwrap();
            prop_assert_eq!(serde_json::from_str::<AppName>(&wire).unwrap(), parsed);
        }

        #[test]
        fn what_a_label_or_path_could_misread_is_refused(name in "[^a-z0-9_-]{1,3}|[-_].{0,5}|[a-z]{64,80}|") {
            prop_assert!(name.parse::<HostName>().is_err());
            prop_assert!(serde_json::from_value::<HostName>(serde_json::json!(name)).is_err());
        }
    }

    #[test]
    fn an_address_names_an_app_or_one_service_of_it() {
        let whole: ServiceAddress = "shop".parse().unwrap();
        assert_eq!(whole.service, None);
        let one: ServiceAddress = "shop/web".parse().unwrap();
        assert_eq!(one.to_string(), "shop/web");
        assert!("shop/web/x".parse::<ServiceAddress>().is_err());
        assert!("/web".parse::<ServiceAddress>().is_err());
    }
}

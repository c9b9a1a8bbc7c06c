//! How much of a client's address is logged.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

/// `client_ip` of `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShownAddress {
    #[default]
    Full,
    /// The /24 of IPv4, the /48 of IPv6.
    Prefix,
    None,
}

/// As much of an address as may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Address(IpAddr),
    Net(IpAddr, u8),
}

impl ShownAddress {
    pub fn of(self, address: IpAddr) -> Option<Shown> {
        match (self, address) {
            (Self::None, _) => None,
            (Self::Full, address) => Some(Shown::Address(address)),
            (Self::Prefix, IpAddr::V4(v4)) => {
                Some(Shown::Net(Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(), 24))
            }
            (Self::Prefix, IpAddr::V6(v6)) => {
                Some(Shown::Net(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(), 48))
            }
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Net(address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_far_as_wanted() {
        let table = [
            ("192.0.2.77", ShownAddress::Full, Some("192.0.2.77")),
            ("192.0.2.77", ShownAddress::Prefix, Some("192.0.2.0/24")),
            ("2001:db8:1:2::3", ShownAddress::Full, Some("2001:db8:1:2::3")),
            ("2001:db8:1:2::3", ShownAddress::Prefix, Some("2001:db8:1::/48")),
            ("2001:db8:1:2::3", ShownAddress::None, None),
        ];
        for (address, shown, expected) in table {
            let part = shown.of(address.parse().unwrap()).map(|part| part.to_string());
            assert_eq!(part.as_deref(), expected, "{address} {shown:?}");
        }
    }
}

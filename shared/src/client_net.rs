//! Where a downloader comes from: one address, normalised, and the networks that a token may bind it to.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use serde::de::{self, Deserialize, Deserializer};

/// The network a token is bound to by its `ip` claim: an address or a CIDR block. An IPv6 address without a prefix
/// length means its /64, the smallest block that identifies a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientNet(IpNet);

impl fmt::Display for ClientNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ClientNet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format_args!(
                "'{text}' is neither an address nor a CIDR block; write one as in \"10.0.0.5\", \"10.0.0.0/8\""
            ))
        })
    }
}

impl ClientNet {
    /// `None` where the text is neither an address nor a CIDR block.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self(match normalise(address) {
                IpAddr::V4(v4) => IpNet::from(IpAddr::V4(v4)),
                IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new(v6, 64).expect("64 is a prefix length").trunc()),
            }));
        }
        block(text).map(Self)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&normalise(address))
    }

    /// The lowest and the highest address in it.
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        (self.0.network(), self.0.broadcast())
    }
}

/// A CIDR block; one of IPv4-mapped addresses is the IPv4 block.
pub(crate) fn block(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    Some(match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).ok()?.trunc(),
            None => net.trunc(),
        },
        _ => net.trunc(),
    })
}

/// `::ffff:a.b.c.d` is the IPv4 address that a dual-stack socket reports.
pub fn normalise(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_hold_what_they_should() {
        let table = [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.0/24", "192.0.2.200", true),
            ("192.0.2.0/24", "192.0.3.1", false),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("2001:db8::1", "2001:db8::ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "192.0.2.1", false),
        ];
        for (net, address, expected) in table {
            let net = ClientNet::parse(net).unwrap();
            assert_eq!(net.contains(address.parse().unwrap()), expected, "{net:?} {address}");
        }
        for text in ["", "localhost", "192.0.2.0/33", "192.0.2", "2001:db8::/129"] {
            assert_eq!(ClientNet::parse(text), None, "{text:?}");
        }
    }
}

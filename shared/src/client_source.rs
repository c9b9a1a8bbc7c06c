//! Whose word is taken for where a client is: the connection's, or that of proxies that the operator trusts. Pure; who
//! else says something about a client's address is not listened to.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer};

use crate::client_net::{block, normalise};

/// How a listener learns where its clients are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClientSource {
    /// The connection's other end is the client.
    #[default]
    Connection,
    /// `X-Forwarded-For`, where the connection comes from one of these proxies.
    Forwarded(TrustedProxies),
    /// A PROXY v2 header at the begin of every connection; only these proxies may connect. `X-Forwarded-For` counts
    /// for nothing then.
    ProxyProtocol(TrustedProxies),
}

/// Settings that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "needs `trusted_proxies`: list the proxies that send the header, as in trusted_proxies = [\"10.0.0.0/8\"]; \
     nobody else could connect"
)]
pub struct NoTrustedProxies;

impl ClientSource {
    /// What the two settings mean together.
    ///
    /// # Errors
    /// `proxy_protocol` without a proxy that may use it.
    pub fn settle(trusted_proxies: TrustedProxies, proxy_protocol: bool) -> Result<Self, NoTrustedProxies> {
        match (proxy_protocol, trusted_proxies.0.is_empty()) {
            (true, true) => Err(NoTrustedProxies),
            (true, false) => Ok(Self::ProxyProtocol(trusted_proxies)),
            (false, true) => Ok(Self::Connection),
            (false, false) => Ok(Self::Forwarded(trusted_proxies)),
        }
    }

    /// The client of a request: `connection` is the connection's, by its other end or its PROXY header;
    /// `forwarded_for` gives the values of the request's `X-Forwarded-For` fields in their order, and is not asked
    /// unless they count.
    pub fn client_of<'v, I: DoubleEndedIterator<Item = &'v [u8]>>(
        &self,
        connection: IpAddr,
        forwarded_for: impl FnOnce() -> I,
    ) -> IpAddr {
        match self {
            Self::Forwarded(proxies) => proxies.client_of(connection, forwarded_for()),
            Self::Connection | Self::ProxyProtocol(_) => connection,
        }
    }
}

/// The proxies that are believed: in a configuration a list of addresses and CIDR blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Box<[IpNet]>);

impl TrustedProxies {
    /// `None` where a text is neither an address nor a CIDR block. Unlike a client, a proxy with an IPv6 address is
    /// that one address.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<Self> {
        texts.into_iter().map(network).collect::<Option<_>>().map(Self)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = normalise(address);
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Where a request from `peer` comes from: `peer` itself unless it is trusted, else the rightmost entry of
    /// `X-Forwarded-For` that is not. What is left of that anybody may have written. Several fields are one list (RFC
    /// 9110 §5.3). An entry that is no address ends the search at the last hop that was trusted.
    pub fn client_of<'v>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'v [u8]>,
    ) -> IpAddr {
        let mut client = normalise(peer);
        if !self.contains(client) {
            return client;
        }
        let entries = forwarded_for.rev().flat_map(|field| field.rsplit(|byte| *byte == b','));
        // §5.6.1: empty elements of a list are none.
        for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
            let Some(hop) = address(entry) else { break };
            client = hop;
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        match texts.iter().find(|text| network(text).is_none()) {
            Some(text) => Err(de::Error::custom(format_args!(
                "'{text}' is neither an address nor a CIDR block; write one as in \"10.0.0.5\", \"10.0.0.0/8\""
            ))),
            None => Ok(Self(texts.iter().filter_map(|text| network(text)).collect())),
        }
    }
}

fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(normalise(address))),
        Err(_) => block(text),
    }
}

/// An entry of `X-Forwarded-For`, with a port or without: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok();
    bare.or_else(with_port).or_else(|| bracketed().map(IpAddr::V6)).map(normalise)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies() -> TrustedProxies {
        TrustedProxies::parse(["10.0.0.0/8", "192.0.2.1", "2001:db8::1", "::ffff:198.51.100.0/120"]).unwrap()
    }

    fn client_of(peer: &str, fields: &[&str]) -> String {
        let fields = fields.iter().map(|field| field.as_bytes());
        proxies().client_of(peer.parse().unwrap(), fields).to_string()
    }

    #[test]
    fn the_rightmost_untrusted_entry_is_the_client() {
        let table: &[(&str, &[&str], &str)] = &[
            // Nobody else's word is taken.
            ("203.0.113.9", &["1.1.1.1"], "203.0.113.9"),
            ("192.0.2.2", &["1.1.1.1"], "192.0.2.2"),
            ("2001:db8::2", &["1.1.1.1"], "2001:db8::2"),
            ("::ffff:203.0.113.9", &["1.1.1.1"], "203.0.113.9"),
            // A proxy that says nothing is the client.
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &[""], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("2001:db8::1", &["2001:db8::7"], "2001:db8::7"),
            ("198.51.100.3", &["203.0.113.9"], "203.0.113.9"),
            // What a client writes itself stands left of what the proxy adds.
            ("10.1.2.3", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["1.1.1.1,203.0.113.9,10.0.0.1 ,\t192.0.2.1"], "203.0.113.9"),
            ("10.1.2.3", &["1.1.1.1", "203.0.113.9, 10.0.0.1"], "203.0.113.9"),
            ("10.1.2.3", &["203.0.113.9", "10.0.0.1"], "203.0.113.9"),
            ("10.1.2.3", &["203.0.113.9, ,", ", 10.0.0.1,"], "203.0.113.9"),
            // All are trusted: the first of them asks for itself.
            ("10.1.2.3", &["10.0.0.7, 10.0.0.1"], "10.0.0.7"),
            // Ports, brackets, mapped addresses.
            ("10.1.2.3", &["203.0.113.9:5000"], "203.0.113.9"),
            ("10.1.2.3", &["203.0.113.9, 10.0.0.1:1"], "203.0.113.9"),
            ("10.1.2.3", &["[2001:db8::7]:443"], "2001:db8::7"),
            ("10.1.2.3", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.1.2.3", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["203.0.113.9, ::ffff:10.0.0.1"], "203.0.113.9"),
            // What is no address ends the search.
            ("10.1.2.3", &["unknown"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9, unknown"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9, _hidden, 10.0.0.1"], "10.0.0.1"),
            ("10.1.2.3", &["203.0.113.9:x"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9 10.0.0.1"], "10.1.2.3"),
            ("10.1.2.3", &["\"203.0.113.9\""], "10.1.2.3"),
            ("10.1.2.3", &["[203.0.113.9]"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.09"], "10.1.2.3"),
            ("10.1.2.3", &["fe80::1%eth0"], "10.1.2.3"),
        ];
        for (peer, fields, expected) in table {
            assert_eq!(client_of(peer, fields), *expected, "{peer} {fields:?}");
        }
        let garbage: [&[u8]; 2] = [b"203.0.113.9, \xff", b"10.0.0.1"];
        let client = proxies().client_of("10.1.2.3".parse().unwrap(), garbage.into_iter());
        assert_eq!(client.to_string(), "10.0.0.1");
    }

    #[test]
    fn settings_are_settled_together() {
        let none = TrustedProxies::default();
        assert_eq!(ClientSource::settle(none.clone(), false), Ok(ClientSource::Connection));
        assert_eq!(ClientSource::settle(none, true), Err(NoTrustedProxies));
        assert_eq!(ClientSource::settle(proxies(), false), Ok(ClientSource::Forwarded(proxies())));
        assert_eq!(ClientSource::settle(proxies(), true), Ok(ClientSource::ProxyProtocol(proxies())));
    }

    #[test]
    fn only_forwarding_proxies_are_asked_per_request() {
        let (proxy, field) = ("10.0.0.1".parse().unwrap(), [&b"203.0.113.9"[..]]);
        let table = [
            (ClientSource::Connection, "10.0.0.1"),
            (ClientSource::ProxyProtocol(proxies()), "10.0.0.1"),
            (ClientSource::Forwarded(proxies()), "203.0.113.9"),
        ];
        for (source, expected) in table {
            assert_eq!(source.client_of(proxy, || field.into_iter()).to_string(), expected);
        }
    }

    #[test]
    fn proxies_are_addresses_and_blocks() {
        #[derive(serde::Deserialize)]
        struct Raw {
            trusted_proxies: TrustedProxies,
        }
        let raw: Raw = toml::from_str("trusted_proxies = [\"10.0.0.0/8\", \"::1\"]").unwrap();
        assert!(raw.trusted_proxies.contains("::1".parse().unwrap()));
        assert!(!raw.trusted_proxies.contains("::2".parse().unwrap()));
        for bad in ["", "localhost", "10.0.0.0/33", "10.0.0.1:80", "*"] {
            let fault = toml::from_str::<Raw>(&format!("trusted_proxies = [\"{bad}\"]")).err().unwrap();
            assert!(fault.message().contains("CIDR") && fault.message().contains(bad), "{fault}");
        }
    }

    proptest! {
        /// Whatever stands left of the untrusted entry changes nothing, and nothing panics.
        #[test]
        fn a_client_cannot_choose_its_address(written in ".{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let peer = "10.0.0.1".parse().unwrap();
            let field = [written.as_bytes(), b",203.0.113.9, 10.0.0.2"].concat();
            let fields = [&bytes[..], &field];
            prop_assert_eq!(proxies().client_of(peer, fields.into_iter()).to_string(), "203.0.113.9");
            proxies().client_of(peer, [&bytes[..]].into_iter());
        }
    }
}

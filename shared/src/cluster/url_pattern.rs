//! Which URLs a coordinator takes from edges that name themselves: `scheme://host` or `scheme://host:port`.
//!
//! In a host, `*` stands for one label: `https://*.edges.example` takes `https://a.edges.example`, neither
//! `https://a.b.edges.example` nor `https://edges.example`. In front, `**` stands for one or more. Without a port, only
//! the scheme's usual one is meant; `:*` takes any. The scheme is taken as it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use url::Host;

use crate::units::BaseUrl;

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no URL pattern; write scheme and host, a port where it is not the usual one, and * for a part of the \
     host or any port, as in \"https://*.edges.example\" or \"http://10.0.0.*:*\""
)]
pub struct UrlPatternError(String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPattern {
    text: String,
    is_https: bool,
    /// Lower case, as hosts of URLs are.
    host: String,
    /// `None` for any.
    port: Option<u16>,
}

impl FromStr for UrlPattern {
    type Err = UrlPatternError;

    fn from_str(text: &str) -> Result<Self, UrlPatternError> {
        let fault = || UrlPatternError(text.to_owned());
        let (any_port, base) = text.strip_suffix(":*").map_or((false, text), |base| (true, base));
        let (scheme, host) = base.split_once("://").ok_or_else(fault)?;
        // By the same reading that URLs of edges go through, so that both write one host one way. A label that stands for
        // others is no part of an address, and is taken for a name's.
        let stand_in = host.replace('*', "sluice-any");
        let url = BaseUrl::parse(&format!("{scheme}://{stand_in}")).map_err(|_| fault())?;
        let url = url::Url::parse(url.as_str()).map_err(|_| fault())?;
        if host.contains("sluice-any") || host.ends_with('/') || (any_port && url.port().is_some()) {
            return Err(fault());
        }
        let host = url.host_str().ok_or_else(fault)?.replace("sluice-any", "*");
        let is_pattern =
            |(at, label): (usize, &str)| !label.contains('*') || label == "*" || (at == 0 && label == "**");
        // `*` alone is every name there is: whoever means that has to write more than one character.
        if !host.split('.').enumerate().all(is_pattern) || host == "*" {
            return Err(fault());
        }
        let port = if any_port { None } else { url.port_or_known_default() };
        Ok(Self { text: text.to_owned(), is_https: url.scheme() == "https", host, port })
    }
}

impl UrlPattern {
    pub fn matches(&self, url: &BaseUrl) -> bool {
        self.matches_with(url, false)
    }

    /// The same with any port, and of either scheme: for another listener of the same machine.
    pub fn matches_host(&self, url: &BaseUrl) -> bool {
        self.matches_with(url, true)
    }

    fn matches_with(&self, url: &BaseUrl, only_host: bool) -> bool {
        let Ok(url) = url::Url::parse(url.as_str()) else { return false };
        let is_right_place = only_host
            || (self.is_https == (url.scheme() == "https")
                && self.port.is_none_or(|port| url.port_or_known_default() == Some(port)));
        is_right_place && self.matches_labels(&url)
    }

    fn matches_labels(&self, url: &url::Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let labels: Vec<&str> = match url.host() {
            // One label: nothing stands for a part of it.
            Some(Host::Ipv6(_)) => vec![host],
            // A final dot is the same host, and another text.
            _ => host.split('.').collect(),
        };
        let mut wanted: Vec<&str> = self.host.split('.').collect();
        if wanted[0] == "**" {
            wanted.remove(0);
            // Names only: an address has no zones above it.
            if !matches!(url.host(), Some(Host::Domain(_))) || labels.len() <= wanted.len() {
                return false;
            }
            return matches_each(&wanted, &labels[labels.len() - wanted.len()..]);
        }
        wanted.len() == labels.len() && matches_each(&wanted, &labels)
    }
}

fn matches_each(wanted: &[&str], labels: &[&str]) -> bool {
    wanted.iter().zip(labels).all(|(wanted, label)| (*wanted == "*" && !label.is_empty()) || wanted == label)
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for UrlPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say_and_nothing_else() {
        let table = [
            ("https://edge-1.example", "https://edge-1.example", true),
            ("https://edge-1.example", "https://EDGE-1.example:443", true),
            ("https://edge-1.example", "http://edge-1.example", false),
            ("https://edge-1.example", "https://edge-1.example:8443", false),
            ("https://edge-1.example:8443", "https://edge-1.example:8443", true),
            ("https://edge-1.example:*", "https://edge-1.example:8443", true),
            ("https://edge-1.example:*", "https://edge-1.example", true),
            ("https://*.edges.example", "https://a.edges.example", true),
            ("https://*.edges.example", "https://a.b.edges.example", false),
            ("https://*.edges.example", "https://edges.example", false),
            ("https://*.edges.example", "https://a.edges.example.evil.com", false),
            ("https://*.edges.example", "https://evilaedges.example", false),
            ("https://*.edges.example", "https://a.edges.example.", false),
            ("https://**.edges.example", "https://a.b.edges.example", true),
            ("https://**.edges.example", "https://a.edges.example", true),
            ("https://**.edges.example", "https://edges.example", false),
            ("https://**.edges.example", "https://x-edges.example", false),
            ("https://edge-*.example", "https://edge-1.example", false),
            ("http://10.0.0.*:9001", "http://10.0.0.7:9001", true),
            ("http://10.0.0.*:9001", "http://10.0.1.7:9001", false),
            // Other ways to write an address are read as it first.
            ("http://127.0.0.1:*", "http://127.1:9001", true),
            ("http://127.0.0.1:*", "http://0x7f000001:9001", true),
            ("http://[::1]:*", "http://[::1]:9001", true),
            ("http://[::1]:*", "http://[::2]:9001", false),
            ("http://edge.*.example", "http://edge.b.example", true),
            ("https://bücher.example", "https://xn--bcher-kva.example", true),
        ];
        for (pattern, url, expected) in table {
            let Ok(pattern) = pattern.parse::<UrlPattern>() else {
                assert!(!expected, "{pattern} is no pattern");
                continue;
            };
            assert_eq!(pattern.matches(&BaseUrl::parse(url).unwrap()), expected, "{pattern} {url}");
        }
    }

    #[test]
    fn the_host_alone_is_compared_where_it_is_asked_for() {
        let pattern: UrlPattern = "https://*.edges.example".parse().unwrap();
        let matches = |url| pattern.matches_host(&BaseUrl::parse(url).unwrap());
        assert!(matches("http://a.edges.example:9101"));
        assert!(!matches("http://169.254.169.254"));
    }

    #[test]
    fn texts_that_say_too_much_or_nothing_are_refused() {
        for text in [
            "",
            "*",
            "https://",
            "https://*",
            "http://*:*",
            "edge.example",
            "ftp://edge.example",
            "https://a/b",
            "https://a/",
            "https://a**.example",
            "https://a.**.example",
            "https://***.example",
            "https://u@a.example",
            "https://a.example:8443:*",
            "https://a.example:0x",
            "https://sluice-any.example",
            "https://edge-*.example",
        ] {
            assert!(text.parse::<UrlPattern>().is_err(), "{text:?}");
        }
    }
}

//! URLs as this client needs them: where to connect, what to say.

use std::rc::Rc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986 §2.3, and the slashes of a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

const TLS: &str = "https://";

/// An `http` or `https` URL. It may hold a token: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// `host` or `host:port`, as the URL has it, with `https://` before it where TLS is spoken there: the name of a server
    /// in reports, and what its connections are kept by.
    pub(crate) server: Rc<str>,
    pub(crate) target: String,
}

impl Url {
    /// None for anything but `http://`, `https://` and what makes a request line of one line.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix(TLS))?;
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let target = target.split('#').next().unwrap_or_default();
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || authority.contains('@') || !is_visible(rest) {
            return None;
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let server =
            if text.starts_with(TLS) { format!("{TLS}{authority}").into() } else { authority.into() };
        Some(Self { server, target })
    }

    /// The same server, something else.
    pub(crate) fn with_target(&self, target: String) -> Self {
        Self { server: Rc::clone(&self.server), target }
    }

    /// What a reference in an answer from here means (RFC 3986 §5.2); none where it is no URL of HTTP.
    pub(crate) fn join(&self, reference: &str) -> Option<Self> {
        let (scheme, origin) = match self.server.strip_prefix(TLS) {
            Some(_) => ("https:", self.server.to_string()),
            None => ("http:", format!("http://{}", self.server)),
        };
        let own = self.target.split('?').next().unwrap_or_default();
        let has_scheme = reference.split(['/', '?', '#']).next().is_some_and(|begun| begun.contains(':'));
        Self::parse(&match reference.bytes().next()? {
            _ if has_scheme => reference.to_owned(),
            b'/' if reference.starts_with("//") => format!("{scheme}{reference}"),
            b'/' => origin + reference,
            b'?' => origin + own + reference,
            _ => {
                let (path, rest) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
                let folder = own.rfind('/').map_or("/", |slash| &own[..=slash]);
                origin + &without_dots(&format!("{folder}{path}")) + rest
            }
        })
    }

    /// For the field `Host`.
    pub(crate) fn host(&self) -> &str {
        self.server.strip_prefix(TLS).unwrap_or(&self.server)
    }

    /// The value of a query parameter, as it stands there.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A path without the segments `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// Where to connect to for a server: its host, its port, and whether it speaks TLS.
pub(super) fn endpoint(server: &str) -> (&str, u16, bool) {
    let (authority, usual, is_tls) = match server.strip_prefix(TLS) {
        Some(authority) => (authority, 443, true),
        None => (server, 80, false),
    };
    let after_host = authority.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match authority[after_host..].rfind(':') {
        Some(colon) => (&authority[..after_host + colon], authority[after_host + colon + 1..].parse().ok()),
        None => (authority, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, port.unwrap_or(usual), is_tls)
}

/// A file id as it stands in a path or a query.
pub(crate) fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, server, host, target) in [
            ("http://a:1/b?c=d", "a:1", "a:1", "/b?c=d"),
            ("http://a", "a", "a", "/"),
            ("http://a?x", "a", "a", "/?x"),
            ("https://a/", "https://a", "a", "/"),
            ("http://[::1]:80/x#y", "[::1]:80", "[::1]:80", "/x"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((&*url.server, url.host(), url.target.as_str()), (server, host, target));
        }
        for text in
            ["ftp://a/", "a:1/b", "http:///x", "http://u@a/", "http://a/b c", "http://a/b\r\nX: y", ""]
        {
            assert!(Url::parse(text).is_none(), "{text:?}");
        }
        let url = Url::parse("http://a/download/x?user=1&token=ey.J").unwrap();
        assert_eq!((url.parameter("token"), url.parameter("tok")), (Some("ey.J"), None));
    }

    #[test]
    fn references_are_resolved_where_they_are_said() {
        for (base, reference, resolved) in [
            ("http://a:1/b/c?d", "http://x/y?z", Some("http://x/y?z")),
            ("https://a/b/c?d", "//x/y", Some("https://x/y")),
            ("https://a/b/c?d", "/x?y", Some("https://a/x?y")),
            ("http://a:1/b/c?d", "?x", Some("http://a:1/b/c?x")),
            ("http://a:1/b/c?d", "x?y=/../z", Some("http://a:1/b/x?y=/../z")),
            ("http://a:1/b/c?d", "./x/../y#z", Some("http://a:1/b/y")),
            ("http://a:1/b/c?d", "..", Some("http://a:1/")),
            ("http://a", "../../x", Some("http://a/x")),
            ("http://a/b", "ftp://a/x", None),
            ("http://a/b", "/x\r\ny: z", None),
            ("http://a/b", "", None),
        ] {
            let found = Url::parse(base).unwrap().join(reference);
            assert!(found == resolved.and_then(Url::parse), "{reference:?} at {base}");
        }
    }

    #[test]
    fn servers_have_their_usual_ports() {
        assert_eq!(endpoint("[::1]"), ("::1", 80, false));
        assert_eq!(endpoint("[::1]:81"), ("::1", 81, false));
        assert_eq!(endpoint("a:8080"), ("a", 8080, false));
        assert_eq!(endpoint("https://a"), ("a", 443, true));
        assert_eq!(endpoint("https://127.0.0.1:9001"), ("127.0.0.1", 9001, true));
    }
}

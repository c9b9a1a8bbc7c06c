//! `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2): of a Host field, and of a target in absolute form.

use std::net::Ipv6Addr;

/// What a registered name may be made of (RFC 3986 §3.2.2), percent escapes aside: a table, as each byte of each
/// request is looked up.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = matches!(
            byte,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' // unreserved
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' // sub-delims
        );
        byte += 1;
    }
    table
};

/// Whether this is a host, with or without a port. An empty one is (§7.2: for a target without an authority).
pub(super) fn is_host(value: &[u8]) -> bool {
    let name_bytes = value.iter().take_while(|byte| NAME_BYTES[usize::from(**byte)]).count();
    match &value[name_bytes..] {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => is_unusual_host(value),
    }
}

/// Whether this is an origin as browsers write it (RFC 6454 §6.1): scheme, host, and a port only where it is not the
/// scheme's usual one; no upper case.
pub(crate) fn is_origin(text: &str) -> bool {
    let (authority, usual_port) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(authority), _) => (authority, ":443"),
        (_, Some(authority)) => (authority, ":80"),
        (None, None) => return false,
    };
    let is_written_otherwise = authority.ends_with(':')
        || authority.ends_with(usual_port)
        || authority.bytes().any(|byte| byte.is_ascii_uppercase());
    !authority.is_empty()
        && !authority.starts_with(':')
        && is_host(authority.as_bytes())
        && !is_written_otherwise
}

/// An address in brackets, or a name with escapes.
#[cold]
fn is_unusual_host(value: &[u8]) -> bool {
    let is_port = |rest: &[u8]| match rest {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if let [b'[', rest @ ..] = value {
        let Some(end) = memchr::memchr(b']', rest) else { return false };
        let address = std::str::from_utf8(&rest[..end]);
        return address.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()) && is_port(&rest[end + 1..]);
    }
    let mut rest = value;
    loop {
        rest = match rest {
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if NAME_BYTES[usize::from(*byte)] => rest,
            rest => return is_port(rest),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for host in [
            "",
            "a",
            "a.example",
            "a.example:80",
            "a:",
            "127.0.0.1:9001",
            "[::1]",
            "[::1]:443",
            "[2001:db8::1]:",
            "a_b~c!$&'()*+,;=",
            "%C3%BC.example",
            "a%20b:1",
            "xn--nxasmq6b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for none in [
            "a b",
            "u@a",
            "a/b",
            "a?b",
            "a#b",
            "a:b",
            "a:80:80",
            "a:-1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[1::2::3]",
            "[a]",
            "::1",
            "a%",
            "a%2",
            "a%zz",
            "a\\b",
            "a\"",
            "<a>",
            "{a}",
            "a|b",
            "a^b",
            "a`b",
            "ü",
            "a\u{1}",
            "[]",
        ] {
            assert!(!is_host(none.as_bytes()), "{none}");
        }
    }
}

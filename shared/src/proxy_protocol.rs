//! The PROXY protocol's header, version 2 (HAProxy's `proxy-protocol.txt`, §2.2): bytes → who a proxy connects for.
//!
//! It reads what has come so far and takes nothing; who may send such a header is the caller's to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::client_net::normalise;

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and the length of what follows.
const FIXED_BYTES: usize = 16;
/// Longest header that is read, in bytes: any address, and what proxies say beside it, a client's certificate included.
pub const HEADER_BYTES_MAX: usize = 4096;

/// A header, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Good so far; so many more bytes surely belong to it.
    Missing(usize),
    /// The first `header_bytes` are it.
    Whole { header_bytes: usize, client: ProxiedClient },
}

/// Who the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxiedClient {
    Address(IpAddr),
    /// The proxy itself, for a health check as a rule (`LOCAL`), or somebody without an address on the network.
    Peer,
}

/// Why bytes are no header that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("no PROXY v2 header")]
    Signature,
    #[error("a PROXY header of another version, or with an unknown command")]
    Command,
    #[error("a PROXY header with an unknown address family or transport")]
    Family,
    #[error("a PROXY header shorter than its addresses")]
    Short,
    #[error("a PROXY header longer than {HEADER_BYTES_MAX} bytes")]
    Long,
}

/// Reads a header from the first bytes of a connection, however many have come.
///
/// # Errors
/// They are none, or one that the specification has receivers refuse; more bytes would change nothing.
pub fn parse(bytes: &[u8]) -> Result<Header, ProxyHeaderError> {
    if bytes.iter().zip(&SIGNATURE).any(|(byte, expected)| byte != expected) {
        return Err(ProxyHeaderError::Signature);
    }
    let is_local = match bytes.get(12) {
        // The family and the addresses of a LOCAL header mean nothing.
        Some(0x20) => true,
        Some(0x21) | None => false,
        Some(_) => return Err(ProxyHeaderError::Command),
    };
    let addresses = match bytes.get(13) {
        Some(_) if is_local => Addresses::None,
        Some(family) => Addresses::of_family(*family).ok_or(ProxyHeaderError::Family)?,
        None => Addresses::None,
    };
    let Some(length) = bytes.get(14..FIXED_BYTES) else {
        return Ok(Header::Missing(FIXED_BYTES - bytes.len()));
    };
    let header_bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if header_bytes > HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::Long);
    }
    if header_bytes < FIXED_BYTES + addresses.bytes() {
        return Err(ProxyHeaderError::Short);
    }
    match bytes.get(FIXED_BYTES..header_bytes) {
        None => Ok(Header::Missing(header_bytes - bytes.len())),
        Some(block) => Ok(Header::Whole { header_bytes, client: addresses.source(block) }),
    }
}

/// What the address block begins with. Behind it come TLVs, which are passed over.
#[derive(Clone, Copy)]
enum Addresses {
    None,
    V4,
    V6,
    Unix,
}

impl Addresses {
    /// `None` for what receivers have to refuse: all that the specification does not list.
    fn of_family(family: u8) -> Option<Self> {
        match family {
            0x00 => Some(Self::None),
            0x11 | 0x12 => Some(Self::V4),
            0x21 | 0x22 => Some(Self::V6),
            0x31 | 0x32 => Some(Self::Unix),
            _ => None,
        }
    }

    /// Source and destination, and for the internet's families a port each.
    fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::V4 => 12,
            Self::V6 => 36,
            Self::Unix => 216,
        }
    }

    /// The source address, which comes first.
    fn source(self, block: &[u8]) -> ProxiedClient {
        let address = match self {
            Self::V4 => block.first_chunk::<4>().map(|bytes| IpAddr::V4(Ipv4Addr::from(*bytes))),
            Self::V6 => block.first_chunk::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))),
            Self::None | Self::Unix => None,
        };
        address.map_or(ProxiedClient::Peer, |address| ProxiedClient::Address(normalise(address)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    /// An address block: `source`, then zeros up to `length`.
    fn block(source: &[u8], length: usize) -> Vec<u8> {
        let mut block = source.to_vec();
        block.resize(length, 0);
        block
    }

    #[test]
    fn headers_are_taken_or_refused() {
        use ProxyHeaderError::*;
        let v4 = ProxiedClient::Address("192.0.2.7".parse().unwrap());
        let v6: IpAddr = "2001:db8::7".parse().unwrap();
        let IpAddr::V6(v6_bytes) = v6 else { panic!("it is") };
        let mapped = "::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets();
        let v6 = ProxiedClient::Address(v6);
        let peer = ProxiedClient::Peer;
        let table = [
            (header(0x21, 0x11, &block(&[192, 0, 2, 7], 12)), Ok(v4)),
            (header(0x21, 0x12, &block(&[192, 0, 2, 7], 12)), Ok(v4)),
            (header(0x21, 0x11, &block(&[192, 0, 2, 7], 500)), Ok(v4)),
            (header(0x21, 0x21, &block(&v6_bytes.octets(), 36)), Ok(v6)),
            (header(0x21, 0x22, &block(&v6_bytes.octets(), 99)), Ok(v6)),
            (header(0x21, 0x21, &block(&mapped, 36)), Ok(v4)),
            (header(0x21, 0x31, &block(b"/run/x", 216)), Ok(peer)),
            (header(0x21, 0x32, &block(b"/run/x", 216)), Ok(peer)),
            (header(0x21, 0x00, &[]), Ok(peer)),
            (header(0x21, 0x00, &block(&[192, 0, 2, 7], 12)), Ok(peer)),
            (header(0x20, 0x00, &[]), Ok(peer)),
            (header(0x20, 0x11, &block(&[192, 0, 2, 7], 12)), Ok(peer)),
            (header(0x20, 0xff, &[1, 2, 3]), Ok(peer)),
            (header(0x21, 0x11, &block(&[192, 0, 2, 7], 11)), Err(Short)),
            (header(0x21, 0x21, &block(&[192, 0, 2, 7], 35)), Err(Short)),
            (header(0x21, 0x31, &block(b"/run/x", 215)), Err(Short)),
            (header(0x21, 0x10, &block(&[], 12)), Err(Family)),
            (header(0x21, 0x01, &block(&[], 12)), Err(Family)),
            (header(0x21, 0x41, &block(&[], 12)), Err(Family)),
            (header(0x22, 0x11, &block(&[], 12)), Err(Command)),
            (header(0x11, 0x11, &block(&[], 12)), Err(Command)),
            (header(0x31, 0x11, &block(&[], 12)), Err(Command)),
            (header(0x21, 0x11, &block(&[], HEADER_BYTES_MAX)), Err(Long)),
            (header(0x20, 0x11, &block(&[], 65535)), Err(Long)),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Err(Signature)),
            (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n".to_vec(), Err(Signature)),
            (b"\r\n\r\nGET".to_vec(), Err(Signature)),
        ];
        for (bytes, expected) in table {
            let parsed = parse(&bytes);
            let whole = |client| Header::Whole { header_bytes: bytes.len(), client };
            assert_eq!(parsed, expected.map(whole), "{bytes:02x?}");
        }
    }

    #[test]
    fn the_longest_header_is_taken() {
        let bytes = header(0x21, 0x11, &block(&[192, 0, 2, 7], HEADER_BYTES_MAX - FIXED_BYTES));
        assert!(matches!(parse(&bytes), Ok(Header::Whole { header_bytes: HEADER_BYTES_MAX, .. })));
    }

    prop_compose! {
        /// Mostly headers, good and bad; seldom anything at all.
        fn any_bytes()(
            command in prop_oneof![4 => Just(0x21), 1 => Just(0x20), 1 => any::<u8>()],
            family in prop_oneof![
                6 => prop::sample::select(vec![0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32]), 1 => any::<u8>()
            ],
            block in proptest::collection::vec(any::<u8>(), 0..300),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
            edit in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        ) -> Vec<u8> {
            let mut bytes = [header(command, family, &block), rest].concat();
            if let Some((at, to)) = edit {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            bytes
        }
    }

    proptest! {
        /// However the bytes are cut, the answer is the same, and never waits for bytes behind the header.
        #[test]
        fn what_is_read_does_not_depend_on_where_the_bytes_break(bytes in any_bytes()) {
            let whole = parse(&bytes);
            for cut in 0..=bytes.len() {
                match parse(&bytes[..cut]) {
                    Ok(Header::Missing(count)) => {
                        prop_assert!(count > 0);
                        if let Ok(Header::Whole { header_bytes, .. }) = whole {
                            prop_assert!(cut + count <= header_bytes, "{cut} and {count}");
                        }
                    }
                    decided => prop_assert_eq!(decided, whole, "cut at {}", cut),
                }
            }
        }

        #[test]
        fn any_bytes_are_answered_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let _ = parse(&[&SIGNATURE[..], &bytes].concat());
        }
    }
}

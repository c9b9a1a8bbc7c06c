//! Request heads in raw bytes, each with the section that decides it (RFC 9110, RFC 9112), the status that it is answered
//! with, and what becomes of its connection: it ends where it is in doubt where the next request begins, and only then.

#![allow(unreachable_pub, reason = "a module of tests")]

use Fate::{Ends, GoesOn};
use Head::{Fields, Line, Raw};

#[derive(Debug, Clone, Copy)]
pub enum Head {
    /// A request line; one Host follows.
    Line(&'static str),
    /// What follows a good request line and one Host, each with its CR LF.
    Fields(&'static str),
    /// All of it.
    Raw(&'static [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    GoesOn,
    Ends,
}

impl Head {
    /// `TOKEN` stands for a good one.
    pub fn bytes(self, token: &str) -> Vec<u8> {
        let text = match self {
            Self::Line(line) => format!("{line}\r\nHost: e\r\n\r\n").into_bytes(),
            Self::Fields(fields) => {
                format!("GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n{fields}\r\n").into_bytes()
            }
            Self::Raw(bytes) => bytes.to_vec(),
        };
        let mut bytes = Vec::new();
        let mut rest = &text[..];
        while let Some(at) = rest.windows(5).position(|word| word == b"TOKEN") {
            bytes.extend_from_slice(&rest[..at]);
            bytes.extend_from_slice(token.as_bytes());
            rest = &rest[at + 5..];
        }
        bytes.extend_from_slice(rest);
        bytes
    }
}

pub type Row = (&'static str, Head, u16, Fate);

const REQUEST_LINES: &[Row] = &[
    ("9112 §3", Line("GET /download?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3", Line("HEAD /download?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.1", Line("get /download?token=TOKEN HTTP/1.1"), 405, GoesOn),
    ("9112 §3.1", Line("Get /download?token=TOKEN HTTP/1.1"), 405, GoesOn),
    ("9112 §3.1", Line("G@T /download?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3.1", Line("G(T /download?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3.1", Line(" GET /download?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3.1", Line("\tGET /download?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3", Line("GET\t/download?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3", Line("GET /download?token=TOKEN\tHTTP/1.1"), 400, Ends),
    ("9112 §3", Line("GET  /download?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3", Line("GET /download?token=TOKEN HTTP/1.1 "), 400, Ends),
    ("9112 §3", Line("GET /download?token=TOKEN HTTP/1.1\t"), 400, Ends),
    ("9112 §3", Line("GET /download?token=TOKEN"), 400, Ends),
    ("9112 §3", Line("GET"), 400, Ends),
    ("9112 §3", Line("/download?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3", Line("GET HTTP/1.1"), 400, Ends),
    ("9112 §3.2", Line("GET /down load?token=TOKEN HTTP/1.1"), 400, Ends),
    ("9112 §3.2", Raw(b"GET /down\0load?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 400, Ends),
    ("9112 §3.2", Raw(b"GET /down\x7fload?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 400, Ends),
    ("9112 §3.2", Raw(b"GET /down\x01load?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 400, Ends),
    ("9112 §3.2", Raw(b"GET /down\rload?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 400, Ends),
    ("9112 §3.2", Raw(b"GET /download/\xff?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 400, Ends),
    // What browsers send in a name though no URI has it decides nothing here.
    ("9112 §3.2", Line("GET /download/a|b?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2", Line("GET /download/a%20b?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.1", Line("GET /download/any/name?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.1", Line("GET /download/?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.1", Line("GET //download?token=TOKEN HTTP/1.1"), 404, GoesOn),
    ("9112 §3.2.1", Line("GET /Download?token=TOKEN HTTP/1.1"), 404, GoesOn),
    ("9112 §3.2.1", Line("GET /downloads?token=TOKEN HTTP/1.1"), 404, GoesOn),
    ("9112 §3.2.1", Line("GET / HTTP/1.1"), 404, GoesOn),
    ("9112 §3.2.1", Line("GET ?token=TOKEN HTTP/1.1"), 400, GoesOn),
    ("9112 §3.2.1", Line("GET download?token=TOKEN HTTP/1.1"), 400, GoesOn),
    ("9112 §3.2.2", Line("GET http://e/download?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.2", Line("GET HTTP://e/download?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.2", Line("GET https://e:443/download?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.2", Line("GET http://other/download?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.2", Line("GET http://[::1]:80/download?token=TOKEN HTTP/1.1"), 200, GoesOn),
    ("9112 §3.2.2", Line("GET http://e HTTP/1.1"), 404, GoesOn),
    ("9112 §3.2.2", Line("GET http://e?token=TOKEN HTTP/1.1"), 404, GoesOn),
    ("9110 §4.2.1", Line("GET http:///download?token=TOKEN HTTP/1.1"), 400, GoesOn),
    ("9110 §4.2.1", Line("GET http://:80/download?token=TOKEN HTTP/1.1"), 400, GoesOn),
    ("9110 §4.2.4", Line("GET http://u:p@e/download?token=TOKEN HTTP/1.1"), 400, GoesOn),
    ("9112 §3.2.2", Line("GET http://a:b/download?token=TOKEN HTTP/1.1"), 400, GoesOn),
    ("9112 §3.2.2", Line("GET ftp://e/download?token=TOKEN HTTP/1.1"), 400, GoesOn),
    ("9110 §4.2.5", Line("GET /download?token=TOKEN#part HTTP/1.1"), 400, GoesOn),
    ("9112 §3.2.3", Line("GET e:80 HTTP/1.1"), 400, GoesOn),
    ("9112 §3.2.3", Line("CONNECT e:80 HTTP/1.1"), 405, GoesOn),
    ("9112 §3.2.4", Line("GET * HTTP/1.1"), 400, GoesOn),
    ("9112 §3.2.4", Line("OPTIONS * HTTP/1.1"), 405, GoesOn),
    ("9110 §9.1", Line("POST /download?token=TOKEN HTTP/1.1"), 405, GoesOn),
    ("9110 §9.1", Line("PUT /download?token=TOKEN HTTP/1.1"), 405, GoesOn),
    ("9110 §9.1", Line("DELETE /download?token=TOKEN HTTP/1.1"), 405, GoesOn),
    ("9110 §9.1", Line("TRACE /download?token=TOKEN HTTP/1.1"), 405, GoesOn),
    ("9110 §9.1", Line("OPTIONS /download?token=TOKEN HTTP/1.1"), 405, GoesOn),
    ("9110 §9.1", Line("QUERY /elsewhere HTTP/1.1"), 405, GoesOn),
    ("9110 §9.1", Raw(b"POST /download HTTP/1.1\r\nHost: e\r\nContent-Length: 0\r\n\r\n"), 405, GoesOn),
    ("9110 §9.1", Raw(b"POST /download HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\n\r\nabc"), 405, Ends),
    (
        "9110 §9.1",
        Raw(b"POST /download HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        405,
        Ends,
    ),
];

const VERSIONS: &[Row] = &[
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/2.0"), 505, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/3.0"), 505, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/0.9"), 505, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/1.2"), 505, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/1."), 400, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/1"), 400, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/1.11"), 400, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN http/1.1"), 400, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTPS/1.1"), 400, Ends),
    ("9112 §2.3", Line("GET /download?token=TOKEN HTTP/1,1"), 400, Ends),
    ("9113 §3.4", Raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505, Ends),
    ("9112 §9.3", Raw(b"GET /download?token=TOKEN HTTP/1.0\r\n\r\n"), 200, Ends),
    ("9112 §9.3", Raw(b"GET /download?token=TOKEN HTTP/1.0\r\nHost: e\r\n\r\n"), 200, Ends),
    ("9112 §9.3", Raw(b"GET /download?token=TOKEN HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 200, GoesOn),
    (
        "9112 §9.3",
        Raw(b"GET /download?token=TOKEN HTTP/1.0\r\nConnection: Keep-Alive, x\r\n\r\n"),
        200,
        GoesOn,
    ),
    (
        "9112 §9.3",
        Raw(b"GET /download?token=TOKEN HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"),
        200,
        Ends,
    ),
    ("9112 §9.3", Raw(b"GET /download?token=x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 400, GoesOn),
    ("9112 §9.3", Raw(b"GET /elsewhere HTTP/1.0\r\n\r\n"), 404, Ends),
    ("9112 §9.3", Fields("Connection: close\r\n"), 200, Ends),
    ("9112 §9.3", Fields("Connection: CLOSE\r\n"), 200, Ends),
    ("9112 §9.3", Fields("Connection: keep-alive\r\n"), 200, GoesOn),
    ("9112 §9.3", Fields("Connection: keep-alive, close\r\n"), 200, Ends),
    ("9112 §9.3", Fields("Connection: x\r\nConnection: close\r\n"), 200, Ends),
    ("9112 §9.3", Fields("Connection: closed\r\n"), 200, GoesOn),
    ("9112 §9.3", Fields("Connection: \"close\"\r\n"), 200, GoesOn),
    ("9112 §9.3", Fields("Connection: ,,close,\r\n"), 200, Ends),
    ("9112 §9.3", Fields("Connection:\r\n"), 200, GoesOn),
    ("9112 §9.3", Fields("Proxy-Connection: close\r\n"), 200, GoesOn),
    ("9110 §7.8", Fields("Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), 200, GoesOn),
    ("9110 §7.8", Fields("Connection: upgrade\r\nUpgrade: websocket\r\n"), 200, GoesOn),
    ("9112 §9.3", Raw(b"GET /elsewhere HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n"), 404, Ends),
];

const HOSTS: &[Row] = &[
    ("9112 §3.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\n\r\n"), 400, GoesOn),
    ("9112 §3.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nHost: e\r\n\r\n"), 400, GoesOn),
    ("9112 §3.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nhost: f\r\n\r\n"), 400, GoesOn),
    (
        "9112 §3.2",
        Raw(b"GET /download?token=TOKEN HTTP/1.0\r\nHost: e\r\nHost: e\r\nConnection: keep-alive\r\n\r\n"),
        400,
        GoesOn,
    ),
    ("9112 §3.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost:\r\n\r\n"), 200, GoesOn),
    ("9112 §3.2", Raw(b"GET http://e/download?token=TOKEN HTTP/1.1\r\n\r\n"), 400, GoesOn),
    ("9112 §3.2.2", Raw(b"GET http://e/download?token=TOKEN HTTP/1.1\r\nHost: f\r\n\r\n"), 200, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e.example:8080\r\n\r\n"), 200, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e:\r\n\r\n"), 200, GoesOn),
    (
        "9110 §7.2",
        Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n"),
        200,
        GoesOn,
    ),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: [2001:db8::1\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: [e]\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e:x\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e:80:80\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e f\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: u@e\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e/x\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e?x\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e#x\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\\x\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e%zz\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: \xc3\xbc\r\n\r\n"), 400, GoesOn),
    ("9110 §7.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: http://e\r\n\r\n"), 400, GoesOn),
    ("9112 §9.3", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nConnection: close\r\n\r\n"), 400, Ends),
];

const FRAMING: &[Row] = &[
    ("9112 §6.2", Fields("Content-Length: 0\r\n"), 200, GoesOn),
    ("9112 §6.2", Fields("Content-Length: 00\r\n"), 200, GoesOn),
    ("9112 §6.2", Fields("Content-Length: \t0 \r\n"), 200, GoesOn),
    ("9112 §6.3", Fields("Content-Length: 1\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 18446744073709551616\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 0\r\nContent-Length: 0\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 0\r\nContent-Length: 5\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 0, 0\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 0,5\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length:\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: -0\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: +0\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 0x0\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 0 0\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: 0;\r\n"), 400, Ends),
    ("9112 §6.3", Fields("Content-Length: \"0\"\r\n"), 400, Ends),
    ("9112 §6.3", Fields("content-length: 7\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding: chunked\r\n"), 400, Ends),
    ("9112 §6.1", Fields("transfer-ENCODING: chunked\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding: identity\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding: gzip, chunked\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding: xchunked\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding:\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding: \"chunked\"\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400, Ends),
    ("9112 §6.1", Fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400, Ends),
    (
        "9112 §6.1",
        Raw(b"GET /download?token=TOKEN HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400,
        Ends,
    ),
    (
        "9112 §6.1",
        Raw(b"HEAD /elsewhere HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400,
        Ends,
    ),
    ("9112 §5.1", Fields("Transfer-Encoding : chunked\r\n"), 400, Ends),
    ("9112 §5.1", Fields("Transfer-Encoding\t: chunked\r\n"), 400, Ends),
    ("9112 §5.1", Fields("Content-Length : 5\r\n"), 400, Ends),
    ("9112 §5.1", Fields(" Transfer-Encoding: chunked\r\n"), 400, Ends),
    // Another name, whoever may take it for the real one.
    ("9112 §5.1", Fields("Transfer_Encoding: chunked\r\n"), 200, GoesOn),
    ("9112 §5.1", Fields("X-Transfer-Encoding: chunked\r\n"), 200, GoesOn),
    ("9110 §10.1.4", Fields("TE: trailers, chunked\r\nConnection: TE\r\n"), 200, GoesOn),
    ("9110 §6.6.2", Fields("Trailer: X\r\n"), 200, GoesOn),
];

const FIELD_LINES: &[Row] = &[
    ("9112 §2.2", Raw(b"\r\nGET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 200, GoesOn),
    ("9112 §2.2", Raw(b"\r\n\r\n\r\nGET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 200, GoesOn),
    ("9112 §2.2", Raw(b"\nGET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\r\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\nHost: e\n\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\n\r\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\nHost: e\r\n\r\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\rX: y\r\n\r\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\r\n\r\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\n Host: e\r\n\r\n"), 400, Ends),
    ("9112 §2.2", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\n\tHost: e\r\n\r\n"), 400, Ends),
    ("9112 §5.2", Fields("X: a\r\n b\r\n"), 400, Ends),
    ("9112 §5.2", Fields("X: a\r\n\tb\r\n"), 400, Ends),
    ("9112 §5.2", Fields("X: a\r\n \r\n"), 400, Ends),
    ("9112 §5", Fields("X\r\n"), 400, Ends),
    ("9112 §5", Fields(": y\r\n"), 400, Ends),
    ("9112 §5", Fields("X y: z\r\n"), 400, Ends),
    ("9112 §5", Fields("X : y\r\n"), 400, Ends),
    ("9112 §5", Fields("X(: y\r\n"), 400, Ends),
    ("9112 §5", Fields("\"X\": y\r\n"), 400, Ends),
    ("9112 §5", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\n\xc3\xbc: y\r\n\r\n"), 400, Ends),
    ("9110 §5.5", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nX: a\0b\r\n\r\n"), 400, Ends),
    ("9110 §5.5", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nX: a\x01b\r\n\r\n"), 400, Ends),
    ("9110 §5.5", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nX: a\x7fb\r\n\r\n"), 400, Ends),
    ("9110 §5.5", Raw(b"GET /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nX: \xff\xfe\r\n\r\n"), 200, GoesOn),
    ("9110 §5.5", Fields("X:\r\n"), 200, GoesOn),
    ("9110 §5.5", Fields("X:y\r\n"), 200, GoesOn),
    ("9110 §5.5", Fields("X: \t y \t \r\n"), 200, GoesOn),
    ("9110 §5.1", Fields("x-UNHEARD-of!#$%&'*+.^_`|~: y\r\n"), 200, GoesOn),
    ("9112 §2.1", Raw(b"\x16\x03\x01\x02\0\x01\0\x01\n"), 400, Ends),
    ("9112 §2.1", Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), 400, Ends),
];

const MEANINGS: &[Row] = &[
    ("9110 §10.1.1", Fields("Expect: 100-continue\r\n"), 200, GoesOn),
    ("9110 §10.1.1", Fields("Expect: 100-Continue\r\n"), 200, GoesOn),
    ("9110 §10.1.1", Fields("Expect: tea\r\n"), 417, GoesOn),
    ("9110 §10.1.1", Fields("Expect: 100-continue, tea\r\n"), 417, GoesOn),
    ("9110 §10.1.1", Fields("Expect: 100-continue\r\nContent-Length: 5\r\n"), 400, Ends),
    (
        "9110 §10.1.1",
        Raw(b"GET /download?token=TOKEN HTTP/1.0\r\nConnection: keep-alive\r\nExpect: tea\r\n\r\n"),
        200,
        GoesOn,
    ),
    ("9110 §14.2", Fields("Range: bytes=0-3\r\n"), 206, GoesOn),
    ("9110 §14.2", Fields("Range: bytes=0-3\r\nRange: bytes=4-5\r\n"), 200, GoesOn),
    ("9110 §14.2", Fields("Range: lines=0-3\r\n"), 200, GoesOn),
    ("9110 §14.2", Fields("Range: bytes=9-3\r\n"), 200, GoesOn),
    (
        "9110 §14.2",
        Raw(b"HEAD /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nRange: bytes=0-3\r\n\r\n"),
        200,
        GoesOn,
    ),
    (
        "9110 §14.2",
        Raw(b"HEAD /download?token=TOKEN HTTP/1.1\r\nHost: e\r\nRange: bytes=99-\r\n\r\n"),
        200,
        GoesOn,
    ),
    ("9110 §15.5.17", Fields("Range: bytes=10-\r\n"), 416, GoesOn),
    ("9110 §13.1.1", Fields("If-Match: \"other\"\r\n"), 412, GoesOn),
    ("9110 §13.1.1", Fields("If-Match: *\r\n"), 200, GoesOn),
    ("9110 §13.1.2", Fields("If-None-Match: *\r\n"), 304, GoesOn),
    ("9110 §13.1.3", Fields("If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT\r\n"), 304, GoesOn),
    ("9110 §13.1.4", Fields("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), 412, GoesOn),
    ("9110 §13.1.5", Fields("If-Range: \"other\"\r\nRange: bytes=0-3\r\n"), 200, GoesOn),
    ("9110 §13.1.5", Fields("If-Range: \"other\"\r\n"), 200, GoesOn),
    ("9110 §12.5.3", Fields("Accept-Encoding: gzip, identity;q=0\r\n"), 200, GoesOn),
    ("9110 §12.5.1", Fields("Accept: text/plain\r\n"), 200, GoesOn),
    ("9110 §11.6.2", Fields("Authorization: Basic eDp5\r\nCookie: a=b\r\n"), 200, GoesOn),
];

/// All of them.
pub fn rows() -> Vec<Row> {
    [REQUEST_LINES, VERSIONS, HOSTS, FRAMING, FIELD_LINES, MEANINGS].concat()
}

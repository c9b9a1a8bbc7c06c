//! Bytes → RequestHead, by RFC 9112 and strictly: what could be framed in two ways is refused.
//!
//! It reads no body: no request that an edge takes has one.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use percent_encoding::percent_decode;

/// Longest request target, in bytes.
pub const TARGET_BYTES_MAX: usize = 12 * 1024;
/// Longest request head, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields.
const FIELDS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("malformed request")]
    Malformed,
    #[error("line ends without CR")]
    BareLf,
    #[error("HTTP version not supported")]
    Version,
    #[error("method not allowed")]
    Method,
    #[error("request target too long")]
    TargetTooLong,
    #[error("request head too large")]
    HeadTooLarge,
    #[error("Host missing, repeated or malformed")]
    Host,
    #[error("a request with a body")]
    Body,
    #[error("no such resource")]
    Path,
}

/// The fields that a download asks by, as they came.
#[derive(Debug, Default)]
pub struct Conditions<'b> {
    pub if_match: Option<Cow<'b, [u8]>>,
    pub if_none_match: Option<Cow<'b, [u8]>>,
    pub if_modified_since: Option<&'b [u8]>,
    pub if_unmodified_since: Option<&'b [u8]>,
    pub if_range: Option<&'b [u8]>,
    pub range: Option<&'b [u8]>,
}

#[derive(Debug)]
pub struct RequestHead<'b> {
    pub method: Method,
    path: &'b str,
    query: &'b str,
    /// HTTP/1.0: a connection that is kept has to be told so.
    pub is_http_10: bool,
    pub keep_alive: bool,
    pub conditions: Conditions<'b>,
}

/// The query's `token`.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenParameter<'b> {
    Given(Cow<'b, [u8]>),
    Missing,
    Repeated,
}

/// Finds the end of a head: the number of bytes up to and including its empty line. Bytes before `searched` hold no
/// end.
///
/// # Errors
/// `BareLf` where a line ends in LF alone: one reader's line break is another's content.
pub fn find_end(bytes: &[u8], searched: usize) -> Result<Option<usize>, RequestError> {
    let from = searched.saturating_sub(3);
    for at in memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(RequestError::BareLf);
        }
        if at >= 3 && bytes[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Which limit a head without an end has passed at [`HEAD_BYTES_MAX`].
pub fn too_large(bytes: &[u8]) -> RequestError {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() > TARGET_BYTES_MAX { RequestError::TargetTooLong } else { RequestError::HeadTooLarge }
}

impl<'b> RequestHead<'b> {
    /// Parses a whole head, empty line included.
    ///
    /// # Errors
    /// What is wrong with it; the order of checks is syntax, method, framing.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, RequestError> {
        let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(RequestError::Malformed),
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(RequestError::Version),
            Err(_) => return Err(RequestError::Malformed),
        }
        let target = request.path.ok_or(RequestError::Malformed)?;
        if target.len() > TARGET_BYTES_MAX {
            return Err(RequestError::TargetTooLong);
        }
        let method = match request.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            _ => return Err(RequestError::Method),
        };
        let is_http_10 = request.version == Some(0);
        let fields = Fields::read(request.headers, is_http_10)?;
        let (path, query) = split_target(target)?;
        let keep_alive = !fields.close && (!is_http_10 || fields.keep_alive);
        Ok(Self { method, path, query, is_http_10, keep_alive, conditions: fields.conditions })
    }

    /// `/download`, or `/download/` and any name: the name is for people.
    ///
    /// # Errors
    /// `Path` for any other.
    pub fn check_path(&self) -> Result<(), RequestError> {
        match self.path.strip_prefix("/download") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(()),
            _ => Err(RequestError::Path),
        }
    }

    /// The `token` of the query, its percent escapes decoded where it has any.
    pub fn token(&self) -> TokenParameter<'b> {
        let query = self.query.as_bytes();
        // Split by hand: a text's own `split` looks for the separator byte by byte.
        let ends = memchr::memchr_iter(b'&', query).chain([query.len()]);
        let parameters = ends.scan(0, |start, end| {
            let parameter = &query[*start..end];
            *start = end + 1;
            Some(parameter)
        });
        let mut values = parameters.filter_map(|parameter| parameter.strip_prefix(b"token="));
        match (values.next(), values.next()) {
            (None, _) => TokenParameter::Missing,
            (Some(_), Some(_)) => TokenParameter::Repeated,
            (Some(value), None) => TokenParameter::Given(match memchr::memchr(b'%', value) {
                None => Cow::Borrowed(value),
                Some(_) => percent_decode(value).into(),
            }),
        }
    }
}

/// The values of a head's `X-Forwarded-For` fields, in their order. A search of its own: few heads are asked for them. The
/// head has been parsed, so that a line of it is a field of one line.
pub fn forwarded_for(head: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    const NAME: &[u8] = b"X-Forwarded-For:";
    head.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    })
}

/// Origin form, or absolute form with the origin cut off (RFC 9112 §3.2).
fn split_target(target: &str) -> Result<(&str, &str), RequestError> {
    let origin = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(RequestError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(RequestError::Malformed);
        }
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        if authority == 0 {
            return Err(RequestError::Malformed);
        }
        &rest[authority..]
    };
    if memchr::memchr(b'#', origin.as_bytes()).is_some() {
        return Err(RequestError::Malformed);
    }
    let mark = memchr::memchr(b'?', origin.as_bytes());
    Ok(mark.map_or((origin, ""), |mark| (&origin[..mark], &origin[mark + 1..])))
}

/// Bytes that a Host may hold: a table, as each byte of each request is looked up (RFC 3986 §3.2.2, loosely).
const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = !matches!(
            byte,
            b'/' | b'?' | b'#' | b'@' | b'\\' | b'<' | b'>' | b'"' | b'{' | b'}' | b'|' | b'^' | b'`'
        );
        byte += 1;
    }
    table
};

/// What the fields say, once through.
#[derive(Default)]
struct Fields<'b> {
    hosts: usize,
    content_lengths: usize,
    close: bool,
    keep_alive: bool,
    conditions: Conditions<'b>,
}

impl<'b> Fields<'b> {
    fn read(headers: &[httparse::Header<'b>], is_http_10: bool) -> Result<Self, RequestError> {
        let mut fields = Self::default();
        for header in headers {
            fields.take(header.name, header.value)?;
        }
        // RFC 9112 §3.2: exactly one Host in HTTP/1.1, at most one in 1.0.
        if fields.hosts > 1 || (fields.hosts == 0 && !is_http_10) {
            return Err(RequestError::Host);
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, value: &'b [u8]) -> Result<(), RequestError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length first: one comparison for most fields.
        match name.len() {
            4 if is("Host") => {
                self.hosts += 1;
                if !value.iter().all(|byte| HOST_BYTES[usize::from(*byte)]) {
                    return Err(RequestError::Host);
                }
            }
            5 if is("Range") => set_single(&mut self.conditions.range, value),
            8 if is("If-Match") => append(&mut self.conditions.if_match, value),
            8 if is("If-Range") => set_single(&mut self.conditions.if_range, value),
            10 if is("Connection") => self.connection(value),
            13 if is("If-None-Match") => append(&mut self.conditions.if_none_match, value),
            14 if is("Content-Length") => {
                self.content_lengths += 1;
                if self.content_lengths > 1 || value.is_empty() || value.iter().any(|byte| *byte != b'0') {
                    return Err(RequestError::Body);
                }
            }
            17 if is("Transfer-Encoding") => return Err(RequestError::Body),
            17 if is("If-Modified-Since") => set_single(&mut self.conditions.if_modified_since, value),
            19 if is("If-Unmodified-Since") => set_single(&mut self.conditions.if_unmodified_since, value),
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// A field of one value that comes twice has no value that both ends agree on; an empty one matches nothing.
fn set_single<'b>(place: &mut Option<&'b [u8]>, value: &'b [u8]) {
    *place = Some(if place.is_some() { b"" } else { value });
}

/// The lines of a list-valued field are one list (RFC 9110 §5.3).
fn append<'b>(place: &mut Option<Cow<'b, [u8]>>, value: &'b [u8]) {
    match place {
        None => *place = Some(Cow::Borrowed(value)),
        Some(list) => {
            let list = list.to_mut();
            list.extend_from_slice(b", ");
            list.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RequestHead<'_>, RequestError> {
        RequestHead::parse(text.as_bytes())
    }

    #[test]
    fn heads_are_taken_or_refused() {
        use RequestError::*;
        let table: &[(&str, Option<RequestError>)] = &[
            ("GET /download?token=x HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("HEAD /download/any%20name?token=x HTTP/1.1\r\nhost: a:80\r\n\r\n", None),
            ("GET /download?token=x HTTP/1.0\r\n\r\n", None),
            ("GET http://h/download?token=x HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET /download?token=x HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0\r\n\r\n", None),
            ("GET /download?token=x HTTP/1.1\r\nHost:\r\n\r\n", None),
            ("GET /download?token=x HTTP/1.1\r\n\r\n", Some(Host)),
            ("GET /download?token=x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Some(Host)),
            ("GET /download?token=x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Some(Host)),
            ("GET /download?token=x HTTP/1.1\r\nHost: a b\r\n\r\n", Some(Host)),
            ("GET /download?token=x HTTP/1.1\r\nHost: u@a\r\n\r\n", Some(Host)),
            ("GET /download HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Some(Body)),
            (
                "GET /download HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
                Some(Body),
            ),
            ("GET /download HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n", Some(Body)),
            ("GET /download HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Some(Body)),
            ("GET /download HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Body)),
            ("GET /download HTTP/1.0\r\nTransfer-Encoding: identity\r\n\r\n", Some(Body)),
            ("POST /download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Method)),
            ("POST /download HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", Some(Method)),
            ("get /download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Method)),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Some(Method)),
            ("GET /other HTTP/1.1\r\nHost: a\r\n\r\n", Some(Path)),
            ("GET /downloads HTTP/1.1\r\nHost: a\r\n\r\n", Some(Path)),
            ("GET http://h HTTP/1.1\r\nHost: a\r\n\r\n", Some(Path)),
            ("GET download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Malformed)),
            ("GET ftp://h/download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Malformed)),
            ("GET /download#x HTTP/1.1\r\nHost: a\r\n\r\n", Some(Malformed)),
            ("GET /download HTTP/2.0\r\nHost: a\r\n\r\n", Some(Version)),
            ("GET /download\r\n\r\n", Some(Malformed)),
            ("GET  /download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Malformed)),
            ("GET /download HTTP/1.1\r\nHost : a\r\n\r\n", Some(Malformed)),
            ("GET /download HTTP/1.1\r\n Host: a\r\n\r\n", Some(Malformed)),
            ("GET /download HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", Some(Malformed)),
            ("GET /download HTTP/1.1\r\nHost: a\0\r\n\r\n", Some(Malformed)),
            ("GET /down\0load HTTP/1.1\r\nHost: a\r\n\r\n", Some(Malformed)),
            ("GET /download HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Some(Malformed)),
        ];
        for (text, expected) in table {
            let taken = parse(text).and_then(|head| head.check_path());
            assert_eq!(taken.err(), *expected, "{text:?}");
        }
    }

    #[test]
    fn connections_are_kept_as_the_versions_say() {
        let kept = |version: &str, connection: &str| {
            let field =
                if connection.is_empty() { String::new() } else { format!("Connection: {connection}\r\n") };
            parse(&format!("GET /download HTTP/{version}\r\nHost: a\r\n{field}\r\n")).unwrap().keep_alive
        };
        assert!(kept("1.1", "") && kept("1.1", "keep-alive") && kept("1.1", "x"));
        assert!(!kept("1.1", "close") && !kept("1.1", "x, Close") && !kept("1.1", "keep-alive, close"));
        assert!(!kept("1.0", "") && kept("1.0", "Keep-Alive") && !kept("1.0", "keep-alive, close"));
    }

    #[test]
    fn the_token_is_found_once() {
        use TokenParameter::*;
        let token = |query: &str| {
            let text = format!("GET /download?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
            match parse(&text).unwrap().token() {
                Given(token) => Ok(String::from_utf8(token.into_owned()).unwrap()),
                Missing => Err(0),
                Repeated => Err(2),
            }
        };
        assert_eq!(token("token=a.b-_"), Ok("a.b-_".into()));
        assert_eq!(token("x=1&token=a%2Eb&y"), Ok("a.b".into()));
        assert_eq!(token("token="), Ok(String::new()));
        assert_eq!(token("tokens=a"), Err(0));
        assert_eq!(token(""), Err(0));
        assert_eq!(token("token=a&token=a"), Err(2));
    }

    #[test]
    fn forwarding_fields_are_found_in_their_order() {
        let head = b"GET /X-Forwarded-For:0 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nX-Forwarded-Forx: 2\r\n\
                     x-forwarded-FOR:3 \r\nX-Forwarded: 4\r\nX: X-Forwarded-For: 5\r\nX-Forwarded-For:\r\n\r\n";
        RequestHead::parse(head).unwrap();
        let values: Vec<_> = forwarded_for(head).map(<[u8]>::trim_ascii).collect();
        assert_eq!(values, [&b"1"[..], b"3", b""]);
        assert_eq!(forwarded_for(head).next_back().map(<[u8]>::trim_ascii), Some(&b""[..]));
    }

    #[test]
    fn repeated_conditions_become_a_list_or_nothing() {
        let text = "GET /download HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\"\r\nRange: bytes=0-\r\n\
                    if-none-match: \"b\"\r\nRange: bytes=1-\r\n\r\n";
        let head = parse(text).unwrap();
        assert_eq!(head.conditions.if_none_match.as_deref(), Some(&b"\"a\", \"b\""[..]));
        assert_eq!(head.conditions.range, Some(&b""[..]));
    }

    #[test]
    fn the_end_is_found_wherever_the_bytes_break() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET";
        let end = head.len() - 3;
        for cut in 0..head.len() {
            let found = find_end(&head[..cut], 0).unwrap();
            assert_eq!(found, (cut >= end).then_some(end), "{cut}");
            assert_eq!(find_end(head, cut.min(end - 1)).unwrap(), Some(end), "resumed at {cut}");
        }
        for bare in [&b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: a\n\n", b"\n"] {
            assert_eq!(find_end(bare, 0), Err(RequestError::BareLf));
        }
    }

    #[test]
    fn what_is_too_large_is_told_apart() {
        let target = format!("GET /{} ", "a".repeat(TARGET_BYTES_MAX));
        assert_eq!(too_large(target.as_bytes()), RequestError::TargetTooLong);
        let fields = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(HEAD_BYTES_MAX));
        assert_eq!(too_large(fields.as_bytes()), RequestError::HeadTooLarge);
        let many: String = (0..=FIELDS_MAX).map(|n| format!("X{n}: y\r\n")).collect();
        assert_eq!(
            parse(&format!("GET /download HTTP/1.1\r\n{many}\r\n")).err(),
            Some(RequestError::HeadTooLarge)
        );
    }
}

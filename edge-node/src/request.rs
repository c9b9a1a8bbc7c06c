//! Bytes → RequestHead, by RFC 9112 and strictly: what could be framed in two ways is refused.
//!
//! It reads no body: no request that an edge takes has one.

mod fields;
mod host;
mod target;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use percent_encoding::percent_decode;

pub use fields::Conditions;
use fields::Fields;
pub(crate) use host::is_origin;

/// Longest request target, in bytes.
pub const TARGET_BYTES_MAX: usize = 12 * 1024;
/// Longest request head, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields.
pub(crate) const FIELDS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Options,
    /// One that nothing here answers to.
    Other,
}

impl Method {
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// Why a request is refused for what it is.
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
    #[error("request target malformed")]
    Target,
    #[error("request head too large")]
    HeadTooLarge,
    #[error("Host missing, repeated or malformed")]
    Host,
    #[error("an expectation that cannot be met")]
    Expect,
    #[error("a request with a body")]
    Body,
    #[error("no such resource")]
    Path,
}

/// A request of which it is certain where it ends.
#[derive(Debug)]
pub struct RequestHead<'b> {
    pub method: Method,
    path: &'b str,
    query: &'b str,
    /// HTTP/1.0: a connection that is kept has to be told so.
    pub is_http_10: bool,
    pub keep_alive: bool,
    /// Whose page asks (CORS).
    pub origin: Option<&'b [u8]>,
    pub conditions: Conditions<'b>,
    /// What is wrong with it nevertheless.
    fault: Option<RequestError>,
}

/// The query's `token`.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenParameter<'b> {
    Given(Cow<'b, [u8]>),
    Missing,
    Repeated,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Download,
    /// `OPTIONS *`
    Server,
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

/// The method of a request of which nothing else is certain: an answer to HEAD has no content, whatever it says.
pub fn method_of(bytes: &[u8]) -> Method {
    let word = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(word).map_or(Method::Other, Method::parse)
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
    /// Where the request ends is in doubt, or it has a body: the connection can carry no other.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, RequestError> {
        let mut headers = [MaybeUninit::uninit(); FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(RequestError::Malformed),
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(version_fault(bytes)),
            Err(_) => return Err(RequestError::Malformed),
        }
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(RequestError::Malformed);
        };
        let method = Method::parse(method);
        let is_http_10 = request.version == Some(0);
        let mut fields = Fields::default();
        for header in request.headers {
            fields.take(header.name, header.value).map_err(|error| match method {
                // What is wrong first of all.
                Method::Other => RequestError::Method,
                Method::Get | Method::Head | Method::Options => error,
            })?;
        }
        Ok(Self::new(method, target, is_http_10, fields))
    }

    /// Takes a request of HTTP/2, where frames say where it ends.
    ///
    /// # Errors
    /// It has a body, or says so.
    pub(crate) fn of_request<B>(request: &'b http::Request<B>, has_body: bool) -> Result<Self, RequestError> {
        let method = Method::parse(request.method().as_str());
        let mut fields = Fields::default();
        for (name, value) in request.headers() {
            fields.take(name.as_str(), value.as_bytes())?;
        }
        if has_body {
            return Err(RequestError::Body);
        }
        if let Some(authority) = request.uri().authority() {
            fields.take_authority(authority.as_str().as_bytes());
        }
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        Ok(Self::new(method, target, false, fields))
    }

    fn new(method: Method, target: &'b str, is_http_10: bool, fields: Fields<'b>) -> Self {
        let split = target::split(target, method);
        let fault = match split {
            _ if method == Method::Other => Some(RequestError::Method),
            _ if target.len() > TARGET_BYTES_MAX => Some(RequestError::TargetTooLong),
            Err(fault) => Some(fault),
            Ok(_) => fields.fault(is_http_10),
        };
        let (path, query) = split.unwrap_or_default();
        let keep_alive = !fields.close && (!is_http_10 || fields.keep_alive);
        let Fields { origin, conditions, .. } = fields;
        Self { method, path, query, is_http_10, keep_alive, origin, conditions, fault }
    }

    /// `/download`, or `/download/` and any name: the name is for people.
    ///
    /// # Errors
    /// `Path` for any other, and what is wrong with a request that is none the less whole.
    pub fn resource(&self) -> Result<Resource, RequestError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.path.strip_prefix("/download") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(Resource::Download),
            None if self.path == "*" => Ok(Resource::Server),
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

/// Another version, if that is what stands in its place.
#[cold]
fn version_fault(bytes: &[u8]) -> RequestError {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            RequestError::Version
        }
        _ => RequestError::Malformed,
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
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Some(Target)),
            ("GET /other HTTP/1.1\r\nHost: a\r\n\r\n", Some(Path)),
            ("GET /downloads HTTP/1.1\r\nHost: a\r\n\r\n", Some(Path)),
            ("GET http://h HTTP/1.1\r\nHost: a\r\n\r\n", Some(Path)),
            ("GET download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Target)),
            ("GET ftp://h/download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Target)),
            ("GET http://u@h/download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Target)),
            ("GET http://:80/download HTTP/1.1\r\nHost: a\r\n\r\n", Some(Target)),
            ("GET /download#x HTTP/1.1\r\nHost: a\r\n\r\n", Some(Target)),
            ("GET /download HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", None),
            ("GET /download HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", Some(Expect)),
            ("GET /download HTTP/1.0\r\nExpect: tea\r\n\r\n", None),
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
            let taken = parse(text).and_then(|head| head.resource());
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

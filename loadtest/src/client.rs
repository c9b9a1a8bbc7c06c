//! A blocking HTTP/1.1 client that hides nothing: raw bytes out, heads and bodies as they came. It sends nothing
//! that it is not told to, but `Host` and `Connection`, and never retries by itself.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// A server that says nothing for this long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The longest chain of redirects that is followed.
const REDIRECTS_MAX: usize = 5;
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Status line and fields of a response, in the order they came.
#[derive(Debug, Clone)]
pub struct Head {
    pub status: u16,
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first field of that name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let parsed = response.parse(bytes).with_context(|| format!("not an HTTP response: {:?}", shown()))?;
        ensure!(parsed.is_complete(), "a cut response head: {:?}", shown());
        let fields = response.headers.iter().map(|field| {
            let value = String::from_utf8_lossy(field.value).into_owned();
            (field.name.to_owned(), value)
        });
        Ok(Self { status: response.code.context("a response without a status")?, fields: fields.collect() })
    }

    /// How long the body is; `None` where it ends with the connection.
    fn body_bytes(&self, method: &str) -> anyhow::Result<Option<u64>> {
        if method == "HEAD" || self.status == 204 || self.status == 304 {
            return Ok(Some(0));
        }
        ensure!(self.field("transfer-encoding").is_none(), "this client reads no transfer codings");
        let length = self.field("content-length").map(str::parse);
        length.transpose().context("Content-Length is no number")
    }
}

/// A response, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn field(&self, name: &str) -> anyhow::Result<&str> {
        let found = self.head.field(name);
        found.with_context(|| format!("no {name} in the answer: {:?}", self.head))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Errors
    /// The body is not JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }
}

/// One connection; requests on it may be pipelined.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn open(address: &str) -> anyhow::Result<Self> {
        Self::open_with(address, SILENCE_MAX)
    }

    /// The same, with another measure of how long a server may say nothing, to the connecting too.
    ///
    /// # Errors
    /// Nobody answers there in time.
    pub fn open_with(address: &str, silence_max: Duration) -> anyhow::Result<Self> {
        let mut tried: io::Result<TcpStream> = Err(io::ErrorKind::NotFound.into());
        // A name may have an address that nobody listens at, and another that somebody does.
        for socket in address.to_socket_addrs()? {
            tried = TcpStream::connect_timeout(&socket, silence_max);
            if tried.is_ok() {
                break;
            }
        }
        let stream = tried.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(silence_max))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream) })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Closes one or both directions; the other end sees it.
    ///
    /// # Errors
    /// The connection broke.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.get_ref().shutdown(how)
    }

    /// Reads the head of the next response; its body must be read before the one after it.
    ///
    /// # Errors
    /// The connection ended first, or what came is not HTTP.
    pub fn read_head(&mut self) -> anyhow::Result<Head> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let count = self.stream.read_until(b'\n', &mut head).context("reading a response head")?;
            ensure!(count > 0, "the connection ended before the response's head did");
            ensure!(head.len() <= HEAD_BYTES_MAX, "a response head of more than {HEAD_BYTES_MAX} bytes");
        }
        Head::parse(&head)
    }

    /// The body that follows the head of an answer to `method`.
    ///
    /// # Errors
    /// The head does not tell its length in a way this client knows.
    pub fn body(&mut self, head: &Head, method: &str) -> anyhow::Result<Body<'_>> {
        Ok(Body { left: head.body_bytes(method)?, stream: &mut self.stream })
    }

    /// Reads the next response whole.
    ///
    /// # Errors
    /// The connection ended first, short of `Content-Length` included, or what came is not HTTP.
    pub fn read_answer(&mut self, method: &str) -> anyhow::Result<Answer> {
        let head = self.read_head()?;
        let mut body = Vec::new();
        self.body(&head, method)?.read_to_end(&mut body)?;
        Ok(Answer { head, body })
    }

    /// Everything until the server closes; a reset counts as closing.
    ///
    /// # Errors
    /// The server stays silent and open.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(bytes),
        }
    }
}

/// A body on its way. It ends with `UnexpectedEof` where the connection ends short of `Content-Length`.
#[derive(Debug)]
pub struct Body<'a> {
    left: Option<u64>,
    stream: &'a mut BufReader<TcpStream>,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = &mut self.left else {
            return self.stream.read(buffer);
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.stream.read(&mut buffer[..most])?;
        if count == 0 {
            let missing = format!("the connection ended {left} bytes short");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
        }
        *left -= count as u64;
        Ok(count)
    }
}

/// A request to be sent on a connection of its own.
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    url: String,
    fields: String,
    body: String,
    redirects_max: usize,
    silence_max: Duration,
    version: &'static str,
}

impl Request {
    pub fn new(method: &'static str, url: &str) -> Self {
        Self {
            method,
            url: url.to_owned(),
            fields: String::new(),
            body: String::new(),
            redirects_max: 0,
            silence_max: SILENCE_MAX,
            version: "HTTP/1.1",
        }
    }

    /// Asks in HTTP/1.0, whose answers have no transfer codings.
    pub fn without_codings(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.fields, "{name}: {value}\r\n");
        self
    }

    /// A body, and its `Content-Length`.
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self.field("Content-Length", &body.len().to_string())
    }

    /// `Range: bytes=…`; `range` is what stands after the `=`.
    pub fn range(self, range: &str) -> Self {
        self.field("Range", &format!("bytes={range}"))
    }

    /// Follows redirects, with the same fields.
    pub fn follow(mut self) -> Self {
        self.redirects_max = REDIRECTS_MAX;
        self
    }

    /// Takes a server for dead that says nothing for this long.
    pub fn patience(mut self, silence_max: Duration) -> Self {
        self.silence_max = silence_max;
        self
    }

    /// Sends the request and reads the answer's head; the body comes from the connection.
    ///
    /// # Errors
    /// Nobody answers, what comes is not HTTP, redirects do not end.
    pub fn open(&self) -> anyhow::Result<(Head, Connection)> {
        let mut url = self.url.clone();
        for _ in 0..=self.redirects_max {
            let (address, target) = split_url(&url)?;
            let mut connection = Connection::open_with(address, self.silence_max)?;
            let Self { method, version, fields, body, .. } = self;
            let request = format!(
                "{method} {target} {version}\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n{body}"
            );
            connection.send(request.as_bytes())?;
            let head = connection.read_head()?;
            let redirect = matches!(head.status, 301 | 302 | 303 | 307 | 308) && self.redirects_max > 0;
            if !redirect {
                return Ok((head, connection));
            }
            url = head.field("location").context("a redirect without Location")?.to_owned();
        }
        bail!("more than {REDIRECTS_MAX} redirects from {}", self.url)
    }

    /// Sends the request and reads the answer whole.
    ///
    /// # Errors
    /// As [`Request::open`], or the body ends short.
    pub fn send(&self) -> anyhow::Result<Answer> {
        let (head, mut connection) = self.open()?;
        let mut body = Vec::new();
        connection.body(&head, self.method)?.read_to_end(&mut body)?;
        Ok(Answer { head, body })
    }
}

/// A GET that follows redirects.
///
/// # Errors
/// As [`Request::send`].
pub fn get(url: &str) -> anyhow::Result<Answer> {
    Request::new("GET", url).follow().send()
}

/// A GET whose answer is taken as it is, redirects too.
///
/// # Errors
/// As [`Request::send`].
pub fn get_here(url: &str) -> anyhow::Result<Answer> {
    Request::new("GET", url).send()
}

/// A HEAD whose answer is taken as it is, redirects too.
///
/// # Errors
/// As [`Request::send`].
pub fn head_here(url: &str) -> anyhow::Result<Answer> {
    Request::new("HEAD", url).send()
}

/// `http://host:port/target` → (`host:port`, `/target`).
fn split_url(url: &str) -> anyhow::Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("not an http URL: {url}"))?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (address, target) = rest.split_at(at);
    ensure!(address.contains(':'), "no port in {url}");
    Ok((address, if target.is_empty() { "/" } else { target }))
}

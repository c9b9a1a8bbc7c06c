//! Bytes of a connection → head and body of one answer, however they are cut into pieces. Pure: it knows no socket.

use crate::fault::Fault;

const HEAD_BYTES_MAX: usize = 32 << 10;
const FIELDS_MAX: usize = 64;

/// What a client has to know of an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head<'b> {
    pub(crate) status: u16,
    /// None where the body ends with the connection.
    pub(crate) length: Option<u64>,
    pub(crate) etag: Option<&'b str>,
    pub(crate) range: Option<&'b str>,
    pub(crate) location: Option<&'b str>,
}

/// Whether a client goes on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    GoOn,
    /// The client breaks off here, and closes.
    BreakOff,
}

/// Who reads an answer.
pub(crate) trait Sink {
    /// # Errors
    /// It is not what was asked for.
    fn head(&mut self, head: &Head<'_>) -> Result<(), Fault>;

    /// The next bytes of the body.
    ///
    /// # Errors
    /// They are not what they should be.
    fn body(&mut self, bytes: &[u8]) -> Result<Flow, Fault>;
}

/// How far an answer has come.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// The server keeps the connection after this answer.
    is_kept: bool,
}

#[derive(Debug)]
enum State {
    /// With what has come of the head, where it came in pieces.
    Head(Vec<u8>),
    Body {
        left: Option<u64>,
    },
    Done,
}

impl Framing {
    pub(crate) fn new() -> Self {
        Self { state: State::Head(Vec::new()), is_kept: true }
    }

    /// Takes the bytes that came next.
    ///
    /// # Errors
    /// They are no HTTP, follow the answer's end, or the sink does not take them.
    pub(crate) fn take(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<Flow, Fault> {
        match &mut self.state {
            State::Head(begun) if begun.is_empty() => self.take_head(bytes, sink),
            State::Head(begun) => {
                let mut all = std::mem::take(begun);
                all.extend_from_slice(bytes);
                self.take_head(&all, sink)
            }
            State::Body { .. } => self.take_body(bytes, sink),
            State::Done => Err(Fault::Surplus),
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// Short of the answer's end.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match &self.state {
            State::Head(begun) if begun.is_empty() => Err(Fault::NoAnswer),
            State::Head(_) => Err(Fault::NotHttp("the head is cut short")),
            State::Body { left: Some(missing) } => Err(Fault::Short { missing: *missing }),
            State::Body { left: None } | State::Done => {
                (self.state, self.is_kept) = (State::Done, false);
                Ok(())
            }
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Nothing of an answer has come.
    pub(crate) fn is_untouched(&self) -> bool {
        matches!(&self.state, State::Head(begun) if begun.is_empty())
    }

    /// Whether the connection can carry another request.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept && self.is_done()
    }

    fn take_head(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<Flow, Fault> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut response = httparse::Response::new(&mut fields);
            let rest = match response.parse(bytes) {
                Ok(httparse::Status::Complete(length)) => &bytes[length..],
                Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {
                    self.state = State::Head(bytes.to_vec());
                    return Ok(Flow::GoOn);
                }
                Ok(httparse::Status::Partial) => return Err(Fault::NotHttp("the head is too long")),
                Err(_) => return Err(Fault::NotHttp("the head is malformed")),
            };
            // Interim answers come unasked (RFC 9110 §15.2); 101 would change what is spoken.
            if matches!(response.code, Some(100 | 102..=199)) {
                bytes = rest;
                continue;
            }
            return self.begin(&response, rest, sink);
        }
    }

    /// With the head, and what came after it.
    fn begin(
        &mut self,
        response: &httparse::Response<'_, '_>,
        rest: &[u8],
        sink: &mut impl Sink,
    ) -> Result<Flow, Fault> {
        let (head, after) = head_of(response)?;
        sink.head(&head)?;
        self.is_kept = after == After::Kept;
        self.state = match (head.length, after) {
            (_, After::Unread) | (Some(0), _) => State::Done,
            (left, _) => State::Body { left },
        };
        match rest {
            _ if after == After::Unread => Ok(Flow::BreakOff),
            [] => Ok(Flow::GoOn),
            _ if self.is_done() => Err(Fault::Surplus),
            rest => self.take_body(rest, sink),
        }
    }

    fn take_body(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<Flow, Fault> {
        if let State::Body { left: Some(left) } = &mut self.state {
            *left = left.checked_sub(bytes.len() as u64).ok_or(Fault::Surplus)?;
            if *left == 0 {
                self.state = State::Done;
            }
        }
        sink.body(bytes)
    }
}

/// What becomes of a connection with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Kept,
    Closed,
    /// Closed before the body, which this client cannot read and does not need.
    Unread,
}

fn head_of<'b>(response: &httparse::Response<'_, 'b>) -> Result<(Head<'b>, After), Fault> {
    let status = response.code.ok_or(Fault::NotHttp("no status"))?;
    if (100..200).contains(&status) {
        return Err(Fault::NotHttp("another protocol, which nobody asked for"));
    }
    let mut head = Head { status, length: None, etag: None, range: None, location: None };
    let (mut is_kept, mut is_coded) = (response.version == Some(1), false);
    for field in response.headers.iter() {
        // By length first: of a dozen fields, a few are of use here.
        let text = || std::str::from_utf8(field.value).map(str::trim);
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("etag") => head.etag = text().ok(),
            8 if is("location") => head.location = text().ok(),
            10 if is("connection") => {
                let value = text().unwrap_or_default();
                is_kept = !value.eq_ignore_ascii_case("close")
                    && (is_kept || value.eq_ignore_ascii_case("keep-alive"));
            }
            13 if is("content-range") => head.range = text().ok(),
            14 if is("content-length") => {
                let length = text().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let length = length.and_then(|text| text.parse().ok());
                let length = length.ok_or(Fault::NotHttp("Content-Length is no number"))?;
                if head.length.replace(length).is_some_and(|before| before != length) {
                    return Err(Fault::NotHttp("two Content-Lengths"));
                }
            }
            17 if is("transfer-encoding") => is_coded = true,
            _ => {}
        }
    }
    if matches!(status, 204 | 304) {
        head.length = Some(0);
    }
    let after = match (is_coded, is_kept && head.length.is_some()) {
        (true, _) if (200..300).contains(&status) => {
            return Err(Fault::NotHttp("a transfer coding, which this client does not read"));
        }
        (true, _) => After::Unread,
        (false, true) => After::Kept,
        (false, false) => After::Closed,
    };
    Ok((head, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        status: u16,
        etag: String,
        body: Vec<u8>,
        stop_at: Option<usize>,
    }

    impl Sink for Seen {
        fn head(&mut self, head: &Head<'_>) -> Result<(), Fault> {
            self.status = head.status;
            self.etag = head.etag.unwrap_or_default().to_owned();
            Ok(())
        }

        fn body(&mut self, bytes: &[u8]) -> Result<Flow, Fault> {
            self.body.extend_from_slice(bytes);
            let stops = self.stop_at.is_some_and(|stop| self.body.len() >= stop);
            Ok(if stops { Flow::BreakOff } else { Flow::GoOn })
        }
    }

    const ANSWER: &[u8] =
        b"HTTP/1.1 206 Partial\r\nETag: \"x\"\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/9\r\n\r\nhello";

    fn fault(answer: &[u8]) -> Fault {
        let mut framing = Framing::new();
        let taken = framing.take(answer, &mut Seen::default()).map(drop);
        taken.and_then(|()| framing.end()).unwrap_err()
    }

    proptest! {
        #[test]
        fn an_answer_is_the_same_however_it_is_cut(cuts in prop::collection::vec(0..ANSWER.len(), 0..6)) {
            let (mut seen, mut framing) = (Seen::default(), Framing::new());
            let mut cuts = cuts;
            cuts.extend([0, ANSWER.len()]);
            cuts.sort_unstable();
            for piece in cuts.windows(2).map(|pair| &ANSWER[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()) {
                prop_assert!(!framing.is_done());
                framing.take(piece, &mut seen).unwrap();
            }
            prop_assert!(framing.is_done() && framing.is_kept());
            prop_assert_eq!((seen.status, seen.etag.as_str(), &*seen.body), (206, "\"x\"", &b"hello"[..]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framing = Framing::new();
            let _ = framing.take(&bytes, &mut Seen::default());
            let _ = framing.end();
        }
    }

    #[test]
    fn what_is_no_answer_is_named() {
        assert!(matches!(
            fault(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
            Fault::Short { missing: 1 }
        ));
        assert!(matches!(fault(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!"), Fault::Surplus));
        assert!(matches!(fault(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx"), Fault::Surplus));
        assert!(matches!(fault(b"HTTP/1.1 200 OK\r\nContent-Len"), Fault::NotHttp(_)));
        assert!(matches!(fault(b"SSH-2.0-server\r\n\r\n"), Fault::NotHttp(_)));
        assert!(matches!(fault(b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"), Fault::NotHttp(_)));
        assert!(matches!(
            fault(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            Fault::NotHttp(_)
        ));
        assert!(matches!(fault(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Fault::NotHttp(_)));
        assert!(matches!(Framing::new().end(), Err(Fault::NoAnswer)));
    }

    #[test]
    fn interim_answers_are_skipped() {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        let all = [interim.as_bytes(), ANSWER].concat();
        for cut in 1..all.len() {
            let (mut seen, mut framing) = (Seen::default(), Framing::new());
            framing.take(&all[..cut], &mut seen).unwrap();
            framing.take(&all[cut..], &mut seen).unwrap();
            assert_eq!((seen.status, &*seen.body), (206, &b"hello"[..]), "cut at {cut}");
        }
        assert!(matches!(fault(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Fault::NotHttp(_)));
    }

    #[test]
    fn an_error_s_coded_body_is_left_unread() {
        let answer = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n";
        let (mut seen, mut framing) = (Seen::default(), Framing::new());
        assert_eq!(framing.take(answer, &mut seen).unwrap(), Flow::BreakOff);
        assert_eq!((seen.status, framing.is_kept()), (503, false));
    }

    #[test]
    fn connections_are_kept_as_servers_say() {
        for (answer, is_kept) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", true),
        ] {
            let mut framing = Framing::new();
            framing.take(answer.as_bytes(), &mut Seen::default()).unwrap();
            assert_eq!(framing.is_kept(), is_kept, "{answer:?}");
        }
        let mut framing = Framing::new();
        framing.take(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", &mut Seen::default()).unwrap();
        assert!(!framing.is_done());
        framing.end().unwrap();
        assert!(framing.is_done() && !framing.is_kept());
    }

    #[test]
    fn a_client_may_break_off() {
        let mut seen = Seen { stop_at: Some(2), ..Seen::default() };
        assert_eq!(Framing::new().take(ANSWER, &mut seen).unwrap(), Flow::BreakOff);
    }
}

//! Whether somebody answers at a URL, and in which protocol: one question, over a connection of its own. Blocks; for
//! checks, where a program's own clients would only say that it did not work.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::units::BaseUrl;

/// For each address to be reached, and for each of the answer's pieces.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// Names may have many addresses.
const ADDRESSES_MAX: usize = 4;
const ANSWER_BYTES_MAX: u64 = 8 * 1024;
/// A clock that is off by more has good tokens refused.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP, as the URL says; with the status, and how far the clock there is ahead of ours in seconds, where it told.
    Http { status: u16, ahead_seconds: Option<i64> },
    /// TLS, as the URL says. Whose certificate it is was not judged.
    Tls,
}

/// Why nobody answers as the URL says. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreached {
    Name(String),
    Connect(String),
    /// The URL says `http`, and what answers speaks something else.
    NotHttp,
    /// The URL says `https`, and what answers speaks no TLS.
    NotTls,
    Silent,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(cause) => write!(f, "its name has no address here ({cause})"),
            Self::Connect(cause) => write!(f, "no connection to it ({cause})"),
            Self::NotHttp => {
                f.write_str("what answers there speaks no plain HTTP; if it speaks TLS, write https://")
            }
            Self::NotTls => f.write_str("what answers there speaks no TLS; write http://, or give it [tls]"),
            Self::Silent => f.write_str("it takes connections and does not answer"),
        }
    }
}

/// Asks `GET path` of a URL.
///
/// # Errors
/// Nobody answers, or not in what the URL says.
pub fn ask(url: &BaseUrl, path: &str) -> Result<Spoken, Unreached> {
    let parsed = url::Url::parse(url.as_str()).map_err(|error| Unreached::Name(error.to_string()))?;
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = parsed.port_or_known_default().unwrap_or(80);
    let mut stream = connect(&host, port)?;
    if parsed.scheme() == "https" {
        return shake_hands(&mut stream, &host);
    }
    let authority = parsed.authority();
    let question = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    let asked = SystemTime::now();
    stream.write_all(question.as_bytes()).map_err(|_| Unreached::Silent)?;
    let mut answer = Vec::new();
    // What came before the other end fell silent is enough.
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    if answer.is_empty() {
        return Err(if read.is_ok() { Unreached::NotHttp } else { Unreached::Silent });
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or(Unreached::NotHttp)?;
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    Ok(Spoken::Http {
        status,
        ahead_seconds: date_of(head).map(|date| ahead(date, asked, SystemTime::now())),
    })
}

/// Whether a clock that is so far ahead has good tokens refused.
pub fn is_too_far(ahead_seconds: i64) -> bool {
    ahead_seconds.unsigned_abs() > SKEW_MAX.as_secs()
}

fn connect(host: &str, port: u16) -> Result<TcpStream, Unreached> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| Unreached::Name(error.to_string()))?;
    let mut last = "it has no address".to_owned();
    for address in addresses.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, STEP_TIMEOUT) {
            Ok(stream) => {
                let is_bounded = stream.set_read_timeout(Some(STEP_TIMEOUT)).is_ok()
                    && stream.set_write_timeout(Some(STEP_TIMEOUT)).is_ok();
                return if is_bounded { Ok(stream) } else { Err(Unreached::Silent) };
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(Unreached::Connect(last))
}

/// Goes on until the other end has shown a certificate. None is trusted here, so that this is where it ends.
fn shake_hands(stream: &mut TcpStream, host: &str) -> Result<Spoken, Unreached> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.expect("the library's own versions suit it").with_root_certificates(RootCertStore::empty());
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Unreached::Name(error.to_string()))?;
    let session = ClientConnection::new(Arc::new(config.with_no_client_auth()), name);
    let mut session = session.map_err(|_| Unreached::NotTls)?;
    while session.is_handshaking() {
        match session.complete_io(stream) {
            Ok(_) => {}
            Err(error) => return judge_end(&error),
        }
    }
    Ok(Spoken::Tls)
}

fn judge_end(error: &io::Error) -> Result<Spoken, Unreached> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => Ok(Spoken::Tls),
        Some(_) => Err(Unreached::NotTls),
        None if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(Unreached::Silent)
        }
        None => Err(Unreached::NotTls),
    }
}

fn date_of(head: &str) -> Option<SystemTime> {
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value.trim())
    });
    httpdate::parse_http_date(date?).ok()
}

/// The difference nearest to none that the answer leaves possible, whole seconds.
fn ahead(date: SystemTime, asked: SystemTime, answered: SystemTime) -> i64 {
    let seconds = |from: SystemTime, to: SystemTime| match to.duration_since(from) {
        Ok(later) => i64::try_from(later.as_secs()).unwrap_or(i64::MAX),
        Err(earlier) => -i64::try_from(earlier.duration().as_secs()).unwrap_or(i64::MAX),
    };
    // A date is cut off to its second.
    if date > answered {
        seconds(answered, date)
    } else if date + Duration::from_secs(1) < asked {
        seconds(asked, date + Duration::from_secs(1))
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers its one caller with these bytes.
    fn server(answer: impl Into<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = answer.into();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut some = [0; 1024];
            let _ = stream.read(&mut some);
            let _ = stream.write_all(&answer);
        });
        address.to_string()
    }

    fn asked(scheme: &str, address: &str) -> Result<Spoken, Unreached> {
        ask(&BaseUrl::parse(&format!("{scheme}://{address}")).unwrap(), "/")
    }

    #[test]
    fn what_answers_is_told_by_its_protocol() {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        let answer = format!("HTTP/1.1 400 Bad Request\r\ndate: {date}\r\n\r\n");
        let Ok(Spoken::Http { status: 400, ahead_seconds: Some(ahead) }) = asked("http", &server(answer))
        else {
            panic!("HTTP was spoken");
        };
        assert!(is_too_far(ahead) && (3590..=3600).contains(&ahead), "{ahead}");
        let alert = [21, 3, 1, 0, 2, 2, 70];
        assert_eq!(asked("http", &server(alert)), Err(Unreached::NotHttp));
        assert_eq!(asked("http", &server("")), Err(Unreached::NotHttp));
        assert_eq!(asked("https", &server("HTTP/1.1 400 Bad Request\r\n\r\n")), Err(Unreached::NotTls));
        assert_eq!(asked("https", &server(alert)), Ok(Spoken::Tls));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(asked("http", &nobody.to_string()), Err(Unreached::Connect(_))));
    }

    #[test]
    fn what_the_way_explains_is_no_difference_of_clocks() {
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        for (date, asked, answered, expected) in [
            (100, 100, 100, 0),
            (100, 101, 101, 0),
            (100, 99, 103, 0),
            (110, 100, 102, 8),
            (90, 100, 102, -9),
        ] {
            assert_eq!(ahead(at(date), at(asked), at(answered)), expected, "{date} {asked} {answered}");
        }
    }
}

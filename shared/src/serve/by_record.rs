//! A socket that a TLS handshake reads from record by record (RFC 8446 §5.1), and not a byte more: what the client sent
//! behind its handshake is still in the socket when the handshake is done, for whoever takes over from there.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::first_secrets::FirstSecrets;

/// Kind, version, length.
const HEADER_BYTES: usize = 5;

/// What a TLS stream reads from and writes to.
#[derive(Debug)]
pub struct ByRecord {
    stream: TcpStream,
    reading: Reading,
    /// For whoever takes over, where somebody may.
    secrets: Option<Arc<FirstSecrets>>,
}

/// How far reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Whatever there is, at once.
    Freely,
    /// A record has been read whole, and its reader has yet to see that nothing follows at once.
    BehindRecord,
    Header([u8; HEADER_BYTES], usize),
    /// So many bytes of a record are left.
    Payload(usize),
}

const BEFORE_HEADER: Reading = Reading::Header([0; HEADER_BYTES], 0);

impl ByRecord {
    pub(super) fn new(stream: TcpStream, is_by_record: bool, secrets: Option<Arc<FirstSecrets>>) -> Self {
        let reading = if is_by_record { BEFORE_HEADER } else { Reading::Freely };
        Self { stream, reading, secrets }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub fn into_socket(self) -> TcpStream {
        self.stream
    }

    /// What was read of the socket are whole records.
    pub fn is_between_records(&self) -> bool {
        matches!(self.reading, Reading::BehindRecord | Reading::Header(_, 0))
    }

    /// What the connection's keys come of, where it is kept.
    pub fn secrets(&self) -> Option<&FirstSecrets> {
        self.secrets.as_deref()
    }

    /// From now on reads take whatever there is: nobody takes over.
    pub fn read_freely(&mut self) {
        self.reading = Reading::Freely;
        self.secrets = None;
    }
}

impl Reading {
    /// Where reading is once these bytes have been read, of what was wanted.
    fn after(self, read: &[u8]) -> Self {
        match self {
            Self::Freely | Self::BehindRecord => self,
            Self::Header(mut header, filled) => {
                let end = filled + read.len();
                header[filled..end].copy_from_slice(read);
                match (end, usize::from(u16::from_be_bytes([header[3], header[4]]))) {
                    (HEADER_BYTES, 0) => Self::BehindRecord,
                    (HEADER_BYTES, payload_bytes) => Self::Payload(payload_bytes),
                    _ => Self::Header(header, end),
                }
            }
            Self::Payload(left) if read.len() == left => Self::BehindRecord,
            Self::Payload(left) => Self::Payload(left - read.len()),
        }
    }
}

impl AsyncRead for ByRecord {
    /// Behind each record it is pending once: a handshake reads for as long as there is something, and would not stop at
    /// its end.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wanted = match self.reading {
            Reading::Freely => return Pin::new(&mut self.stream).poll_read(context, buffer),
            Reading::BehindRecord => {
                self.reading = BEFORE_HEADER;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Reading::Header(_, filled) => HEADER_BYTES - filled,
            Reading::Payload(left) => left,
        };
        let room = wanted.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        self.reading = self.reading.after(part.filled());
        let read = part.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByRecord {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// What one read gives; `None` where it is pending though there are bytes.
    async fn read(stream: &mut ByRecord) -> Option<Vec<u8>> {
        let mut memory = [0; 100];
        let mut buffer = ReadBuf::new(&mut memory);
        let mut polls = 0;
        std::future::poll_fn(|context| {
            polls += 1;
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(read) => Poll::Ready(read.is_ok()),
                // Behind a record it wakes by itself.
                Poll::Pending if stream.reading == BEFORE_HEADER && polls == 1 => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
        .then(|| buffer.filled().to_vec())
    }

    #[tokio::test]
    async fn what_follows_a_record_stays_in_the_socket() {
        let (mut client, server) = pair().await;
        client
            .write_all(b"\x16\x03\x01\x00\x03abc\x14\x03\x03\x00\x00\x17\x03\x03\x00\x02deGET /")
            .await
            .unwrap();
        server.readable().await.unwrap();
        let mut stream = ByRecord::new(server, true, None);
        assert!(stream.is_between_records());
        assert_eq!(read(&mut stream).await.unwrap(), b"\x16\x03\x01\x00\x03");
        assert!(!stream.is_between_records());
        assert_eq!(read(&mut stream).await.unwrap(), b"abc");
        assert!(stream.is_between_records());
        assert_eq!(read(&mut stream).await, None, "a pause behind each record");
        assert_eq!(read(&mut stream).await.unwrap(), b"\x14\x03\x03\x00\x00");
        assert_eq!(read(&mut stream).await, None, "also behind one that is empty");
        assert!(stream.is_between_records());
        assert_eq!(read(&mut stream).await.unwrap(), b"\x17\x03\x03\x00\x02");
        assert_eq!(read(&mut stream).await.unwrap(), b"de");
        let mut socket = stream.into_socket();
        let mut rest = [0; 5];
        socket.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"GET /");
    }

    #[tokio::test]
    async fn records_that_come_in_pieces_are_read_no_further() {
        let (mut client, server) = pair().await;
        let mut stream = ByRecord::new(server, true, None);
        for byte in b"\x16\x03\x01\x00\x02" {
            client.write_all(&[*byte]).await.unwrap();
            assert_eq!(read(&mut stream).await.unwrap(), [*byte]);
            assert!(!stream.is_between_records());
        }
        client.write_all(b"x").await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b"x");
        client.write_all(b"yz").await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b"y");
        assert_eq!(read(&mut stream).await, None);
        stream.read_freely();
        assert_eq!(read(&mut stream).await.unwrap(), b"z");
    }
}

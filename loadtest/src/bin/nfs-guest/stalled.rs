//! A transfer that its client lets stall, of a file that is by then not wholly cached.

use std::io::{ErrorKind, Read as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_loadtest::client::{Connection, Head, Request};
use sluice_loadtest::wait_until;

use crate::edge::Edge;
use crate::files::Stored;

/// Much more than sockets hold and an edge reads ahead.
pub(crate) const BYTES: u64 = 40 << 20;
/// What is read of the body before it stalls.
const FIRST_BYTES: usize = 256 * 1024;

/// The transfer, stalled.
pub(crate) struct Stalled<'f> {
    stored: &'f Stored,
    head: Head,
    connection: Connection,
}

/// How it ended.
pub(crate) struct Ending {
    /// All of them the bytes of the version that the transfer began with.
    pub(crate) received: u64,
    /// From the last of them to the end of the connection.
    pub(crate) silence: Duration,
}

impl<'f> Stalled<'f> {
    /// Begins a transfer of a file of [`BYTES`] bytes that nobody has asked for; to be called while nobody else asks
    /// for anything.
    pub(crate) fn begin(edge: &Edge, stored: &'f Stored) -> anyhow::Result<Self> {
        let before = edge.load("cache_bytes")?;
        let (head, mut connection) = Request::new("GET", &edge.url(&stored.name)?).open()?;
        ensure!(head.status == 200, "status {} for a transfer that is to stall", head.status);
        let length = head.field("content-length").context("no Content-Length")?;
        ensure!(length == BYTES.to_string(), "Content-Length is {length}");
        let mut first = vec![0; FIRST_BYTES];
        connection.body(&head, "GET")?.read_exact(&mut first)?;
        stored.content.check(0, &first)?;
        let mut cached = 0;
        wait_until("the transfer stalls", || {
            let last = std::mem::replace(&mut cached, edge.load("cache_bytes")?);
            thread::sleep(Duration::from_millis(300));
            Ok(cached == last && edge.load("storage_operations")? == 0)
        })?;
        ensure!(cached < before + BYTES, "all of {} is cached: nothing can be shown", stored.name);
        Ok(Self { stored, head, connection })
    }

    pub(crate) fn etag(&self) -> anyhow::Result<String> {
        Ok(self.head.field("etag").context("no ETag")?.to_owned())
    }

    /// Reads on until the body ends or the connection does.
    pub(crate) fn finish(mut self) -> anyhow::Result<Ending> {
        let mut received = FIRST_BYTES as u64;
        let mut buffer = vec![0; FIRST_BYTES];
        let mut last = Instant::now();
        while received < BYTES {
            let room = buffer.len().min(usize::try_from(BYTES - received)?);
            // The connection's own body would count from the start again.
            match self.connection.body(&self.head, "GET")?.read(&mut buffer[..room]) {
                Ok(count) => {
                    let checked = self.stored.content.check(received, &buffer[..count]);
                    checked.context("bytes of another version")?;
                    received += count as u64;
                    last = Instant::now();
                }
                Err(error)
                    if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) =>
                {
                    break;
                }
                Err(error) => return Err(error).context("a stalled transfer goes on"),
            }
        }
        Ok(Ending { received, silence: last.elapsed() })
    }
}

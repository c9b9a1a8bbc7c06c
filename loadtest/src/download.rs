//! A download that survives its edge: whatever breaks, it goes back to the coordinator's URL with a Range.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::client::{Head, Request};
use crate::wait;

/// Between two tries; a dead edge stays in routing for about three seconds.
const PAUSE: Duration = Duration::from_millis(100);

/// How a finished download went.
#[derive(Debug, Clone)]
pub struct Download {
    pub body: Vec<u8>,
    pub etag: String,
    /// Requests that were answered with bytes of the file.
    pub parts: usize,
}

/// Downloads `url`, resuming by Range after every break. `watch` is told the bytes received so far, after each read.
///
/// # Errors
/// The server refuses, the file changes between two parts, or no byte comes for [`wait::LIMIT`].
pub fn resuming(url: &str, mut watch: impl FnMut(u64)) -> anyhow::Result<Download> {
    let mut download = Download { body: Vec::new(), etag: String::new(), parts: 0 };
    let mut deadline = Instant::now() + wait::LIMIT;
    loop {
        let before = download.body.len();
        let fault = match part(url, &mut download, &mut watch) {
            Ok(()) => return Ok(download),
            Err(Broken::Fatal(error)) => return Err(error),
            Err(Broken::Again(error)) => error,
        };
        if download.body.len() > before {
            deadline = Instant::now() + wait::LIMIT;
        }
        if Instant::now() >= deadline {
            return Err(fault).context("no byte came any more");
        }
        std::thread::sleep(PAUSE);
    }
}

enum Broken {
    Again(anyhow::Error),
    Fatal(anyhow::Error),
}

fn part(url: &str, download: &mut Download, watch: &mut impl FnMut(u64)) -> Result<(), Broken> {
    let mut request = Request::new("GET", url).follow();
    if download.parts > 0 {
        let from = format!("{}-", download.body.len());
        request = request.range(&from).field("If-Range", &download.etag);
    }
    let (head, mut connection) = request.open().map_err(Broken::Again)?;
    if matches!(head.status, 429 | 500..) {
        return Err(Broken::Again(anyhow::anyhow!("status {}", head.status)));
    }
    begin(&head, download).map_err(Broken::Fatal)?;
    let mut body = connection.body(&head, "GET").map_err(Broken::Fatal)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => download.body.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(Broken::Again(error.into())),
        }
        watch(download.body.len() as u64);
    }
}

/// Judges a part's head against what was received before it.
fn begin(head: &Head, download: &mut Download) -> anyhow::Result<()> {
    let etag = head.field("etag").context("an answer without ETag")?;
    if download.parts == 0 {
        ensure!(head.status == 200, "status {} for a plain GET", head.status);
        download.etag = etag.to_owned();
    } else {
        ensure!(etag == download.etag, "the ETag changed from {} to {etag}", download.etag);
        let range = head.field("content-range").unwrap_or_default();
        let expected = format!("bytes {}-", download.body.len());
        if head.status != 206 || !range.starts_with(&expected) {
            bail!("status {} with Content-Range {range:?} for {expected:?}", head.status);
        }
    }
    download.parts += 1;
    Ok(())
}

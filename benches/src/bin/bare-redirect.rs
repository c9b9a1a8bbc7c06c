//! One ready-made redirection for whatever is asked, as fast as hyper gives it: what a coordinator's answers cost
//! without what they say. One thread, no routes, no log, no metrics, no deadlines.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Answers every request with 302 and these header fields; `date` and `content-length` are added.
#[derive(Debug, Parser)]
struct Arguments {
    listen: SocketAddr,
    /// As in `location: http://edge/file`.
    fields: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let fields: HeaderMap = arguments.fields.iter().map(|text| field(text)).collect::<anyhow::Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments.listen, Arc::new(fields)))
}

fn field(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(": ").with_context(|| format!("no header field: {text}"))?;
    Ok((name.parse()?, value.parse()?))
}

async fn serve(listen: SocketAddr, fields: Arc<HeaderMap>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let fields = Arc::clone(&fields);
        let service = service_fn(move |_: Request<Incoming>| {
            let fields = HeaderMap::clone(&fields);
            async move { Ok::<_, Infallible>(redirection(fields)) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn redirection(fields: HeaderMap) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::FOUND;
    *response.headers_mut() = fields;
    response
}

//! Claims about clients that ask and do not read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use sluice_shared::client_source::ClientSource;
use sluice_shared::serve::{ServeLimits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// For anything that is bound to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn who_asks_on_and_takes_no_answer_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Router::new().route("/", get(|| async { "x".repeat(60_000) }));
    let limits = ServeLimits { write_timeout: Duration::from_millis(500), ..ServeLimits::default() };
    tokio::spawn(serve(listener, answers, limits, ClientSource::Connection, None, std::future::pending()));

    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut silent = TcpStream::connect(address).await.unwrap();
    let asking = async { while silent.write_all(request).await.is_ok() {} };
    timeout(LIMIT, asking).await.expect("the connection is closed");

    // One that takes its answers may wait between them.
    let mut client = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        client.write_all(request).await.unwrap();
        let (mut bytes, mut taken) = ([0; 8192], 0);
        while taken < 60_000 {
            taken += timeout(LIMIT, client.read(&mut bytes)).await.unwrap().unwrap();
        }
        tokio::time::sleep(2 * limits.write_timeout).await;
    }
}

//! A lean client of HTTP/1.1 for many connections on one thread: bytes are seen once, in a buffer that all connections of
//! the thread share, and nothing is allocated for an answer.

mod connection;
mod framing;
mod pool;
mod stream;
mod url;

pub(crate) use connection::Pace;
pub(crate) use framing::{Flow, Head, Sink};
pub(crate) use pool::{Exchange, Pool};
pub(crate) use url::{Url, percent_encoded};

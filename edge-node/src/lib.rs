//! Sluice's edge node, from socket to socket. The modules follow a request's way; `ARCHITECTURE.md` has the picture.

mod admin;
mod answer;
mod authorize;
mod cache;
mod config;
mod connection;
mod cors;
mod drain;
mod edge;
mod head;
mod http2;
mod limits;
mod listen;
mod logs;
mod media_type;
mod metrics;
pub mod multipart;
pub mod plan;
mod register;
mod reject;
pub mod request;
mod resolve;
mod send;
mod store;
mod tls;
mod transfers;
mod uring;
mod worker;

pub use edge::{check, findings, run};
pub use metrics::ALL as METRICS;

//! Sluice's edge node, from socket to socket. The modules follow a request's way; `ARCHITECTURE.md` has the picture.

mod admin;
mod authorize;
mod cache;
mod config;
mod connection;
mod drain;
mod edge;
mod head;
mod limits;
mod listen;
mod logs;
mod media_type;
mod metrics;
pub mod plan;
mod reject;
pub mod request;
mod resolve;
mod send;
mod store;
mod uring;
mod worker;

pub use edge::{check, run};

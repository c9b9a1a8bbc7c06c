//! What Sluice's coordinator and its edges must agree on, and nothing that only one of them needs.

pub mod admin;
pub mod bearer;
pub mod client_net;
pub mod client_source;
pub mod cluster;
pub mod config;
pub mod file_id;
mod json;
pub mod keys;
pub mod problem;
pub mod proxy_protocol;
pub mod query;
pub mod serve;
pub mod telemetry;
pub mod token;
pub mod units;

//! What Sluice's coordinator and its edges must agree on, and nothing that only one of them needs.

pub mod admin;
pub mod app_jwt;
pub mod bearer;
pub mod canonical_json;
pub mod client_net;
pub mod client_source;
pub mod cluster;
pub mod config;
mod fernet;
pub mod file_id;
pub mod followed;
mod json;
pub mod keys;
mod mac;
pub mod private_file;
pub mod problem;
pub mod proxy_protocol;
pub mod query;
pub mod secret;
pub mod serve;
pub mod signed_request;
pub mod telemetry;
pub mod token;
pub mod units;

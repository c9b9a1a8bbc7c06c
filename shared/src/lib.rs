//! What Sluice's coordinator and its edges must agree on, and nothing that only one of them needs.

// What the tests of files share names this crate from outside; tests within it use the same.
#[cfg(test)]
extern crate self as sluice_shared;

pub mod admin;
pub mod app_jwt;
pub mod bearer;
pub mod blocking;
pub mod canonical_json;
pub mod client_net;
pub mod client_source;
pub mod cluster;
pub mod config;
pub mod confinement;
pub mod etcd;
mod fernet;
pub mod file_id;
pub mod findings;
pub mod followed;
pub mod handover;
mod json;
pub mod keys;
pub mod ledger;
mod mac;
pub mod papers;
pub mod private_file;
pub mod problem;
pub mod proxy_protocol;
pub mod query;
pub mod reach;
pub mod revocations;
pub mod save_name;
pub mod secret;
pub mod serve;
pub mod service_manager;
pub mod shown_address;
pub mod signed_request;
pub mod surroundings;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod units;

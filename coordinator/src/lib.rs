//! Sluice's coordinator as a library: the program is a thin `main` over [`config`] and [`service`], and [`routing`]
//! is pure, so that simulations and benches can use it as it is.

#![forbid(unsafe_code)]

mod admin_api;
mod admin_clients;
mod admin_edges;
mod admin_error;
mod admin_keys;
mod admin_revocations;
mod admin_status;
mod allowance;
mod answer;
mod api;
mod audit;
mod authenticate;
mod call;
mod call_log;
mod clients;
pub mod config;
mod download;
mod edge_trust;
mod error;
mod keys;
mod links;
mod membership;
mod metalink;
mod metrics;
mod mint;
mod observe;
mod openapi;
mod orders;
mod peers;
mod popular;
mod renew;
mod router;
pub mod routing;
mod sealed;
pub mod service;
mod state;
mod status;
mod succession;
mod timed;

pub use clients::{ClientToImport, ClientsFileError, clients_to_import};
pub use metrics::ALL as METRICS;

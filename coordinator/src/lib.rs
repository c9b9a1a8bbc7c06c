//! Sluice's coordinator as a library: the program is a thin `main` over [`config`] and [`service`], and [`routing`]
//! is pure, so that simulations and benches can use it as it is.

#![forbid(unsafe_code)]

mod admin_api;
mod authenticate;
pub mod config;
mod download;
mod error;
mod membership;
mod metrics;
mod mint;
mod observe;
mod router;
pub mod routing;
pub mod service;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "asked by the handlers of links and by signed calls, once there are any")
)]
mod state;

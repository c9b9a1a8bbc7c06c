//! Clusters for tests that cross processes: real programs on free loopback ports, files whose every byte is known,
//! and a client that sends and shows raw HTTP. With `LOADTEST_KEEP=1` configurations and logs stay for you to look at.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use sluice_loadtest::{Cluster, client};
//!
//! let cluster = Cluster::start().edges(3).file("a.bin", 10 << 20).ready()?;
//! let answer = client::get(&cluster.download_url("a.bin"))?;
//! cluster.content("a.bin").check(0, &answer.body)?;
//! # Ok(()) }
//! ```

pub mod caller;
pub mod certificates;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod content;
pub mod crowd;
pub mod download;
pub mod faulty_store;
pub mod host;
pub mod hosts;
pub mod interrupts;
pub mod load;
mod lock;
pub mod median;
pub mod ports;
pub mod process;
pub mod settings;
pub mod solo_edge;
pub mod tool;
pub mod wait;

pub use cluster::{Cluster, Member};
pub use content::Content;
pub use solo_edge::SoloEdge;
pub use wait::{wait_until, wait_until_within};

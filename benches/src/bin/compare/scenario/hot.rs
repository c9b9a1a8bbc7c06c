//! Hot files: few and small, asked by many, for scenarios in which something else goes wrong.

use std::path::Path;

use sluice_loadtest::Content;

use crate::lab::Load;
use crate::server::{Front, Links, Server};
use crate::wrk::Order;

const FILES: usize = 16;
const BYTES: u64 = 16 << 10;
const LINKS: usize = 1_000;
const CONNECTIONS: u32 = 64;

pub(super) struct HotFiles(Vec<String>);

impl HotFiles {
    /// Makes them beneath a root.
    pub(super) fn make(root: &Path) -> anyhow::Result<Self> {
        let names: Vec<String> = (0..FILES).map(|number| format!("hot-{number}")).collect();
        for name in &names {
            Content::new(name, BYTES).write(&root.join(name))?;
        }
        Ok(Self(names))
    }

    pub(super) fn links(&self, server: &Server) -> anyhow::Result<Links> {
        server.links("hot", self.0.iter().map(String::as_str), LINKS, BYTES)
    }
}

pub(super) fn load(links: &Links) -> Load<'_> {
    Load { links, connections: CONNECTIONS, order: Order::InTurn, front: Front::Plain }
}

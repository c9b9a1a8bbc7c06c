//! More small files than fit: a hundred thousand, asked at random, of which the edge's cache holds a tenth and the page
//! cache all.

use std::fs;
use std::path::Path;

use sluice_loadtest::Content;

use crate::lab::{Lab, Load};
use crate::report::Rows;
use crate::server::{Front, Kind};
use crate::tables::Style::{Count, Ratio};
use crate::tables::Value::{EdgeRatio, Median};
use crate::tables::{Column, column};
use crate::wrk::Order;

pub(super) const TITLE: &str = "100,000 files of 16 KiB on a local filesystem, in its page cache, asked at random; the edge's cache holds a tenth";

pub(super) const COLUMNS: &[Column] = &[
    column("edge, requests/s", Kind::Edge, Median("requests_per_second"), Count),
    column("× nginx", Kind::Nginx, EdgeRatio("requests_per_second"), Ratio),
    column("× nginx + `open_file_cache`", Kind::NginxCache, EdgeRatio("requests_per_second"), Ratio),
    column("CPU × nginx", Kind::Nginx, EdgeRatio("cpu_seconds_per_100k_requests"), Ratio),
    column(
        "CPU × nginx + `open_file_cache`",
        Kind::NginxCache,
        EdgeRatio("cpu_seconds_per_100k_requests"),
        Ratio,
    ),
];

const SERVERS: [Kind; 3] = [Kind::Nginx, Kind::NginxCache, Kind::Edge];
const CASE: &str = "16KiB";
const FILES: usize = 100_000;
const FOLDERS: usize = 100;
const FILE_BYTES: u64 = 16 << 10;
/// For a tenth of the files: each costs a KiB beside its content.
const CACHE_BYTES: u64 = (FILE_BYTES + 1024) * FILES as u64 / 10;
const CONNECTIONS: u32 = 64;

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let root = lab.root()?;
    let names = make_files(root.path())?;
    let mut servers = Vec::new();
    for kind in SERVERS {
        let server = lab.start_with_cache(kind, root.path(), Some(CACHE_BYTES))?;
        let links = server.links("all", names.iter().map(String::as_str), FILES, FILE_BYTES)?;
        servers.push((server, links));
    }
    for (round, turn) in lab.turns(servers.len()) {
        let (server, links) = &mut servers[turn];
        lab.say(CASE, round, server.name())?;
        // The same order for every server of a round, another in the next.
        let order = Order::AtRandom(u32::try_from(round + 1)?);
        let measured =
            lab.measure(server, &Load { links, connections: CONNECTIONS, order, front: Front::Plain })?;
        rows.add(CASE, server.name(), measured);
    }
    Ok(())
}

/// Makes the files, and leaves them in the page cache with nothing to be written back.
fn make_files(root: &Path) -> anyhow::Result<Vec<String>> {
    for folder in 0..FOLDERS {
        fs::create_dir(root.join(folder.to_string()))?;
    }
    let names: Vec<String> = (0..FILES).map(|number| format!("{}/{number}", number % FOLDERS)).collect();
    for name in &names {
        Content::new(name, FILE_BYTES).write(&root.join(name))?;
    }
    rustix::fs::syncfs(fs::File::open(root)?)?;
    Ok(names)
}

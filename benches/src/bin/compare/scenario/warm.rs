//! Warm files: requests a second, and processor time a request and a byte.

use crate::lab::{Lab, Load};
use crate::report::Rows;
use crate::scenario::Scenario;
use crate::server::{Front, Kind, Known};
use crate::tables::Style::{Count, Ratio, Share};
use crate::tables::Value::{EdgeRatio, Median};
use crate::tables::{Column, column};
use crate::wrk::Order;

pub(super) const TITLE: &str = "Warm files; 64 connections where nothing else is said, 8 at 64 MiB";

pub(super) const COLUMNS: &[Column] = &[
    column("edge, requests/s", Kind::Edge, Median("requests_per_second"), Count),
    column("× nginx", Kind::Nginx, EdgeRatio("requests_per_second"), Ratio),
    column("× nginx + `open_file_cache`", Kind::NginxCache, EdgeRatio("requests_per_second"), Ratio),
    column("CPU × nginx", Kind::Nginx, EdgeRatio("cpu_seconds_per_gb"), Ratio),
    column("CPU × nginx + `open_file_cache`", Kind::NginxCache, EdgeRatio("cpu_seconds_per_gb"), Ratio),
    column("edge's core busy", Kind::Edge, Median("core_busy"), Share),
    column("client's core busy", Kind::Edge, Median("client_busy"), Share),
];

const SERVERS: [Kind; 3] = [Kind::Nginx, Kind::NginxCache, Kind::Edge];
/// Links where they are asked in turn: so many that none is seen again soon. No server here keeps what it has checked;
/// one case shows it, the others spare the client the work of choosing.
const LINKS: usize = 1_000;

/// What is downloaded, and over how many connections: enough to keep one core busy, few where each is long.
struct Case {
    name: &'static str,
    file: Known,
    connections: u32,
    order: Order,
}

const CASES: [Case; 7] = [
    case("1KiB", "1KiB", 1 << 10, 64, Order::First),
    case("1KiB-c512", "1KiB", 1 << 10, 512, Order::First),
    case("1KiB-1000-links", "1KiB", 1 << 10, 64, Order::InTurn),
    case("16KiB", "16KiB", 16 << 10, 64, Order::First),
    case("128KiB", "128KiB", 128 << 10, 64, Order::First),
    case("1MiB", "1MiB", 1 << 20, 64, Order::First),
    case("64MiB", "64MiB", 64 << 20, 8, Order::First),
];

const fn case(name: &'static str, file: &'static str, bytes: u64, connections: u32, order: Order) -> Case {
    Case { name, file: Known { name: file, bytes }, connections, order }
}

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let cases: Vec<&Case> =
        CASES.iter().filter(|case| lab.selection.has_case(Scenario::Warm, case.name)).collect();
    let root = lab.root()?;
    for case in &cases {
        case.file.write(root.path())?;
    }
    let mut servers = Vec::new();
    for kind in SERVERS {
        let server = lab.start(kind, root.path())?;
        let mut links = Vec::new();
        for case in &cases {
            server.check(case.file)?;
            let files = std::iter::once(case.file.name);
            links.push(server.links(case.name, files, LINKS, case.file.bytes)?);
        }
        servers.push((server, links));
    }
    for (at, case) in cases.iter().enumerate() {
        for (round, turn) in lab.turns(servers.len()) {
            let (server, links) = &mut servers[turn];
            lab.say(case.name, round, server.name())?;
            let load = Load {
                links: &links[at],
                connections: case.connections,
                order: case.order,
                front: Front::Plain,
            };
            let measured = lab.measure(server, &load)?;
            rows.add(case.name, server.name(), measured);
        }
    }
    Ok(())
}

//! Warm files over TLS, by HTTP/1.1 and by HTTP/2. nginx has `sendfile` off, as TLS in a process needs it; both use the
//! ciphers that their clients prefer, and the versions: wrk takes TLS 1.3, Debian's h2load 1.2.

use crate::lab::{Lab, Load};
use crate::report::Rows;
use crate::scenario::Scenario;
use crate::server::{Front, Kind, Known};
use crate::tables::Style::{Count, Ratio, Share};
use crate::tables::Value::{EdgeRatio, Median};
use crate::tables::{Column, column};
use crate::wrk::Order;

pub(super) const TITLE: &str = "Files over TLS (wrk) and HTTP/2 (h2load, eight streams a connection)";
pub(super) const COLUMNS: &[Column] = &[
    column("edge, requests/s", Kind::Edge, Median("requests_per_second"), Count),
    column("nginx, requests/s", Kind::NginxTls, Median("requests_per_second"), Count),
    column("× nginx", Kind::NginxTls, EdgeRatio("requests_per_second"), Ratio),
    column("CPU × nginx", Kind::NginxTls, EdgeRatio("cpu_seconds_per_gb"), Ratio),
    column("edge's core busy", Kind::Edge, Median("core_busy"), Share),
    column("client's core busy", Kind::Edge, Median("client_busy"), Share),
];

const SERVERS: [Kind; 2] = [Kind::NginxTls, Kind::Edge];

struct Case {
    name: &'static str,
    file: Known,
    front: Front,
    connections: u32,
}

const SMALL: Known = Known { name: "16KiB", bytes: 16 << 10 };
const LARGE: Known = Known { name: "64MiB", bytes: 64 << 20 };

const CASES: [Case; 4] = [
    Case { name: "tls-16KiB", file: SMALL, front: Front::Tls, connections: 64 },
    Case { name: "tls-64MiB", file: LARGE, front: Front::Tls, connections: 8 },
    Case { name: "h2-16KiB", file: SMALL, front: Front::H2, connections: 8 },
    Case { name: "h2-64MiB", file: LARGE, front: Front::H2, connections: 1 },
];

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let root = lab.root()?;
    SMALL.write(root.path())?;
    LARGE.write(root.path())?;
    let mut servers = Vec::new();
    for kind in SERVERS {
        let server = lab.start_with_tls(kind, root.path())?;
        let mut links = Vec::new();
        for case in &CASES {
            server.check(case.file)?;
            links.push(server.links(case.name, std::iter::once(case.file.name), 1, case.file.bytes)?);
        }
        servers.push((server, links));
    }
    for (at, case) in CASES.iter().enumerate() {
        if !lab.selection.has_case(Scenario::Tls, case.name) {
            continue;
        }
        for (round, turn) in lab.turns(servers.len()) {
            let (server, links) = &mut servers[turn];
            lab.say(case.name, round, server.name())?;
            let load = Load {
                links: &links[at],
                connections: case.connections,
                order: Order::First,
                front: case.front,
            };
            rows.add(case.name, server.name(), lab.measure(server, &load)?);
        }
    }
    Ok(())
}

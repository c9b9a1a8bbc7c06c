//! Files that servers have in memory, each by one client after the other: what `warm` and `tls` measure.

use std::path::Path;

use crate::lab::{Lab, Load};
use crate::report::Rows;
use crate::scenario::Scenario;
use crate::server::{Front, Kind, Known, Server};
use crate::wrk::Order;

/// What is downloaded, and over how many connections: enough to keep one core busy, few where each is long.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) file: Known,
    pub(super) front: Front,
    pub(super) connections: u32,
    pub(super) links: usize,
}

/// How a server is started over a folder of files.
pub(super) type Start = fn(&Lab, Kind, &Path) -> anyhow::Result<Server>;

/// Measures every case that was chosen, with every server in turn.
pub(super) fn run(
    lab: &Lab,
    rows: &mut Rows,
    scenario: Scenario,
    cases: &[Case],
    servers: &[Kind],
    start: Start,
) -> anyhow::Result<()> {
    let cases: Vec<&Case> = cases.iter().filter(|case| lab.selection.has_case(scenario, case.name)).collect();
    let root = lab.root()?;
    for case in &cases {
        case.file.write(root.path())?;
    }
    let mut started = Vec::new();
    for kind in servers {
        let server = start(lab, *kind, root.path())?;
        let links = cases.iter().map(|case| {
            server.check(case.file)?;
            server.links(case.name, std::iter::once(case.file.name), case.links, case.file.bytes)
        });
        let links = links.collect::<anyhow::Result<Vec<_>>>()?;
        started.push((server, links));
    }
    for (at, case) in cases.iter().enumerate() {
        for (round, turn) in lab.turns(started.len()) {
            let (server, links) = &mut started[turn];
            lab.say(case.name, round, server.name())?;
            let order = if case.links > 1 { Order::InTurn } else { Order::First };
            let load = Load { links: &links[at], connections: case.connections, order, front: case.front };
            let measured = lab.measure(server, &load)?;
            rows.add(case.name, server.name(), measured);
        }
    }
    Ok(())
}

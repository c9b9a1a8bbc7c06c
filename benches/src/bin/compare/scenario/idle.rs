//! Kept connections that have each made one request: the memory they hold of the server.
//!
//! Resident memory only: what the kernel keeps for sockets is the same whoever they belong to. nginx makes its table of
//! connections when it starts, which is not counted against it.

use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::crowd::{Crowd, Reading};
use crate::lab::{Lab, Load};
use crate::report::{Bound, Goal, Measures, Rows};
use crate::server::{Front, Kind, Known};
use crate::tables::Style::Count;
use crate::tables::Value::Median;
use crate::tables::{Column, column};
use crate::wrk::Order;

pub(super) const TITLE: &str =
    "Kept connections that idle after one request each: resident bytes a connection";

pub(super) const COLUMNS: &[Column] = &[
    column("edge", Kind::Edge, Median("resident_bytes_per_connection"), Count),
    column("nginx", Kind::Nginx, Median("resident_bytes_per_connection"), Count),
];

pub(super) const GOALS: &[Goal] = &[Goal {
    what: "resident bytes a connection",
    case: CASE,
    measure: "resident_bytes_per_connection",
    bound: Bound::AtMost(1024.0),
}];

const SERVERS: [Kind; 2] = [Kind::Nginx, Kind::Edge];
const CASE: &str = "10,000 connections";
const CONNECTIONS: usize = 10_000;
const FILE: Known = Known { name: "1KiB", bytes: 1 << 10 };
const PATIENCE: Duration = Duration::from_secs(30);
/// For what the last requests needed to be given back.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let root = lab.root()?;
    FILE.write(root.path())?;
    for (round, turn) in lab.turns(SERVERS.len()) {
        let kind = SERVERS[turn];
        lab.say(CASE, round, kind.name())?;
        // A new one each time: memory that one round has needed would serve the next.
        let mut server = lab.start(kind, root.path())?;
        let links = server.links("warm", std::iter::once(FILE.name), CONNECTIONS, FILE.bytes)?;
        lab.measure(
            &mut server,
            &Load { links: &links, connections: 64, order: Order::InTurn, front: Front::Plain },
        )?;
        let target = |number| server.target(FILE.name, number);
        let targets = (0..CONNECTIONS as u64).map(target).collect::<anyhow::Result<Vec<_>>>()?;

        let before = server.holdings()?;
        let mut crowd = Crowd::connect(server.address(), &targets, Reading::Fast)?;
        let fetched = crowd.fetch(PATIENCE)?;
        thread::sleep(SETTLE);
        let (open, after) = (crowd.open(), server.holdings()?);
        let told = || format!("{}: {fetched:?}, {open} connections open", kind.name());
        ensure!(fetched.answers == CONNECTIONS as u64 && open == CONNECTIONS, "{}", told());
        let added = after.resident_bytes - before.resident_bytes;
        let measured = Measures::default()
            .with("resident_bytes_per_connection", added / CONNECTIONS as f64)
            .with("resident_bytes_before", before.resident_bytes)
            .with("threads", after.threads);
        rows.add(CASE, kind.name(), measured);
    }
    Ok(())
}

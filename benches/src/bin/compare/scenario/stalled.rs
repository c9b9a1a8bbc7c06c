//! Hot files beside clients that ask for a large one and never read: what they take of everybody else's rate, and what
//! they hold of the server.

use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::crowd::{Crowd, Reading, fetch_each};
use crate::lab::Lab;
use crate::report::{Bound, Goal, Rows};
use crate::scenario::hot::{self, HotFiles};
use crate::server::{Kind, Known};
use crate::tables::Style::{Count, Share};
use crate::tables::Value::Median;
use crate::tables::{Column, column};

pub(super) const TITLE: &str = "Hot files of 16 KiB beside 400 clients that asked for 64 MiB and never read, as a share of the same server's own \
     rate without";

pub(super) const COLUMNS: &[Column] = &[
    column("edge", Kind::Edge, Median("share"), Share),
    column("nginx", Kind::Nginx, Median("share"), Share),
    column("edge, threads more", Kind::Edge, Median("threads_added"), Count),
    column("edge, resident bytes a client", Kind::Edge, Median("resident_bytes_per_client"), Count),
    column("nginx, resident bytes a client", Kind::Nginx, Median("resident_bytes_per_client"), Count),
];

pub(super) const GOALS: &[Goal] = &[
    Goal { what: "threads more", case: CASE, measure: "threads_added", bound: Bound::AtMost(0.0) },
    Goal { what: "share of the rate without", case: CASE, measure: "share", bound: Bound::AtLeast(0.9) },
];

const SERVERS: [Kind; 2] = [Kind::Nginx, Kind::Edge];
const CASE: &str = "400 clients";
const CLIENTS: usize = 400;
const BIG: Known = Known { name: "big", bytes: 64 << 20 };
const PATIENCE: Duration = Duration::from_secs(10);
/// For sockets to fill with what nobody reads.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let root = lab.root()?;
    BIG.write(root.path())?;
    let hot_files = HotFiles::make(root.path())?;
    for (round, turn) in lab.turns(SERVERS.len()) {
        let kind = SERVERS[turn];
        let mut server = lab.start(kind, root.path())?;
        let links = hot_files.links(&server)?;
        let load = hot::load(&links);
        let target = |number| server.target(BIG.name, number);
        let targets = (0..CLIENTS as u64).map(target).collect::<anyhow::Result<Vec<_>>>()?;
        let warmed = fetch_each(server.address(), vec![targets[0].clone()], 1, PATIENCE)?;
        ensure!(warmed.body_bytes == BIG.bytes, "{} did not give {}", kind.name(), BIG.name);

        lab.say("nobody stalls", round, kind.name())?;
        let alone = lab.measure(&mut server, &load)?;
        rows.add("none", kind.name(), alone.clone());
        lab.say(CASE, round, kind.name())?;
        let before = server.holdings()?;
        let mut crowd = Crowd::connect(server.address(), &targets, Reading::Never)?;
        let asked = crowd.ask(PATIENCE)?;
        ensure!(asked == CLIENTS, "{} let only {asked} clients ask", kind.name());
        thread::sleep(SETTLE);
        let beside = lab.measure_as_it_is(&mut server, &load)?;
        let after = server.holdings()?;
        let share = beside.ratio(&alone, "requests_per_second");
        let resident = (after.resident_bytes - before.resident_bytes) / CLIENTS as f64;
        let measured = beside
            .with("share", share)
            .with("threads", after.threads)
            .with("threads_added", after.threads - before.threads)
            .with("resident_bytes_per_client", resident);
        rows.add(CASE, kind.name(), measured);
    }
    Ok(())
}

//! What is lost of what programs write down, and of what they send.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::ensure;
use rustix::process::Signal;
use sluice_loadtest::client::Connection;
use sluice_loadtest::crowd::target_of;
use sluice_loadtest::{Cluster, wait_until};

use crate::availability::small;
use crate::stage::{Case, Stage, nothing, usual};

pub(crate) const CASES: &[Case] = &[
    Case::new("SluiceLogLinesLost", the_log_s_disk_is_full),
    Case::new("SluiceBodiesCutShort", clients_go_away),
];

/// Where it is written is a link, to what takes lines or to what is full; coordinators ask edges all the time, and every
/// answer is a line.
fn the_log_s_disk_is_full(stage: &mut Stage) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("access.log");
    symlink("/dev/null", &log)?;
    // The kernel would keep them from another device than that of the start.
    let written = format!("confine = false\nlog.access_file = {log:?}");
    let mut cluster = small().every_edge(|edge| edge.toml(&written)).ready()?;
    let write_to = |cluster: &mut Cluster, device: &str| -> anyhow::Result<()> {
        fs::remove_file(&log)?;
        symlink(device, &log)?;
        (0..2).try_for_each(|index| {
            let heard = |cluster: &Cluster| -> anyhow::Result<usize> {
                Ok(cluster.edges()[index].log()?.matches("SIGHUP: logs are opened").count())
            };
            let before = heard(cluster)?;
            cluster.edge(index).process().signal(Signal::HUP)?;
            wait_until("its log is opened anew", || Ok(heard(cluster)? > before))
        })
    };
    let lost = |cluster: &Cluster| -> anyhow::Result<f64> {
        let of = |edge: usize| cluster.edges()[edge].metric("sluice_edge_access_log_lost_lines_total");
        Ok(of(0)? + of(1)?)
    };
    stage.watch(&mut cluster, 0);
    stage.well(10, nothing)?;
    write_to(&mut cluster, "/dev/full")?;
    wait_until("lines are lost", || {
        usual(&cluster)?;
        Ok(lost(&cluster)? > 0.0)
    })?;
    stage.faulty(2, nothing)?;
    write_to(&mut cluster, "/dev/null")?;
    // With these it writes elsewhere.
    usual(&cluster)?;
    stage.mended(12, nothing)
}

fn clients_go_away(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().file("large.bin", 16 << 20).ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    let short = |cluster: &Cluster| -> anyhow::Result<f64> {
        let of = |edge: usize| cluster.edges()[edge].metric("sluice_edge_short_bodies_total");
        Ok(of(0)? + of(1)?)
    };
    let mut gone = 0.0;
    stage.faulty(34, || {
        let offer = cluster.request_download("large.bin")?;
        let edge = &cluster.edges()[cluster.edge_index(&offer.edge)?];
        let mut connection = Connection::open(&edge.address())?;
        let target = target_of(&offer.download_url)?;
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n").as_bytes())?;
        ensure!(connection.read_head()?.status == 200);
        drop(connection);
        gone += 1.0;
        wait_until("the edge has noticed", || Ok(short(&cluster)? >= gone))?;
        usual(&cluster)
    })?;
    stage.mended(20, || usual(&cluster))
}

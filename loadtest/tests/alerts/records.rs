//! What is lost of what programs write down, and of what they send.

use anyhow::ensure;
use sluice_loadtest::client::Connection;
use sluice_loadtest::crowd::target_of;
use sluice_loadtest::{Cluster, wait_until};

use crate::availability::small;
use crate::stage::{Case, Stage, nothing, usual};

pub(crate) const CASES: &[Case] = &[
    Case::new("SluiceLogLinesLost", the_log_s_disk_is_full),
    Case::new("SluiceBodiesCutShort", clients_go_away),
];

fn the_log_s_disk_is_full(stage: &mut Stage) -> anyhow::Result<()> {
    let full = "log.access_file = \"/dev/full\"";
    let mut cluster = small().every_edge(|edge| edge.toml(full)).ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, nothing)?;
    usual(&cluster)?;
    let lost = |cluster: &Cluster| -> anyhow::Result<f64> {
        let of = |edge: usize| cluster.edges()[edge].metric("sluice_edge_access_log_lost_lines_total");
        Ok(of(0)? + of(1)?)
    };
    wait_until("lines are lost", || Ok(lost(&cluster)? > 0.0))?;
    stage.faulty(2, nothing)?;
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

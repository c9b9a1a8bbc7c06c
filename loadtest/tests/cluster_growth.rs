//! A cluster that grows: the new edge gets its part of the files, and no file moves between the others.

use std::collections::BTreeMap;

use anyhow::ensure;
use sluice_loadtest::Cluster;

const FILES: usize = 2000;
/// The ring alone decides: neither bounds of loads nor an empty cache.
const RING_ALONE: &str = "routing.slow_start = \"0s\"\nrouting.load_bound = 10.0";

/// The edge of each file, as a coordinator has it.
fn placement(
    cluster: &Cluster,
    coordinator: usize,
    files: usize,
) -> anyhow::Result<BTreeMap<String, String>> {
    let coordinator = &cluster.coordinators()[coordinator];
    let place = |number: usize| {
        let file = format!("growth/{number}.bin");
        let edge = cluster.request_download_at(coordinator, &file)?.edge;
        Ok((file, edge))
    };
    (0..files).map(place).collect()
}

#[test]
fn a_fifth_edge_takes_a_fifth_of_the_files_and_moves_no_other() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(5)
        .edges_waiting(1)
        .etcd(1)
        .coordinator(|coordinator| coordinator.toml(RING_ALONE))
        .ready()?;
    let before = placement(&cluster, 0, FILES)?;
    let new = cluster.edges()[4].id().to_owned();
    ensure!(before.values().all(|edge| *edge != new));
    cluster.restart(4)?;
    cluster.wait_until_up(&[0, 1, 2, 3, 4])?;
    let after = placement(&cluster, 0, FILES)?;
    let moved: Vec<_> = before.iter().filter(|(file, edge)| after[*file] != **edge).collect();
    for (file, edge) in &moved {
        ensure!(after[*file] == new, "{file} moved from {edge} to {}", after[*file]);
    }
    let part = moved.len() as f64 / FILES as f64;
    ensure!((0.15..=0.25).contains(&part), "{part} of the files moved");
    Ok(())
}

#[test]
fn coordinators_with_the_same_inputs_choose_alike() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(4)
        .coordinators(2)
        .redis()
        .etcd(1)
        .coordinator(|coordinator| coordinator.toml(RING_ALONE))
        .ready()?;
    let [one, other] = [placement(&cluster, 0, 300)?, placement(&cluster, 1, 300)?];
    ensure!(one == other, "{one:?}\n{other:?}");
    cluster.kill(2)?;
    cluster.wait_until_up(&[0, 1, 3])?;
    let [one_after, other_after] = [placement(&cluster, 0, 300)?, placement(&cluster, 1, 300)?];
    ensure!(one_after == other_after && one_after != one, "{one_after:?}\n{other_after:?}");
    Ok(())
}

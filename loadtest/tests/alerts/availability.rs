//! Faults of whole programs, and of what they answer.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use sluice_loadtest::caller::{self, Caller};
use sluice_loadtest::client::{self, Connection};
use sluice_loadtest::cluster::Builder;
use sluice_loadtest::faulty_store::Errno;
use sluice_loadtest::ports::Port;
use sluice_loadtest::{Cluster, wait_until, wait_until_within};

use crate::stage::{Case, Stage, nothing, usual};
use crate::storage::Mounted;

pub(crate) const CASES: &[Case] = &[
    Case::new("SluiceCoordinatorDown", a_coordinator_is_killed),
    Case::new("SluiceEdgeDown", one_edge_of_five_is_killed),
    Case::new("SluiceEdgesRestartTogether", two_edges_are_killed_and_started),
    Case::new("SluiceNoEdgeUp", a_coordinator_is_cut_off_from_its_edges),
    Case::new("SluiceEdgesMissing", a_coordinator_is_cut_off_from_a_quarter_of_its_edges),
    Case::new("SluiceEdgeUrlFaulty", an_edge_gives_a_url_where_nobody_is),
    Case::new("SluiceCoordinatorErrors", a_client_calls_more_than_nonces_max),
    Case::new("SluiceEdgeErrors", files_of_one_folder_cannot_be_opened),
    Case::new("SluiceEdgeFull", connections_are_held),
    // There is no proxy: coordinators that ask where clients are sent come past it, too.
    Case {
        beside: &["SluiceEdgeUrlFaulty"],
        ..Case::new("SluiceUnknownProxy", somebody_connects_past_the_proxy)
    },
];

/// Two edges and a coordinator, with the file that is asked for as usual.
pub(crate) fn small() -> Builder {
    Cluster::start().edges(2).file("a.bin", 2000)
}

fn a_coordinator_is_killed(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    cluster.coordinator().process().kill()?;
    stage.faulty(4, nothing)?;
    cluster.coordinator().restart()?;
    cluster.wait_until_up(&[0, 1])?;
    stage.mended(2, || usual(&cluster))
}

fn one_edge_of_five_is_killed(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().edges(5).ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    cluster.kill(4)?;
    cluster.wait_until_up(&[0, 1, 2, 3])?;
    stage.faulty(6, || usual(&cluster))?;
    cluster.restart(4)?;
    cluster.wait_until_up(&[0, 1, 2, 3, 4])?;
    stage.mended(2, || usual(&cluster))
}

fn two_edges_are_killed_and_started(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().ready()?;
    stage.watch(&mut cluster, 0);
    // Of counters that are hardly above 0 nobody sees that they began anew.
    let connect = |cluster: &Cluster| -> anyhow::Result<()> {
        for edge in cluster.edges() {
            for _ in 0..USUAL_CONNECTIONS {
                ensure!(client::get_here(&format!("{}/download", edge.url()))?.status() == 400);
            }
        }
        Ok(())
    };
    stage.well(10, || connect(&cluster))?;
    for edge in [0, 1] {
        cluster.kill(edge)?;
        cluster.restart(edge)?;
    }
    cluster.wait_until_up(&[0, 1])?;
    stage.faulty(2, || connect(&cluster))?;
    stage.mended(12, || connect(&cluster))
}

/// Made to each edge in a minute.
const USUAL_CONNECTIONS: usize = 5;

fn a_coordinator_is_cut_off_from_its_edges(stage: &mut Stage) -> anyhow::Result<()> {
    are_cut_off(stage, small().hosts(), &[0, 1], "sluice_edges{state=\"up\"}", 0.0)
}

fn a_coordinator_is_cut_off_from_a_quarter_of_its_edges(stage: &mut Stage) -> anyhow::Result<()> {
    are_cut_off(stage, small().hosts().edges(4), &[3], "sluice_edges{state=\"down\"}", 1.0)
}

/// Edges that the coordinator does not reach, and others do; what it says of them then.
fn are_cut_off(
    stage: &mut Stage,
    builder: Builder,
    edges: &[usize],
    series: &str,
    value: f64,
) -> anyhow::Result<()> {
    let mut cluster = builder.ready()?;
    if !cluster.can_be_cut()? {
        return Ok(());
    }
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    let coordinator = cluster.coordinators()[0].host().address();
    for edge in edges {
        cluster.edges()[*edge].host().cut_from(&[coordinator])?;
    }
    let says = |cluster: &Cluster| cluster.coordinators()[0].metric(series);
    wait_until("the coordinator knows", || Ok(says(&cluster)? == value))?;
    stage.faulty(5, || usual(&cluster))?;
    for edge in edges {
        cluster.edges()[*edge].host().mend()?;
    }
    let all: Vec<usize> = (0..cluster.edges().len()).collect();
    cluster.wait_until_up(&all)?;
    stage.mended(2, || usual(&cluster))
}

fn an_edge_gives_a_url_where_nobody_is(stage: &mut Stage) -> anyhow::Result<()> {
    let mut cluster = small().etcd(1).ready()?;
    stage.watch(&mut cluster, 1);
    stage.well(10, || usual(&cluster))?;
    let (right, nobody) = (cluster.edges()[0].url(), Port::take()?);
    let mut advertise = |url: &str| -> anyhow::Result<()> {
        let config = cluster.folder().join("edge-1.toml");
        let text = fs::read_to_string(&config)?;
        let changed = |line: &str| match line.strip_prefix("advertise_url = ") {
            Some(_) => format!("advertise_url = {url:?}\n"),
            None => format!("{line}\n"),
        };
        fs::write(&config, text.lines().map(changed).collect::<String>())?;
        cluster.restart(0)?;
        cluster.wait_until_up(&[0, 1])?;
        let faults = if url == right { 0.0 } else { 1.0 };
        let coordinator = &cluster.coordinators()[0];
        wait_until_within(ASKED_AGAIN, "the coordinator has asked there", || {
            let kinds = ["refused", "name", "timeout"]
                .map(|kind| coordinator.metric(&format!("sluice_edge_url_faults{{fault=\"{kind}\"}}")));
            Ok(kinds.into_iter().sum::<anyhow::Result<f64>>()? == faults)
        })
    };
    advertise(&nobody.url())?;
    stage.faulty(8, nothing)?;
    advertise(&right)?;
    stage.mended(2, nothing)
}

/// Coordinators ask edges once a minute, and at once where a URL has changed.
const ASKED_AGAIN: Duration = Duration::from_secs(120);

fn a_client_calls_more_than_nonces_max(stage: &mut Stage) -> anyhow::Result<()> {
    const CALLS: usize = 4;
    const WELL: usize = 10;
    let clients =
        "[[clients]]\naccess_key = \"AK\"\nsecret = \"s\"\nscheme = \"signature\"\nprefixes = [\"\"]\n";
    let settings = format!("[auth]\nschemes = [\"signature\"]\nnonces_max = {}\n", WELL * CALLS);
    let mut cluster =
        small().clients(clients).coordinator(|coordinator| coordinator.toml(&settings)).ready()?;
    stage.watch(&mut cluster, 0);
    let caller = Caller::new(&cluster.coordinators()[0].url(), "AK", "s");
    // Who comes with a timestamp of before the coordinator's start is refused for that.
    caller::wait_for_next_second()?;
    let call = |expected: u16| -> anyhow::Result<()> {
        for _ in 0..CALLS {
            let call = caller.call("GET", "/api/request-download?file_id=a.bin&user_id=tester", "");
            let answer = call.send()?;
            ensure!(answer.status() == expected, "{} {}", answer.status(), answer.text());
        }
        Ok(())
    };
    stage.well(WELL - 1, || call(200))?;
    let url = "/api/request-download?file_id=a.bin&user_id=tester";
    wait_until("there is no room for a nonce", || Ok(caller.call("GET", url, "").send()?.status() == 503))?;
    stage.faulty(14, || call(503))
}

fn files_of_one_folder_cannot_be_opened(stage: &mut Stage) -> anyhow::Result<()> {
    let mut rig = Mounted::start(&[("bad/b.bin", 2000)], |edge| edge)?;
    stage.watch(&mut rig.cluster, 0);
    stage.well(10, || usual(&rig.cluster))?;
    rig.store.fail_opens("bad/", Errno::EIO);
    stage.faulty(14, || {
        // It is sent on until it has been sent on often enough.
        let mut answer = client::get_here(&rig.cluster.download_url("bad/b.bin"))?;
        while answer.status() == 302 {
            answer = client::get_here(answer.field("location")?)?;
        }
        ensure!(answer.status() == 503, "{} {}", answer.status(), answer.text());
        usual(&rig.cluster)
    })?;
    rig.store.mend();
    stage.mended(8, || usual(&rig.cluster))
}

fn connections_are_held(stage: &mut Stage) -> anyhow::Result<()> {
    const MOST: usize = 3;
    let limit = format!("limits.connections = {MOST}");
    let mut cluster = small().edges(1).every_edge(|edge| edge.toml(&limit)).ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, || usual(&cluster))?;
    let address = cluster.edges()[0].address();
    let edge = &cluster.edges()[0];
    let open = |_| Connection::open(&address);
    let held: Vec<Connection> = (0..MOST).map(open).collect::<anyhow::Result<_>>()?;
    wait_until("the edge has as many as it may", || {
        Ok(edge.metric("sluice_edge_connections")? == MOST as f64)
    })?;
    stage.faulty(12, || {
        let mut refused = Connection::open(&address)?;
        refused.send(b"GET /download HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")?;
        ensure!(refused.read_answer("GET")?.status() == 503);
        Ok(())
    })?;
    drop(held);
    wait_until("they are closed", || Ok(edge.metric("sluice_edge_connections")? == 0.0))?;
    stage.mended(8, || usual(&cluster))
}

fn somebody_connects_past_the_proxy(stage: &mut Stage) -> anyhow::Result<()> {
    let behind = "trusted_proxies = [\"127.0.0.2\"]\nproxy_protocol = true";
    let mut cluster = small().every_edge(|edge| edge.toml(behind)).ready()?;
    stage.watch(&mut cluster, 0);
    stage.well(10, nothing)?;
    let address = cluster.edges()[0].address();
    stage.faulty(12, || {
        ensure!(Connection::open(&address)?.read_to_close()?.is_empty());
        Ok(())
    })?;
    stage.mended(8, nothing)
}

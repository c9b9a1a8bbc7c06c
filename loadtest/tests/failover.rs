//! What a dead edge costs: a retry at the coordinator, never a restart from byte 0.

use sluice_loadtest::cluster::Offer;
use sluice_loadtest::faulty_store::FaultyStore;
use sluice_loadtest::{Cluster, Content, client, download, wait_until};

/// More than the sockets of a connection hold, so that a transfer is under way for as long as its reader wants.
const LARGE: u64 = 64 << 20;

fn first_edge(cluster: &Cluster, offer: &Offer) -> usize {
    cluster.edge_index(&offer.edge).expect("the offer names an edge of the cluster")
}

#[test]
fn a_broken_transfer_resumes_by_range_at_the_coordinator() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(3).file("large.bin", LARGE).ready()?;
    let offer = cluster.request_download("large.bin")?;
    let victim = first_edge(&cluster, &offer);
    let content = cluster.content("large.bin").clone();
    let mut killed_at = None;
    let download = download::resuming(&cluster.download_url("large.bin"), |received| {
        if killed_at.is_none() && received > 5 << 20 {
            cluster.kill(victim).expect("the edge runs");
            killed_at = Some(received);
        }
    })?;
    content.check_whole(&download.body)?;
    assert!(killed_at.is_some() && download.parts >= 2, "{killed_at:?}, {} parts", download.parts);
    Ok(())
}

#[test]
fn requests_go_to_another_edge_until_the_dead_one_is_back() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(3).file("a.bin", 100_000).ready()?;
    let before = cluster.request_download("a.bin")?;
    let victim = first_edge(&cluster, &before);
    cluster.kill(victim)?;
    // The token already handed out is still good at the next candidates.
    let answer = client::get_here(&before.alternates[0])?;
    cluster.content("a.bin").check_whole(&answer.body)?;

    let rest: Vec<usize> = (0..3).filter(|index| *index != victim).collect();
    cluster.wait_until_up(&rest)?;
    let after = cluster.request_download("a.bin")?;
    assert!(
        before.alternates[0].starts_with(&cluster.edges()[first_edge(&cluster, &after)].url()),
        "the first alternate is the one that inherits"
    );
    let answer = client::get(&cluster.download_url("a.bin"))?;
    cluster.content("a.bin").check_whole(&answer.body)?;

    cluster.restart(victim)?;
    cluster.wait_until_up(&[0, 1, 2])?;
    assert_eq!(cluster.request_download("a.bin")?.edge, before.edge, "the file comes back to its edge");
    Ok(())
}

#[test]
fn an_edge_that_is_terminated_finishes_its_downloads() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(2).file("large.bin", LARGE).ready()?;
    let offer = cluster.request_download("large.bin")?;
    let victim = first_edge(&cluster, &offer);
    let content = cluster.content("large.bin").clone();
    let mut asked = false;
    let download = download::resuming(&cluster.download_url("large.bin"), |received| {
        if !asked && received > 5 << 20 {
            cluster
                .edge(victim)
                .process()
                .signal(sluice_loadtest::process::Signal::TERM)
                .expect("the edge runs");
            asked = true;
        }
    })?;
    content.check_whole(&download.body)?;
    assert!(asked && download.parts == 1, "{} parts", download.parts);
    let status = cluster.edge(victim).process().wait()?;
    assert!(status.success(), "{status}");
    Ok(())
}

/// Files that this edge is the first candidate of.
fn files_of(cluster: &Cluster, edge: usize, count: usize) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for number in 0.. {
        let name = format!("{number}.bin");
        if first_edge(cluster, &cluster.request_download(&name)?) == edge {
            files.push(name);
        }
        if files.len() == count {
            break;
        }
    }
    Ok(files)
}

#[test]
fn what_hangs_on_one_edge_comes_from_another() -> anyhow::Result<()> {
    const SIZE: u64 = 100_000;
    let (source, mount) = (tempfile::tempdir()?, tempfile::tempdir()?);
    sluice_loadtest::settings::mark_store(source.path())?;
    let store = FaultyStore::mount(source.path(), mount.path())?;
    let root = |path: &std::path::Path| format!("root = {path:?}\nlimits.storage_timeout = \"1500ms\"");
    let cluster = Cluster::start()
        .edges(2)
        .every_edge(|edge| edge.toml(&root(source.path())).toml("limits.storage_concurrency = 16"))
        .edge(0, |edge| edge.toml(&root(mount.path())))
        .ready()?;
    // The store goes first when all is dropped, so that the edge can end.
    let (store, cluster) = &(store, cluster);
    let files = files_of(cluster, 0, 40)?;
    for name in &files {
        Content::new(name, SIZE).write(&source.path().join(name))?;
    }
    let fetch = |name: &str| -> anyhow::Result<()> {
        let answer = client::get(&cluster.download_url(name))?;
        Content::new(name, SIZE).check_whole(&answer.body)?;
        Ok(())
    };
    let sent_on = || cluster.edges()[0].metric("sluice_edge_sent_on_total");
    fetch(&files[0])?;
    assert_eq!(sent_on()?, 0.0);
    store.hold_reads("");
    // The client waits as long as one edge may, and has its file nevertheless.
    fetch(&files[1])?;
    assert_eq!(sent_on()?, 1.0);
    // Half of the places stuck: nobody waits any more for what is not cached.
    std::thread::scope(|scope| {
        for name in &files[2..18] {
            scope.spawn(|| fetch(name).expect("it comes from the other edge"));
        }
    });
    wait_until("the edge is degraded", || Ok(cluster.edges()[0].metric("sluice_edge_degraded")? == 1.0))?;
    assert!(sent_on()? > 1.0);
    let direct = |name: &str| -> anyhow::Result<_> {
        let offer = cluster.request_download(name)?;
        client::get_here(&format!("{}/download?token={}", cluster.edges()[0].url(), offer.token()?))
    };
    let answer = direct(&files[20])?;
    assert_eq!(answer.status(), 302, "{}", answer.text());
    assert!(answer.field("location")?.ends_with("&not=edge-1"));
    // What it has cached it still serves itself.
    assert_eq!(direct(&files[0])?.status(), 200);
    store.release();
    wait_until("the edge is well", || Ok(cluster.edges()[0].metric("sluice_edge_degraded")? == 0.0))?;
    assert_eq!(direct(&files[21])?.status(), 200);
    Ok(())
}

#[test]
fn with_no_edge_up_clients_are_sent_where_they_would_be_otherwise() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1000).ready()?;
    cluster.kill(0)?;
    wait_until("the coordinator knows it", || Ok(!cluster.edge_statuses()?[0].up))?;
    let readiness = cluster.coordinator().readiness()?;
    assert_eq!((readiness.status(), readiness.json()?["reasons"][0].as_str()), (503, Some("no live edge")));
    // The news may be wrong, and the edge back before the client is there.
    let answer = client::get_here(&cluster.download_url("a.bin"))?;
    assert_eq!(answer.status(), 302);
    cluster.restart(0)?;
    cluster.content("a.bin").check_whole(&client::get_here(answer.field("location")?)?.body)?;
    Ok(())
}

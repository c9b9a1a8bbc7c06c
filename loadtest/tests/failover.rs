//! What a dead edge costs: a retry at the coordinator, never a restart from byte 0.

use sluice_loadtest::cluster::Offer;
use sluice_loadtest::{Cluster, client, download};

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

#[test]
fn without_a_live_edge_the_answer_says_when_to_come_back() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().edges(1).file("a.bin", 1000).ready()?;
    cluster.kill(0)?;
    cluster.wait_until_up(&[])?;
    let answer = client::get_here(&cluster.download_url("a.bin"))?;
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after")?.parse::<u32>()? > 0);
    assert_eq!(answer.field("content-type")?, "application/problem+json");
    Ok(())
}

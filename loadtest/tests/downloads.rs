//! Files through the coordinator: every byte, every range, whichever edge they come from.

use std::thread;

use sluice_loadtest::client::{self, Request};
use sluice_loadtest::{Cluster, Content};

/// Sizes around what the edge treats apart: nothing, whole small files, the first window, several windows.
const SIZES: [(&str, u64); 7] = [
    ("empty.bin", 0),
    ("one.bin", 1),
    ("small.bin", 64 << 10),
    ("window.bin", (64 << 10) + 1),
    ("mebi.bin", 1 << 20),
    ("mebi-and-one.bin", (1 << 20) + 1),
    ("large.bin", (10 << 20) + 3),
];

#[test]
fn every_size_arrives_byte_exact_from_a_cold_and_a_warm_cache() -> anyhow::Result<()> {
    let start = Cluster::start().edges(3);
    let cluster = SIZES.iter().fold(start, |start, (name, size)| start.file(name, *size)).ready()?;
    for (name, size) in SIZES {
        for cache in ["cold", "warm"] {
            let answer = client::get(&cluster.download_url(name))?;
            assert_eq!(answer.status(), 200, "{name} {cache}");
            assert_eq!(answer.field("content-length")?, size.to_string(), "{name} {cache}");
            cluster
                .content(name)
                .check_whole(&answer.body)
                .unwrap_or_else(|fault| panic!("{name} {cache}: {fault}"));
        }
    }
    Ok(())
}

#[test]
fn ranges_are_exact_from_a_cold_and_a_warm_cache() -> anyhow::Result<()> {
    const SIZE: u64 = (10 << 20) + 3;
    let last = SIZE - 1;
    let ranges = [
        (0, 0),
        (0, 65_535),
        (last, last),
        (1, last),
        ((1 << 20) - 1, 1 << 20),
        ((2 << 20) - 7, (4 << 20) + 7),
        (5_000_001, 9_999_999),
    ];
    for (first, last) in ranges {
        // A cluster each: what one range has read into the cache must not serve another one that is to be cold.
        let cluster = Cluster::start().file("a.bin", SIZE).ready()?;
        for cache in ["cold", "warm"] {
            let request = Request::new("GET", &cluster.download_url("a.bin"));
            let answer = request.range(&format!("{first}-{last}")).follow().send()?;
            assert_eq!(answer.status(), 206, "{first}-{last} {cache}");
            assert_eq!(answer.field("content-range")?, format!("bytes {first}-{last}/{SIZE}"));
            assert_eq!(answer.body.len() as u64, last - first + 1, "{first}-{last} {cache}");
            cluster.content("a.bin").check(first, &answer.body)?;
        }
    }
    Ok(())
}

#[test]
fn a_file_larger_than_the_cache_arrives_whole_for_several_at_once() -> anyhow::Result<()> {
    let small = |edge: sluice_loadtest::settings::Settings| edge.cache("16MiB");
    let cluster = Cluster::start().every_edge(small).file("large.bin", 64 << 20).ready()?;
    let url = cluster.download_url("large.bin");
    for _ in 0..2 {
        let downloads: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn({
                    let url = url.clone();
                    move || client::get(&url)
                })
            })
            .collect();
        for download in downloads {
            let answer = download.join().expect("the download does not panic")?;
            cluster.content("large.bin").check_whole(&answer.body)?;
        }
    }
    Ok(())
}

#[test]
fn every_edge_has_the_same_etag_and_takes_the_same_token() -> anyhow::Result<()> {
    let cluster = Cluster::start().edges(3).file("a.bin", 100_000).ready()?;
    let offer = cluster.request_download("a.bin")?;
    assert_eq!(offer.alternates.len(), 2, "three edges are one candidate and two alternates");
    let mut etags = Vec::new();
    for url in offer.alternates.iter().chain([&offer.download_url]) {
        assert!(url.ends_with(offer.token()?), "alternates carry the same token");
        let answer = client::get_here(url)?;
        cluster.content("a.bin").check_whole(&answer.body)?;
        etags.push(answer.field("etag")?.to_owned());
    }
    etags.dedup();
    assert_eq!(etags.len(), 1, "{etags:?}");
    assert!(!etags[0].starts_with("W/"), "a strong validator: {}", etags[0]);
    let urls = cluster.edges().iter().map(|edge| edge.url());
    for url in urls {
        let all = offer.alternates.iter().chain([&offer.download_url]);
        assert_eq!(all.filter(|offered| offered.starts_with(&url)).count(), 1, "each edge is offered once");
    }
    Ok(())
}

#[test]
fn a_token_for_head_is_refused_for_get() -> anyhow::Result<()> {
    let cluster = Cluster::start().file("a.bin", 1000).ready()?;
    let url = cluster.download_url("a.bin");
    let redirect = client::head_here(&url)?;
    assert_eq!(redirect.status(), 302);
    let location = redirect.field("location")?;
    let head = client::head_here(location)?;
    assert_eq!((head.status(), head.field("content-length")?), (200, "1000"));
    assert_eq!(client::get_here(location)?.status(), 403);
    // A GET's token is good for both.
    let redirect = client::get_here(&url)?;
    assert_eq!(client::head_here(redirect.field("location")?)?.status(), 200);
    Ok(())
}

#[test]
fn names_that_need_escapes_arrive() -> anyhow::Result<()> {
    let names = [
        ("deep/er/down.bin", "deep/er/down.bin"),
        ("réports 2026/final (1)+%25.pdf", "r%C3%A9ports%202026/final%20(1)+%2525.pdf"),
        ("日本.txt", "%E6%97%A5%E6%9C%AC.txt"),
    ];
    let start = Cluster::start().edges(2);
    let cluster = names.iter().fold(start, |start, (name, _)| start.file(name, 5000)).ready()?;
    for (name, escaped) in names {
        let answer = client::get(&cluster.download_url(escaped))?;
        assert_eq!(answer.status(), 200, "{name}");
        cluster.content(name).check_whole(&answer.body)?;
    }
    Ok(())
}

#[test]
fn a_published_replacement_is_served_within_seconds_and_never_mixed() -> anyhow::Result<()> {
    const SIZE: u64 = 3 << 20;
    let cluster = Cluster::start().edges(2).file("a.bin", SIZE).ready()?;
    let (old, new) = (cluster.content("a.bin").clone(), Content::version("a.bin", 1, SIZE + 1));
    let url = cluster.download_url("a.bin");
    old.check_whole(&client::get(&url)?.body)?;
    cluster.publish("a.bin", &new)?;
    sluice_loadtest::wait_until("the new version is served", || {
        let body = client::get(&url)?.body;
        let is_new = new.check_whole(&body).is_ok();
        assert!(is_new || old.check_whole(&body).is_ok(), "a body is one version or the other");
        Ok(is_new)
    })
}

//! A download that takes hours, with tokens that live for a minute, on a clock that is moved on.

use std::time::Duration;

use serde_json::json;
use sluice_loadtest::Cluster;
use sluice_loadtest::caller::Link;
use sluice_loadtest::client::{self, Answer, Request};
use sluice_loadtest::cluster::token_of;

const PIECES: u64 = 180;
const PIECE_BYTES: u64 = 20_000;
const BETWEEN_PIECES: Duration = Duration::from_secs(61);

/// Where an answer sends its client.
fn location(answer: &Answer) -> anyhow::Result<String> {
    assert_eq!(answer.status(), 302, "{}", answer.text());
    Ok(answer.field("location")?.to_owned())
}

fn link(cluster: &mut Cluster, max_downloads: Option<u32>) -> anyhow::Result<String> {
    let url = format!("{}/api/links", cluster.coordinator().url());
    let fields = json!({ "file_id": "a.bin", "ttl": 4 * 3600, "max_downloads": max_downloads });
    Ok(Link::of(&Request::new("POST", &url).body(&fields.to_string()))?.url)
}

#[test]
fn three_hours_of_ranges_go_on_with_tokens_of_a_minute() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(2)
        .clock()
        .coordinator(|coordinator| coordinator.toml("links.token_ttl = \"1m\""))
        .file("a.bin", PIECES * PIECE_BYTES)
        .ready()?;
    let links = [link(&mut cluster, None)?, link(&mut cluster, Some(1))?];
    let mut urls =
        links.iter().map(|link| location(&client::get_here(link)?)).collect::<Result<Vec<_>, _>>()?;
    for piece in 0..PIECES {
        let from = piece * PIECE_BYTES;
        let range = format!("{from}-{}", from + PIECE_BYTES - 1);
        for url in &mut urls {
            let ask = |url: &str| Request::new("GET", url).range(&range).send();
            if piece > 0 {
                // The way that every client of HTTP goes by itself: edge, coordinator, edge.
                let renew = location(&ask(url)?)?;
                *url = location(&client::get_here(&renew)?)?;
            }
            let answer = ask(url)?;
            assert_eq!(answer.status(), 206, "piece {piece}: {}", answer.text());
            assert_eq!(answer.body.len() as u64, PIECE_BYTES);
            cluster.content("a.bin").check(from, &answer.body)?;
        }
        cluster.clock().advance(BETWEEN_PIECES)?;
    }
    // No further than the links' own end.
    cluster.clock().advance(Duration::from_secs(3600))?;
    for (url, link) in urls.iter().zip(&links) {
        let answer = client::get_here(url)?;
        assert_eq!(
            (answer.status(), answer.text().contains("Token expired")),
            (401, true),
            "{}",
            answer.text()
        );
        let renew = format!("{}/renew?token={}", cluster.coordinator().url(), token_of(url)?);
        assert_eq!(client::get_here(&renew)?.status(), 401);
        assert_eq!(client::get_here(link)?.status(), 410);
    }
    Ok(())
}

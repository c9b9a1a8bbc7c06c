//! What one redemption of a link covers: ranges, retries, a dead edge, tokens that run out; and what it never covers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;
use sluice_loadtest::caller::{self, Caller, Link};
use sluice_loadtest::client::{self, Answer, Request};
use sluice_loadtest::cluster::token_of;
use sluice_loadtest::crowd::request_of;
use sluice_loadtest::{Cluster, Content, wait_until};

const CLIENTS: &str =
    "[[clients]]\naccess_key = \"AK\"\nsecret = \"s\"\nscheme = \"signature\"\nprefixes = [\"\"]\n";
const FILE: &str = "a.bin";

/// One whose tokens live for two seconds.
fn short_lived() -> anyhow::Result<Cluster> {
    let cluster = Cluster::start()
        .edges(2)
        .clients(CLIENTS)
        .coordinator(|coordinator| {
            coordinator.toml("auth.schemes = [\"signature\"]\nlinks.token_ttl = \"2s\"")
        })
        .file(FILE, 400_000)
        .ready()?;
    caller::wait_for_next_second()?;
    Ok(cluster)
}

fn caller(cluster: &mut Cluster) -> Caller {
    Caller::new(&cluster.coordinator().url(), "AK", "s")
}

/// Where an answer sends its client.
fn location(answer: &Answer) -> anyhow::Result<String> {
    assert_eq!(answer.status(), 302, "{}", answer.text());
    Ok(answer.field("location")?.to_owned())
}

/// The answer to a whole GET at an edge's URL, once the token in it has run out.
fn once_expired(url: &str) -> anyhow::Result<Answer> {
    let mut last = None;
    wait_until("the token has run out", || {
        let answer = Request::new("GET", url).range("0-0").send()?;
        let is_over = answer.status() != 206;
        last = Some(answer);
        Ok(is_over)
    })?;
    Ok(last.expect("the edge was asked"))
}

/// A part of the file, whatever edge it takes: one that is gone costs a retry at the link.
fn fetch_range(content: &Content, link: &str, from: u64, bytes: u64) -> anyhow::Result<()> {
    let request = Request::new("GET", link).range(&format!("{from}-{}", from + bytes - 1)).follow();
    let mut answer = None;
    wait_until("the range is there", || {
        answer = request.send().ok().filter(|answer| answer.status() < 500);
        Ok(answer.is_some())
    })?;
    let answer = answer.expect("it was waited for");
    assert_eq!(answer.status(), 206, "{}", answer.text());
    assert_eq!(answer.body.len() as u64, bytes);
    Ok(content.check(from, &answer.body)?)
}

#[test]
fn parallel_ranges_retries_and_a_failover_are_one_redemption() -> anyhow::Result<()> {
    const RANGES: u64 = 200;
    const BYTES: u64 = 20_000;
    let mut cluster = Cluster::start()
        .edges(2)
        .coordinator(|coordinator| coordinator.toml("trusted_proxies = [\"127.0.0.1\"]"))
        .file(FILE, RANGES * BYTES)
        .ready()?;
    let url = format!("{}/api/links", cluster.coordinator().url());
    let body = json!({ "file_id": FILE, "max_downloads": 2 }).to_string();
    let link = Link::of(&Request::new("POST", &url).body(&body))?.url;
    let first = location(&client::get_here(&link)?)?;
    let victim = usize::from(!first.starts_with(&cluster.edges()[0].url()));
    let content = cluster.content(FILE).clone();
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        let fetches: Vec<_> = (0..RANGES)
            .map(|range| {
                let (content, link, done) = (&content, &link, &done);
                scope.spawn(move || {
                    // The second half are clients that go on after the edge is gone.
                    let is_early = range < RANGES / 2;
                    wait_until("its turn", || Ok(is_early || done.load(Ordering::Relaxed) >= RANGES / 4))?;
                    fetch_range(content, link, range * BYTES, BYTES)?;
                    done.fetch_add(1, Ordering::Relaxed);
                    anyhow::Ok(())
                })
            })
            .collect();
        wait_until("some ranges are there", || Ok(done.load(Ordering::Relaxed) >= RANGES / 4))?;
        cluster.kill(victim)?;
        fetches.into_iter().try_for_each(|fetch| fetch.join().expect("a range fails with an error"))
    })?;
    // The link is for two: somebody else still gets in, a third does not, and the first goes on.
    for (person, status) in [(1, 302), (2, 403)] {
        assert_eq!(request_of(person, &link).send()?.status(), status, "person {person}");
    }
    fetch_range(&content, &link, 0, BYTES)
}

#[test]
fn what_a_head_of_a_link_gives_does_not_download() -> anyhow::Result<()> {
    let mut cluster = short_lived()?;
    let link = caller(&mut cluster).link(&json!({ "file_id": FILE, "max_downloads": 1 }))?.url;
    let url = location(&client::head_here(&link)?)?;
    assert_eq!(client::head_here(&url)?.field("content-length")?, "400000");
    let refused = client::get_here(&url)?;
    assert_eq!(refused.status(), 403);
    assert!(refused.text().contains("Token is good for HEAD only"), "{}", refused.text());
    // Renewed by a GET, it is still good for HEAD only.
    let token = token_of(&url)?;
    let renewed = format!("{}/renew?token={token}", cluster.coordinator().url());
    let renewed = location(&client::get_here(&renewed)?)?;
    assert_eq!(client::get_here(&renewed)?.status(), 403);
    // The same address's GET of the link is the same redemption, and downloads.
    cluster.content(FILE).check_whole(&client::get(&link)?.body)?;
    Ok(())
}

#[test]
fn a_download_in_pieces_goes_on_over_several_lifetimes_of_its_tokens() -> anyhow::Result<()> {
    const PIECE: u64 = 100_000;
    let mut cluster = short_lived()?;
    for max_downloads in [None, Some(1)] {
        let fields = json!({ "file_id": FILE, "ttl": 60, "max_downloads": max_downloads });
        let link = caller(&mut cluster).link(&fields)?.url;
        let first = location(&client::get_here(&link)?)?;
        let (mut url, mut etag, mut lifetimes) = (first.clone(), None, 0);
        for from in (0..400_000).step_by(100_000) {
            if from > 0 {
                // The way that every client of HTTP goes by itself: edge, coordinator, edge.
                let renew = location(&once_expired(&url)?)?;
                assert!(
                    renew.starts_with(&format!("{}/renew?token=", cluster.coordinator().url())),
                    "{renew}"
                );
                url = location(&client::get_here(&renew)?)?;
                lifetimes += 1;
            }
            let piece = Request::new("GET", &url).range(&format!("{from}-{}", from + PIECE - 1)).send()?;
            assert_eq!(piece.status(), 206, "{}", piece.text());
            let tag = piece.field("etag")?;
            assert_eq!(etag.get_or_insert_with(|| tag.to_owned()), tag);
            cluster.content(FILE).check(from, &piece.body)?;
            assert_eq!(piece.body.len() as u64, PIECE);
        }
        assert_eq!(lifetimes, 3);
        // The URL of the start, by now three lifetimes old.
        cluster.content(FILE).check_whole(&client::get(&first)?.body)?;
    }
    Ok(())
}

#[test]
fn nothing_is_renewed_for_a_revoked_link_or_a_disabled_client() -> anyhow::Result<()> {
    let mut cluster = short_lived()?;
    let caller = caller(&mut cluster);
    let mut revoked = Vec::new();
    for max_downloads in [None, Some(5)] {
        let fields = json!({ "file_id": FILE, "ttl": 60, "max_downloads": max_downloads });
        let (taken_back, kept) = (caller.link(&fields)?, caller.link(&fields)?);
        let urls =
            [&taken_back, &kept].map(|link| client::get_here(&link.url).and_then(|answer| location(&answer)));
        let answer = caller.call("DELETE", &format!("/api/links/{}", taken_back.id), "").send()?;
        assert_eq!(answer.status(), 204, "{}", answer.text());
        let [gone, kept] = urls;
        revoked.push((gone?, kept?));
    }
    let expect_refusal = |url: &str, detail: &str| -> anyhow::Result<()> {
        let answer = client::get_here(url)?;
        assert_eq!(answer.status(), 403, "{}", answer.text());
        assert!(answer.text().contains(detail), "{}", answer.text());
        Ok(())
    };
    for (gone, kept) in &revoked {
        // While the token lives, and after it.
        expect_refusal(&format!("{}/renew?token={}", caller.url, token_of(gone)?), "Link revoked")?;
        expect_refusal(&location(&once_expired(gone)?)?, "Link revoked")?;
        assert_eq!(client::get(kept)?.status(), 200, "the other link lives");
    }
    assert_eq!(cluster.admin("POST", "/admin/v1/clients/AK/disable")?.status(), 204);
    for (_, kept) in &revoked {
        let renew = location(&once_expired(kept)?)?;
        expect_refusal(&renew, "the link's client may not call any more")?;
    }
    assert_eq!(cluster.admin("POST", "/admin/v1/clients/AK/enable")?.status(), 204);
    for (_, kept) in &revoked {
        assert_eq!(client::get(kept)?.status(), 200, "it was the client, not the link");
    }
    Ok(())
}

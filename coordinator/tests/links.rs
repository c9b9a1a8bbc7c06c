//! Durable links: what they say, how often they are good, how they end, and how their tokens are renewed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sluice_shared::file_id::FileId;
use sluice_shared::keys::KeyFile;
use sluice_shared::token::{Claims, NumericDate, seal};
use support::{Answer, Coordinator, Edge, PUBLIC_URL, Signal, origin, token_of};

/// Calls come through a proxy that is trusted, so that a test can be anybody.
const PROXIED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";

fn make(coordinator: &Coordinator, body: &serde_json::Value) -> (String, String) {
    let answer = coordinator.post("/api/links", &[], &body.to_string());
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.field("cache-control"), "no-store");
    let json = answer.json();
    let link = json["link"].as_str().unwrap();
    assert_eq!(answer.field("location"), link);
    let path = link.strip_prefix(PUBLIC_URL).unwrap().to_owned();
    (path, json["id"].as_str().unwrap().to_owned())
}

fn visit(coordinator: &Coordinator, method: &str, path: &str, from: &str) -> Answer {
    coordinator.send(method, path, &[("X-Forwarded-For", from)])
}

fn claims(coordinator: &Coordinator, answer: &Answer) -> Claims<'static> {
    coordinator.claims(&token_of(answer.field("location")))
}

#[test]
fn a_link_says_all_that_its_tokens_do() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXIED);
    let body = json!({"file_id": "a/b.bin", "user_id": "ann", "ttl": 60, "filename": "報告.bin",
        "bind_ip": "redeemer", "rate": 1000});
    let (path, id) = make(&coordinator, &body);
    let answer = visit(&coordinator, "GET", &path, "192.0.2.1");
    assert_eq!(answer.status, 302, "{}", answer.text());
    assert_eq!(answer.field("referrer-policy"), "no-referrer");
    assert!(answer.field("location").contains("/download/%E5%A0%B1%E5%91%8A.bin?token="));
    let token = claims(&coordinator, &answer);
    assert_eq!((token.file_id.as_str(), token.user_id.as_deref()), ("a/b.bin", Some("ann")));
    assert_eq!((token.r#fn.as_deref(), token.rate), (Some("報告.bin"), Some(1000)));
    assert_eq!((token.ip.as_deref(), token.lnk.as_deref()), (Some("192.0.2.1"), Some(id.as_str())));
    assert_eq!(token.lxp, Some(token.exp), "its life ends with the link's, which is shorter than a token's");
    assert!(!token.head);
    assert!(claims(&coordinator, &visit(&coordinator, "HEAD", &path, "192.0.2.1")).head);
    let bound = json!({"file_id": "a", "bind_ip": "198.51.100.0/24"});
    let (path, _) = make(&coordinator, &bound);
    assert_eq!(visit(&coordinator, "GET", &path, "198.51.100.7").status, 302);
    assert_eq!(visit(&coordinator, "GET", &path, "192.0.2.1").status, 403);
}

#[test]
fn a_counted_link_is_good_for_so_many_and_repeats_are_free() {
    let edges = Edge::several(4);
    let all: Vec<_> = edges.iter().collect();
    let coordinator = Coordinator::start_with(&all, PROXIED);
    let (path, _) = make(&coordinator, &json!({"file_id": "a.bin", "max_downloads": 2}));
    let status = |from: &str| visit(&coordinator, "GET", &path, from).status;
    // One that comes back is sent to the next candidate.
    let sent_to: Vec<_> =
        (0..5).map(|_| origin(visit(&coordinator, "GET", &path, "192.0.2.1").field("location"))).collect();
    assert_eq!(sent_to[..4].iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{sent_to:?}");
    assert_eq!(sent_to[4], sent_to[0]);
    // One /64 is one client, and HEAD counts as GET does.
    assert_eq!(visit(&coordinator, "HEAD", &path, "2001:db8::1").status, 302);
    assert_eq!(status("2001:db8::2"), 302);
    let refused = visit(&coordinator, "GET", &path, "192.0.2.2");
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("all its downloads"), "{}", refused.text());
    assert_eq!(status("192.0.2.1"), 302);
}

#[test]
fn a_link_that_is_barred_for_a_while_has_its_downloads_afterwards() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXIED);
    let (path, id) = make(&coordinator, &json!({"file_id": "a.bin", "user_id": "ann", "max_downloads": 1}));
    for (what, value) in [("user", "ann"), ("file", "a.bin"), ("link", &id)] {
        let mark = json!({ "what": what, "value": value }).to_string();
        assert_eq!(coordinator.admin_call("POST", "/admin/v1/revocations", &mark).status, 201);
        assert_eq!(visit(&coordinator, "GET", &path, "192.0.2.1").status, 403, "{what}");
        let lift = format!("/admin/v1/revocations?what={what}&value={value}");
        assert_eq!(coordinator.admin_call("DELETE", &lift, "").status, 204);
    }
    assert_eq!(visit(&coordinator, "GET", &path, "192.0.2.2").status, 302);
}

#[test]
fn a_link_that_is_made_can_be_redeemed_however_long_its_names_are() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXIED);
    let rid = "r".repeat(64);
    let fields = [("X-Forwarded-For", "2001:db8:1111:2222:3333:4444:5555:6666"), ("X-Request-Id", &rid)];
    let mut statuses = Vec::new();
    for length in (400..1024).step_by(40) {
        let body = json!({"file_id": "f".repeat(length), "user_id": "u".repeat(200), "filename": "n".repeat(200),
            "bind_ip": "redeemer"});
        let made = coordinator.post("/api/links", &[], &body.to_string());
        statuses.push(made.status);
        if made.status == 201 {
            let link = made.json()["link"].as_str().unwrap().strip_prefix(PUBLIC_URL).unwrap().to_owned();
            assert_eq!(coordinator.send("HEAD", &link, &fields).status, 302, "{length}");
        } else {
            assert!(made.problem(400).contains("too long together"), "{length}: {}", made.text());
        }
    }
    assert!(statuses.contains(&201) && statuses.contains(&400), "{statuses:?}");
}

/// Before anybody has proved who it is, at that.
#[test]
fn a_body_that_does_not_arrive_is_not_waited_for() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let mut stream = TcpStream::connect(coordinator.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
        .write_all(b"POST /api/links HTTP/1.1\r\nHost: c.example\r\nContent-Length: 60000\r\n\r\n{")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("in time"), "{text}");
}

#[test]
fn a_thousand_at_once_get_no_more_than_there_are() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXIED);
    let (path, _) = make(&coordinator, &json!({"file_id": "a.bin", "max_downloads": 10}));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let visits = |part: usize| {
            let (coordinator, path) = (&coordinator, &path);
            scope.spawn(move || {
                let from = |at| format!("10.0.{part}.{at}");
                (0..50).map(|at| visit(coordinator, "GET", path, &from(at)).status).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..20).map(visits).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.len(), 1000);
    assert_eq!(statuses.iter().filter(|status| **status == 302).count(), 10);
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 990);
}

#[test]
fn counts_and_revocations_survive_a_kill() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXIED);
    let (counted, _) = make(&coordinator, &json!({"file_id": "a.bin", "max_downloads": 2}));
    let (taken_back, id) = make(&coordinator, &json!({"file_id": "a.bin"}));
    assert_eq!(visit(&coordinator, "GET", &counted, "192.0.2.1").status, 302);
    assert_eq!(visit(&coordinator, "GET", &taken_back, "192.0.2.1").status, 302);
    assert_eq!(coordinator.send("DELETE", "/api/links/unknown", &[]).status, 404);
    let target = format!("/api/links/{id}");
    assert_eq!(coordinator.send("DELETE", &target, &[]).status, 204);
    assert_eq!(coordinator.send("DELETE", &target, &[]).status, 204, "again is no error");
    assert_eq!(visit(&coordinator, "GET", &taken_back, "192.0.2.1").status, 403);
    coordinator.signal(Signal::KILL);
    let coordinator = coordinator.start_again();
    assert_eq!(visit(&coordinator, "GET", &taken_back, "192.0.2.1").status, 403);
    assert_eq!(visit(&coordinator, "GET", &counted, "192.0.2.2").status, 302);
    assert_eq!(visit(&coordinator, "GET", &counted, "192.0.2.3").status, 403);
    assert_eq!(visit(&coordinator, "GET", &counted, "192.0.2.1").status, 302, "its redemption is still open");
}

#[test]
fn what_is_no_link_is_refused_and_not_logged() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXIED);
    let (path, _) = make(&coordinator, &json!({"file_id": "a.bin", "ttl": 1}));
    let ticket = path.strip_prefix("/d/").unwrap();
    assert_eq!(coordinator.get("/d/nonsense").status, 400);
    assert_eq!(coordinator.get(&format!("/d/{}x", ticket)).status, 400);
    let token = token_of(coordinator.get("/download/a.bin").field("location"));
    assert_eq!(coordinator.get(&format!("/d/{token}")).status, 400, "a token is no ticket");
    assert_eq!(coordinator.get(&format!("/renew?token={ticket}")).status, 400, "a ticket is no token");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(coordinator.get(&path).status, 410);
    let unknown = coordinator.post("/api/links", &[], "{\"file_id\":\"a\",\"speed\":1}");
    assert_eq!(unknown.status, 400);
    assert!(unknown.text().contains("speed"), "{}", unknown.text());
    assert_eq!(coordinator.post("/api/links", &[], "{\"file_id\":\"a\",\"ttl\":86401}").status, 400);
    let log = coordinator.log_text();
    assert!(!log.contains(ticket) && !log.contains(&token));
}

/// A token of the coordinator's own key, with whatever it is to say.
fn sealed(coordinator: &Coordinator, change: impl FnOnce(&mut Claims<'static>)) -> String {
    let keys = KeyFile::load(&coordinator.setting.path("keys.jwks.json")).unwrap();
    let mut claims = Claims::new(FileId::parse("a.bin").unwrap(), NumericDate::from_secs(seconds() + 100));
    change(&mut claims);
    seal(&claims, keys.ring().load().current()).unwrap()
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_token_is_renewed_within_its_life_and_its_links() {
    let edges = Edge::several(3);
    let all: Vec<_> = edges.iter().collect();
    let coordinator = Coordinator::start_with(&all, PROXIED);
    let renew = |token: &str, more: &str| {
        visit(&coordinator, "GET", &format!("/renew?token={token}{more}"), "192.0.2.1")
    };
    let now = seconds();
    let date = NumericDate::from_secs;
    // Sent on while it lives: to another edge, no longer than before, one hop more.
    let live = sealed(&coordinator, |claims| (claims.hop, claims.rate) = (1, Some(5)));
    let first = renew(&live, "");
    let not = format!("&not={}", claims(&coordinator, &first).edg.unwrap());
    let moved = claims(&coordinator, &renew(&live, &not));
    assert_ne!(Some(&not[5..]), moved.edg.as_deref());
    assert_eq!((moved.hop, moved.rate), (2, Some(5)));
    assert!(moved.exp <= date(now + 101), "{:?}", moved.exp);
    // Expired under a living link: until the link's end.
    let expired = sealed(&coordinator, |claims| {
        (claims.exp, claims.lxp, claims.lnk) = (date(now - 50), Some(date(now + 60)), Some("u1".into()));
        claims.hop = 2;
    });
    let renewed = claims(&coordinator, &renew(&expired, ""));
    assert_eq!((renewed.exp, renewed.lxp, renewed.hop), (date(now + 60), Some(date(now + 60)), 0));
    assert_eq!(renewed.lnk.as_deref(), Some("u1"));
    let head = visit(&coordinator, "HEAD", &format!("/renew?token={expired}"), "192.0.2.1");
    assert!(claims(&coordinator, &head).head);
    let table = [
        (sealed(&coordinator, |claims| claims.exp = date(now - 1)), 401),
        (sealed(&coordinator, |claims| (claims.exp, claims.lxp) = (date(now - 9), Some(date(now - 1)))), 401),
        (sealed(&coordinator, |claims| claims.ip = Some("198.51.100.1".into())), 403),
        (sealed(&coordinator, |claims| claims.ip = Some("192.0.2.0/24".into())), 302),
        (sealed(&coordinator, |claims| claims.cid = Some("nobody".into())), 403),
        (sealed(&coordinator, |claims| claims.lnk = Some("c-never-redeemed".into())), 403),
        ("nonsense".to_owned(), 400),
        (String::new(), 400),
    ];
    for (token, status) in table {
        let answer = renew(&token, "");
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(coordinator.get("/renew").status, 400);
}

#[test]
fn a_counted_links_token_is_renewed_for_who_redeemed_it() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], PROXIED);
    let (path, id) = make(&coordinator, &json!({"file_id": "a.bin", "max_downloads": 1}));
    let token = token_of(visit(&coordinator, "GET", &path, "192.0.2.1").field("location"));
    let target = format!("/renew?token={token}");
    assert_eq!(visit(&coordinator, "GET", &target, "192.0.2.1").status, 302);
    assert_eq!(visit(&coordinator, "GET", &target, "192.0.2.2").status, 403);
    assert_eq!(coordinator.send("DELETE", &format!("/api/links/{id}"), &[]).status, 204);
    assert_eq!(visit(&coordinator, "GET", &target, "192.0.2.1").status, 403);
}

#[test]
fn a_timed_link_is_verified_and_redirected() {
    let edge = Edge::start("edge-1");
    let more = "[timed]\nsecret = \"your secret key\"\nfile_id = \"InstMsiW.exe\"\nprefixes = [\"free\"]\n";
    let coordinator = Coordinator::start_with(&[&edge], more);
    let make = |body: &str| {
        let answer = coordinator.admin_call("POST", "/admin/v1/timed-links", body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["link"].as_str().unwrap().strip_prefix(PUBLIC_URL).unwrap().to_owned()
    };
    let path = make("{\"to_user\":\"alice\"}");
    let answer = coordinator.get(&path);
    assert_eq!(answer.status, 302, "{}", answer.text());
    let token = claims(&coordinator, &answer);
    assert_eq!((token.file_id.as_str(), token.user_id.as_deref()), ("InstMsiW.exe", Some("alice")));
    assert_eq!(token.r#fn.as_deref(), Some("InstMsiW.exe"));
    let free = coordinator.get(&make("{\"to_user\":\"bob\",\"file_id\":\"free/a\"}"));
    assert_eq!(claims(&coordinator, &free).file_id.as_str(), "free/a");
    assert_eq!(coordinator.get(&make("{\"to_user\":\"bob\",\"file_id\":\"other\"}")).status, 403);
    let bad = coordinator.get(&path[..path.len() - 4]);
    assert_eq!((bad.status, bad.json()["detail"].as_str()), (400, Some("bad token(invalid token)")));
    let signer = sluice_shared::token::timed::TimedSigner::new("your secret key", "itsdangerous");
    let payload = sluice_shared::token::timed::TimedPayload { to_user: "a".into(), file_id: None };
    let old = signer.sign(&payload, SystemTime::now() - Duration::from_secs(602));
    let expired = coordinator.get(&format!("/api/get_file/{old}"));
    let text = "expired token(token timeout, verification failed)";
    assert_eq!((expired.status, expired.json()["detail"].as_str()), (401, Some(text)));
    assert!(!coordinator.log_text().contains(&old));
}

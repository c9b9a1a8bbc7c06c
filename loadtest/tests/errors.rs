//! Errors as a client meets them: each says its own, once.

use std::time::{Duration, SystemTime};

use sluice_loadtest::client::{Connection, Request};
use sluice_loadtest::{Cluster, client};
use sluice_shared::file_id::FileId;
use sluice_shared::token::{Claims, NumericDate};

#[test]
fn an_answer_never_carries_another_one_before_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().file("a.bin", 1000).ready()?;
    let edge = cluster.edge(0).address();
    let now = SystemTime::now();
    let token = |file_id: &str, exp| {
        let claims = Claims::new(FileId::parse(file_id.to_owned())?, NumericDate::from_system_time(exp));
        cluster.seal(&claims)
    };
    let hour = Duration::from_secs(3600);
    let good = token("a.bin", now + hour)?;
    let expired = token("a.bin", now - hour)?;
    let missing = token("nothing.bin", now + hour)?;
    let requests = [
        ("GET", format!("/download?token={good}"), 200),
        ("POST", format!("/download?token={good}"), 405),
        ("GET", format!("/download?token={expired}"), 401),
        ("GET", format!("/download?token={missing}"), 404),
        ("GET", "/download?token=nonsense".to_owned(), 400),
        ("GET", "/elsewhere".to_owned(), 404),
        ("GET", format!("/download?token={good}"), 200),
    ];
    // Twice, so that whatever the edge keeps from one connection to the next is used again.
    for (method, target, status) in requests.iter().chain(&requests) {
        let mut connection = Connection::open(&edge)?;
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\n\r\n");
        connection.send(head.as_bytes())?;
        let all = connection.read_to_close()?;
        let text = String::from_utf8_lossy(&all);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {target}: {text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{method} {target}: {text}");
    }
    Ok(())
}

#[test]
fn errors_are_problem_details_on_both_programs() -> anyhow::Result<()> {
    let cluster = Cluster::start().file("a.bin", 1000).ready()?;
    let (edge, coordinator) = (cluster.edges()[0].url(), cluster.download_url(""));
    let coordinator = coordinator.split("/download/").next().expect("a split yields a part").to_owned();
    let cases = [
        (format!("{edge}/download"), 400),
        (format!("{edge}/download?token=a.b.c.d.e"), 400),
        (format!("{coordinator}/download/../etc/passwd"), 400),
        (format!("{coordinator}/download/a//b"), 400),
        (format!("{coordinator}/api/request-download?user_id=x"), 400),
        (format!("{coordinator}/api/request-download?file_id=a&file_id=b&user_id=x"), 400),
        (format!("{coordinator}/nowhere"), 404),
    ];
    for (url, status) in cases {
        let answer = client::get_here(&url)?;
        assert_eq!(answer.status(), status, "{url}: {}", answer.text());
        assert_eq!(answer.field("content-type")?, "application/problem+json", "{url}");
        assert_eq!(answer.json()?["status"], status, "{url}");
    }
    let answer = Request::new("DELETE", &format!("{coordinator}/download/a.bin")).send()?;
    assert_eq!(answer.status(), 405);
    Ok(())
}

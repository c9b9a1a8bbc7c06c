//! The admin port: who may ask, and what it tells.

mod support;

use std::time::SystemTime;

use support::{ADMIN_TOKEN, Coordinator, Edge, send};

#[test]
fn edges_are_listed_for_those_with_a_token() {
    let edges = Edge::several(2);
    let coordinator = Coordinator::start(&edges.iter().collect::<Vec<_>>());
    let answer = coordinator.ask_admin("/admin/v1/edges");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("cache-control"), "no-store");
    let json = answer.json();
    let listed = json["edges"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let mut shares = 0.0;
    for (edge, known) in listed.iter().zip(&edges) {
        assert_eq!(edge["id"], known.id.as_str());
        assert_eq!(edge["url"], known.url().as_str());
        assert_eq!(edge["admin_url"], format!("http://{}", known.address));
        assert_eq!(
            (&edge["zone"], &edge["weight"], &edge["state"]),
            (&"a".into(), &100.into(), &"up".into())
        );
        assert_eq!(edge["misses"], 0);
        assert!(edge["last_probe_ms"].as_f64().unwrap() >= 0.0);
        let since = humantime::parse_rfc3339(edge["since"].as_str().unwrap()).unwrap();
        assert!(since <= SystemTime::now());
        shares += edge["share"].as_f64().unwrap();
    }
    assert!((shares - 1.0).abs() < 1e-9);
}

#[test]
fn without_the_token_nothing_is_told() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let right = format!("Bearer {ADMIN_TOKEN}");
    let wrong = format!("Bearer {ADMIN_TOKEN}0");
    let basic = format!("Basic {ADMIN_TOKEN}");
    let refused: [&[(&str, &str)]; 6] = [
        &[],
        &[("Authorization", "")],
        &[("Authorization", &wrong)],
        &[("Authorization", &basic)],
        &[("Authorization", ADMIN_TOKEN)],
        &[("Authorization", &right), ("Authorization", &right)],
    ];
    for fields in refused {
        let answer = send(coordinator.admin, "GET", "/admin/v1/edges", fields);
        answer.problem(401);
        assert_eq!(answer.field("www-authenticate"), "Bearer");
    }
    assert!(!coordinator.log_text().contains(ADMIN_TOKEN));
}

#[test]
fn a_strangers_host_name_reaches_probes_and_metrics_only() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start_with(&[&edge], "admin_hosts = [\"sluice.internal\"]");
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let ask = |target: &str, host: &str| {
        let fields = [("Host", host), ("Authorization", authorization.as_str())];
        send(coordinator.admin, "GET", target, &fields)
    };
    for host in ["127.0.0.1:1", "localhost", "[::1]:8081", "sluice.internal:8081"] {
        assert_eq!(ask("/admin/v1/edges", host).status, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:8081", ""] {
        ask("/admin/v1/edges", host).problem(403);
        for open in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(ask(open, host).status, 200, "{host} {open}");
        }
    }
}

#[test]
fn other_methods_and_paths_are_problems() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    for target in ["/", "/admin/v1/edges", "/healthz", "/readyz", "/metrics"] {
        let fields = [("Authorization", authorization.as_str())];
        let answer = send(coordinator.admin, "POST", target, &fields);
        answer.problem(405);
        assert!(answer.field("allow").contains("GET"), "{target}");
    }
    for target in ["/status", "/admin/v1", "/admin/v1/nothing", "/download/a"] {
        coordinator.ask_admin(target).problem(404);
    }
}

#[test]
fn every_metric_has_its_help_text() {
    let edge = Edge::start("edge-1");
    let coordinator = Coordinator::start(&[&edge]);
    coordinator.request_download("a");
    let text = send(coordinator.admin, "GET", "/metrics", &[]).text();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<_> = names.map(|line| line.split(' ').next().unwrap()).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(name.starts_with("sluice_"), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
}

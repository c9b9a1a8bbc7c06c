//! Claims about configurations: what is taken, and what a fault says.

use std::fs;

use super::*;
use crate::routing::Policy;
use crate::routing::load::Slack;

/// A whole configuration; the tests take lines out or change them.
const WHOLE: &str = r#"
id = "coordinator-1"
listen = "127.0.0.1:8080"
admin_listen = "127.0.0.1:8081"
public_url = "http://127.0.0.1:8080"
admin_token_file = "admin.tokens"
admin_hosts = ["sluice.internal"]
public_prefixes = ["public", "press/"]
trusted_proxies = ["10.0.0.0/8", "2001:db8::1"]

[keys]
source = "file"
path = "keys.jwks.json"

[registry]
source = "static"

[[registry.edges]]
id = "edge-1"
url = "http://127.0.0.1:9001"
admin_url = "http://127.0.0.1:9101"
weight = 100
zone = "a"

[auth]
schemes = ["open"]

[links]
token_ttl = "10m"
"#;

fn load(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.toml");
    fs::write(&path, text).unwrap();
    Config::load(&path).map_err(|error| {
        let text = error.to_string();
        text.replace(folder.path().to_str().unwrap(), "")
    })
}

#[test]
fn a_whole_configuration_is_taken() {
    let config = load(WHOLE).unwrap();
    assert_eq!(config.id, "coordinator-1");
    assert_eq!(config.public_url.as_str(), "http://127.0.0.1:8080");
    let KeySource::Files { keys, .. } = &config.keys else { panic!("keys are in files") };
    assert!(keys.is_absolute() && keys.ends_with("keys.jwks.json"));
    assert_eq!(config.public_prefixes, ["public", "press/"].map(|text| Prefix::parse(text).unwrap()));
    let proxies = TrustedProxies::parse(["10.0.0.0/8", "2001:db8::1"]).unwrap();
    assert_eq!(config.clients, ClientSource::Forwarded(proxies));
    assert_eq!(config.links.token_ttl, Duration::from_secs(600));
    assert_eq!(config.log_filter, "info");
}

#[test]
fn zones_and_routing_are_as_written() {
    let text = WHOLE.to_owned()
        + "[[zones]]\nname = \"a\"\nclients = [\"10.1.0.0/16\", \"2001:db8::/32\"]\nfallback = [\"b\"]\n\
           [[zones]]\nname = \"b\"\n\
           [routing]\nload_bound = 1.5\nslow_start = \"0s\"\nhot_rate = \"50/s\"\n";
    let routing = load(&text).unwrap().routing;
    assert_eq!(routing.policy.slack, Slack::new(1.5));
    assert_eq!((routing.policy.slow_start, routing.hot_rate), (Duration::ZERO, 50.0));
    assert_eq!(routing.zones.zone_of("10.1.2.3".parse().unwrap()), Some(0));
    assert_eq!(routing.zones.rules()[0].fallback, ["b"]);
    let routing = load(WHOLE).unwrap().routing;
    assert_eq!((routing.policy, routing.hot_rate), (Policy::default(), 1000.0));
}

#[test]
fn defaults_are_few() {
    let short = WHOLE
        .replace("token_ttl = \"10m\"\n", "")
        .replace("source = \"file\"\n", "")
        .replace("source = \"static\"\n", "")
        .replace("weight = 100\nzone = \"a\"\n", "");
    assert_eq!(load(&short).unwrap().links.token_ttl, TOKEN_TTL_DEFAULT);
}

#[test]
fn faults_say_where_and_what_to_do() {
    let edge = "[[registry.edges]]\nid = \"edge-1\"\nurl = \"http://127.0.0.1:9002\"\n\
                admin_url = \"http://127.0.0.1:9102\"\n";
    let edges = WHOLE.find("[[registry.edges]]").unwrap()..WHOLE.find("[auth]").unwrap();
    let no_edges = [&WHOLE[..edges.start], &WHOLE[edges.end..]].concat();
    let table = [
        (WHOLE.replace("id = \"coordinator-1\"\n", ""), vec!["`id`"]),
        (WHOLE.replace("listen = \"127.0.0.1:8080\"\n", ""), vec!["`listen`"]),
        (WHOLE.replace("path = \"keys.jwks.json\"\n", ""), vec!["`keys.path`"]),
        (WHOLE.replace("[auth]\nschemes = [\"open\"]\n", ""), vec!["`auth.schemes`", "[\"open\"]"]),
        (WHOLE.replace("[\"open\"]", "[]"), vec!["`auth.schemes`", "[\"open\"]"]),
        (WHOLE.replace("[\"open\"]", "[\"open\", \"open\"]"), vec!["`auth.schemes`", "alone"]),
        (WHOLE.replace("[\"open\"]", "[\"jwt\"]"), vec!["/coordinator.toml:26:", "`schemes`", "jwt"]),
        (no_edges, vec!["`registry.edges`", "[[registry.edges]]"]),
        (WHOLE.replace("[auth]", &format!("{edge}\n[auth]")), vec!["`registry.edges`", "'edge-1'"]),
        (
            WHOLE.replace("http://127.0.0.1:9101", "https://127.0.0.1:9101"),
            vec!["`registry.edges`", "'edge-1'", "http://"],
        ),
        (
            WHOLE.replace("weight = 100", "weight = 0"),
            vec!["/coordinator.toml:22:", "`weight`", "1 to 10000"],
        ),
        (WHOLE.replace("\"10m\"", "\"0s\""), vec!["`links.token_ttl`", "from 1s to 1day"]),
        (WHOLE.replace("\"10m\"", "\"25h\""), vec!["`links.token_ttl`", "from 1s to 1day"]),
        (WHOLE.replace("\"10m\"", "\"10\""), vec!["/coordinator.toml:29:", "`token_ttl`"]),
        (WHOLE.replace("\"public\"", "\"../x\""), vec!["/coordinator.toml:8:", "`public_prefixes`"]),
        (
            WHOLE.replace("10.0.0.0/8", "proxy-1"),
            vec!["/coordinator.toml:9:", "`trusted_proxies`", "proxy-1"],
        ),
        (
            WHOLE.replace("trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]", "proxy_protocol = true"),
            vec!["`proxy_protocol` needs `trusted_proxies`"],
        ),
        (WHOLE.replace("id = \"coordinator-1\"", "id = \"a b\""), vec!["/coordinator.toml:2:", "`id`"]),
        (
            WHOLE.to_owned() + "[routing]\nload_bound = 1.0\n",
            vec!["`routing.load_bound`", "from 1.05 to 10", "1.25"],
        ),
        (WHOLE.to_owned() + "[routing]\nload_bound = nan\n", vec!["`routing.load_bound`"]),
        (
            WHOLE.to_owned() + "[routing]\nslow_start = \"2h\"\n",
            vec!["`routing.slow_start`", "0s (off) to 1h"],
        ),
        (WHOLE.to_owned() + "[routing]\nhot_rate = \"fast\"\n", vec!["/coordinator.toml:31:", "`hot_rate`"]),
        (
            WHOLE.to_owned() + "[[zones]]\nname = \"a\"\nclients = [\"10.1/16\"]\n",
            vec!["/coordinator.toml:32:", "`clients`", "10.1/16", "CIDR"],
        ),
        (
            WHOLE.to_owned() + "[[zones]]\nname = \"a\"\nfallback = [\"b\"]\n",
            vec!["`zones`", "zone 'a'", "'b'", "[[zones]]"],
        ),
        (WHOLE.to_owned() + "[[zones]]\nname = \"a\"\n[[zones]]\nname = \"a\"\n", vec!["`zones`", "'a'"]),
        (WHOLE.replace("token_ttl", "tokenttl"), vec!["/coordinator.toml:29:", "`tokenttl`"]),
        (
            WHOLE.replace("source = \"file\"", "source = \"vault\""),
            vec!["/coordinator.toml:12:", "`source`", "file"],
        ),
    ];
    for (text, expected) in table {
        let fault = load(&text).unwrap_err();
        for part in expected {
            assert!(fault.contains(part), "{part:?} in {fault:?}");
        }
    }
}

#[test]
fn weights_that_would_build_for_minutes_are_refused() {
    let mut text = WHOLE.to_owned();
    for n in 2..14 {
        text += &format!(
            "[[registry.edges]]\nid = \"edge-{n}\"\nurl = \"http://127.0.0.1:9001\"\n\
             admin_url = \"http://127.0.0.1:9101\"\nweight = 10000\n"
        );
    }
    let fault = load(&text).unwrap_err();
    assert!(fault.contains("120000 in all in zone ''"), "{fault}");
}

/// The whole configuration with edges in etcd, and more of `[registry]`, `[etcd]` and other sections.
fn in_etcd(registry: &str, etcd: &str) -> String {
    let edges = WHOLE.find("[[registry.edges]]").unwrap()..WHOLE.find("[auth]").unwrap();
    let text = [&WHOLE[..edges.start], registry, "\n", etcd, "\n", &WHOLE[edges.end..]].concat();
    text.replace("source = \"static\"", "source = \"etcd\"")
}

#[test]
fn edges_may_be_in_etcd_and_in_the_configuration() {
    let etcd = "[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]";
    let allow = "allow_urls = [\"https://*.edges.example\"]";
    let edge = "[[registry.edges]]\nid = \"edge-1\"\nurl = \"http://a:1\"\nadmin_url = \"http://a:2\"";
    for (edges, count) in [("", 0), (edge, 1)] {
        let config = load(&in_etcd(&format!("{allow}\n{edges}"), etcd)).unwrap();
        let EdgeSource::Etcd { fixed, allow_urls } = config.registry else { panic!("edges are in etcd") };
        assert_eq!((fixed.len(), allow_urls.len()), (count, 1));
        assert_eq!(config.etcd.unwrap().prefix, "/sluice/");
    }
    // Without the registry, for what else is kept there.
    let config = load(&format!("{WHOLE}\n{etcd}")).unwrap();
    assert!(config.etcd.is_some() && matches!(config.registry, EdgeSource::Static(_)));
}

#[test]
fn faults_of_edges_in_etcd_say_what_to_do() {
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let etcd = "[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]";
    let allow = "allow_urls = [\"https://*.edges.example\"]";
    let sealed = format!("[sealed]\nencryption_key = \"{KEY}\"\napi_secret_key = \"s\"");
    let shared_key = in_etcd(allow, &format!("{etcd}\ncluster_key = \"{KEY}\"\n{sealed}"));
    let table = [
        (in_etcd("", etcd), vec!["`registry.allow_urls` is empty", "https://*.edges.example"]),
        (in_etcd(allow, ""), vec!["`etcd.endpoints` is missing"]),
        (in_etcd("allow_urls = [\"*\"]", etcd), vec!["/coordinator.toml:18:", "'*' is no URL pattern"]),
        (
            WHOLE.replace("source = \"static\"", &format!("source = \"static\"\n{allow}")),
            vec!["`registry.allow_urls`", "registry.source"],
        ),
        (
            shared_key.replace("[\"open\"]", "[\"sealed\"]"),
            vec!["`etcd.cluster_key` has ENCRYPTION_KEY, which callers know"],
        ),
    ];
    for (text, expected) in table {
        let fault = load(&text).unwrap_err();
        for part in expected {
            assert!(fault.contains(part), "{part:?} in {fault:?}");
        }
        assert!(!fault.contains(KEY), "{fault}");
    }
}

#[test]
fn keys_in_etcd_are_sealed_with_two_keys_and_change_no_faster_than_edges_hear() {
    const ONE: &str = "cluster_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"";
    const OTHER: &str = "coordinator_key = \"MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"";
    let text = |keys: &str, etcd: &str| {
        let text = WHOLE.replace("source = \"file\"\npath = \"keys.jwks.json\"", keys);
        format!("{text}\n[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]\n{etcd}")
    };
    let source = "source = \"etcd\"";
    let sealed = format!("{ONE}\n{OTHER}");
    let config = load(&text(source, &sealed)).unwrap();
    let KeySource::Etcd { rotate_every, propagation, .. } = config.keys else { panic!("keys are in etcd") };
    assert_eq!((rotate_every.as_secs(), propagation.as_secs()), (86_400, 60));
    let table = [
        (text(source, OTHER), "`etcd.cluster_key` is missing"),
        (text(source, ONE), "`etcd.coordinator_key` is missing"),
        (
            text(&format!("{source}\nrotate_every = \"119s\""), &sealed),
            "`keys.rotate_every` is less than twice",
        ),
        (text(&format!("{source}\npropagation = \"999ms\""), &sealed), "`keys.propagation` is less than 1s"),
        (text("path = \"k\"\nrotate_every = \"1h\"", ""), "`keys.rotate_every` is for keys in etcd"),
        (text("path = \"k\"\npropagation = \"1h\"", ""), "`keys.propagation` is for keys in etcd"),
        (WHOLE.replace("source = \"file\"", source), "`etcd.endpoints` is missing"),
    ];
    for (text, expected) in table {
        let fault = load(&text).unwrap_err();
        assert!(fault.contains(expected), "{expected:?} in {fault:?}");
    }
}

#[test]
fn clients_are_in_etcd_where_edges_are_unless_a_file_is_named() {
    const KEY: &str = "coordinator_key = \"MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"";
    let allow = "allow_urls = [\"https://*.edges.example\"]";
    let text = |etcd: &str, auth: &str| {
        let text = in_etcd(allow, &format!("[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]\n{etcd}"));
        text.replace("schemes = [\"open\"]", auth)
    };
    let (signature, open) = ("schemes = [\"signature\"]", "schemes = [\"open\"]");
    let is_in_etcd = |text: &str| matches!(load(text).unwrap().access.clients, ClientListSource::Etcd(_));
    assert!(is_in_etcd(&text(KEY, signature)) && is_in_etcd(&text(KEY, open)));
    let named = format!("{signature}\nclients_file = \"c.toml\"");
    for etcd in [KEY, ""] {
        let ClientListSource::File(file) = load(&text(etcd, &named)).unwrap().access.clients else {
            panic!("a file is named")
        };
        assert!(file.is_absolute() && file.ends_with("c.toml"));
    }
    // Nobody calls as a client.
    assert!(!is_in_etcd(&text("", open)));
    let fault = load(&text("", signature)).unwrap_err();
    assert!(
        fault.contains("`etcd.coordinator_key` is missing") && fault.contains("auth.clients_file"),
        "{fault}"
    );
    let ClientListSource::File(file) = load(WHOLE).unwrap().access.clients else {
        panic!("there is no etcd")
    };
    assert!(file.ends_with("clients.toml"));
}

//! Claims about configurations: what is taken, and what a fault says.

use std::fs;

use super::*;

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
    assert!(config.key_file.is_absolute() && config.key_file.ends_with("keys.jwks.json"));
    assert_eq!(config.public_prefixes, ["public", "press/"].map(|text| Prefix::parse(text).unwrap()));
    let proxies = TrustedProxies::parse(["10.0.0.0/8", "2001:db8::1"]).unwrap();
    assert_eq!(config.clients, ClientSource::Forwarded(proxies));
    assert_eq!(config.links.token_ttl, Duration::from_secs(600));
    assert_eq!(config.log_filter, "info");
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
    assert!(fault.contains("120100 in all"), "{fault}");
}

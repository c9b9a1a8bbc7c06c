//! Claims about configurations: which are taken, and what is said of the others.

use std::fs;

use super::*;

fn judge(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    fs::write(&path, text).unwrap();
    Config::load(&path).map_err(|error| error.to_string())
}

const FULL: &str = r#"
    id = "edge-1"
    listen = "127.0.0.1:9001"
    admin_listen = "127.0.0.1:9101"
    root = "/"
    [keys]
    path = "keys.jwks.json"
    [cache]
    size = "64MiB"
"#;

fn with_etcd(top: &str, sections: &str) -> String {
    let advertised = format!("advertise_url = \"http://a:1\"\n{top}\nroot = \"/\"");
    format!("{}\n[registry]\nsource = \"etcd\"\n{sections}", FULL.replace("root = \"/\"", &advertised))
}

#[test]
fn an_edge_that_names_itself_says_all_of_it() {
    let top = "admin_url = \"http://a:2\"\nzone = \"b\"\nweight = 50\ncapacity = \"1GB\"";
    let config = judge(&with_etcd(top, "[etcd]\nendpoints = [\"http://b:1\"]")).unwrap();
    let advertised = config.advertised.unwrap();
    assert_eq!((advertised.zone.as_str(), advertised.weight.value()), ("b", 50));
    assert_eq!(advertised.capacity, Some(1_000_000_000));
    assert!(config.etcd.is_some());
    assert!(judge(FULL).unwrap().advertised.is_none());
}

#[test]
fn a_short_configuration_is_whole() {
    let config = judge(FULL).unwrap();
    assert_eq!((config.id.as_str(), config.cache_size), ("edge-1", 64 << 20));
    let KeySource::File(keys) = &config.keys else { panic!("keys are in a file") };
    assert!(config.threads >= 1 && keys.is_absolute());
}

#[test]
fn revocations_are_kept_where_etcd_tells_them() {
    let etcd = "[etcd]\nendpoints = [\"http://b:1\"]\n\
                cluster_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"";
    let unused = judge(&format!("{FULL}\n{etcd}")).unwrap();
    assert!(unused.etcd.is_none() && unused.revocations_file.is_none());
    let keys = FULL.replace("path = \"keys.jwks.json\"", "source = \"etcd\"");
    let config = judge(&format!("{keys}\n{etcd}")).unwrap();
    assert!(matches!(config.keys, KeySource::Etcd(_)) && config.etcd.is_some());
    assert!(config.revocations_file.is_some_and(|file| file.ends_with(REVOCATIONS_FILE)));
}

#[test]
fn faults_are_named() {
    let table = [
        (FULL.replace("id = \"edge-1\"", ""), "`id` is missing"),
        (FULL.replace("root = \"/\"", ""), "`root` is missing"),
        (FULL.replace("root = \"/\"", "root = \"/nowhere\""), "`root` is no folder: /nowhere"),
        (FULL.replace("64MiB", "lots"), "edge.toml:9:"),
        (FULL.replace("[cache]", "[cash]"), "edge.toml:8:"),
        (FULL.replace("127.0.0.1:9001", "9001"), "edge.toml:3:"),
        (FULL.replace("root = \"/\"", "root = \"/\"\nweight = 0"), "a weight is a whole number from 1"),
        (FULL.replace("root = \"/\"", "root = \"/\"\npath_template = \"x\""), "`path_template` must contain"),
        (
            FULL.replace("root = \"/\"", "root = \"/\"\nproxy_protocol = true"),
            "`proxy_protocol` needs `trusted_proxies`",
        ),
        (FULL.replace("root = \"/\"", "trusted_proxies = [\"proxy-1\"]"), "edge.toml:5:"),
        (format!("{FULL}\n[registry]\nsource = \"etcd\""), "`advertise_url` is missing"),
        (with_etcd("", ""), "`admin_url` is missing"),
        (with_etcd("admin_url = \"https://a:1\"", ""), "`admin_url` must begin with http://"),
        (with_etcd("admin_url = \"http://a:1\"", ""), "`etcd.endpoints` is missing"),
        (
            with_etcd(
                "admin_url = \"http://a:1\"",
                "[etcd]\nendpoints = [\"http://b:1\"]\n\
                 coordinator_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"",
            ),
            "`etcd.coordinator_key` is for coordinators alone",
        ),
        (FULL.replace("[keys]", "[keys]\nsource = \"etcd\""), "`etcd.endpoints` is missing"),
        (
            FULL.replace("[keys]", "[etcd]\nendpoints = [\"http://b:1\"]\n[keys]\nsource = \"etcd\""),
            "`etcd.cluster_key` is missing",
        ),
        (format!("{FULL}\n[limits]\nconnections = 0"), "`limits.connections` must be at least 1"),
        (format!("tls_listen = \"127.0.0.1:1\"\n{FULL}"), "`tls_listen` needs the section [tls]"),
        (format!("{FULL}\n[tls]\ncert_file = \"a\""), "`tls.key_file` is missing"),
        (
            format!(
                "{FULL}\n[tls]\ncert_file = \"a\"\nkey_file = \"b\"\n[[tls.certificates]]\nkey_file = \"c\""
            ),
            "`tls.certificates.cert_file` is missing",
        ),
        (format!("{FULL}\n[limits]\nranges_max = 0"), "`limits.ranges_max` must be at least 1"),
        (format!("inline = [\"text/html\"]\n{FULL}"), "`inline` has \"text/html\", whose scripts"),
        (
            format!("{FULL}\n[cors]\norigins = [\"a.example\"]"),
            "`cors.origins` has \"a.example\", which is no origin",
        ),
    ];
    for (text, expected) in table {
        let fault = judge(&text).unwrap_err();
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn a_store_that_hangs_is_not_waited_for() {
    let (_kept, never) = mpsc::channel::<()>();
    let hangs = move || never.recv().is_ok();
    assert_eq!(seen_within(Duration::from_millis(50), hangs), None);
    assert_eq!(seen_within(Duration::from_secs(30), || true), Some(true));
    assert_eq!(seen_within(Duration::from_secs(30), || false), Some(false));
}

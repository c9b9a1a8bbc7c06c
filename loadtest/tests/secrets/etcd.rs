//! What a cluster over etcd and Redis knows besides: passwords, the keys that seal what is in etcd, and what they seal.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_loadtest::caller::{self, Caller};
use sluice_loadtest::cluster::{PREFIX, REDIS_PASSWORD};
use sluice_loadtest::{Cluster, client, wait_until};
use sluice_shared::etcd::wrapped::WrappingKeys;

use crate::search::Secrets;

fn cluster() -> anyhow::Result<Cluster> {
    let filter = "[log]\nfilter = \"trace\"";
    let cluster = Cluster::start()
        .edges(2)
        .coordinators(2)
        .redis()
        .etcd(1)
        .etcd_locked()
        .keys_in_etcd("rotate_every = \"2s\"\npropagation = \"1s\"")
        .coordinator(|coordinator| coordinator.toml("auth.schemes = [\"signature\"]").toml(filter))
        .every_edge(|edge| edge.toml(filter))
        .file("a.bin", 1000)
        .ready()?;
    caller::wait_for_next_second()?;
    Ok(cluster)
}

/// The text of a file of keys.
fn key_file(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(cluster.folder().join(name))?.trim().to_owned())
}

/// The keys that etcd has now, opened; gives how many.
fn add_keys(cluster: &mut Cluster, secrets: &mut Secrets) -> anyhow::Result<usize> {
    let list = cluster.admin("GET", "/admin/v1/keys")?.json()?;
    let keys = list["keys"].as_array().context("a list")?;
    for key in keys {
        let kid = key["kid"].as_str().context("a kid")?;
        let (place, opened_by) = match key["kind"].as_str() {
            Some("token") => ("keys", "cluster.key"),
            Some("ticket") => ("ticket-keys", "coordinator.key"),
            other => anyhow::bail!("keys of kind {other:?}"),
        };
        let path = format!("{place}/{kid}");
        // One that is over since the list was made is gone.
        let Some(sealed) = cluster.etcd().member(0).value(&path)? else { continue };
        let opened: Value = WrappingKeys::parse(&key_file(cluster, opened_by)?)?
            .open(&format!("{PREFIX}{path}"), sealed.as_bytes())?;
        secrets.add(opened["k"].as_str().context("a key")?);
        // The sealed text is no secret to those who have no key; that it is nowhere tells that values are not logged.
        secrets.add(sealed.get(20..).context("a long text")?);
    }
    Ok(keys.len())
}

/// A client of etcd calls, and is given another secret.
fn use_client(cluster: &mut Cluster, secrets: &mut Secrets) -> anyhow::Result<()> {
    let new = json!({ "access_key": "AK1", "scheme": "signature", "prefixes": [""] }).to_string();
    let mut secret = |answer: client::Answer| -> anyhow::Result<String> {
        let secret = answer.json()?["secret"].as_str().context("a secret")?.to_owned();
        secrets.add(&secret);
        Ok(secret)
    };
    let first = secret(cluster.admin_at(0, "POST", "/admin/v1/clients", &new)?)?;
    let second = secret(cluster.admin_at(0, "POST", "/admin/v1/clients/AK1/rotate", "")?)?;
    let url = cluster.coordinators()[0].url();
    let target = "/api/request-download?file_id=a.bin&user_id=ann";
    for (with, status) in [(first, 401), (second, 200)] {
        let caller = Caller::new(&url, "AK1", &with);
        let signed = caller.sign("GET", target, "");
        secrets.add(&signed.signature);
        let answer = caller.request("GET", target, "", &signed).send()?;
        ensure!(answer.status() == status, "{} {}", answer.status(), answer.text());
        if status == 200 {
            let offered = answer.json()?["download_url"].as_str().context("a URL")?.to_owned();
            secrets.add_url(&offered)?;
            ensure!(client::get_here(&offered)?.status() == 200);
        }
    }
    Ok(())
}

/// Starts a program with one word of its configuration changed, until its log says what is wrong; and as it was.
fn be_wrong(cluster: &mut Cluster, right: &str, wrong: &str, told: &str) -> anyhow::Result<()> {
    let config = cluster.folder().join("edge-1.toml");
    let text = std::fs::read_to_string(&config)?;
    ensure!(text.contains(right), "{text}");
    cluster.terminate(0)?;
    std::fs::write(&config, text.replace(right, wrong))?;
    cluster.edge(0).process().start()?;
    wait_until("it says what is wrong", || Ok(cluster.edges()[0].log()?.contains(told)))?;
    cluster.edge(0).process().kill()?;
    std::fs::write(&config, text)?;
    cluster.restart(0)
}

#[test]
fn no_password_and_no_key_of_etcd_or_redis_is_in_any_log_or_command_line() -> anyhow::Result<()> {
    let mut cluster = cluster()?;
    let mut secrets = Secrets::default();
    for text in ["edge-1-s-password", "edge-2-s-password", "coordinator-s-password", REDIS_PASSWORD] {
        secrets.add(text);
    }
    for name in ["cluster.key", "coordinator.key"] {
        secrets.add(&key_file(&cluster, name)?);
    }
    secrets.add(&cluster.admin_token()?);
    let first = add_keys(&mut cluster, &mut secrets)?;
    ensure!(first >= 2, "tokens and tickets have {first} keys");
    use_client(&mut cluster, &mut secrets)?;
    let sealed = cluster.etcd().member(0).value("clients/AK1")?.context("a record")?;
    secrets.add(sealed.get(20..).context("a long text")?);

    // What goes wrong is told with care too: a password that is refused, a key that opens nothing.
    let wrong = "wrong-password-of-an-edge";
    secrets.add(wrong);
    be_wrong(&mut cluster, "edge-1-s-password", wrong, "etcd")?;
    let other = "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVybyE=";
    secrets.add(other);
    let file = cluster.folder().join("other.key");
    std::fs::write(&file, other)?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    be_wrong(&mut cluster, "cluster.key", "other.key", "cluster_key")?;
    // Peers that vanish and come back.
    cluster.etcd().kill_all()?;
    cluster.redis().kill()?;
    wait_until("it is noticed", || {
        let told = cluster.coordinators()[0].readiness()?.text();
        Ok(told.contains("etcd is away") && told.contains("state is away"))
    })?;
    cluster.redis().start()?;
    cluster.etcd().start_all()?;
    wait_until("keys are exchanged again", || Ok(add_keys(&mut cluster, &mut secrets)? > 0))?;
    secrets.check_arguments(&mut cluster)?;
    let (logs, lines) = secrets.check_logs(&mut cluster)?;
    ensure!(logs == ["coordinator-1", "coordinator-2", "edge-1", "edge-2"], "{logs:?}");
    ensure!(lines.iter().any(|line| line["level"] == "TRACE"), "the logs hold all that there is");
    Ok(())
}

//! Clients that are moved into etcd, and sealed anew when `coordinator_key` is exchanged.

use std::fs;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_loadtest::caller::{self, Caller};
use sluice_loadtest::cluster::PREFIX;
use sluice_loadtest::{Cluster, wait_until};
use sluice_shared::etcd::wrapped::WrappingKeys;
use sluice_shared::private_file;

const NEW_KEY: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

fn call(cluster: &Cluster, name: &str, secret: &str) -> anyhow::Result<u16> {
    let url = cluster.coordinators()[0].url();
    let target = "/api/request-download?file_id=a.bin&user_id=tester";
    Ok(Caller::new(&url, name, secret).call("GET", target, "").send()?.status())
}

#[test]
fn clients_of_a_file_are_sealed_in_etcd_and_outlive_the_exchange_of_coordinator_key() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()
        .edges(1)
        .etcd(1)
        .keys_in_etcd("propagation = \"1s\"")
        .coordinator(|coordinator| coordinator.toml("auth.schemes = [\"signature\"]"))
        .file("a.bin", 1000)
        .ready()?;
    caller::wait_for_next_second()?;
    let file = cluster.folder().join("import.toml");
    let client = |name: &str| {
        format!(
            "[[clients]]\naccess_key = \"{name}\"\nsecret = \"hush-{name}\"\nscheme = \"signature\"\nprefixes = [\"\"]\n"
        )
    };
    private_file::write_new(&file, &(client("AK1") + &client("AK2")))?;
    let path = file.display().to_string();
    let (code, added, told) = cluster.operate(0, &["clients", "import", &path])?;
    ensure!(code == Some(0) && added == "added      AK1 AK2\n", "{added}{told}");
    ensure!(call(&cluster, "AK1", "hush-AK1")? == 200);
    let (code, kept, told) = cluster.operate(0, &["clients", "import", &path])?;
    ensure!(code == Some(0) && kept == "kept       AK1 AK2\n", "{kept}{told}");

    let key_file = cluster.folder().join("coordinator.key");
    let old = fs::read_to_string(&key_file)?;
    let (old_keys, new_keys) = (WrappingKeys::parse(&old)?, WrappingKeys::parse(NEW_KEY)?);
    // What cannot be read is named, and left as it is.
    let foreign = WrappingKeys::parse(&NEW_KEY.replace("bmV3", "b3Ro"))?;
    let odd = foreign.seal(&format!("{PREFIX}clients/odd"), &json!({ "format": 1 }), SystemTime::now());
    cluster.etcd().member(0).put("clients/odd", &odd)?;
    fs::write(&key_file, format!("{NEW_KEY}\n{old}"))?;
    let restart = |cluster: &mut Cluster| -> anyhow::Result<()> {
        cluster.coordinator_at(0).process().kill()?;
        cluster.coordinator_at(0).process().start()?;
        wait_until("it is ready", || {
            Ok(cluster.coordinators()[0].readiness().is_ok_and(|answer| answer.status() == 200))
        })?;
        caller::wait_for_next_second()
    };
    restart(&mut cluster)?;
    let (code, table, told) = cluster.operate(0, &["clients", "reseal"])?;
    ensure!(code == Some(1) && table.contains("sealed anew  2"), "{table}{told}");
    ensure!(told.contains("clients/odd") && told.contains("leave the old coordinator_key"), "{told}");
    ensure!(cluster.admin_at(0, "DELETE", "/admin/v1/clients/odd", "")?.status() == 204);
    let (code, json, told) = cluster.operate(0, &["clients", "reseal", "--output", "json"])?;
    let json: Value = serde_json::from_str(&json)?;
    ensure!(code == Some(0) && json["sealed"] == 0 && json["good"] == 3, "{json}{told}");
    for name in ["AK1", "AK2"] {
        let value = cluster.etcd().member(0).value(&format!("clients/{name}"))?.context("a record")?;
        let place = format!("{PREFIX}clients/{name}");
        ensure!(new_keys.open::<Value>(&place, value.as_bytes()).is_ok());
        ensure!(old_keys.open::<Value>(&place, value.as_bytes()).is_err());
    }
    let (code, json, told) = cluster.operate(0, &["keys", "reseal", "--output", "json"])?;
    let json: Value = serde_json::from_str(&json)?;
    // Those of tickets; the key of tokens' is what it was.
    let is_done = json["sealed"].as_u64().is_some_and(|sealed| sealed >= 1) && json["left"] == 0;
    ensure!(code == Some(0) && is_done && json["good"].as_u64() >= Some(1), "{json}{told}");
    fs::write(&key_file, NEW_KEY)?;
    cluster.coordinator_at(0).process().kill()?;
    cluster.coordinator_at(0).process().start()?;
    wait_until("clients are let in without the old key", || {
        Ok(call(&cluster, "AK1", "hush-AK1").is_ok_and(|status| status == 200))
    })?;
    ensure!(call(&cluster, "AK2", "hush-none")? == 401);
    let keys = cluster.admin("GET", "/admin/v1/keys")?.json()?;
    let is_current = |key: &Value| key["kind"] == "ticket" && key["state"] == "current";
    ensure!(keys["keys"].as_array().is_some_and(|keys| keys.iter().any(is_current)), "{keys}");
    Ok(())
}

//! What must not be found where it should not be: tokens in logs, keys in a process's arguments.

use std::fs;
use std::time::{Duration, SystemTime};

use sluice_loadtest::client::{self, Request};
use sluice_loadtest::cluster::token_of;
use sluice_loadtest::{Cluster, download};
use sluice_shared::file_id::FileId;
use sluice_shared::token::{Claims, NumericDate};

#[test]
fn no_token_is_in_any_log_and_no_key_in_any_command_line() -> anyhow::Result<()> {
    let verbose = "log.filter = \"debug\"";
    let mut cluster = Cluster::start()
        .edges(2)
        .file("a.bin", 3 << 20)
        .every_edge(|edge| edge.toml(verbose))
        .coordinator(|coordinator| coordinator.toml(verbose))
        .ready()?;
    let tokens = use_tokens(&cluster)?;

    let keys: serde_json::Value = serde_json::from_slice(&fs::read(cluster.keys_path())?)?;
    let key = keys["keys"][0]["k"].as_str().expect("the key file holds a key").to_owned();
    let pids = (0..2).map(|index| cluster.edge(index).process().pid()).collect::<Vec<_>>();
    for pid in pids.into_iter().chain([cluster.coordinator().process().pid()]).flatten() {
        let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline"))?).into_owned();
        assert!(!line.contains(&key), "a key in the command line of {pid}");
    }
    // Terminated, so that what was waiting to be written is written.
    cluster.terminate(0)?;
    cluster.terminate(1)?;
    cluster.coordinator().process().terminate()?;
    let admin_token = cluster.admin_token()?;
    for (name, log) in cluster.logs()? {
        assert!(!log.is_empty(), "{name} logs something");
        assert!(!log.contains(&key) && !log.contains(&admin_token), "a secret in the log of {name}");
        for token in &tokens {
            // Ciphertext and tag are what makes a token; its header is the same for all.
            for part in token.split('.').skip(2).filter(|part| part.len() > 12) {
                assert!(!log.contains(part), "part of a token in the log of {name}: {part}");
            }
        }
    }
    Ok(())
}

/// Uses tokens well and badly; gives those that were used.
fn use_tokens(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let redirect = client::get_here(&cluster.download_url("a.bin"))?;
    let location = redirect.field("location")?.to_owned();
    let offer = cluster.request_download("a.bin")?;
    let mut tokens = vec![token_of(&location)?.to_owned(), offer.token()?.to_owned()];
    assert_eq!(client::get_here(&location)?.status(), 200);
    assert_eq!(client::get_here(&offer.download_url)?.status(), 200);
    assert_eq!(Request::new("GET", &location).range("5-9").send()?.status(), 206);
    assert_eq!(Request::new("POST", &location).field("Content-Length", "0").send()?.status(), 405);
    download::resuming(&location, |_| ())?;

    let hour = Duration::from_secs(3600);
    let claims =
        |file_id, exp| anyhow::Ok(Claims::new(FileId::parse(file_id)?, NumericDate::from_system_time(exp)));
    let now = SystemTime::now();
    let expired = cluster.seal(&claims("a.bin", now - hour)?)?;
    let missing = cluster.seal(&claims("nothing-here.bin", now + hour)?)?;
    let other = if tokens[1].ends_with('A') { "Q" } else { "A" };
    let altered = format!("{}{other}", &tokens[1][..tokens[1].len() - 1]);
    let edge = cluster.edges()[0].url();
    for (token, status) in [(expired, 401), (missing, 404), (altered, 400)] {
        let answer = client::get_here(&format!("{edge}/download?token={token}"))?;
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert!(!answer.text().contains(&token), "an answer repeats no token");
        tokens.push(token);
    }
    // Where tokens do not belong: in a path, in the coordinator's query.
    let token = tokens[0].clone();
    client::get_here(&format!("{edge}/{token}"))?;
    client::get_here(&format!("{}&token={token}", cluster.download_url("a.bin")))?;
    Ok(tokens)
}

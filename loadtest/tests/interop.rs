//! Tokens of other JOSE libraries download files, and the coordinator's tokens open in them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sluice_loadtest::{Cluster, client, tool};

/// Named by the tokens and answers of `interop.py`.
const LIBRARIES: [&str; 3] = ["python-jose", "jwcrypto", "joserfc"];

fn interop(cluster: &Cluster, action: &str, argument: &str) -> anyhow::Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/interop.py");
    let (script, keys) = (script.to_string_lossy(), cluster.keys_path());
    let said = tool::run(tool::python()?, &[&*script, action, &keys.to_string_lossy(), argument])?;
    Ok(serde_json::from_str(&said)?)
}

#[test]
fn tokens_of_three_python_libraries_download_files() -> anyhow::Result<()> {
    let cluster = Cluster::start().file("reports/a.bin", 100_000).ready()?;
    let exp = (SystemTime::now() + Duration::from_secs(60)).duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({ "file_id": "reports/a.bin", "user_id": "someone", "exp": exp });
    let tokens = interop(&cluster, "mint", &claims.to_string())?;
    for library in LIBRARIES {
        let token = tokens[library].as_str().unwrap_or_default();
        let answer = client::get_here(&format!("{}/download?token={token}", cluster.edges()[0].url()))?;
        assert_eq!(answer.status(), 200, "{library}: {}", answer.text());
        cluster.content("reports/a.bin").check_whole(&answer.body)?;
    }
    Ok(())
}

#[test]
fn tokens_of_the_coordinator_open_in_three_python_libraries() -> anyhow::Result<()> {
    let cluster = Cluster::start().file("reports/a.bin", 1000).ready()?;
    let offer = cluster.request_download("reports/a.bin")?;
    let opened = interop(&cluster, "open", offer.token()?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    for library in LIBRARIES {
        let claims = &opened[library];
        assert_eq!(claims["file_id"], "reports/a.bin", "{library}");
        assert_eq!(claims["user_id"], "tester", "{library}");
        assert_eq!(claims["edg"], offer.edge, "{library}");
        let left = claims["exp"].as_f64().unwrap_or_default() - now;
        assert!((800.0..=900.0).contains(&left), "{library}: {left} s left of 15 minutes");
    }
    Ok(())
}

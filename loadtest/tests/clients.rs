//! The programs that people download with, as they come.

use std::fs;
use std::path::Path;

use sluice_loadtest::{Cluster, tool};

const SIZE: u64 = (10 << 20) + 3;

fn cluster() -> anyhow::Result<Cluster> {
    Cluster::start().edges(3).file("reports/a.bin", SIZE).ready()
}

fn check(cluster: &Cluster, path: &Path) -> anyhow::Result<()> {
    Ok(cluster.content("reports/a.bin").check_whole(&fs::read(path)?)?)
}

#[test]
fn curl_downloads() -> anyhow::Result<()> {
    let (cluster, folder) = (cluster()?, tempfile::tempdir()?);
    let out = folder.path().join("a.bin");
    let url = cluster.download_url("reports/a.bin");
    tool::run("curl", &["-fsSL", "-m", "60", "-o", &out.to_string_lossy(), &url])?;
    check(&cluster, &out)
}

#[test]
fn curl_resumes_a_partial_file() -> anyhow::Result<()> {
    let (cluster, folder) = (cluster()?, tempfile::tempdir()?);
    let out = folder.path().join("a.bin");
    fs::write(&out, cluster.content("reports/a.bin").bytes(0..1_234_567))?;
    let url = cluster.download_url("reports/a.bin");
    tool::run("curl", &["-fsSL", "-m", "60", "-C", "-", "-o", &out.to_string_lossy(), &url])?;
    check(&cluster, &out)
}

#[test]
fn curl_saves_under_the_name_that_the_edge_gives() -> anyhow::Result<()> {
    let (cluster, folder) = (cluster()?, tempfile::tempdir()?);
    let url = cluster.download_url("reports/a.bin");
    let into = folder.path().to_string_lossy();
    tool::run("curl", &["-fsSLOJ", "-m", "60", "--output-dir", &into, &url])?;
    check(&cluster, &folder.path().join("a.bin"))
}

#[test]
fn wget_downloads() -> anyhow::Result<()> {
    let (cluster, folder) = (cluster()?, tempfile::tempdir()?);
    let out = folder.path().join("a.bin");
    let url = cluster.download_url("reports/a.bin");
    tool::run("wget", &["-q", "-T", "30", "-t", "1", "-O", &out.to_string_lossy(), &url])?;
    check(&cluster, &out)
}

#[test]
fn aria2_downloads_over_four_connections() -> anyhow::Result<()> {
    let (cluster, folder) = (cluster()?, tempfile::tempdir()?);
    let url = cluster.download_url("reports/a.bin");
    let into = folder.path().to_string_lossy();
    let said = tool::run(
        "aria2c",
        &[
            "--no-conf",
            "-x4",
            "-s4",
            "-k1M",
            "--max-tries=2",
            "-d",
            &into,
            "-o",
            "a.bin",
            "--log-level=info",
            "-l",
            "-",
            &url,
        ],
    )?;
    let ranges = said.matches("Range: bytes=").count();
    assert!(ranges >= 3, "aria2 asked for {ranges} ranges");
    check(&cluster, &folder.path().join("a.bin"))
}

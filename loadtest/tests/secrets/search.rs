//! The search: which texts are secret, and where they must not be.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use sluice_loadtest::Cluster;
use sluice_loadtest::cluster::token_of;

/// Programs that are not ours, whose logs are their own.
const OTHERS: [&str; 2] = ["etcd", "redis"];

/// Texts that no log may hold.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn add(&mut self, text: &str) {
        assert!(text.len() >= 12, "{text:?} is no secret");
        self.0.push(text.to_owned());
    }

    /// A token or ticket: its ciphertext and tag; its header is the same for all.
    pub(crate) fn add_token(&mut self, token: &str) {
        token.split('.').skip(2).filter(|part| part.len() > 12).for_each(|part| self.add(part));
    }

    /// The token in an edge's URL, which is given back.
    pub(crate) fn add_url(&mut self, url: &str) -> anyhow::Result<String> {
        let token = token_of(url)?;
        self.add_token(token);
        Ok(token.to_owned())
    }

    /// Looks at how every program was called.
    pub(crate) fn check_arguments(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        for process in cluster.programs() {
            let pid = process.pid().context("it runs")?;
            self.check(Path::new(&format!("/proc/{pid}/cmdline")))?;
        }
        Ok(())
    }

    /// Ends every program, so that what waits to be written is written, and looks at all logs, which are objects of JSON,
    /// line by line. Gives the logs' names, sorted, and their lines.
    pub(crate) fn check_logs(&self, cluster: &mut Cluster) -> anyhow::Result<(Vec<String>, Vec<Value>)> {
        for process in cluster.programs() {
            process.terminate()?;
        }
        let (mut logs, mut lines) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(cluster.folder())? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if is_log && !OTHERS.iter().any(|other| name.starts_with(other)) {
                self.check(&path)?;
                lines.extend(parse_lines(&path)?);
                logs.push(name);
            }
        }
        let panicked = lines.iter().find(|line| line["message"] == "panicked");
        assert_eq!(panicked, None, "hostile or not, nothing makes a program panic");
        logs.sort();
        Ok((logs, lines))
    }

    fn check(&self, path: &Path) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        for secret in &self.0 {
            // A part of one is as bad, if it is long enough to tell something.
            let part: String = secret.chars().take(24).collect();
            let line = text.lines().find(|line| line.contains(&part));
            assert_eq!(line, None, "{secret:?} is in {}", path.display());
        }
        Ok(())
    }
}

fn parse_lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = String::from_utf8(fs::read(path)?).with_context(|| format!("{} is UTF-8", path.display()))?;
    assert!(text.ends_with('\n'), "{} holds whole lines", path.display());
    let parse = |line| {
        let value: Result<Value, _> = serde_json::from_str(line);
        assert!(
            value.as_ref().is_ok_and(Value::is_object),
            "not an object of JSON in {}: {line}",
            path.display()
        );
        value.unwrap_or_default()
    };
    Ok(text.split_terminator('\n').map(parse).collect())
}

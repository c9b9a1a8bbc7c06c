//! Layered configuration: a TOML file, then environment variables `SLUICE_SECTION__KEY`, then flags; later wins.
//!
//! Programs describe their file as a `RawConfig` (serde, `deny_unknown_fields`, every key optional) and turn it into
//! a `Config` without impossible states, once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use figment::Figment;
use figment::providers::{Env, Serialized};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Prefix of the environment variables; `SLUICE_CONFIG` names the file and is no key.
const ENV_PREFIX: &str = "SLUICE_";

/// Why a configuration is not taken. Each says where and what.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read configuration {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}:{column}: {message}")]
    File { path: PathBuf, line: usize, column: usize, message: String },
    #[error("configuration: {0}")]
    Layer(Box<figment::Error>),
    #[error("{path}: `{key}` {fault}")]
    Key { path: PathBuf, key: &'static str, fault: String },
}

impl ConfigError {
    /// A fault that shows only when keys are seen together.
    pub fn key(path: &Path, key: &'static str, fault: impl ToString) -> Self {
        Self::Key { path: path.to_owned(), key, fault: fault.to_string() }
    }

    pub fn missing(path: &Path, key: &'static str) -> Self {
        Self::key(path, key, "is missing")
    }
}

/// Loads a configuration: file, environment, then `flags` (whose `None`s must be skipped when serialized).
///
/// # Errors
/// The file cannot be read; a key of it is unknown or has a wrong value (with its line); likewise in a variable.
pub fn load<T: DeserializeOwned>(path: &Path, flags: impl Serialize) -> Result<T, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    load_text(path, &text, flags)
}

/// A path of a configuration: relative ones start at the configuration file's folder, so that it means the same
/// wherever a program is started.
pub fn resolve(config: &Path, path: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(path)
}

fn load_text<T: DeserializeOwned>(path: &Path, text: &str, flags: impl Serialize) -> Result<T, ConfigError> {
    // The file alone first: this is the reading that knows lines.
    if let Err(error) = toml::from_str::<T>(text) {
        return Err(file_error(path, text, &error));
    }
    let table: toml::Table = text.parse().map_err(|error| file_error(path, text, &error))?;
    Figment::from(Serialized::defaults(table))
        .merge(Env::prefixed(ENV_PREFIX).ignore(&["config"]).split("__"))
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| ConfigError::Layer(Box::new(error)))
}

fn file_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let mut message = error.message().trim().replace('\n', ", ");
    let source = text.lines().nth(line - 1).unwrap_or_default();
    if let Some((key, _)) = source.split_once('=') {
        let _ = write!(message, " (key `{}`)", key.trim());
    }
    ConfigError::File { path: path.to_owned(), line, column, message }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::units::Span;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Raw {
        id: Option<String>,
        limits: RawLimits,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct RawLimits {
        connections: Option<u32>,
        head_timeout: Option<Span>,
    }

    #[derive(Serialize)]
    struct Flags {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'static str>,
    }

    const NONE: Flags = Flags { id: None };

    fn fault(text: &str) -> String {
        load_text::<Raw>(Path::new("edge.toml"), text, NONE).unwrap_err().to_string()
    }

    #[test]
    fn faults_name_file_line_and_key() {
        let unknown = fault("id = \"a\"\n[limits]\nconections = 5\n");
        assert!(unknown.starts_with("edge.toml:3:1: ") && unknown.contains("`conections`"), "{unknown}");
        let wrong = fault("id = \"a\"\n[limits]\nconnections = \"many\"\n");
        assert!(wrong.starts_with("edge.toml:3:") && wrong.contains("`connections`"), "{wrong}");
        let unit = fault("[limits]\n\nhead_timeout = \"10\"\n");
        assert!(unit.starts_with("edge.toml:3:") && unit.contains("no duration"), "{unit}");
        let syntax = fault("id = \n");
        assert!(syntax.starts_with("edge.toml:1:"), "{syntax}");
        let section = fault("[limit]\n");
        assert!(section.starts_with("edge.toml:1:") && section.contains("limit"), "{section}");
    }

    #[test]
    fn later_layers_win() {
        let text = "id = \"file\"\n[limits]\nconnections = 5\n";
        let raw: Raw = load_text(Path::new("x"), text, Flags { id: Some("flag") }).unwrap();
        assert_eq!((raw.id.as_deref(), raw.limits.connections), (Some("flag"), Some(5)));
        assert_eq!(raw.limits.head_timeout, None);
    }
}

//! Layered configuration: a TOML file, then environment variables `SLUICE_SECTION__KEY`, then flags; later wins.
//!
//! Programs describe their file as a `RawConfig` (serde, `deny_unknown_fields`, every key optional) and turn it into
//! a `Config` without impossible states, once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use figment::Figment;
use figment::providers::Serialized;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::private_file;
use crate::secret::SecretText;

mod variables;

use variables::Variables;

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

    /// A fault of what stands at an offset of the file's text; the line's key is named.
    pub fn at(path: &Path, text: &str, offset: usize, fault: impl ToString) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        let mut message = fault.to_string();
        let source = text.lines().nth(line - 1).unwrap_or_default();
        if let Some((key, _)) = source.split_once('=') {
            let _ = write!(message, " (key `{}`)", key.trim());
        }
        Self::File { path: path.to_owned(), line, column, message }
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

/// A secret of a configuration: as text, or in a file of its own that nobody else can read.
///
/// # Errors
/// It is given both ways, or the file cannot be used.
pub fn secret(
    path: &Path,
    key: &'static str,
    text: Option<SecretText>,
    file: Option<&Path>,
) -> Result<Option<SecretText>, ConfigError> {
    match (text, file) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text)),
        (None, Some(file)) => secret_file(path, key, &resolve(path, file)).map(Some),
        (Some(_), Some(_)) => Err(ConfigError::key(path, key, "is given as text and as a file; keep one")),
    }
}

/// A secret in a file of its own; the end of its last line is none of it.
///
/// # Errors
/// The file is missing, exposed, or no text.
pub fn secret_file(path: &Path, key: &'static str, file: &Path) -> Result<SecretText, ConfigError> {
    let text = private_file::read(file)
        .map_err(|fault| ConfigError::key(path, key, format!("is in {}, which {fault}", file.display())))?;
    Ok(SecretText::new(text.trim_end_matches(['\r', '\n'])))
}

/// Reads the text of a file for which there are no other layers.
///
/// # Errors
/// A key is unknown or has a wrong value, with its line.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| file_error(path, text, &error))
}

fn load_text<T: DeserializeOwned>(path: &Path, text: &str, flags: impl Serialize) -> Result<T, ConfigError> {
    // The file alone first: this is the reading that knows lines.
    parse::<T>(path, text)?;
    let table: toml::Table = text.parse().map_err(|error| file_error(path, text, &error))?;
    let layers = Figment::from(Serialized::defaults(table));
    let flags = Serialized::defaults(&flags);
    Variables::of_environment()
        .extract(|variables| layers.clone().merge(variables).merge(&flags).extract().map_err(Box::new))
        .map_err(ConfigError::Layer)
}

fn file_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    ConfigError::at(path, text, offset, error.message().trim().replace('\n', ", "))
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

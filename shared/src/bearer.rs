//! The admin tokens: a file of `name:token` lines, made with one random token when missing.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::private_file::{self, PrivateFileError, write_new};
use crate::secret::SecretText;
use crate::token::random_id;

/// Why the file is not used.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    #[error("admin token file {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("admin token file {path} {source}")]
    Private { path: PathBuf, source: PrivateFileError },
    #[error("admin token file {path}, line {line}: a line is name:token, the token 16 characters or longer")]
    Line { path: PathBuf, line: usize },
    #[error("admin token file {path} has no token")]
    Empty { path: PathBuf },
}

const TOKEN_CHARS_MIN: usize = 16;

/// Who may use the admin API. Only digests are kept.
pub struct AdminTokens(Vec<(String, [u8; 32])>);

impl AdminTokens {
    /// Reads the file; makes it, mode 0600, where it is missing.
    ///
    /// # Errors
    /// It is exposed, malformed, empty, or cannot be read or made.
    pub fn load_or_create(path: &Path) -> Result<Self, AdminTokenError> {
        let io = |source| AdminTokenError::Io { path: path.to_owned(), source };
        if !path.exists() {
            match write_new(path, &format!("admin:{}{}", random_id(), random_id())) {
                Ok(()) => tracing::warn!(path = %path.display(), "made a new admin token file"),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(io(source)),
            }
        }
        let text = private_file::read(path)
            .map_err(|source| AdminTokenError::Private { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, AdminTokenError> {
        let tokens = lines(path, text).map(|line| {
            let (name, token) = line?;
            Ok((name.to_owned(), Sha256::digest(token).into()))
        });
        let tokens = tokens.collect::<Result<Vec<_>, AdminTokenError>>()?;
        if tokens.is_empty() {
            return Err(AdminTokenError::Empty { path: path.to_owned() });
        }
        Ok(Self(tokens))
    }

    /// The name of the token that an `Authorization` field carries. Digests are compared, every one of them, in
    /// constant time.
    pub fn authenticate(&self, authorization: &str) -> Option<&str> {
        let (scheme, token) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token.trim()).into();
        let mut found = None;
        for (name, known) in &self.0 {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

/// The first token of such a file, for those who call with it.
///
/// # Errors
/// The file is missing, exposed, empty, or its first line malformed.
pub fn first_token(path: &Path) -> Result<SecretText, AdminTokenError> {
    let text = private_file::read(path)
        .map_err(|source| AdminTokenError::Private { path: path.to_owned(), source })?;
    let first = lines(path, &text).next();
    let (_, token) = first.ok_or_else(|| AdminTokenError::Empty { path: path.to_owned() })??;
    Ok(SecretText::new(token))
}

/// Names and tokens; empty lines and comments are none.
fn lines<'t>(
    path: &Path,
    text: &'t str,
) -> impl Iterator<Item = Result<(&'t str, &'t str), AdminTokenError>> {
    let numbered = text.lines().map(str::trim).zip(1..);
    let numbered = numbered.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    numbered.map(move |(text, line)| {
        let parts = text.split_once(':');
        let good = parts.filter(|(name, token)| !name.is_empty() && token.len() >= TOKEN_CHARS_MIN);
        good.ok_or_else(|| AdminTokenError::Line { path: path.to_owned(), line })
    })
}

impl fmt::Debug for AdminTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_file_is_made_and_its_token_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.tokens");
        let tokens = AdminTokens::load_or_create(&path).unwrap();
        let line = fs::read_to_string(&path).unwrap();
        let (name, token) = line.trim().split_once(':').unwrap();
        assert_eq!(tokens.authenticate(&format!("Bearer {token}")), Some(name));
        assert_eq!(tokens.authenticate(&format!("bearer {token}")), Some(name));
        for wrong in
            [format!("Basic {token}"), token.to_owned(), format!("Bearer {token}x"), "Bearer ".into()]
        {
            assert_eq!(tokens.authenticate(&wrong), None);
        }
        assert!(!format!("{tokens:?}").contains(token));
    }

    #[test]
    fn faulty_lines_are_named() {
        let parse = |text| AdminTokens::parse(Path::new("t"), text).map(|_| ()).map_err(|e| e.to_string());
        assert!(parse("# ops\nann:0123456789abcdef\n\nbob:fedcba9876543210\n").is_ok());
        assert!(parse("ann:0123456789abcdef\nbob:short\n").unwrap_err().contains("line 2"));
        assert!(parse("no-colon-here-at-all\n").unwrap_err().contains("line 1"));
        assert!(parse("\n# nothing\n").unwrap_err().contains("no token"));
    }

    #[test]
    fn who_calls_uses_the_first_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.tokens");
        assert!(first_token(&path).unwrap_err().to_string().ends_with("does not exist"));
        write_new(&path, "# ops\nann:0123456789abcdef\nbob:short\n").unwrap();
        assert_eq!(first_token(&path).unwrap().reveal(), "0123456789abcdef");
        private_file::replace(&path, "# nobody\n").unwrap();
        assert!(matches!(first_token(&path), Err(AdminTokenError::Empty { .. })));
    }
}

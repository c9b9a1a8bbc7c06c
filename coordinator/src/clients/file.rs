//! The file of clients: read at the start, followed, and edited by the admin API with its comments kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};
use serde::Deserialize;
use sluice_shared::config::resolve;
use sluice_shared::followed::{Asked, Follower, Stamp};
use sluice_shared::private_file::{self, PrivateFileError};
use sluice_shared::secret::SecretText;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};
use zeroize::Zeroizing;

use super::{Client, ClientFault, ClientSet, EditError, RawClient};

/// The key of the file's one array.
const CLIENTS: &str = "clients";

/// Why a file of clients is not used.
#[derive(Debug, thiserror::Error)]
pub enum ClientsFileError {
    #[error("clients file {path} {source}")]
    Private { path: PathBuf, source: PrivateFileError },
    #[error("clients file {path}: {message}")]
    Syntax { path: PathBuf, message: String },
    #[error("clients file {path}: {fault}")]
    Client { path: PathBuf, fault: String },
    #[error("clients file {path} cannot be written: {source}")]
    Write { path: PathBuf, source: io::Error },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    clients: Vec<RawClient>,
}

/// The clients of a file, as last read.
pub(crate) struct ClientsFile {
    path: PathBuf,
    loaded: Files,
    set: ArcSwap<ClientSet>,
    /// One edit at a time.
    editing: Mutex<()>,
}

/// The file, those that it has secrets in, and how they all were before they were read.
#[derive(Clone)]
struct Files {
    paths: Vec<PathBuf>,
    seen: Stamp,
}

impl Files {
    /// What cannot be read has no secrets elsewhere.
    fn of(path: &Path) -> Self {
        let own = Stamp::of([path]);
        let raw = read(path).ok().and_then(|text| toml::from_str::<RawFile>(&text).ok());
        let clients = raw.into_iter().flat_map(|raw| raw.clients);
        let secrets: Vec<_> =
            clients.filter_map(|client| client.secret_file).map(|file| resolve(path, &file)).collect();
        let seen = own.and(Stamp::of(secrets.iter().map(PathBuf::as_path)));
        Self { paths: [path.to_owned()].into_iter().chain(secrets).collect(), seen }
    }
}

impl ClientsFile {
    /// Reads the file; one that is missing has no clients yet.
    ///
    /// # Errors
    /// It is exposed, or describes no set of clients.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, ClientsFileError> {
        let loaded = Files::of(path);
        let set = ArcSwap::from_pointee(parse(path, &read(path)?)?);
        Ok(Arc::new(Self { path: path.to_owned(), loaded, set, editing: Mutex::default() }))
    }

    pub(crate) fn set(&self) -> Guard<Arc<ClientSet>> {
        self.set.load()
    }

    /// Follows the file, and those of secrets, for ever: a good change is taken, a bad one is logged once and leaves the
    /// set as it is.
    pub(crate) async fn follow(self: Arc<Self>, asked: Asked) {
        let mut follower = Follower::new(&[], Stamp::of([]), asked);
        let mut files = self.loaded.clone();
        loop {
            follower.turn_to(files.paths, files.seen);
            while !follower.look().await {}
            // It may name others now.
            files = Files::of(&self.path);
            self.reload();
        }
    }

    /// Reads the file anew and logs what came of it; a bad one leaves the set as it is.
    pub(crate) fn reload(&self) {
        match self.reread() {
            Ok(count) => tracing::info!(path = %self.path.display(), count, "clients file reread"),
            Err(error) => tracing::error!(%error, "clients file not taken; the clients read before stay"),
        }
    }

    fn reread(&self) -> Result<usize, ClientsFileError> {
        let _alone = self.editing.lock().expect("nothing panics while a file is edited");
        let set = parse(&self.path, &read(&self.path)?)?;
        let count = set.iter().count();
        self.set.store(Arc::new(set));
        Ok(count)
    }

    /// Adds a client with a new secret, which is given back and shown nowhere else.
    pub(crate) fn add(&self, client: RawClient) -> Result<SecretText, EditError> {
        let secret = SecretText::random();
        self.import(client, secret.clone(), false)?;
        Ok(secret)
    }

    /// Takes in a client with the secret that it has; tells whether it takes the place of one.
    pub(crate) fn import(
        &self,
        mut client: RawClient,
        secret: SecretText,
        replace: bool,
    ) -> Result<bool, EditError> {
        let name = client.access_key.clone();
        client.secret = Some(secret.clone());
        client.secret_file = None;
        let table = toml_edit::ser::to_document(&client).map_err(|error| self.syntax(&error))?;
        // Judged before it is written, so that its faults are told as what they are.
        client.settle(secret)?;
        let mut is_replaced = false;
        self.edit(|clients| {
            let found = clients.iter_mut().find(|table| is_named(table, &name));
            is_replaced = found.is_some();
            match found {
                Some(_) if !replace => return Err(EditError::Exists(name.clone())),
                Some(known) => *known = table.as_table().clone(),
                None => clients.push(table.as_table().clone()),
            }
            Ok(())
        })?;
        Ok(is_replaced)
    }

    pub(crate) fn enable(&self, access_key: &str, enabled: bool) -> Result<(), EditError> {
        self.change(access_key, |table| {
            table["enabled"] = toml_edit::value(enabled);
            Ok(())
        })
    }

    /// Gives a client a new secret; the old one is good no more.
    pub(crate) fn rotate(&self, access_key: &str) -> Result<SecretText, EditError> {
        let secret = SecretText::random();
        self.change(access_key, |table| {
            if table.contains_key("secret_file") {
                return Err(EditError::SecretElsewhere(access_key.to_owned()));
            }
            table["secret"] = toml_edit::value(secret.reveal());
            Ok(())
        })?;
        Ok(secret)
    }

    pub(crate) fn remove(&self, access_key: &str) -> Result<(), EditError> {
        self.edit(|clients| {
            let found = clients.iter().position(|table| is_named(table, access_key));
            clients.remove(found.ok_or_else(|| EditError::Unknown(access_key.to_owned()))?);
            Ok(())
        })
    }

    fn change(
        &self,
        access_key: &str,
        change: impl FnOnce(&mut Table) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        self.edit(|clients| {
            let found = clients.iter_mut().find(|table| is_named(table, access_key));
            change(found.ok_or_else(|| EditError::Unknown(access_key.to_owned()))?)
        })
    }

    /// Changes the file as it is now, and uses what was written. What cannot be used is not written.
    fn edit(
        &self,
        change: impl FnOnce(&mut ArrayOfTables) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let _alone = self.editing.lock().expect("nothing panics while a file is edited");
        let text = read(&self.path)?;
        let mut document: DocumentMut = text.parse().map_err(|error| self.syntax(&error))?;
        let item = document.entry(CLIENTS).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let fault = ClientFaultInFile("`clients` is not written as [[clients]] sections");
        change(item.as_array_of_tables_mut().ok_or_else(|| self.syntax(&fault))?)?;
        let text = Zeroizing::new(document.to_string());
        let set = parse(&self.path, &text)?;
        private_file::replace(&self.path, &text)
            .map_err(|source| ClientsFileError::Write { path: self.path.clone(), source })?;
        self.set.store(Arc::new(set));
        Ok(())
    }

    fn syntax(&self, fault: &dyn std::fmt::Display) -> ClientsFileError {
        ClientsFileError::Syntax { path: self.path.clone(), message: fault.to_string() }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ClientFaultInFile(&'static str);

fn is_named(table: &Table, access_key: &str) -> bool {
    table.get("access_key").and_then(Item::as_str) == Some(access_key)
}

fn read(path: &Path) -> Result<Zeroizing<String>, ClientsFileError> {
    match private_file::read(path) {
        Err(PrivateFileError::Missing) => Ok(Zeroizing::default()),
        other => other.map_err(|source| ClientsFileError::Private { path: path.to_owned(), source }),
    }
}

fn parse(path: &Path, text: &str) -> Result<ClientSet, ClientsFileError> {
    let raw: RawFile = toml::from_str(text).map_err(|error| ClientsFileError::Syntax {
        path: path.to_owned(),
        message: syntax_fault(text, &error),
    })?;
    let clients = raw.clients.into_iter().map(|raw| settle(path, raw));
    let set = clients.collect::<Result<Vec<_>, _>>().and_then(ClientSet::new);
    set.map_err(|fault| ClientsFileError::Client { path: path.to_owned(), fault: fault.to_string() })
}

/// Where and what, without the line itself: it may hold a secret.
fn syntax_fault(text: &str, error: &toml::de::Error) -> String {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text[..offset].matches('\n').count() + 1;
    format!("line {line}: {}", error.message().trim().replace('\n', ", "))
}

fn settle(path: &Path, mut raw: RawClient) -> Result<Client, ClientFault> {
    let secret = take_secret(path, &mut raw)?;
    raw.settle(secret)
}

/// The secret that a description has, or names a file for.
fn take_secret(path: &Path, raw: &mut RawClient) -> Result<SecretText, ClientFault> {
    let name = raw.access_key.clone();
    match (raw.secret.take(), raw.secret_file.take()) {
        (Some(secret), None) => Ok(secret),
        (None, Some(file)) => {
            let text = private_file::read(&resolve(path, &file));
            let text = text.map_err(|error| ClientFault::SecretFile(name, error.to_string()))?;
            Ok(SecretText::new(text.trim_end_matches(['\r', '\n'])))
        }
        (None, None) | (Some(_), Some(_)) => Err(ClientFault::Secret(name)),
    }
}

/// A client of a file, to be given to a coordinator.
pub struct ClientToImport {
    pub access_key: String,
    /// With its secret.
    pub json: Zeroizing<String>,
}

/// Reads a file whose clients are to be given to a coordinator; all are judged before one is given.
///
/// # Errors
/// It is missing or exposed, or describes no set of clients.
pub fn clients_to_import(path: &Path) -> Result<Vec<ClientToImport>, ClientsFileError> {
    let text = private_file::read(path)
        .map_err(|source| ClientsFileError::Private { path: path.to_owned(), source })?;
    parse(path, &text)?;
    let raw: RawFile = toml::from_str(&text).map_err(|error| ClientsFileError::Syntax {
        path: path.to_owned(),
        message: syntax_fault(&text, &error),
    })?;
    let to_import = |mut client: RawClient| {
        client.secret = Some(take_secret(path, &mut client)?);
        let json = serde_json::to_string(&client).expect("a client is written as JSON");
        Ok(ClientToImport { access_key: client.access_key, json: Zeroizing::new(json) })
    };
    let clients = raw.clients.into_iter().map(to_import).collect::<Result<_, ClientFault>>();
    clients.map_err(|fault| ClientsFileError::Client { path: path.to_owned(), fault: fault.to_string() })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clients::ClientScheme;

    const TEXT: &str = "# ours\n[[clients]]\naccess_key = \"AK1\" # the portal\nsecret = \"s\"\n\
        scheme = \"signature\"\nprefixes = [\"a/\"]\nrate = \"100/s\"\n";

    fn file(text: &str) -> (tempfile::TempDir, Result<Arc<ClientsFile>, ClientsFileError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.toml");
        private_file::write_new(&path, text).unwrap();
        let file = ClientsFile::load(&path);
        (folder, file)
    }

    fn raw(access_key: &str) -> RawClient {
        let text = format!("access_key = {access_key:?}\nscheme = \"app-jwt\"\nprefixes = [\"\"]\n");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn edits_keep_comments_and_take_effect() {
        let (folder, file) = file(TEXT);
        let file = file.unwrap();
        let secret = file.add(raw("AK2")).unwrap();
        assert!(matches!(file.add(raw("AK2")), Err(EditError::Exists(_))));
        assert!(matches!(file.add(raw("A K")), Err(EditError::Fault(ClientFault::AccessKey(_)))));
        assert_eq!(file.set().client("AK2").unwrap().secret, secret);
        assert_eq!(file.set().client("AK2").unwrap().scheme, ClientScheme::AppJwt);
        file.enable("AK1", false).unwrap();
        assert!(!file.set().client("AK1").unwrap().enabled);
        let rotated = file.rotate("AK1").unwrap();
        let path = folder.path().join("clients.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# ours") && text.contains("# the portal"), "{text}");
        assert!(text.contains(rotated.reveal()) && !text.contains("\"s\""), "{text}");
        assert_eq!(ClientsFile::load(&path).unwrap().set().client("AK1").unwrap().secret, rotated);
        file.remove("AK2").unwrap();
        assert!(matches!(file.remove("AK2"), Err(EditError::Unknown(_))));
        assert!(file.set().client("AK2").is_none());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_missing_file_has_no_clients_until_one_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.toml");
        let file = ClientsFile::load(&path).unwrap();
        assert_eq!(file.set().iter().count(), 0);
        file.add(raw("AK")).unwrap();
        assert_eq!(ClientsFile::load(&path).unwrap().set().iter().count(), 1);
    }

    #[test]
    fn faults_are_named_without_secrets() {
        let table = [
            ("x = 1", "line 1"),
            ("[[clients]]\naccess_key = \"a\"\nsecret = \"hush\"\nscheme = \"signature\"", "prefixes"),
            ("[[clients]]\nsecret = \"hush\" x", "line 2"),
            ("[[clients]]\naccess_key = \"a\"\nsecret = 12345678", "in quotes"),
            ("[[clients]]\naccess_key = \"a\"\nscheme = \"signature\"\nprefixes = []", "'a': secret"),
            ("[[clients]]\naccess_key = \"a\"\nsecret = \"\"\nscheme = \"app-jwt\"\nprefixes = []", "empty"),
            (
                "[[clients]]\naccess_key = \"a\"\nsecret_file = \"none\"\nscheme = \"app-jwt\"\nprefixes = []",
                "exist",
            ),
        ];
        for (text, expected) in table {
            let message = file(text).1.err().unwrap().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("hush") && !message.contains("1234"), "{message}");
        }
        let twice = file(&TEXT.repeat(2)).1.err().unwrap().to_string();
        assert!(twice.contains("'AK1' is there twice"), "{twice}");
    }

    #[tokio::test]
    async fn a_secret_in_a_file_of_its_own_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let naming = |secret_file: &str| {
            format!(
                "[[clients]]\naccess_key = \"AK\"\nsecret_file = \"{secret_file}\"\nscheme = \"signature\"\n\
                 prefixes = []\n"
            )
        };
        private_file::write_new(&path("one"), "first").unwrap();
        private_file::write_new(&path("clients.toml"), &naming("one")).unwrap();
        let file = ClientsFile::load(&path("clients.toml")).unwrap();
        let following = tokio::spawn(Arc::clone(&file).follow(Asked::never()));
        let wait_for = async |secret: &str| {
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
            while file.set().client("AK").unwrap().secret.reveal() != secret {
                assert!(tokio::time::Instant::now() < deadline, "{secret}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        wait_for("first").await;
        private_file::replace(&path("one"), "second").unwrap();
        wait_for("second").await;
        // Another file, and what becomes of that.
        private_file::write_new(&path("two"), "third").unwrap();
        private_file::replace(&path("clients.toml"), &naming("two")).unwrap();
        wait_for("third").await;
        private_file::replace(&path("two"), "fourth").unwrap();
        wait_for("fourth").await;
        following.abort();
    }

    #[test]
    fn bad_edits_by_hand_keep_the_old_set() {
        let (folder, file) = file(TEXT);
        let file = file.unwrap();
        let path = folder.path().join("clients.toml");
        fs::write(&path, "nonsense").unwrap();
        assert!(file.reread().is_err());
        assert!(matches!(file.enable("AK1", false), Err(EditError::File(_))));
        fs::write(&path, TEXT).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(file.reread().is_err());
        assert!(file.set().client("AK1").unwrap().enabled);
    }
}

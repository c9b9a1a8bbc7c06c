//! Things that this machine has some of, each taken by one process at a time: a lock file stands for each.

use std::fs::{self, File, TryLockError};

use anyhow::Context as _;

/// Takes a thing by its kind and name, if nobody has it. It is ours until the file is closed, at the latest with the process.
///
/// # Errors
/// The folder of locks cannot be written.
pub(crate) fn take(kind: &str, name: &str) -> anyhow::Result<Option<File>> {
    let folder = std::env::temp_dir().join(format!("sluice-loadtest-{kind}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_nobody_elses_until_it_is_given_back() {
        let name = std::process::id().to_string();
        let taken = take("lock-test", &name).unwrap();
        assert!(taken.is_some() && take("lock-test", &name).unwrap().is_none());
        drop(taken);
        assert!(take("lock-test", &name).unwrap().is_some());
    }
}

//! The keys that tokens are opened with: from a file or from etcd, followed for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use sluice_shared::etcd::Etcd;
use sluice_shared::followed::Asked;
use sluice_shared::keys::{EtcdKeys, KeyFile, KeyPlace, KeyRing};
use sluice_shared::revocations::RevocationBook;

use crate::config::KeySource;

/// For keys to come from etcd before anybody is answered.
const KEYS_WITHIN: Duration = Duration::from_secs(5);

pub(super) type FollowedKeys = (Arc<ArcSwap<KeyRing>>, Option<Arc<EtcdKeys>>);

/// The keys that tokens are opened with, and their changes; within a runtime, which need not run yet.
pub(super) fn follow_keys(
    source: &KeySource,
    etcd: Option<&Etcd>,
    book: &Arc<RevocationBook>,
) -> anyhow::Result<FollowedKeys> {
    match source {
        KeySource::File(path) => {
            let file = KeyFile::load(path)?;
            file.bar(&book.load());
            let ring = Arc::clone(file.ring());
            tokio::spawn(file.follow(Asked::never(), Arc::clone(book)));
            Ok((ring, None))
        }
        KeySource::Etcd(sealing) => {
            let etcd = etcd.context("keys in etcd need the section [etcd]")?;
            let keys = EtcdKeys::follow(etcd, KeyPlace::Tokens, sealing.clone(), Arc::clone(book));
            Ok((Arc::clone(keys.ring()), Some(keys)))
        }
    }
}

/// Waits for keys, and not for ever: who comes before they are there waits in the listen queue, and is not refused.
pub(super) async fn until_known(keys: &EtcdKeys) {
    let known = async {
        while keys.missing().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(KEYS_WITHIN, known).await.is_err() {
        tracing::warn!("no keys from etcd yet; tokens are refused until they come");
    }
}

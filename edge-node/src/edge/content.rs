//! Where content comes from, and where it is kept: store, cache, and the files of which something is known.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;

use super::descriptors;
use crate::cache::{Backing, Cache};
use crate::config::Config;
use crate::head::FieldRules;
use crate::resolve::{File, Files, FilesConfig};
use crate::store::{Store, StoreRules};

pub(super) struct Content {
    pub(super) store: Arc<Store>,
    pub(super) cache: Arc<Cache>,
    pub(super) files: Arc<Files>,
    pub(super) window_bytes: u64,
    /// The most connections that descriptors are left for.
    pub(super) connections_max: usize,
    /// Threads that the kernel may need for one worker.
    pub(super) store_threads: u32,
    /// Descriptors to close on a ring.
    pub(super) closing: mpsc::UnboundedReceiver<OwnedFd>,
    /// For each worker: files whose entries it is to drop.
    pub(super) forgetting: Vec<mpsc::UnboundedReceiver<Arc<File>>>,
}

impl Content {
    /// # Errors
    /// The root cannot be opened, or there is not enough of something; with the remedy.
    pub(super) fn open(config: &Config, backing: Backing) -> anyhow::Result<Self> {
        let limits = &config.limits;
        let (connections_max, windowed_max) = descriptors::share_out(limits.connections)?;
        let (closer, closing) = mpsc::unbounded_channel();
        let window_bytes = backing.window_bytes_max();
        let reads_max = usize::try_from(limits.inflight_bytes / window_bytes).unwrap_or(usize::MAX).max(1);
        let store_rules = StoreRules {
            marker: config.root_marker.clone(),
            template: config.path_template.clone(),
            follow_symlinks: config.follow_symlinks,
            concurrency: limits.storage_concurrency.min(reads_max),
            patience: limits.storage_timeout,
        };
        let store_threads = store_rules.threads();
        let store = Store::new(&config.root, store_rules, closer);
        let store = Arc::new(store.with_context(|| format!("cannot open `root` {}", config.root.display()))?);
        let cache = Cache::new(config.cache_size, backing, Arc::clone(&store));
        let cache = Arc::new(cache.context("cannot set up the cache's memory")?);
        let (forgotten, forgetting) = (0..config.threads).map(|_| mpsc::unbounded_channel()).unzip();
        let files_config = FilesConfig {
            revalidate: config.revalidate,
            stale_limit: config.stale_limit,
            storage_timeout: limits.storage_timeout,
            windowed_max,
            sha256_sidecars: config.sha256_sidecars,
            fields: FieldRules {
                etag: config.etag,
                inline: config.inline.clone(),
                cors: config.cors.standing(),
            },
        };
        let files = Arc::new(Files::new(files_config, Arc::clone(&store), Arc::clone(&cache), forgotten));
        Ok(Self { store, cache, files, window_bytes, connections_max, store_threads, closing, forgetting })
    }
}

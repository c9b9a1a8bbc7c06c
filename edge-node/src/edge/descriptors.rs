//! Descriptors are bounded for the process: who may have how many.

/// Descriptors that are neither connections nor files: listeners, rings, logs, connections that are turned away.
const DESCRIPTORS_OTHER: usize = 512;

/// Raises the limit on descriptors as far as it goes, and shares it out: connections, and large files kept open, two
/// descriptors each (the store's and the memory's). Fewer connections than configured are allowed with a warning.
///
/// # Errors
/// The limit is too low for anything.
pub(super) fn share_out(connections: usize) -> anyhow::Result<(usize, usize)> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let usable = limit.saturating_sub(DESCRIPTORS_OTHER);
    if usable < 512 {
        anyhow::bail!(
            "the limit on open files is {limit}; raise it (LimitNOFILE, ulimit -n), best to 200000"
        );
    }
    let allowed = connections.min(usable / 4 * 3);
    if allowed < connections {
        tracing::warn!(
            allowed,
            configured = connections,
            "the limit on open files ({limit}) allows fewer connections; raise it (LimitNOFILE, ulimit -n)"
        );
    }
    Ok((allowed, ((usable - allowed) / 2).min(100_000)))
}

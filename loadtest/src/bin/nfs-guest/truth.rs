//! Files change on the server while a slow transfer of them is under way: a body is one version's, or it ends short.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sluice_loadtest::client::{Answer, get_here};
use sluice_loadtest::{Content, wait_until_within};

use crate::edge::Edge;
use crate::files::Stored;
use crate::report::passed;
use crate::stalled::{BYTES, Stalled};
use crate::store::Store;

const TRUNCATED_BYTES: u64 = 3 << 20;
const APPENDED_BYTES: u64 = 5000;
/// A change is noticed after `revalidate` (1 s) by the edge, and by the kernel's NFS client when it is asked.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// Changes a file on the server; gives what is there afterwards.
type Change = fn(&Store, &Stored) -> anyhow::Result<Option<Content>>;

const CHANGES: [(&str, Change); 5] = [
    ("replaced by rename", replace),
    ("rewritten in place", rewrite),
    ("truncated", truncate),
    ("appended to", append),
    ("removed", remove),
];

/// Goes through all changes; in NFS 4 also of files that are delegated, which the server calls back before they change.
pub(crate) fn check(edge: &Edge, store: &Store) -> anyhow::Result<()> {
    check_changes(edge, store, "")?;
    let Some(before) = store.delegations_returned()? else { return Ok(()) };
    store.set_delegations(true)?;
    check_changes(edge, store, "delegated ")?;
    store.set_delegations(false)?;
    let returned = store.delegations_returned()?.unwrap_or_default() - before;
    ensure!(returned > 0, "no delegation was called back, so there was none");
    passed("those files were delegated", &format!("{returned} delegations called back"))
}

fn check_changes(edge: &Edge, store: &Store, kind: &str) -> anyhow::Result<()> {
    for (what, change) in CHANGES {
        let stored = Stored::new(format!("{kind}{what}.bin").replace(' ', "-"), BYTES);
        store.publish(&stored)?;
        store.take_delegation(&stored.name)?;
        let claim = format!("a {kind}file {what} under a transfer");
        let told = check_change(edge, store, &stored, change).with_context(|| claim.clone())?;
        passed(&claim, &told)?;
    }
    Ok(())
}

fn check_change(edge: &Edge, store: &Store, stored: &Stored, change: Change) -> anyhow::Result<String> {
    let transfer = Stalled::begin(edge, stored)?;
    let etag = transfer.etag()?;
    // It waits until a delegation has been called back, or taken away where that takes longer than the lease.
    let now = change(store, stored)?;
    let changed = Instant::now();
    let received = transfer.finish()?.received;
    let ending = if received == BYTES { "complete, of the old version" } else { "short, all of it old" };

    let mut noticed = Duration::ZERO;
    wait_until_within(NOTICED_WITHIN, "the change is noticed", || {
        // A body that ends short is of the old version, before that is known to be old.
        let Ok(answer) = get_here(&edge.url(&stored.name)?) else { return Ok(false) };
        noticed = changed.elapsed();
        judge(&answer, &etag, &stored.content, now.as_ref())
    })?;
    let what = if now.is_some() { "the new version, with another ETag," } else { "404" };
    Ok(format!(
        "the body ended {ending}, at {received} of {BYTES}; {what} came {noticed:.1?} after the change"
    ))
}

/// Whether an answer is of what is there now; what is neither that nor the old version is wrong.
fn judge(answer: &Answer, old_etag: &str, old: &Content, now: Option<&Content>) -> anyhow::Result<bool> {
    match (answer.status(), now) {
        // Just being changed: the client is told to come again.
        (503, _) => Ok(false),
        (404, None) => Ok(true),
        (200, _) if answer.field("etag")? == old_etag => {
            old.check_whole(&answer.body).context("under the old ETag")?;
            Ok(false)
        }
        (200, Some(new)) => {
            new.check_whole(&answer.body).context("under the new ETag")?;
            Ok(true)
        }
        (status, _) => bail!("status {status}: {:?}", answer.head),
    }
}

fn replace(store: &Store, stored: &Stored) -> anyhow::Result<Option<Content>> {
    // Of the same size, which does not give it away.
    let new = Content::version(&stored.name, 1, BYTES);
    store.publish_content(&stored.name, &new)?;
    Ok(Some(new))
}

fn rewrite(store: &Store, stored: &Stored) -> anyhow::Result<Option<Content>> {
    let new = Content::version(&stored.name, 1, BYTES);
    let mut file = File::options().write(true).open(store.path(&stored.name))?;
    file.write_all(&new.bytes(0..BYTES))?;
    Ok(Some(new))
}

fn truncate(store: &Store, stored: &Stored) -> anyhow::Result<Option<Content>> {
    File::options().write(true).open(store.path(&stored.name))?.set_len(TRUNCATED_BYTES)?;
    Ok(Some(Content::new(&stored.name, TRUNCATED_BYTES)))
}

fn append(store: &Store, stored: &Stored) -> anyhow::Result<Option<Content>> {
    let longer = Content::new(&stored.name, BYTES + APPENDED_BYTES);
    let mut file = File::options().append(true).open(store.path(&stored.name))?;
    file.write_all(&longer.bytes(BYTES..BYTES + APPENDED_BYTES))?;
    Ok(Some(longer))
}

fn remove(store: &Store, stored: &Stored) -> anyhow::Result<Option<Content>> {
    fs::remove_file(store.path(&stored.name))?;
    Ok(None)
}

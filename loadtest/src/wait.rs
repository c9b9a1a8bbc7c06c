//! Waiting for a condition, with a limit: the only way in which tests wait.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long anything that should happen may take on a machine that is busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` holds, for at most [`LIMIT`].
///
/// # Errors
/// The condition did not come true in time (`what` says which), or asking failed.
pub fn wait_until(what: &str, condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    wait_until_within(LIMIT, what, condition)
}

/// Waits until `condition` holds, for at most `limit`: where the time it takes is itself a claim.
///
/// # Errors
/// As [`wait_until`].
pub fn wait_until_within(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain until {what}");
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

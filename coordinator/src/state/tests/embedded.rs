//! Claims about the file.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::state::embedded::EmbeddedError;

fn open(path: &Path) -> Arc<Embedded> {
    Embedded::open(path, NONCES_MAX).unwrap()
}

#[tokio::test]
async fn a_file_keeps_everything_but_nonces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let now = SystemTime::now();
    let expires_at = now + Duration::from_secs(3600);
    let state = open(&path);
    let id = state.state_id().to_owned();
    assert_eq!(id.len(), 22);
    let since = state.remembers_since().unwrap();
    assert!(since >= now && since <= SystemTime::now() + Duration::from_secs(1));
    state.create_link(&link("gone", Some("A"), expires_at)).await.unwrap();
    state.create_link(&link("kept", Some("A"), expires_at)).await.unwrap();
    assert_eq!(state.revoke_link("gone", Some("A"), now).await, Ok(Revocation::Revoked));
    assert_eq!(state.redeem(visit("kept", client_address(1), 2, now)).await, Ok(Redeemed::Opened));
    assert_eq!(state.use_nonce("a", "n", now, expires_at).await, Ok(NonceUse::Fresh));
    drop(state);

    let state = open(&path);
    assert_eq!(state.state_id(), id);
    assert!(state.remembers_since().unwrap() >= since);
    assert!(state.is_revoked("gone").await && !state.is_revoked("kept").await);
    assert_eq!(
        state.redeem(visit("kept", client_address(1), 2, now)).await,
        Ok(Redeemed::Joined { visits: 1 })
    );
    assert_eq!(state.redeem(visit("kept", client_address(2), 2, now)).await, Ok(Redeemed::Opened));
    assert_eq!(state.redeem(visit("kept", client_address(3), 2, now)).await, Ok(Redeemed::Exhausted));
    assert_eq!(state.revoke_link("kept", Some("A"), now).await, Ok(Revocation::Revoked));
    assert_eq!(state.use_nonce("a", "n", now, expires_at).await, Ok(NonceUse::Fresh));
    assert!(state.is_well());
}

/// Clients whose clocks are ahead: what they sent before a restart must not be good after it, when its time has come.
#[tokio::test]
async fn times_ahead_of_the_clock_are_not_borne_twice_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let state = open(&path);
    let (now, since) = (SystemTime::now(), state.remembers_since().unwrap());
    let ahead = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(state.remembers("a", since - Duration::from_secs(1), now).await, Ok(false));
    assert_eq!(state.remembers("a", ahead(100), now).await, Ok(true));
    assert_eq!(state.remembers("a", ahead(60), now).await, Ok(true));
    assert_eq!(state.remembers("a", ahead(100), now).await, Ok(true), "its nonces are there");
    drop(state);

    let state = open(&path);
    for (client, seconds, expected) in
        [("a", 60, false), ("a", 100, false), ("a", 101, true), ("b", 60, true)]
    {
        assert_eq!(state.remembers(client, ahead(seconds), now).await, Ok(expected), "{client} {seconds}");
    }
    assert_eq!(state.remembers("b", ahead(70), ahead(70)).await, Ok(true), "not ahead");
    drop(state);

    let state = open(&path);
    for (client, seconds, expected) in [("a", 101, false), ("b", 60, false), ("b", 61, true)] {
        assert_eq!(state.remembers(client, ahead(seconds), now).await, Ok(expected), "{client} {seconds}");
    }
}

#[test]
fn a_new_file_is_for_its_owner_alone_and_has_an_id_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1.redb"), folder.path().join("2.redb"));
    assert_ne!(open(&first).state_id(), open(&second).state_id());
    assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_used_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refused = |name: &str| Embedded::open(&at(name), 1).err().unwrap();
    let open = open(&at("open.redb"));
    std::fs::write(at("text"), "no database, and longer than an empty file".repeat(1000)).unwrap();
    let errors = [refused("open.redb"), refused("text"), refused("missing/state.redb")];
    assert!(matches!(errors[0], EmbeddedError::InUse { .. }), "{:?}", errors[0]);
    assert!(matches!(errors[1], EmbeddedError::Unusable { .. }), "{:?}", errors[1]);
    assert!(matches!(errors[2], EmbeddedError::Open { .. }), "{:?}", errors[2]);
    for error in errors {
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    }
    assert!(open.is_well());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_file_is_anothers_and_its_former_owner_only_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let now = SystemTime::now();
    let before = open(&path);
    let visits: Vec<_> = (0..200)
        .map(|client| {
            let before = Arc::clone(&before);
            tokio::spawn(async move { before.redeem(visit("l", client_address(client), 1000, now)).await })
        })
        .collect();
    before.release().await;
    let after = open(&path);
    let mut counted = 0;
    for visited in visits {
        match visited.await.unwrap() {
            Ok(outcome) => {
                assert_eq!(outcome, Redeemed::Opened);
                counted += 1;
            }
            Err(error) => assert_eq!(error, StateError::Away),
        }
    }
    // What was answered is there, and what was refused is not.
    assert_eq!(after.redeem(visit("l", client_address(1000), counted + 1, now)).await, Ok(Redeemed::Opened));
    assert_eq!(
        after.redeem(visit("l", client_address(1001), counted + 1, now)).await,
        Ok(Redeemed::Exhausted)
    );
    let late = before.redeem(visit("l", client_address(1002), 1000, now)).await;
    assert_eq!(late, Err(StateError::Away));
    assert_eq!(before.standing("l", client_address(0)).await, Err(StateError::Away));
    assert_eq!(after.redeem(visit("m", client_address(1), 1, now)).await, Ok(Redeemed::Opened));
}

/// Where the child of [`a_kill_loses_nothing_that_was_answered`] finds its file.
const CHILD_FILE: &str = "SLUICE_TEST_STATE_FILE";
const CHILD_TASKS: u32 = 50;

/// What the child does until it is killed.
async fn redeem_for_ever(path: &Path) {
    let state = open(path);
    let now = SystemTime::now();
    let tasks: Vec<_> = (0..CHILD_TASKS)
        .map(|task| {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                for client in (task..).step_by(CHILD_TASKS as usize) {
                    let redeemed = state.redeem(visit("l", client_address(client), u32::MAX, now)).await;
                    assert_eq!(redeemed, Ok(Redeemed::Opened));
                    // One write for each line: whole, or not at all.
                    std::io::stdout().lock().write_all(format!("redeemed {client}\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// The test is its own child, which knows by the variable what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_answered() {
    if let Some(path) = std::env::var_os(CHILD_FILE) {
        return redeem_for_ever(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::tests::embedded::a_kill_loses_nothing_that_was_answered", "--nocapture"])
        .env(CHILD_FILE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut redeemed = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(client) = line.unwrap().strip_prefix("redeemed ") {
            redeemed.push(client.parse::<u32>().unwrap());
        }
        if redeemed.len() == 1000 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(redeemed.len() >= 1000, "{}", redeemed.len());

    let state = open(&path);
    for client in &redeemed {
        assert_eq!(state.standing("l", client_address(*client)).await, Ok(Standing::Redeemed), "{client}");
    }
    let count = u32::try_from(redeemed.len()).unwrap();
    let newcomer = visit("l", client_address(0x00ff_ffff), count, SystemTime::now());
    assert_eq!(state.redeem(newcomer).await, Ok(Redeemed::Exhausted), "at least {count} are counted");
    // What was under way may have been counted without an answer.
    let newcomer = Visit { downloads_max: count + CHILD_TASKS + 1, ..newcomer };
    assert_eq!(state.redeem(newcomer).await, Ok(Redeemed::Opened), "and no more than were asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_share_their_commits() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(&folder.path().join("state.redb"));
    // One alone, to know what a commit costs here.
    let begun = std::time::Instant::now();
    for client in 0..10 {
        state.redeem(visit("one", client_address(client), 10, SystemTime::now())).await.unwrap();
    }
    let ten_commits = begun.elapsed();
    let begun = std::time::Instant::now();
    assert_eq!(claims::redeem_at_once(&[&*state], 0..1000, 1000).await, 1000);
    let thousand = begun.elapsed();
    println!("ten one by one: {ten_commits:?}; a thousand at once: {thousand:?}");
    // One by one they would take a hundred times as long as ten.
    assert!(
        thousand < 20 * ten_commits + Duration::from_secs(1),
        "{thousand:?}, ten one by one {ten_commits:?}"
    );
}

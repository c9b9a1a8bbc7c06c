//! Records that every coordinator knows, over a real etcd: changed by two at a time, lost, and brought back to what they
//! were before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sluice_shared::etcd::{Etcd, MirrorRules};
use sluice_shared::ledger::{Found, Ledger, LedgerError, LedgerForm};
use sluice_shared::revocations::Instant;
use support::{EtcdServer, wait_for};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    set: Instant,
    text: String,
}

/// Notes, and whoever asks what they say.
#[derive(Default)]
struct Notes(Mutex<BTreeMap<String, String>>);

impl LedgerForm for Notes {
    type Record = Note;
    type Fault = serde_json::Error;

    const PREFIX: &'static str = "notes/";
    const RULES: MirrorRules = MirrorRules { keys_max: 3, value_bytes_max: 200 };

    fn read(&self, _: &str, path: &str, value: &[u8]) -> Result<Note, serde_json::Error> {
        assert!(path.starts_with("/sluice/notes/"), "{path}");
        serde_json::from_slice(value)
    }

    fn write(&self, _: &str, record: &Note) -> Vec<u8> {
        serde_json::to_vec(record).unwrap()
    }

    fn set(record: &Note) -> Instant {
        record.set
    }

    fn is_void(record: &Note) -> bool {
        record.text.is_empty()
    }

    fn take(&self, known: &BTreeMap<Arc<str>, Note>) {
        let texts = known.iter().map(|(name, note)| (name.to_string(), note.text.clone()));
        *self.0.lock().unwrap() = texts.collect();
    }
}

fn text(ledger: &Ledger<Notes>, name: &str) -> Option<String> {
    ledger.form().0.lock().unwrap().get(name).cloned()
}

async fn put(ledger: &Ledger<Notes>, name: &str, text: &str) -> Result<(), LedgerError> {
    ledger.change(name, |_, set| Ok(Note { set, text: text.to_owned() })).await
}

async fn wait_until_both_say(ledgers: &[Ledger<Notes>; 2], name: &str, expected: &str) {
    for ledger in ledgers {
        wait_for("the note", async || (text(ledger, name).as_deref() == Some(expected)).then_some(())).await;
    }
}

async fn two(etcd: &Etcd) -> [Ledger<Notes>; 2] {
    let ledgers = [0, 1].map(|_| Ledger::follow(etcd, Notes::default()));
    for ledger in &ledgers {
        wait_for("a list", async || ledger.is_known().then_some(())).await;
    }
    ledgers
}

#[tokio::test]
async fn what_one_changes_the_other_hears_and_the_slower_of_two_is_told() {
    let server = EtcdServer::start().await;
    let ledgers = two(&server.etcd()).await;
    put(&ledgers[0], "a", "one").await.unwrap();
    assert_eq!(text(&ledgers[0], "a").unwrap(), "one", "at once where it was changed");
    wait_until_both_say(&ledgers, "a", "one").await;
    put(&ledgers[1], "a", "two").await.unwrap();
    wait_until_both_say(&ledgers, "a", "two").await;
    // Somebody else is faster, just after this one has looked.
    let url = server.url();
    let lost = ledgers[0].change("a", |found, set| {
        let Found::Record(found) = found else { return Err(LedgerError::Changed) };
        assert_eq!(found.text, "two");
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let etcd = Etcd::new(&support::settle(&format!("endpoints = [\"{url}\"]")));
            let note = serde_json::to_vec(&Note { set, text: "three".to_owned() }).unwrap();
            runtime.block_on(etcd.put("notes/a", &note)).unwrap();
        });
        other.join().unwrap();
        Ok(Note { set, text: "four".to_owned() })
    });
    assert!(matches!(lost.await, Err(LedgerError::Changed)));
    wait_until_both_say(&ledgers, "a", "three").await;
}

#[tokio::test]
async fn an_etcd_that_comes_back_empty_or_older_gets_what_it_lost() {
    let mut server = EtcdServer::start().await;
    let etcd = server.etcd();
    let ledgers = two(&etcd).await;
    put(&ledgers[0], "a", "on").await.unwrap();
    let older = etcd.get("notes/a").await.unwrap().unwrap().value;
    put(&ledgers[0], "a", "off").await.unwrap();
    put(&ledgers[0], "b", "").await.unwrap();
    wait_until_both_say(&ledgers, "b", "").await;
    let in_etcd = async |name: &str| {
        let entry = etcd.get(&format!("notes/{name}")).await.ok()??;
        serde_json::from_slice::<Note>(&entry.value).ok().map(|note| note.text)
    };
    etcd.put("notes/a", &older).await.unwrap();
    wait_for("the later one to be back", async || (in_etcd("a").await? == "off").then_some(())).await;
    server.kill();
    server.wipe(true);
    server.run().await;
    wait_for("all to be back", async || {
        (in_etcd("a").await? == "off" && in_etcd("b").await?.is_empty()).then_some(())
    })
    .await;
    assert_eq!(text(&ledgers[1], "a").unwrap(), "off");
    // Changed before it is put back, it is later than what is known; and where putting it back was
    // faster, who changes it is told so and tries again.
    etcd.put("notes/a", &older).await.unwrap();
    let changed = wait_for("an answer", async || {
        let changed = put(&ledgers[1], "a", "on again").await;
        (!matches!(changed, Err(LedgerError::Changed))).then_some(changed)
    });
    changed.await.unwrap();
    wait_until_both_say(&ledgers, "a", "on again").await;
}

#[tokio::test]
async fn hostile_values_are_named_and_change_nothing() {
    let server = EtcdServer::start().await;
    let etcd = server.etcd();
    let ledgers = two(&etcd).await;
    put(&ledgers[0], "a", "one").await.unwrap();
    wait_until_both_say(&ledgers, "a", "one").await;
    etcd.put("notes/a", b"\x1b[2J").await.unwrap();
    etcd.put("notes/b", &[b'x'; 500]).await.unwrap();
    let skipped = wait_for("both to be named", async || {
        Some(ledgers[1].skipped()).filter(|skipped| skipped.len() == 2)
    })
    .await;
    assert!(skipped[0].key == "notes/a" && skipped[1].fault.contains("too large"), "{skipped:?}");
    assert_eq!(text(&ledgers[1], "a").unwrap(), "one");
    let unreadable = ledgers[1].change("a", |found, _| match found {
        Found::Unreadable(_) => Err(LedgerError::TooMany(7)),
        _ => Err(LedgerError::Changed),
    });
    assert!(matches!(unreadable.await, Err(LedgerError::TooMany(7))));
    put(&ledgers[1], "a", "two").await.unwrap();
    wait_until_both_say(&ledgers, "a", "two").await;
    // More than are taken, and one that is too long.
    put(&ledgers[0], "c", "x").await.unwrap();
    put(&ledgers[0], "d", "x").await.unwrap();
    assert!(matches!(put(&ledgers[0], "e", "x").await, Err(LedgerError::TooMany(3))));
    assert!(matches!(put(&ledgers[0], "a", &"x".repeat(200)).await, Err(LedgerError::TooLarge(200))));
}

#[tokio::test]
async fn while_etcd_is_away_what_was_known_stands_and_changes_are_refused() {
    let mut server = EtcdServer::start().await;
    let ledgers = two(&server.etcd()).await;
    put(&ledgers[0], "a", "one").await.unwrap();
    wait_until_both_say(&ledgers, "a", "one").await;
    server.kill();
    wait_for("the loss to be noticed", async || (!ledgers[1].freshness().is_reached).then_some(())).await;
    assert!(matches!(put(&ledgers[1], "a", "two").await, Err(LedgerError::Etcd(_))));
    assert_eq!(text(&ledgers[1], "a").unwrap(), "one");
    server.run().await;
    // Away just as it is to be written: nobody knows whether it was.
    wait_for("etcd to be followed again", async || ledgers[1].freshness().is_reached.then_some(())).await;
    let lost = ledgers[1].change("a", |_, set| {
        server.kill();
        Ok(Note { set, text: "lost".to_owned() })
    });
    let lost: Result<(), LedgerError> = lost.await;
    assert!(matches!(lost, Err(LedgerError::Unsure(_))), "{lost:?}");
    assert_eq!(text(&ledgers[1], "a").unwrap(), "one");
    server.run().await;
    wait_for("it to be taken again", async || put(&ledgers[1], "a", "two").await.ok()).await;
    wait_until_both_say(&ledgers, "a", "two").await;
}

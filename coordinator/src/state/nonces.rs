//! The nonces of one coordinator's clients, in memory. None is forgotten before its time: where there is no room, new
//! ones are refused.
//!
//! Nonces are kept in generations by the time until which each is kept, and a generation is dropped whole: no work for
//! each, and with times of ten minutes two generations at once. A nonce takes some 40 bytes, however long it is.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::NonceUse;

/// How much longer a nonce may be kept than asked.
pub(super) const GENERATION: Duration = Duration::from_secs(600);
/// A client's nonces are all in one of these, so that they can be counted under one lock.
const SHARDS: usize = 64;

/// A set of nonces with a limit per client and one for all.
pub(super) struct Nonces {
    shards: [Mutex<Vec<Generation>>; SHARDS],
    held: AtomicUsize,
    max_per_client: usize,
    max: usize,
    /// Nobody outside can look for names that collide.
    seed: [u8; 32],
}

/// Everything that may be forgotten at the same time.
struct Generation {
    ends_at: Duration,
    nonces: HashSet<u128>,
    /// How many of them are whose.
    per_client: HashMap<u128, usize>,
}

impl Nonces {
    pub(super) fn new(max_per_client: usize, max: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, held: AtomicUsize::new(0), max_per_client, max, seed: rand::random() }
    }

    /// Remembers a nonce until `keep_until` at least, unless it is remembered already.
    pub(super) fn remember(
        &self,
        client: &str,
        nonce: &str,
        now: SystemTime,
        keep_until: SystemTime,
    ) -> NonceUse {
        let owner = self.digest(&[client]);
        let nonce = self.digest(&[client, nonce]);
        let mut generations = self.shard_of(owner);
        self.drop_ended(&mut generations, since_1970(now));
        if generations.iter().any(|generation| generation.nonces.contains(&nonce)) {
            return NonceUse::Used;
        }
        let of_owner = |generation: &Generation| generation.per_client.get(&owner).copied().unwrap_or(0);
        if generations.iter().map(of_owner).sum::<usize>() >= self.max_per_client {
            return NonceUse::Full;
        }
        if self.held.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return NonceUse::Full;
        }
        let generation = of_time(&mut generations, end_after(since_1970(keep_until)));
        generation.nonces.insert(nonce);
        *generation.per_client.entry(owner).or_default() += 1;
        NonceUse::Fresh
    }

    /// Drops what may be forgotten now.
    pub(super) fn forget(&self, now: SystemTime) {
        for shard in &self.shards {
            let mut generations = shard.lock().expect("nobody panics while holding a shard");
            self.drop_ended(&mut generations, since_1970(now));
        }
    }

    fn drop_ended(&self, generations: &mut Vec<Generation>, now: Duration) {
        generations.retain(|generation| {
            let lives = now < generation.ends_at;
            if !lives {
                self.held.fetch_sub(generation.nonces.len(), Ordering::Relaxed);
            }
            lives
        });
    }

    fn shard_of(&self, owner: u128) -> MutexGuard<'_, Vec<Generation>> {
        let index = usize::try_from(owner % SHARDS as u128).expect("less than the number of shards");
        self.shards[index].lock().expect("nobody panics while holding a shard")
    }

    fn digest(&self, parts: &[&str]) -> u128 {
        let mut hash = Sha256::new_with_prefix(self.seed);
        for part in parts {
            // With their lengths: "ab", "c" is not "a", "bc".
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let (half, _) = digest.split_first_chunk().expect("32 bytes are at least 16");
        u128::from_le_bytes(*half)
    }
}

fn of_time(generations: &mut Vec<Generation>, ends_at: Duration) -> &mut Generation {
    let index =
        generations.iter().position(|generation| generation.ends_at == ends_at).unwrap_or_else(|| {
            generations.push(Generation { ends_at, nonces: HashSet::new(), per_client: HashMap::new() });
            generations.len() - 1
        });
    &mut generations[index]
}

/// The end of the generation in which a time falls.
fn end_after(time: Duration) -> Duration {
    let length = GENERATION.as_secs();
    Duration::from_secs((time.as_secs() / length).saturating_add(1).saturating_mul(length))
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::NonceUse::{Fresh, Full, Used};
    use super::*;

    const KEPT: Duration = Duration::from_secs(300);

    /// So many seconds after a moment that is the first of its generation.
    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + 3_000_000 * GENERATION + Duration::from_secs(seconds)
    }

    fn remember(nonces: &Nonces, client: &str, nonce: &str, seconds: u64) -> NonceUse {
        nonces.remember(client, nonce, at(seconds), at(seconds) + KEPT)
    }

    #[test]
    fn a_nonce_is_kept_as_long_as_asked_and_less_than_a_generation_longer() {
        let nonces = Nonces::new(10, 100);
        let table = [
            (0, "a", Fresh),
            (0, "a", Used),
            (299, "a", Used),
            // Kept until 899: in the second generation.
            (599, "b", Fresh),
            // The first generation, kept until 599, has ended.
            (600, "a", Fresh),
            (899, "b", Used),
            (1199, "b", Used),
            (1200, "b", Fresh),
        ];
        for (seconds, nonce, expected) in table {
            assert_eq!(remember(&nonces, "client", nonce, seconds), expected, "{nonce} at {seconds}");
        }
    }

    #[test]
    fn clients_and_nonces_are_told_apart() {
        let nonces = Nonces::new(10, 100);
        for (client, nonce) in [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("b", "c")] {
            assert_eq!(remember(&nonces, client, nonce, 0), Fresh, "{client} {nonce}");
            assert_eq!(remember(&nonces, client, nonce, 0), Used, "{client} {nonce}");
        }
    }

    #[test]
    fn a_full_client_is_refused_and_nothing_forgotten() {
        let nonces = Nonces::new(3, 100);
        for nonce in ["1", "2", "3"] {
            assert_eq!(remember(&nonces, "a", nonce, 0), Fresh);
        }
        assert_eq!(remember(&nonces, "a", "4", 599), Full);
        assert_eq!(remember(&nonces, "a", "1", 599), Used);
        assert_eq!(remember(&nonces, "b", "1", 599), Fresh);
        assert_eq!(remember(&nonces, "a", "4", 600), Fresh);
    }

    #[test]
    fn the_limit_for_all_counts_every_client_and_falls_with_what_is_forgotten() {
        let nonces = Nonces::new(100, 5);
        for client in 0..5 {
            assert_eq!(remember(&nonces, &client.to_string(), "n", 0), Fresh);
        }
        assert_eq!(remember(&nonces, "5", "n", 0), Full);
        assert_eq!(remember(&nonces, "4", "n", 0), Used);
        nonces.forget(at(599));
        assert_eq!(nonces.held.load(Ordering::Relaxed), 5);
        nonces.forget(at(600));
        assert_eq!(nonces.held.load(Ordering::Relaxed), 0);
        assert_eq!(remember(&nonces, "5", "n", 600), Fresh);
    }

    #[test]
    fn of_many_at_once_one_is_first() {
        let nonces = Nonces::new(1000, 1000);
        let fresh = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for nonce in 0..100 {
                        if remember(&nonces, "client", &nonce.to_string(), 0) == Fresh {
                            fresh.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(fresh.into_inner(), 100);
    }
}

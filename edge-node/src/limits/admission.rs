//! Places that are bounded for the whole process: connections of one address, large transfers with one token.
//!
//! Neither is touched by a request for a small file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Locks that connections of different addresses are spread over.
const SHARDS: usize = 16;

/// How many connections each address has open. An IPv6 client has its whole /64.
pub(crate) struct Addresses {
    most: usize,
    hasher: foldhash::fast::RandomState,
    shards: [Mutex<HashMap<IpAddr, usize, foldhash::fast::RandomState>>; SHARDS],
}

/// One connection's place, which knows who it is for; given up when dropped.
pub(crate) struct AddressPlace {
    /// Where it is counted, if it is.
    addresses: Option<Arc<Addresses>>,
    client: IpAddr,
}

impl Addresses {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, hasher: Default::default(), shards: Default::default() })
    }

    /// A place for a connection from `client`, if it may have another.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<AddressPlace> {
        let address = counted(client);
        let mut shard = self.shard(address);
        let open = shard.entry(address).or_insert(0);
        if *open >= self.most {
            return None;
        }
        *open += 1;
        drop(shard);
        Some(AddressPlace { addresses: Some(Arc::clone(self)), client })
    }

    fn shard(&self, address: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize, foldhash::fast::RandomState>> {
        self.shards[place_of(&self.hasher, &address, SHARDS)].lock().expect("nothing panics under this lock")
    }
}

/// The address that a client is counted by.
fn counted(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl AddressPlace {
    /// The place of a connection that is not counted.
    pub(crate) fn uncounted(client: IpAddr) -> Self {
        Self { addresses: None, client }
    }

    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let Some(addresses) = &self.addresses else { return };
        let address = counted(self.client);
        if let Entry::Occupied(mut open) = addresses.shard(address).entry(address) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Counts that tokens are spread over.
const TOKEN_PLACES: usize = 1 << 16;

/// How many large transfers each token has under way, counted in a table of fixed size without locks. Two tokens that
/// meet in one place are counted together, which takes more transfers than one may have to be noticed.
pub(crate) struct Tokens {
    most: u32,
    counts: Box<[AtomicU32]>,
}

/// One transfer's place; given up when dropped.
pub(crate) struct TokenPlace {
    tokens: Arc<Tokens>,
    place: usize,
}

impl Tokens {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Arc::new(Self { most, counts: (0..TOKEN_PLACES).map(|_| AtomicU32::new(0)).collect() })
    }

    /// A place for a transfer with the token of this hash, if it may have another. The hash is of this process's own.
    pub(crate) fn admit(self: &Arc<Self>, token: u64) -> Option<TokenPlace> {
        let place = usize::try_from(token % TOKEN_PLACES as u64).expect("below the table's size");
        let before = self.counts[place].fetch_add(1, Ordering::Relaxed);
        let admitted = TokenPlace { tokens: Arc::clone(self), place };
        (before < self.most).then_some(admitted)
    }
}

impl Drop for TokenPlace {
    fn drop(&mut self) {
        self.tokens.counts[self.place].fetch_sub(1, Ordering::Relaxed);
    }
}

fn place_of(hasher: &impl BuildHasher, value: &impl Hash, places: usize) -> usize {
    usize::try_from(hasher.hash_one(value) % places as u64).expect("below the number of places")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let addresses = Addresses::new(2);
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let held = (addresses.admit(v4).unwrap(), addresses.admit(v4).unwrap());
        assert!(addresses.admit(v4).is_none());
        assert!(addresses.admit("192.0.2.2".parse().unwrap()).is_some(), "another address has its own");
        drop(held.0);
        assert!(addresses.admit(v4).is_some());
        let [one, other] = ["2001:db8::1", "2001:db8::ffff"].map(|text| text.parse().unwrap());
        let _v6 = (addresses.admit(one).unwrap(), addresses.admit(other).unwrap());
        assert!(addresses.admit(one).is_none(), "a /64 is one client");
        drop(held.1);
        let left: usize = addresses.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(left, 1, "only the /64 is remembered");
    }

    #[test]
    fn a_token_has_so_many_transfers_and_no_more() {
        let tokens = Tokens::new(2);
        let held = (tokens.admit(7).unwrap(), tokens.admit(7).unwrap());
        assert!(tokens.admit(7).is_none() && tokens.admit(7).is_none());
        assert!(tokens.admit(8).is_some());
        drop(held.0);
        assert!(tokens.admit(7).is_some(), "those that were refused hold nothing");
    }
}

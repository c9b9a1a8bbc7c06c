//! Claims about shared state: those that hold wherever it is kept, run over both, and those about files and servers
//! that go away.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::embedded::Embedded;
use super::redis::Redis;
use super::*;

mod claims;
mod embedded;
mod redis;
mod server;

/// What one client may have in nonces here.
const NONCES_MAX: usize = 50;

/// Makes a test of each claim over the embedded state, and one over a Redis of its own.
macro_rules! hold_everywhere {
    ($($claim:ident),* $(,)?) => {
        mod over_embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                let folder = tempfile::tempdir().unwrap();
                let state = super::Embedded::open(&folder.path().join("state.redb"), super::NONCES_MAX).unwrap();
                super::claims::$claim(&*state).await;
            })*
        }

        mod over_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                let server = super::server::RedisServer::start();
                let state = super::redis::connect(&server).await;
                super::claims::$claim(&*state).await;
            })*
        }
    };
}

hold_everywhere! {
    a_nonce_is_fresh_once,
    clients_have_nonces_of_their_own,
    a_client_with_too_many_nonces_is_refused_until_some_expire,
    a_nonce_may_come_again_when_it_has_expired,
    a_pace_is_kept_per_client,
    hammering_blocks,
    visits_join_a_redemption_until_its_window_ends,
    every_address_counts_once_a_window,
    of_a_thousand_at_once_as_many_open_as_may,
    an_owner_revokes_and_nobody_else,
    a_revoked_link_is_refused_everywhere,
    an_expired_link_is_nobodys,
    standing_outlives_the_window,
}

fn client_address(number: u32) -> Subscriber {
    Subscriber::of(Ipv4Addr::from_bits(0x0a00_0000 + number).into())
}

fn link(id: &str, owner: Option<&str>, expires_at: SystemTime) -> LinkRecord {
    LinkRecord { id: id.to_owned(), owner: owner.map(str::to_owned), expires_at }
}

/// A visit within 15 minutes' windows of a link for a day.
fn visit(link: &str, who: Subscriber, downloads_max: u32, now: SystemTime) -> Visit<'_> {
    Visit {
        link,
        who,
        downloads_max,
        now,
        open_until: now + Duration::from_secs(900),
        keep_until: now + Duration::from_secs(86_400),
    }
}

/// Waits for a condition that has to come true.
async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let asked = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

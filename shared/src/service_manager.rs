//! What a service manager is told (`sd_notify(3)`): ready, rereading, stopping, and at the watchdog's pace that the program
//! is alive. Where nobody asked to be told, nothing is said; where it cannot be said, the program goes on.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Who started this program and wants to hear of it; a clone speaks to the same.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    listener: Option<Arc<Listener>>,
    /// How often it has to hear that the program is alive.
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Listener {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// The one that `NOTIFY_SOCKET` names, a path or `@` and an abstract name; with `WATCHDOG_USEC`, where `WATCHDOG_PID` is
    /// this process's or not said.
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let own = std::process::id().to_string();
        let watchdog = env::var("WATCHDOG_USEC")
            .ok()
            .filter(|_| env::var("WATCHDOG_PID").map_or(true, |pid| pid == own))
            .and_then(|text| text.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(Duration::from_micros);
        match address(name.as_bytes()) {
            Ok(address) => Self::at(address, watchdog),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET names no socket; the service manager hears nothing");
                Self::default()
            }
        }
    }

    fn at(address: SocketAddr, watchdog: Option<Duration>) -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            // A manager that does not read must not hold the program up.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let listener = socket
            .inspect_err(|error| tracing::warn!(%error, "the service manager cannot be told anything"))
            .ok()
            .map(|socket| Arc::new(Listener { socket, address }));
        Self { listener, watchdog }
    }

    /// The start, or what [`ServiceManager::reloading`] told of, is done.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// What can be read anew is being read.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The program is on its way out, which may take it as long as its clients do.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the program is alive, twice in the time that the watchdog allows; for ever. For the runtime whose life is
    /// meant: where that one is stuck, nothing is said.
    pub async fn keep_posted(self) {
        let Some(within) = self.watchdog.filter(|_| self.listener.is_some()) else { return };
        let mut ticks = tokio::time::interval(within / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        let Some(Listener { socket, address }) = self.listener.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn hear(manager: &UnixDatagram) -> String {
        let mut text = [0; 256];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    fn bound(address: &SocketAddr) -> UnixDatagram {
        let manager = UnixDatagram::bind_addr(address).unwrap();
        manager.set_read_timeout(Some(LIMIT)).unwrap();
        manager
    }

    #[test]
    fn a_manager_hears_each_state_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let names = [path.to_str().unwrap().to_owned(), format!("@sluice-test-{}", std::process::id())];
        for name in names {
            let address = address(name.as_bytes()).unwrap();
            let manager = bound(&address);
            let told = ServiceManager::at(address, None);
            told.ready();
            assert_eq!(hear(&manager), "READY=1");
            told.reloading();
            let said = hear(&manager);
            let time = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(time.parse::<u64>().unwrap() > 0, "{said}");
            told.stopping();
            assert_eq!(hear(&manager), "STOPPING=1");
        }
    }

    #[tokio::test]
    async fn the_watchdog_hears_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let address = address(folder.path().join("notify").as_os_str().as_bytes()).unwrap();
        let manager = bound(&address);
        let told = ServiceManager::at(address, Some(Duration::from_millis(20)));
        let posting = tokio::spawn(told.keep_posted());
        let heard = tokio::task::spawn_blocking(move || [hear(&manager), hear(&manager), hear(&manager)]);
        assert_eq!(heard.await.unwrap(), ["WATCHDOG=1"; 3]);
        posting.abort();
    }

    #[tokio::test]
    async fn without_a_manager_nothing_is_said_and_nothing_is_waited_for() {
        let told = ServiceManager::default();
        told.ready();
        told.keep_posted().await;
        let folder = tempfile::tempdir().unwrap();
        let gone = address(folder.path().join("gone").as_os_str().as_bytes()).unwrap();
        ServiceManager::at(gone, None).ready();
        assert!(address(b"notify").is_err(), "a name is a path or abstract");
    }
}

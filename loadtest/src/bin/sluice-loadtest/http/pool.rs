//! A thread's connections by server: taken for an exchange, put back where they can carry another.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::connection::{Buffer, Connection, Pace};
use super::framing::{Flow, Framing, Sink};
use super::url::endpoint;
use crate::fault::Fault;
use crate::scenario::Client;

/// Bytes that are received at a time: larger reads cost no less each (measured), and this stays in a core's own cache.
const BUFFER_BYTES: usize = 128 << 10;

/// Connections of one thread.
pub(crate) struct Pool {
    client: Client,
    idle: RefCell<HashMap<Rc<str>, Vec<Connection>>>,
    /// Of each server, the one that was connected to first.
    addresses: RefCell<HashMap<Rc<str>, Vec<SocketAddr>>>,
    buffer: Buffer,
}

/// A request that is ready to be sent.
pub(crate) struct Exchange<'r> {
    pub(crate) server: &'r Rc<str>,
    pub(crate) request: &'r [u8],
}

impl Pool {
    pub(crate) fn new(client: Client) -> Self {
        let buffer = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
        Self { client, idle: RefCell::default(), addresses: RefCell::default(), buffer }
    }

    /// Sends a request on a connection that is there, or on a new one.
    ///
    /// # Errors
    /// As [`Connection::open`] and [`Connection::exchange`].
    pub(crate) async fn exchange<S: Sink>(
        &self,
        exchange: &Exchange<'_>,
        sink: &mut S,
        mut pace: Option<&mut Pace>,
    ) -> Result<Flow, Fault> {
        // Slow clients have small buffers in the kernel: connections of their own.
        let is_shared = self.client.keep_alive && pace.is_none();
        let mut kept = if is_shared { self.idle(exchange.server) } else { None };
        loop {
            let is_used = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.open(exchange.server, pace.as_deref()).await?,
            };
            let mut framing = Framing::new();
            let going =
                connection.exchange(exchange.request, &mut framing, sink, &self.buffer, pace.as_deref_mut());
            match going.await {
                // The server closed it as it idled, which is its right; nothing has happened.
                Err(Fault::NoAnswer | Fault::Broken(_)) if is_used && framing.is_untouched() => {}
                Err(fault) => return Err(fault),
                Ok(flow) => {
                    if is_shared && framing.is_kept() {
                        self.put_back(exchange.server, connection);
                    }
                    return Ok(flow);
                }
            }
        }
    }

    fn idle(&self, server: &str) -> Option<Connection> {
        self.idle.borrow_mut().get_mut(server)?.pop()
    }

    fn put_back(&self, server: &Rc<str>, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        match idle.get_mut(server) {
            Some(connections) => connections.push(connection),
            None => drop(idle.insert(Rc::clone(server), vec![connection])),
        }
    }

    async fn open(&self, server: &Rc<str>, pace: Option<&Pace>) -> Result<Connection, Fault> {
        let mut addresses = self.addresses(server).await?;
        let mut fault = Fault::Name(io::ErrorKind::NotFound.into());
        for at in 0..addresses.len() {
            match self.connect(server, addresses[at], pace).await {
                Ok(connection) => {
                    addresses.swap(0, at);
                    self.addresses.borrow_mut().insert(Rc::clone(server), addresses);
                    return Ok(connection);
                }
                Err(error) => fault = error,
            }
        }
        // The name may mean others by now.
        self.addresses.borrow_mut().remove(server);
        Err(fault)
    }

    async fn connect(
        &self,
        server: &str,
        address: SocketAddr,
        pace: Option<&Pace>,
    ) -> Result<Connection, Fault> {
        let (host, _, is_tls) = endpoint(server);
        let tls = if is_tls { Some((host, self.client.trust.config()?)) } else { None };
        let opened = Connection::open(address, tls, &self.client, pace).await;
        if !matches!(opened, Err(Fault::Descriptors(_))) {
            return opened;
        }
        // Connections that idle are worth less than one that is wanted.
        self.idle.borrow_mut().clear();
        Connection::open(address, tls, &self.client, pace).await
    }

    async fn addresses(&self, server: &Rc<str>) -> Result<Vec<SocketAddr>, Fault> {
        let known = self.addresses.borrow().get(server).cloned();
        if let Some(addresses) = known {
            return Ok(addresses);
        }
        let (host, port, _) = endpoint(server);
        let lookup = tokio::net::lookup_host((host, port));
        let asking = tokio::time::timeout(self.client.connect_timeout, lookup);
        let found = asking.await.map_err(|_| Fault::ConnectTimeout(self.client.connect_timeout))?;
        Ok(found.map_err(Fault::Name)?.collect())
    }
}

//! The secrets that the two directions of a TLS 1.3 connection begin with, for whoever takes it over from rustls and is to
//! follow it to its next keys (RFC 8446 §7.2): the keys themselves lead to none.
//!
//! rustls computes next keys for connections of its unbuffered interface alone (`KernelConnection`); those of others it
//! shows to a [`KeyLog`]. This is one for each connection, in memory, which is written over when it is dropped.

use std::fmt;
use std::sync::OnceLock;

use rustls::KeyLog;
use rustls::crypto::tls13::OkmBlock;

/// None before the handshake is done, nor of TLS 1.2.
#[derive(Default)]
pub struct FirstSecrets {
    client: OnceLock<OkmBlock>,
    server: OnceLock<OkmBlock>,
}

impl FirstSecrets {
    /// Of what the client sends (`client_application_traffic_secret_0`).
    pub fn client(&self) -> Option<&OkmBlock> {
        self.client.get()
    }

    /// Of what the server sends (`server_application_traffic_secret_0`).
    pub fn server(&self) -> Option<&OkmBlock> {
        self.server.get()
    }

    fn place(&self, label: &str) -> Option<&OnceLock<OkmBlock>> {
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => Some(&self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&self.server),
            _ => None,
        }
    }
}

impl KeyLog for FirstSecrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if let Some(place) = self.place(label) {
            place.get_or_init(|| OkmBlock::new(secret));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        self.place(label).is_some()
    }
}

impl fmt::Debug for FirstSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstSecrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_next_keys_come_of_is_kept_and_none_of_it_shown() {
        let secrets = FirstSecrets::default();
        for label in ["CLIENT_RANDOM", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "EXPORTER_SECRET"] {
            assert!(!secrets.will_log(label), "{label}");
            secrets.log(label, b"random", b"secret");
        }
        assert!(secrets.client().is_none() && secrets.server().is_none());
        for (label, secret) in
            [("CLIENT_TRAFFIC_SECRET_0", b"of-client"), ("SERVER_TRAFFIC_SECRET_0", b"of-server")]
        {
            assert!(secrets.will_log(label), "{label}");
            secrets.log(label, b"random", secret);
        }
        assert_eq!(secrets.client().map(OkmBlock::as_ref), Some(&b"of-client"[..]));
        assert_eq!(secrets.server().map(OkmBlock::as_ref), Some(&b"of-server"[..]));
        assert_eq!(format!("{secrets:?}"), "FirstSecrets { .. }");
    }
}

//! TLS that the kernel goes on with where rustls ended its handshake, so that answers go by `sendfile` beneath it.
//!
//! A connection whose cipher the kernel does not take stays in the process; that is known before any key is asked for.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream as StdStream};

use sluice_shared::serve::ByRecord;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::tls13::OkmBlock;
use tokio_rustls::rustls::{
    CipherSuite, ConnectionTrafficSecrets, Error as RustlsError, ProtocolVersion, ServerConnection,
    SupportedCipherSuite,
};
use tokio_rustls::server::TlsStream;

use super::key_update::TrafficSecret;
use crate::uring::kernel_tls::{Cipher, Direction, Keys, TlsVersion, begin, give_keys};

const ALL: [(TlsVersion, Cipher); 6] = [
    (TlsVersion::Tls12, Cipher::Aes128Gcm),
    (TlsVersion::Tls12, Cipher::Aes256Gcm),
    (TlsVersion::Tls12, Cipher::Chacha20Poly1305),
    (TlsVersion::Tls13, Cipher::Aes128Gcm),
    (TlsVersion::Tls13, Cipher::Aes256Gcm),
    (TlsVersion::Tls13, Cipher::Chacha20Poly1305),
];

/// What this machine's kernel encrypts and decrypts beneath sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelTls {
    /// By place in [`ALL`].
    takes: [bool; ALL.len()],
    /// Keys of TLS 1.3 may be followed by others (Linux 6.14).
    updates: bool,
}

/// Why the kernel does no TLS here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKernelTls {
    #[error("the kernel does not have it loaded ({0})")]
    Absent(io::Error),
    #[error("the kernel takes none of the ciphers")]
    NoCipher,
    #[error("cannot ask the kernel: {0}")]
    Unknown(io::Error),
}

/// Where a connection's TLS is from now on.
pub(crate) enum Lowered {
    Beneath(TcpStream, KeyUse),
    /// As it was.
    Within(Box<TlsStream<ByRecord>>),
    Failed(NotLowered),
}

/// Why a connection that the kernel should have taken is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLowered {
    #[error("rustls gives no keys: {0}")]
    Keys(#[from] RustlsError),
    #[error("the kernel takes no keys: {0}")]
    Kernel(#[from] io::Error),
}

/// How far a key for sending has been used, in records, and how far it may be (RFC 8446 §5.5).
pub(crate) struct KeyUse {
    pub(crate) records: u64,
    pub(crate) records_max: u64,
    /// What the next keys come of, for sending and for receiving, where the kernel takes them.
    pub(crate) secrets: Option<(Box<TrafficSecret>, Box<TrafficSecret>)>,
}

/// What of a connection the kernel takes over.
#[derive(Debug, Clone, Copy)]
struct Parameters {
    version: TlsVersion,
    cipher: Cipher,
    suite: SupportedCipherSuite,
}

impl KernelTls {
    /// Asks the kernel, on connections of its own.
    ///
    /// # Errors
    /// It has none, or nobody can tell.
    pub(crate) fn ask() -> Result<Self, NoKernelTls> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(NoKernelTls::Unknown)?;
        let mut takes = [false; ALL.len()];
        let mut updates = true;
        for (takes, (version, cipher)) in takes.iter_mut().zip(ALL) {
            let (socket, _peer) = connected(&listener).map_err(NoKernelTls::Unknown)?;
            begin(&socket).map_err(NoKernelTls::Absent)?;
            let key = vec![0; cipher.key_bytes()];
            let keys = Keys::new(version, cipher, &key, [0; 12], 0);
            let gives_both = || {
                let mut both = [Direction::Send, Direction::Receive].into_iter();
                both.all(|direction| give_keys(&socket, direction, &keys).is_ok())
            };
            *takes = gives_both();
            if *takes && version == TlsVersion::Tls13 {
                updates &= gives_both();
            }
        }
        if takes.contains(&true) { Ok(Self { takes, updates }) } else { Err(NoKernelTls::NoCipher) }
    }

    /// Whether keys of TLS 1.3 may be followed by others.
    pub(crate) fn updates(self) -> bool {
        self.updates
    }

    fn takes(self, version: TlsVersion, cipher: Cipher) -> bool {
        ALL.iter().zip(self.takes).any(|(known, takes)| takes && *known == (version, cipher))
    }

    /// What of a connection the kernel is to take over; `None` where it stays in the process.
    fn parameters(self, connection: &ServerConnection) -> Option<Parameters> {
        let version = match connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => TlsVersion::Tls12,
            ProtocolVersion::TLSv1_3 => TlsVersion::Tls13,
            _ => return None,
        };
        let suite = connection.negotiated_cipher_suite()?;
        let cipher = cipher_of(suite.suite())?;
        self.takes(version, cipher).then_some(Parameters { version, cipher, suite })
    }

    /// Has the kernel go on with a connection whose handshake is done.
    pub(crate) fn lower(self, mut stream: TlsStream<ByRecord>) -> Lowered {
        let (socket, connection) = stream.get_mut();
        let is_between_records = socket.is_between_records();
        let Some(parameters) = self.parameters(connection) else {
            return Lowered::Within(Box::new(stream));
        };
        // Nothing that was read may be left behind, and nothing that is to be written.
        let is_read_out = connection.process_new_packets().is_ok_and(|state| {
            state.plaintext_bytes_to_read() == 0
                && state.tls_bytes_to_write() == 0
                && !state.peer_has_closed()
        });
        if !is_read_out || !is_between_records {
            return Lowered::Within(Box::new(stream));
        }
        let (socket, connection) = stream.into_inner();
        match hand_over(&socket, connection, parameters) {
            Ok(key_use) => Lowered::Beneath(socket.into_socket(), key_use),
            Err(reason) => Lowered::Failed(reason),
        }
    }
}

impl fmt::Display for KernelTls {
    /// As in "1.2: AES-128-GCM, AES-256-GCM; 1.3: AES-128-GCM".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for ((version, cipher), _) in ALL.iter().zip(self.takes).filter(|(_, takes)| *takes) {
            match last.replace(*version) {
                Some(same) if same == *version => f.write_str(", ")?,
                Some(_) => f.write_str("; 1.3: ")?,
                None => f.write_str(if *version == TlsVersion::Tls12 { "1.2: " } else { "1.3: " })?,
            }
            f.write_str(match cipher {
                Cipher::Aes128Gcm => "AES-128-GCM",
                Cipher::Aes256Gcm => "AES-256-GCM",
                Cipher::Chacha20Poly1305 => "ChaCha20-Poly1305",
            })?;
        }
        Ok(())
    }
}

fn connected(listener: &TcpListener) -> io::Result<(StdStream, StdStream)> {
    let socket = StdStream::connect(listener.local_addr()?)?;
    Ok((socket, listener.accept()?.0))
}

fn cipher_of(suite: CipherSuite) -> Option<Cipher> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Some(Cipher::Aes128Gcm),
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(Cipher::Aes256Gcm),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(Cipher::Chacha20Poly1305),
        _ => None,
    }
}

/// Gives both directions' keys away.
fn hand_over(
    from: &ByRecord,
    connection: ServerConnection,
    parameters: Parameters,
) -> Result<KeyUse, NotLowered> {
    let Parameters { version, cipher, suite } = parameters;
    let extracted = connection.dangerous_extract_secrets()?;
    let socket = from.socket();
    begin(socket)?;
    let keys_of = |secret: &ConnectionTrafficSecrets, sequence| {
        let (key, nonce) = match secret {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
            _ => return Err(RustlsError::General("of an unknown cipher".to_owned())),
        };
        let nonce = nonce.try_into().map_err(|_| RustlsError::General("of an unknown length".to_owned()))?;
        if key.len() != cipher.key_bytes() {
            return Err(RustlsError::General("of another cipher".to_owned()));
        }
        let nonce = first_nonce(version, cipher, nonce, sequence);
        Ok(Keys::new(version, cipher, key, nonce, sequence))
    };
    let (sent, received) = (extracted.tx.0, extracted.rx.0);
    let sending = keys_of(&extracted.tx.1, sent)?;
    give_keys(socket, Direction::Send, &sending)?;
    let receiving = keys_of(&extracted.rx.1, received)?;
    give_keys(socket, Direction::Receive, &receiving)?;
    let (records_max, secrets) = match suite {
        SupportedCipherSuite::Tls12(suite) => (suite.common.confidentiality_limit, None),
        SupportedCipherSuite::Tls13(suite) => {
            // A secret is taken at its word only if the keys in use come of it.
            let of_keys = |first: &OkmBlock, sequence, keys| {
                let secret = Box::new(TrafficSecret::new(first.clone(), suite, cipher));
                (secret.keys(sequence) == keys).then_some(secret)
            };
            let both = from.secrets().and_then(|first| {
                Some((
                    of_keys(first.server()?, sent, sending)?,
                    of_keys(first.client()?, received, receiving)?,
                ))
            });
            (suite.common.confidentiality_limit, both)
        }
    };
    Ok(KeyUse { records: sent, records_max, secrets })
}

/// The nonce that the kernel is to begin with, where rustls made those of `sequence` records from `nonce`.
///
/// Both combine it with the record's number, as the standard has it, except for AES-GCM in TLS 1.2 (RFC 5288 §3): there
/// the last eight bytes go with each record, and have to differ from all before. rustls takes `nonce ^ number` for them,
/// and the kernel counts up from the first: that has to lie above all that rustls took, for a nonce that comes again
/// gives the key's authentication away. Those lie within the aligned block of a power of two that has `nonce` in it.
fn first_nonce(version: TlsVersion, cipher: Cipher, nonce: [u8; 12], sequence: u64) -> [u8; 12] {
    let counts = version == TlsVersion::Tls12 && cipher != Cipher::Chacha20Poly1305;
    if !counts || sequence == 0 {
        return nonce;
    }
    let [s0, s1, s2, s3, explicit @ ..] = nonce;
    let block = sequence.checked_next_power_of_two().unwrap_or(0);
    let last = u64::from_be_bytes(explicit) | block.wrapping_sub(1);
    let [e0, e1, e2, e3, e4, e5, e6, e7] = last.wrapping_add(1).to_be_bytes();
    [s0, s1, s2, s3, e0, e1, e2, e3, e4, e5, e6, e7]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio_rustls::rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;

    use super::*;

    #[test]
    fn every_suite_that_rustls_speaks_has_a_cipher_for_the_kernel() {
        for suite in ALL_CIPHER_SUITES {
            assert!(cipher_of(suite.suite()).is_some(), "{suite:?}");
        }
        assert_eq!(cipher_of(CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA), None);
    }

    #[test]
    fn no_nonce_of_tls_12_comes_twice() {
        let explicit = |nonce: [u8; 12]| u64::from_be_bytes(nonce[4..].try_into().unwrap());
        for begin in [0, 1, 2, 3, 6, 7, 0xff, u64::MAX - 1, u64::MAX] {
            for sequence in 1..40 {
                let mut nonce = [9; 12];
                nonce[4..].copy_from_slice(&begin.to_be_bytes());
                let mut seen: HashSet<u64> = (0..sequence).map(|number| begin ^ number).collect();
                let first = first_nonce(TlsVersion::Tls12, Cipher::Aes128Gcm, nonce, sequence);
                assert_eq!(first[..4], [9; 4]);
                for number in 0..100 {
                    let is_new = seen.insert(explicit(first).wrapping_add(number));
                    assert!(is_new, "{begin} {sequence} {number}");
                }
            }
        }
        for (version, cipher) in
            ALL.iter().filter(|kind| kind.0 == TlsVersion::Tls13 || kind.1 == Cipher::Chacha20Poly1305)
        {
            assert_eq!(first_nonce(*version, *cipher, [7; 12], 5), [7; 12], "the kernel combines it");
        }
    }

    #[test]
    fn what_the_kernel_takes_is_told_in_words() {
        let of = |takes| KernelTls { takes, updates: false }.to_string();
        assert_eq!(
            of([true, true, false, true, false, true]),
            "1.2: AES-128-GCM, AES-256-GCM; 1.3: AES-128-GCM, ChaCha20-Poly1305"
        );
        assert_eq!(of([false, false, false, false, true, false]), "1.3: AES-256-GCM");
    }

    #[test]
    fn the_kernel_is_asked_what_it_takes() {
        let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
        let has_tls = known.split_whitespace().any(|ulp| ulp == "tls");
        match KernelTls::ask() {
            Ok(kernel) => assert!(kernel.takes(TlsVersion::Tls13, Cipher::Aes128Gcm)),
            Err(NoKernelTls::Absent(error)) => {
                assert!(!has_tls && error.raw_os_error() == Some(libc::ENOENT), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

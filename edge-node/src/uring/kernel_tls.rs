//! TLS beneath a socket, by the kernel (`linux/tls.h`). No operation of the ring, but no safe library has it either.
//!
//! `TLS_TX_ZEROCOPY_RO` is never set: it would let a page change under a record that was promised.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void};
use zeroize::Zeroize;

/// Kinds of records (RFC 8446 §5.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

const TLS_SET_RECORD_TYPE: c_int = 1;
const TLS_GET_RECORD_TYPE: c_int = 2;

/// Whose keys they are: of what is sent, or of what is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Direction {
    /// `TLS_TX`
    Send = 1,
    /// `TLS_RX`
    Receive = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum TlsVersion {
    Tls12 = 0x0303,
    Tls13 = 0x0304,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Cipher {
    Aes128Gcm = 51,
    Aes256Gcm = 52,
    Chacha20Poly1305 = 54,
}

impl Cipher {
    pub(crate) fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::Chacha20Poly1305 => 32,
        }
    }

    /// How the twelve bytes of a nonce's beginning are divided: those that stay come behind the key, as "salt".
    fn salt_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 4,
            Self::Chacha20Poly1305 => 0,
        }
    }
}

/// The longest of `struct tls12_crypto_info_*`: AES-256-GCM's, and ChaCha20-Poly1305's.
const INFO_BYTES_MAX: usize = 56;

/// One direction's keys as the kernel takes them (`struct tls12_crypto_info_*`); written over when dropped, and never
/// shown.
#[derive(PartialEq, Eq)]
pub(crate) struct Keys {
    bytes: [u8; INFO_BYTES_MAX],
    length: usize,
}

impl Keys {
    /// `key` is as long as the cipher's; `sequence` is the next record's number.
    pub(crate) fn new(
        version: TlsVersion,
        cipher: Cipher,
        key: &[u8],
        nonce: [u8; 12],
        sequence: u64,
    ) -> Self {
        assert_eq!(key.len(), cipher.key_bytes(), "the key is the cipher's");
        let (salt, explicit) = nonce.split_at(cipher.salt_bytes());
        let mut keys = Self { bytes: [0; INFO_BYTES_MAX], length: 0 };
        let (version, cipher) = ((version as u16).to_ne_bytes(), (cipher as u16).to_ne_bytes());
        for part in [&version[..], &cipher, explicit, key, salt, &sequence.to_be_bytes()] {
            keys.bytes[keys.length..keys.length + part.len()].copy_from_slice(part);
            keys.length += part.len();
        }
        keys
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Makes ready for TLS beneath a connected socket (`TCP_ULP`); its bytes pass as they are until there are keys.
///
/// # Errors
/// `ENOENT` where the kernel has no TLS.
pub(crate) fn begin(socket: &impl AsFd) -> io::Result<()> {
    set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls")
}

/// From now on the kernel encrypts what is sent, or decrypts what is received. Other keys of the same cipher may follow in
/// TLS 1.3: those for sending behind our `KeyUpdate`; those for receiving behind the client's, without which nothing more
/// is received (`EKEYEXPIRED`).
///
/// # Errors
/// The kernel has no such cipher, or no memory; `EBUSY` where it has keys, and takes no others (before Linux 6.14).
pub(crate) fn give_keys(socket: &impl AsFd, direction: Direction, keys: &Keys) -> io::Result<()> {
    set_option(socket, libc::SOL_TLS, direction as c_int, keys.as_slice())
}

fn set_option(socket: &impl AsFd, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let (socket, address) = (socket.as_fd().as_raw_fd(), value.as_ptr().cast::<c_void>());
    let length = libc::socklen_t::try_from(value.len()).expect("options are short");
    // SAFETY: the kernel reads `length` bytes at the address, which are a live slice's.
    let result = unsafe { libc::setsockopt(socket, level, name, address, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A control message of one byte: a record's kind (RFC 8446 §5.1), as `CMSG_DATA` has it behind its header.
#[repr(C)]
struct KindMessage {
    header: libc::cmsghdr,
    kind: u8,
}

/// As `CMSG_LEN(1)`.
const KIND_MESSAGE_BYTES: usize = offset_of!(KindMessage, kind) + 1;

impl KindMessage {
    fn new(name: c_int, kind: u8) -> Self {
        let header =
            libc::cmsghdr { cmsg_len: KIND_MESSAGE_BYTES as _, cmsg_level: libc::SOL_TLS, cmsg_type: name };
        Self { header, kind }
    }

    /// The kind, where the kernel said one.
    fn received(&self, control_bytes: usize) -> Option<u8> {
        let is_kind = self.header.cmsg_level == libc::SOL_TLS && self.header.cmsg_type == TLS_GET_RECORD_TYPE;
        (control_bytes >= KIND_MESSAGE_BYTES && is_kind).then_some(self.kind)
    }
}

/// A message of one piece, with room for a record's kind. It points to both.
fn message(piece: &mut libc::iovec, kind: &mut KindMessage) -> libc::msghdr {
    // SAFETY: a `msghdr` is numbers and addresses, for which zero is a value: none.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = std::ptr::from_mut(piece);
    message.msg_iovlen = 1;
    message.msg_control = std::ptr::from_mut(kind).cast();
    message.msg_controllen = size_of::<KindMessage>() as _;
    message
}

/// Sends a record that is no data's, whole, without waiting; what was sent before it ends its record.
///
/// # Errors
/// `WouldBlock` where the socket is full; else the connection's.
pub(crate) fn send_record(socket: &impl AsFd, kind: u8, content: &[u8]) -> io::Result<()> {
    let mut piece = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    let mut kind = KindMessage::new(TLS_SET_RECORD_TYPE, kind);
    let message = message(&mut piece, &mut kind);
    let (socket, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    // SAFETY: the message points to a live piece and a live control message, which are only read, and the piece to a
    // live slice.
    let result = unsafe { libc::sendmsg(socket, &raw const message, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives of one kind of record, without waiting: the bytes that are read, and their kind. No bytes: the peer has
/// closed.
///
/// # Errors
/// `WouldBlock` where there is no record yet; else the connection's.
pub(crate) fn receive(socket: &impl AsFd, room: &mut [u8]) -> io::Result<(usize, Option<u8>)> {
    let mut piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let mut kind = KindMessage::new(0, 0);
    let mut message = message(&mut piece, &mut kind);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the message points to a live piece and a live control message with room for what is written to it, and
    // the piece to a live slice of ours alone.
    let result = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_DONTWAIT) };
    let count = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    Ok((count, kind.received(message.msg_controllen)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// As `linux/tls.h` lays them out: version, cipher, iv, key, salt, sequence number.
    #[test]
    fn keys_are_laid_out_as_the_kernel_reads_them() {
        let nonce = *b"saltEXPLICIT";
        let key: Vec<u8> = (100..132).collect();
        let told = |version, cipher: Cipher| {
            Keys::new(version, cipher, &key[..cipher.key_bytes()], nonce, 7).as_slice().to_vec()
        };
        let expected = |version: u16, cipher: u16, parts: [&[u8]; 3]| {
            let mut bytes = [version.to_ne_bytes(), cipher.to_ne_bytes()].concat();
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 7]);
            bytes
        };
        assert_eq!(
            told(TlsVersion::Tls12, Cipher::Aes128Gcm),
            expected(0x0303, 51, [b"EXPLICIT", &key[..16], b"salt"])
        );
        assert_eq!(
            told(TlsVersion::Tls13, Cipher::Aes256Gcm),
            expected(0x0304, 52, [b"EXPLICIT", &key, b"salt"])
        );
        assert_eq!(
            told(TlsVersion::Tls13, Cipher::Chacha20Poly1305),
            expected(0x0304, 54, [b"saltEXPLICIT", &key, b""])
        );
    }

    /// A kernel without TLS refuses at the first step; one with it encrypts what the other end sees.
    #[test]
    fn a_kernel_has_tls_or_says_that_it_has_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
        let begun = begin(&sender);
        if !known.split_whitespace().any(|ulp| ulp == "tls") {
            // Root may have it loaded by asking.
            return assert!(begun.is_ok() || begun.unwrap_err().raw_os_error() == Some(libc::ENOENT));
        }
        begun.unwrap();
        begin(&receiver).unwrap();
        let keys = || Keys::new(TlsVersion::Tls13, Cipher::Aes256Gcm, &[1; 32], [2; 12], 0);
        give_keys(&sender, Direction::Send, &keys()).unwrap();
        give_keys(&receiver, Direction::Receive, &keys()).unwrap();
        send_record(&sender, 21, &[1, 0]).unwrap();
        let mut room = [0; 16];
        let (count, kind) = loop {
            match receive(&receiver, &mut room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => break received.unwrap(),
            }
        };
        assert_eq!((&room[..count], kind), (&[1, 0][..], Some(21)));
    }
}

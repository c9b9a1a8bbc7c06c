//! The records of TLS that the kernel makes of what is sent: how many there are, for a key is good for so many, and another
//! has to follow; and whether the last one is whole, for until then it refers to the pages that it is made of.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;

use crate::tls::{KEY_UPDATE, TrafficSecret};
use crate::uring::kernel_tls::{Direction, HANDSHAKE, give_keys, send_record};

/// Bytes of a record's content, at most (RFC 8446 §5.1).
pub(crate) const RECORD_BYTES_MAX: u64 = 1 << 14;
/// `sendfile` sends by way of a pipe, of so many bytes, and each turn of it may end a record early.
const TURN_BYTES: u64 = 1 << 16;

/// Of one connection.
#[derive(Debug)]
pub(crate) struct Records {
    /// No fewer than there are.
    made: Cell<u64>,
    made_max: u64,
    is_open: Cell<bool>,
    /// What the key comes of, where the kernel takes the next.
    secret: Option<RefCell<Box<TrafficSecret>>>,
    /// The client is to hear of an update before more data.
    is_owed: Cell<bool>,
}

impl Records {
    /// `made` under the key before; `made_max` is what a key is good for.
    pub(crate) fn new(made: u64, made_max: u64, secret: Option<Box<TrafficSecret>>) -> Self {
        let (is_open, is_owed) = (Cell::new(false), Cell::new(false));
        Self { made: Cell::new(made), made_max, is_open, secret: secret.map(RefCell::new), is_owed }
    }

    /// Counts what one call sent, of what it was to send. Records are never smaller than they have to be, but for the
    /// last of a turn and the one that was begun before.
    pub(super) fn count(&self, sent: u64, wanted: u64) {
        let records = sent.div_ceil(RECORD_BYTES_MAX) + sent.div_ceil(TURN_BYTES) + 1;
        self.made.set(self.made.get().saturating_add(records));
        // A call that was cut short leaves its last record for the next to fill.
        self.is_open.set(sent < wanted);
    }

    /// Whether as many bytes may yet be sent.
    pub(super) fn allow(&self, bytes: u64) -> bool {
        let records = bytes.div_ceil(RECORD_BYTES_MAX) + bytes.div_ceil(TURN_BYTES) + 1;
        self.made.get().saturating_add(records) <= self.made_max
    }

    /// Half of what the key is good for is gone, and no other follows: time for the client to come again.
    pub(crate) fn are_running_out(&self) -> bool {
        self.secret.is_none() && self.are_half_gone()
    }

    fn are_half_gone(&self) -> bool {
        self.made.get() > self.made_max / 2
    }

    /// The client asks for an update (RFC 8446 §4.6.3); several that come before more data are one.
    pub(crate) fn owe_update(&self) {
        self.is_owed.set(true);
    }

    /// The next key is to be taken before more data is sent.
    pub(super) fn is_update_due(&self) -> bool {
        self.secret.is_some() && (self.is_owed.get() || self.are_half_gone())
    }

    /// Tells the client, and has the kernel go on with the next key.
    ///
    /// # Errors
    /// `WouldBlock` where the socket is full: nothing has happened then. Else the connection's end.
    pub(super) fn update(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(secret) = &self.secret else { return Ok(()) };
        // Of another kind than what was sent, it ends the record that may be open.
        send_record(socket, HANDSHAKE, &KEY_UPDATE)?;
        give_keys(socket, Direction::Send, &secret.borrow_mut().update())?;
        self.made.set(0);
        self.is_open.set(false);
        self.is_owed.set(false);
        Ok(())
    }

    /// Bytes that the socket has not seen, and that refer to pages nevertheless: at most so many.
    pub(crate) fn open_bytes(&self) -> u64 {
        if self.is_open.get() { RECORD_BYTES_MAX } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::tls::KernelTls;
    use crate::tls::secret;
    use crate::uring::kernel_tls::{begin, receive};

    #[test]
    fn a_key_is_used_no_longer_than_it_is_good_for() {
        let records = Records::new(2, 100, None);
        assert!(!records.are_running_out());
        // 64 records of full size, and as many more as may have been cut.
        records.count(1 << 20, 1 << 20);
        assert!(records.are_running_out());
        assert!(!records.allow(1 << 20));
        assert!(records.allow(1 << 16));
        for _ in 0..2 {
            records.count(1 << 16, 1 << 16);
        }
        assert!(!records.allow(1 << 16));
        assert!(records.allow(1));
        records.count(1, 1);
        records.count(1, 1);
        assert!(!records.allow(1));
    }

    #[test]
    fn a_key_without_a_limit_is_never_used_up() {
        let records = Records::new(u64::MAX - 1, u64::MAX, None);
        records.count(u64::MAX, u64::MAX);
        assert!(records.allow(u64::MAX));
    }

    #[test]
    fn what_was_cut_short_leaves_a_record_open() {
        let records = Records::new(0, 100, None);
        assert_eq!(records.open_bytes(), 0);
        records.count(5, 10);
        assert_eq!(records.open_bytes(), RECORD_BYTES_MAX);
        records.count(5, 5);
        assert_eq!(records.open_bytes(), 0);
    }

    #[test]
    fn an_update_is_due_when_it_is_owed_and_before_the_key_is_used_up() {
        let with_secret = || Records::new(0, 100, Some(Box::new(secret(&[1; 48]))));
        let records = with_secret();
        assert!(!records.is_update_due());
        records.owe_update();
        assert!(records.is_update_due());
        let records = with_secret();
        records.count(1 << 20, 1 << 20);
        assert!(records.is_update_due() && !records.are_running_out());
        let without = Records::new(99, 100, None);
        without.owe_update();
        assert!(!without.is_update_due() && without.are_running_out());
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (sender, listener.accept().unwrap().0)
    }

    /// Far more is sent than one key is good for. Where the kernel takes no other, there is nothing to be seen.
    #[test]
    fn a_kernel_goes_on_with_the_next_key_and_all_arrives() {
        if !KernelTls::ask().is_ok_and(KernelTls::updates) {
            assert!(std::env::var_os("GUEST_UPDATES_KEYS").is_none(), "the kernel takes no other keys here");
            return;
        }
        let (sender, receiver) = connected();
        let [mut received, sent] = [(); 2].map(|()| Box::new(secret(&[1; 48])));
        begin(&sender).unwrap();
        begin(&receiver).unwrap();
        give_keys(&sender, Direction::Send, &sent.keys(0)).unwrap();
        give_keys(&receiver, Direction::Receive, &received.keys(0)).unwrap();
        let bytes: Vec<u8> = (0..3_u32 << 20).map(|at| (at % 251) as u8).collect();
        let expected = bytes.clone();
        let sending = std::thread::spawn(move || {
            let records = Records::new(0, 100, Some(sent));
            for piece in bytes.chunks(100_000) {
                // A full socket has to become free first; this one waits for that.
                while records.is_update_due() {
                    match records.update(&sender) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                        updated => updated.unwrap(),
                    }
                }
                assert!(records.allow(piece.len() as u64));
                (&sender).write_all(piece).unwrap();
                records.count(piece.len() as u64, piece.len() as u64);
            }
        });
        let (mut content, mut updates, mut room) = (Vec::new(), 0, vec![0; 1 << 16]);
        while content.len() < expected.len() {
            match receive(&receiver, &mut room) {
                Ok((count, Some(HANDSHAKE))) => {
                    assert_eq!(room[..count], KEY_UPDATE);
                    let error = receive(&receiver, &mut room).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EKEYEXPIRED));
                    give_keys(&receiver, Direction::Receive, &received.update()).unwrap();
                    updates += 1;
                }
                Ok((count, _)) => {
                    assert!(count > 0, "ended");
                    content.extend_from_slice(&room[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        sending.join().unwrap();
        assert!(content == expected);
        assert!(updates >= 4, "{updates}");
    }
}

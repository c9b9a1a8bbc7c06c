//! Messages between machines: JSON with its length before it and a code behind it, which only who knows the secret can
//! make, and which fits no other place in any conversation.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sluice_shared::secret::SecretText;

/// Both sides speak exactly this.
const PROTOCOL: &str = concat!("sluice-loadtest ", env!("CARGO_PKG_VERSION"), " join 1");
/// Of who has not shown yet that it knows the secret.
const GREETING_BYTES_MAX: u32 = 4096;
/// A summary with all its histograms is a few megabytes.
const MESSAGE_BYTES_MAX: u32 = 256 << 20;
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
const CODE_BYTES: usize = 32;

/// Said first, by both.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    protocol: String,
    /// Of this conversation alone.
    nonce: String,
    /// As whom it is shown.
    name: String,
    threads: u32,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) threads: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Conductor,
    Joiner,
}

/// One direction of a conversation.
pub(super) struct Half {
    stream: TcpStream,
    key: [u8; CODE_BYTES],
    /// Who speaks.
    speaker: Role,
    count: u64,
}

/// Greets whoever is there; gives what is said to it, and what it says.
///
/// # Errors
/// It does not know the secret, speaks something else, or says nothing.
pub(super) fn meet(
    mut stream: TcpStream,
    role: Role,
    secret: &SecretText,
    own: &Peer,
) -> anyhow::Result<(Half, Half, Peer)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
    stream.set_write_timeout(Some(GREETING_TIMEOUT))?;
    let greeting = Greeting {
        protocol: PROTOCOL.to_owned(),
        nonce: format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()),
        name: own.name.clone(),
        threads: own.threads,
    };
    write(&mut stream, &serde_json::to_vec(&greeting)?)?;
    let heard = read(&mut stream, GREETING_BYTES_MAX)?;
    let heard: Greeting =
        serde_json::from_slice(&heard).context("it does not speak as sluice-loadtest does")?;
    ensure!(
        heard.protocol == PROTOCOL,
        "it speaks \"{}\", and this is \"{PROTOCOL}\": use the same version on all machines",
        crate::report::plain(&heard.protocol)
    );
    let (conductor, joiner) = match role {
        Role::Conductor => (&greeting, &heard),
        Role::Joiner => (&heard, &greeting),
    };
    let whole = serde_json::to_vec(&[conductor, joiner])?;
    let key = code(secret.reveal().as_bytes(), &[&whole]).finalize().into_bytes().into();
    let half = |stream, speaker| Half { stream, key, speaker, count: 0 };
    let other = if role == Role::Conductor { Role::Joiner } else { Role::Conductor };
    let (mut says, mut hears) = (half(stream.try_clone()?, role), half(stream, other));
    // The proof: only who has the key can have made this.
    says.say(&())?;
    hears.hear::<()>().context("it does not know the secret, or nothing came of it")?;
    Ok((says, hears, Peer { name: heard.name, threads: heard.threads.min(1024) }))
}

impl Half {
    /// # Errors
    /// The other side has gone.
    pub(super) fn say(&mut self, message: &impl Serialize) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let code = self.code(&bytes).finalize().into_bytes();
        self.count += 1;
        write(&mut self.stream, &[&bytes[..], &code].concat())
    }

    /// # Errors
    /// The other side has gone, says nothing in time, or somebody else speaks.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let bytes = read(&mut self.stream, MESSAGE_BYTES_MAX)?;
        let Some((message, found)) = bytes.split_last_chunk::<CODE_BYTES>() else {
            bail!("a message without its code");
        };
        self.code(message).verify_slice(found).context("a message with a wrong code")?;
        self.count += 1;
        Ok(serde_json::from_slice(message)?)
    }

    /// How long it is waited for the other side.
    pub(super) fn set_patience(&self, silence_max: Option<Duration>) -> anyhow::Result<()> {
        Ok(self.stream.set_read_timeout(silence_max)?)
    }

    /// Ends both directions: whoever waits here is told.
    pub(super) fn close(&self) {
        // Where the other side has closed already, there is nothing to be done.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn code(&self, message: &[u8]) -> Hmac<Sha256> {
        let speaker = [u8::from(self.speaker == Role::Conductor)];
        code(&self.key, &[&speaker, &self.count.to_be_bytes(), message])
    }
}

fn code(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().fold(mac, |mac, part| mac.chain_update(part))
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> anyhow::Result<()> {
    let length = u32::try_from(bytes.len()).context("a message of more than 4 GiB")?;
    stream.write_all(&length.to_be_bytes())?;
    Ok(stream.write_all(bytes)?)
}

/// Nothing is set aside for what is only announced.
fn read(stream: &mut TcpStream, most: u32) -> anyhow::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    ensure!(length <= most, "a message of {length} bytes, which is too long");
    let mut bytes = Vec::new();
    stream.take(length.into()).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == u64::from(length), "the other side has gone");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    type Met = anyhow::Result<(Half, Half, Peer)>;

    fn met(secret: &str, other: &str) -> (Met, Met) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = |name: &str| Peer { name: name.to_owned(), threads: 2 };
        let (secret, other) = (SecretText::new(secret), SecretText::new(other));
        thread::scope(|scope| {
            let joiner = scope
                .spawn(|| meet(TcpStream::connect(address).unwrap(), Role::Joiner, &other, &peer("joiner")));
            let accepted = listener.accept().unwrap().0;
            let conductor = meet(accepted, Role::Conductor, &secret, &peer("conductor"));
            (conductor, joiner.join().unwrap())
        })
    }

    #[test]
    fn who_knows_the_secret_is_heard() {
        let (conductor, joiner) = met("a secret", "a secret");
        let (mut says, _, peer) = conductor.unwrap();
        let (_, mut hears, _) = joiner.unwrap();
        assert_eq!((peer.name.as_str(), peer.threads), ("joiner", 2));
        for message in ["one", "two"] {
            says.say(&message).unwrap();
            assert_eq!(hears.hear::<String>().unwrap(), message);
        }
    }

    #[test]
    fn who_does_not_is_not() {
        let (conductor, joiner) = met("a secret", "another");
        let (conductor, joiner) = (conductor.err().unwrap(), joiner.err().unwrap());
        assert!(format!("{conductor:#}").contains("does not know the secret"), "{conductor:#}");
        assert!(format!("{joiner:#}").contains("does not know the secret"), "{joiner:#}");
    }

    #[test]
    fn a_message_is_taken_once_and_from_one_side() {
        let (conductor, joiner) = met("a secret", "a secret");
        let (mut says, mut own, _) = conductor.unwrap();
        let (mut answers, mut hears, _) = joiner.unwrap();
        // The same bytes again are another message.
        let again = says.count;
        says.say(&"one").unwrap();
        assert_eq!(hears.hear::<String>().unwrap(), "one");
        says.count = again;
        says.say(&"one").unwrap();
        assert!(hears.hear::<String>().is_err());
        // What one side said does not come from the other.
        answers.speaker = Role::Conductor;
        answers.say(&"two").unwrap();
        assert!(own.hear::<String>().is_err());
    }

    #[test]
    fn what_is_too_long_or_no_greeting_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for bytes in [&b"\xff\xff\xff\xff"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x02{}"] {
            let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stranger.write_all(bytes).unwrap();
            let accepted = listener.accept().unwrap().0;
            let own = Peer { name: String::new(), threads: 1 };
            assert!(meet(accepted, Role::Conductor, &SecretText::new("a secret"), &own).is_err());
        }
    }
}

//! Tokens: compact JWE, its claims, and timed links.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha1::{Digest as _, Sha1};
use sluice_shared::keys::{KeyId, KeyRing, KeyState, Secret, TokenKey};
use sluice_shared::token::timed::{BadTimed, TimedError, TimedSigner};
use sluice_shared::token::{Claims, NumericDate, Scratch, Ticket, open, open_authentic, seal};

const SECRET: [u8; 32] = [7; 32];
const IV: [u8; 12] = [9; 12];
const NOW: u64 = 1_800_000_000;

static KEYS: LazyLock<KeyRing> = LazyLock::new(|| {
    let id = KeyId::parse("fuzz").expect("a plain name");
    KeyRing::new(vec![TokenKey::new(id, KeyState::Current, Secret::new(SECRET))]).expect("one key")
});
static CIPHER: LazyLock<Aes256Gcm> = LazyLock::new(|| Aes256Gcm::new(&SECRET.into()));
static SIGNER: LazyLock<TimedSigner> = LazyLock::new(|| TimedSigner::new("a secret", "itsdangerous"));
/// The same, as itsdangerous derives it (`django-concat`).
static TIMED_KEY: LazyLock<[u8; 20]> = LazyLock::new(|| Sha1::digest(b"itsdangeroussignera secret").into());

/// Text as it comes in a URL. Nothing that was not sealed with the key is opened; the corpus has what was.
pub(crate) fn jwe(data: &[u8]) {
    let mut scratch = Scratch::default();
    let now = NumericDate::from_secs(NOW);
    let (live, authentic) = (open(data, &KEYS, now, &mut scratch).is_ok(), {
        let mut scratch = Scratch::default();
        open_authentic(data, &KEYS, &mut scratch).is_ok()
    });
    assert!(authentic || !live, "what lives is authentic");
    let mut scratch = Scratch::default();
    assert!(Ticket::open(data, &KEYS, &mut scratch).is_err(), "no key here is for tickets");
}

/// A header and claims, a line each, sealed as if we had: what only whoever has the key can send, and other systems may.
pub(crate) fn claims(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, claims) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let header = if header.is_empty() { br#"{"alg":"dir","enc":"A256GCM"}"# } else { header };
    let header = URL_SAFE_NO_PAD.encode(header);
    let payload = Payload { msg: claims, aad: header.as_bytes() };
    let mut sealed = CIPHER.encrypt(&IV.into(), payload).expect("short enough to seal");
    let tag = sealed.split_off(sealed.len() - 16);
    let [iv, sealed, tag] = [&IV[..], &sealed, &tag].map(|part| URL_SAFE_NO_PAD.encode(part));
    let token = format!("{header}..{iv}.{sealed}.{tag}");
    let mut scratch = Scratch::default();
    let Ok(claims) = open_authentic(token.as_bytes(), &KEYS, &mut scratch) else { return };
    let is_live = claims.judge(NumericDate::from_secs(NOW)).is_ok();
    assert!(!is_live || claims.exp > NumericDate::from_secs(NOW));
    check_again(&claims);
}

/// What was read of a token is said by one of ours, unless that would be too long.
fn check_again(claims: &Claims<'_>) {
    let Some(key) = KEYS.minting() else { return };
    let Ok(token) = seal(claims, key) else { return };
    let mut scratch = Scratch::default();
    assert_eq!(open_authentic(token.as_bytes(), &KEYS, &mut scratch).as_ref(), Ok(claims));
}

/// A timed link: as text, and with the bytes as a payload that the other system signed now.
pub(crate) fn timed(data: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let age = Duration::from_secs(600);
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(SIGNER.open(text, now, age).is_err(), "nobody guesses a signature");
    }
    // A dot in front is for what is deflated.
    let (dot, payload) = data.strip_prefix(b".").map_or(("", data), |rest| (".", rest));
    let time = u32::try_from(NOW).expect("a time of this century").to_be_bytes();
    let [payload, time] = [payload, &time].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = format!("{dot}{payload}.{time}");
    let mac = Hmac::<Sha1>::new_from_slice(&TIMED_KEY[..]).expect("any length will do");
    let mac = URL_SAFE_NO_PAD.encode(mac.chain_update(&signed).finalize().into_bytes());
    match SIGNER.open(&format!("{signed}.{mac}"), now, age) {
        Ok(_) | Err(TimedError::Bad(BadTimed::TooLong | BadTimed::Encoding | BadTimed::Payload)) => {}
        Err(error) => panic!("signed just now, and refused: {error}"),
    }
}

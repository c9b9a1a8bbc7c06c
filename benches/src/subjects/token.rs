//! What a token costs: sealing it at the coordinator, opening it at the edge; the same by josekit, and by OpenSSL's cipher
//! alone. josekit is spared the claims: it takes and gives their JSON text.

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use josekit::jwe::{Dir, JweHeader, deserialize_compact, serialize_compact};
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use sluice_shared::file_id::FileId;
use sluice_shared::keys::{KeyId, KeyRing, KeyState, Secret, TokenKey};
use sluice_shared::token::{Claims, NumericDate, Scratch, open, random_id, seal};

use super::{Operation, Subject};

const COUNTED: u32 = 2000;

pub(super) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "seal/sluice",
        beside: Some("seal/josekit"),
        limit: "AES-GCM, base64url, the claims' text",
        counted: COUNTED,
        make: seal_sluice,
    },
    Subject {
        name: "seal/josekit",
        beside: None,
        limit: "allocations, and the cipher's set-up for each token",
        counted: COUNTED,
        make: seal_josekit,
    },
    Subject {
        name: "seal/openssl-gcm",
        beside: None,
        limit: "the cipher's set-up: for the bytes alone it is fastest",
        counted: COUNTED,
        make: seal_openssl,
    },
    Subject {
        name: "open/sluice",
        beside: Some("open/josekit"),
        limit: "AES-GCM and base64url; a third of the instructions, and an eighth of the time, are claims",
        counted: COUNTED,
        make: open_sluice,
    },
    Subject {
        name: "open/sluice-foreign",
        beside: Some("open/sluice"),
        limit: "the JSON parser: claims that no coordinator wrote",
        counted: COUNTED,
        make: open_foreign,
    },
    Subject {
        name: "open/sluice-without-claims",
        beside: Some("open/openssl-gcm"),
        limit: "AES-GCM and base64url; what open/sluice takes beyond it is claims",
        counted: COUNTED,
        make: open_without_claims,
    },
    Subject {
        name: "open/josekit",
        beside: None,
        limit: "JSON of the header, and the cipher's set-up for each token",
        counted: COUNTED,
        make: open_josekit,
    },
    Subject {
        name: "open/openssl-gcm",
        beside: None,
        limit: "the cipher's set-up: for the bytes alone it is fastest",
        counted: COUNTED,
        make: open_openssl,
    },
];

const KEY: [u8; 32] = [7; 32];
const KEY_ID: &str = "2026-11";
const IV: [u8; 12] = [3; 12];

/// A ring of the one key of all benches.
pub(super) fn key_ring() -> KeyRing {
    let id = KeyId::parse(KEY_ID).expect("a date is a key id");
    let key = TokenKey::new(id, KeyState::Current, Secret::new(KEY));
    KeyRing::new(vec![key]).expect("one current key is a ring")
}

/// The claims that a coordinator fills in.
fn claims(now: SystemTime) -> Claims<'static> {
    let file_id = FileId::parse("reports/2026/annual-report.pdf").expect("a plain path is a file id");
    // Whole seconds, as a coordinator mints them.
    let date = |time: SystemTime| {
        NumericDate::from_secs(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    };
    Claims {
        user_id: Some("user-4711".into()),
        iat: Some(date(now)),
        jti: Some(random_id().into()),
        rid: Some(random_id().into()),
        iss: Some("http://127.0.0.1:8080".into()),
        edg: Some("edge-1".into()),
        ..Claims::new(file_id, date(now + Duration::from_secs(900)))
    }
}

fn text() -> Vec<u8> {
    serde_json::to_vec(&claims(SystemTime::now())).expect("claims always serialize")
}

/// A token as a coordinator mints it.
pub(super) fn sealed() -> String {
    seal(&claims(SystemTime::now()), key_ring().current()).expect("a usual token is short")
}

fn seal_sluice() -> Operation {
    let (ring, claims) = (key_ring(), claims(SystemTime::now()));
    Box::new(move || assert!(black_box(seal(black_box(&claims), ring.current())).is_ok()))
}

fn header() -> JweHeader {
    let mut header = JweHeader::new();
    header.set_content_encryption("A256GCM");
    header.set_key_id(KEY_ID);
    header
}

/// Any text, under the header that a coordinator writes.
fn sealed_text(text: &[u8]) -> String {
    let minted = sealed();
    let (header, _) = minted.split_once('.').expect("a token has parts");
    let mut tag = [0; 16];
    let sealed = encrypt_aead(Cipher::aes_256_gcm(), &KEY, Some(&IV), header.as_bytes(), text, &mut tag);
    let [iv, sealed, tag] =
        [&IV[..], &sealed.expect("OpenSSL seals"), &tag].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}..{iv}.{sealed}.{tag}")
}

fn seal_josekit() -> Operation {
    let (header, text) = (header(), text());
    let encrypter = Dir.encrypter_from_bytes(KEY).expect("32 bytes are a key");
    Box::new(move || assert!(black_box(serialize_compact(black_box(&text), &header, &encrypter)).is_ok()))
}

fn seal_openssl() -> Operation {
    let (text, cipher) = (text(), Cipher::aes_256_gcm());
    Box::new(move || {
        let mut tag = [0; 16];
        let sealed = encrypt_aead(cipher, &KEY, Some(&IV), KEY_ID.as_bytes(), black_box(&text), &mut tag);
        assert!(black_box(sealed).is_ok());
    })
}

fn opening(token: String, is_good: bool) -> Operation {
    let (ring, mut scratch) = (key_ring(), Scratch::default());
    let now = NumericDate::from_system_time(SystemTime::now());
    Box::new(move || {
        let opened = open(black_box(token.as_bytes()), &ring, now, &mut scratch);
        assert_eq!(black_box(opened).is_ok(), is_good);
    })
}

fn open_sluice() -> Operation {
    opening(sealed(), true)
}

/// The same claims, with a space behind each comma, as another writer's JSON may have.
fn open_foreign() -> Operation {
    let text = String::from_utf8(text()).expect("JSON is text");
    opening(sealed_text(text.replace(",\"", ", \"").as_bytes()), true)
}

/// An authentic text of the same length that no claim can be read from.
fn open_without_claims() -> Operation {
    opening(sealed_text(&vec![b'-'; text().len()]), false)
}

fn open_josekit() -> Operation {
    let token = sealed();
    let decrypter = Dir.decrypter_from_bytes(KEY).expect("32 bytes are a key");
    Box::new(move || assert!(black_box(deserialize_compact(black_box(&token), &decrypter)).is_ok()))
}

fn open_openssl() -> Operation {
    let (text, cipher) = (text(), Cipher::aes_256_gcm());
    let mut tag = [0; 16];
    let sealed =
        encrypt_aead(cipher, &KEY, Some(&IV), KEY_ID.as_bytes(), &text, &mut tag).expect("OpenSSL seals");
    Box::new(move || {
        let opened = decrypt_aead(cipher, &KEY, Some(&IV), KEY_ID.as_bytes(), black_box(&sealed), &tag);
        assert!(black_box(opened).is_ok());
    })
}

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use josekit::jwe::{Dir, JweHeader, deserialize_compact, serialize_compact};
use proptest::prelude::*;
use serde_json::Value;

use super::claims::Draft;
use super::*;
use crate::file_id::FileId;
use crate::keys::{KeyId, KeyRing, KeyState, Secret, TokenKey};

const NOW: u64 = 1_790_000_000;

fn now() -> NumericDate {
    NumericDate::from_secs(NOW)
}

fn key(id: &str, bytes: [u8; 32], state: KeyState) -> TokenKey {
    TokenKey::new(KeyId::parse(id).unwrap(), state, Secret::new(bytes))
}

fn ring() -> KeyRing {
    KeyRing::new(vec![key("k1", [7; 32], KeyState::Current), key("k0", [9; 32], KeyState::Previous)]).unwrap()
}

fn claims(file_id: &str) -> Claims<'_> {
    Claims::new(FileId::parse(file_id).unwrap(), NumericDate::from_secs(NOW + 900))
}

/// Tokens of python-jose, jwcrypto and joserfc, and hand-made ones, each with the answer it must get.
#[test]
fn vectors_of_the_reference_systems_pass_whole() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/data/vectors.json")).unwrap();
    let jwe = &vectors["jwe"];
    let current = jwe["current"].as_str().unwrap();
    let keys = jwe["keys"].as_object().unwrap().iter().map(|(id, k)| {
        let bytes = URL_SAFE_NO_PAD.decode(k.as_str().unwrap()).unwrap();
        let state = if id == current { KeyState::Current } else { KeyState::Previous };
        key(id, bytes.try_into().unwrap(), state)
    });
    let ring = KeyRing::new(keys.collect()).unwrap();
    // The vectors' live tokens expire far in the future; "now" is when this repository began.
    let mut scratch = Scratch::default();
    let mut seen = 0;
    for vector in jwe["tokens"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let token = vector["token"].as_str().unwrap().as_bytes();
        let result = match open(token, &ring, now(), &mut scratch) {
            Ok(claims) => {
                assert!(!claims.file_id.as_str().is_empty(), "{name}");
                "ok"
            }
            Err(TokenError::Expired) => "expired",
            Err(TokenError::NotYetValid) => "not_yet_valid",
            Err(_) => "malformed",
        };
        assert_eq!(result, vector["result"].as_str().unwrap(), "{name}");
        seen += 1;
    }
    assert!(seen >= 39, "the whole file is read, {seen}");
}

#[test]
fn times_are_judged_to_the_instant() {
    let ring = ring();
    let mut scratch = Scratch::default();
    let at = |offset: f64| NumericDate::from_secs_f64(NOW as f64 + offset).unwrap();
    let table = [
        (at(0.5), None, Ok(())),
        (at(0.0), None, Err(TokenError::Expired)),
        (at(-0.001), None, Err(TokenError::Expired)),
        (at(900.0), Some(at(5.0)), Ok(())),
        (at(900.0), Some(at(5.001)), Err(TokenError::NotYetValid)),
        (at(-1.0), Some(at(60.0)), Err(TokenError::Expired)),
    ];
    for (exp, nbf, expected) in table {
        let token = seal(&Claims { exp, nbf, ..claims("a") }, ring.current()).unwrap();
        let result = open(token.as_bytes(), &ring, now(), &mut scratch).map(|_| ());
        assert_eq!(result, expected, "exp {exp:?} nbf {nbf:?}");
    }
}

#[test]
fn an_expired_token_is_renewable_while_its_link_lives() {
    let at = |offset: f64| NumericDate::from_secs_f64(NOW as f64 + offset).unwrap();
    let (expired, early) = (Err(TokenError::Expired), Err(TokenError::NotYetValid));
    let table = [
        // exp, lxp, nbf
        (900.0, None, None, Ok(()), true),
        (900.0, Some(-1.0), None, Ok(()), true),
        (900.0, None, Some(60.0), early, false),
        (-1.0, None, None, expired, false),
        (-1.0, Some(60.0), None, expired, true),
        (0.0, Some(0.001), None, expired, true),
        (-1.0, Some(0.0), None, expired, false),
        (-1.0, Some(60.0), Some(5.0), expired, true),
        (-1.0, Some(60.0), Some(5.001), expired, false),
    ];
    let (ring, mut scratch) = (ring(), Scratch::default());
    for (exp, lxp, nbf, holds, is_renewable) in table {
        let claims = Claims { exp: at(exp), lxp: lxp.map(at), nbf: nbf.map(at), ..claims("a") };
        let token = seal(&claims, ring.current()).unwrap();
        let opened = open_authentic(token.as_bytes(), &ring, &mut scratch).unwrap();
        assert_eq!(opened, claims);
        assert_eq!((opened.judge(now()), opened.is_renewable(now())), (holds, is_renewable), "{claims:?}");
    }
}

#[test]
fn truncated_tags_are_never_accepted() {
    let ring = ring();
    let token = seal(&claims("a"), ring.current()).unwrap();
    let (rest, tag) = token.rsplit_once('.').unwrap();
    let tag = URL_SAFE_NO_PAD.decode(tag).unwrap();
    for length in 0..16 {
        let cut = format!("{rest}.{}", URL_SAFE_NO_PAD.encode(&tag[..length]));
        let result = open(cut.as_bytes(), &ring, now(), &mut Scratch::default()).map(|_| ());
        assert_eq!(result, Err(TokenError::Length), "{length} bytes");
    }
}

/// Seals any text as the claims part, to reach the claims parser behind the tag.
fn seal_text(text: &str, header: &str) -> String {
    let mut jose = JweHeader::from_bytes(header.as_bytes()).unwrap();
    jose.set_content_encryption("A256GCM");
    serialize_compact(text.as_bytes(), &jose, &Dir.encrypter_from_bytes([7; 32]).unwrap()).unwrap()
}

#[test]
fn claims_are_read_strictly() {
    let table = [
        (r#"{"file_id":"a","exp":1790000900}"#, None),
        (r#"{"file_id":"\u0061\"b","exp":1790000900.25,"x":{"y":[1,2]},"z":null}"#, None),
        (r#"{"file_id":"a","exp":1790000900,"exp":1790000900}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","file_\u0069d":"b","exp":1790000900}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1790000900,"x":1,"x":1}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1790000900,"x":1,"\u0078":1}"#, Some(TokenError::Claims)),
        (r#"{"file_id":7,"exp":1790000900}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":"1790000900"}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1e999}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1790000900,"head":1}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1790000900,"hop":-1}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1790000900,"rate":1.5}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1790000900,"ip":null}"#, Some(TokenError::Claims)),
        (r#"{"file_id":"a","exp":1790000900} x"#, Some(TokenError::Claims)),
        (r#"{"file_id":"../a","exp":1790000900}"#, Some(TokenError::FileId)),
        (r#"{"file_id":"","exp":1790000900}"#, Some(TokenError::FileId)),
    ];
    let ring = ring();
    let mut scratch = Scratch::default();
    for (text, expected) in table {
        let token = seal_text(text, r#"{"alg":"dir"}"#);
        let result = open(token.as_bytes(), &ring, now(), &mut scratch);
        assert_eq!(result.err(), expected, "{text}");
    }
    let many: String = (0..20).map(|n| format!(r#","x{n}":0"#)).collect();
    let token = seal_text(&format!(r#"{{"file_id":"a","exp":1790000900{many}}}"#), r#"{"alg":"dir"}"#);
    assert_eq!(open(token.as_bytes(), &ring, now(), &mut scratch).err(), Some(TokenError::Claims));
}

#[test]
fn headers_are_read_strictly() {
    let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let table = [
        (r#"{"alg":"dir","enc":"A256GCM","kid":"nobody"}"#, TokenError::UnknownKey),
        (r#"{"alg":"dir","alg":"dir","enc":"A256GCM"}"#, TokenError::Header),
        (r#"{"alg":"dir","enc":"A256GCM","x":1,"x":2}"#, TokenError::Header),
        (r#"{"alg":"dir","enc":"A256GCM","typ":"ticket"}"#, TokenError::Header),
        (r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#, TokenError::Header),
        (r#"{"alg":"dir","enc":"A256GCM","crit":[]}"#, TokenError::Header),
        (r#"{"alg":"dir","enc":"A256GCM","x":1}"#, TokenError::Authentication),
        (r#"{"alg":"dir","enc":"A256GCM","typ":"JWT"}"#, TokenError::Authentication),
    ];
    let ring = ring();
    let token = seal(&claims("a"), ring.current()).unwrap();
    let (_, rest) = token.split_once('.').unwrap();
    for (header, expected) in table {
        let altered = format!("{}.{rest}", b64(header));
        let result = open(altered.as_bytes(), &ring, now(), &mut Scratch::default()).map(|_| ());
        assert_eq!(result.err(), Some(expected), "{header}");
    }
    let long = format!(r#"{{"alg":"dir","enc":"A256GCM","x":"{}"}}"#, "x".repeat(600));
    let altered = format!("{}.{rest}", b64(&long));
    let result = open(altered.as_bytes(), &ring, now(), &mut Scratch::default()).map(|_| ());
    assert_eq!(result.err(), Some(TokenError::Header));
}

#[test]
fn a_token_that_would_not_fit_a_url_is_not_minted() {
    let long = "x".repeat(1024);
    assert!(seal(&claims(&long), ring().current()).is_ok());
    let quoted = "\"".repeat(1024);
    assert_eq!(seal(&claims(&quoted), ring().current()), Err(SealError::TooLong));
    let endless = vec![b'a'; TOKEN_BYTES_MAX + 1];
    assert_eq!(open(&endless, &ring(), now(), &mut Scratch::default()), Err(TokenError::TooLong));
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zA-Z0-9 _.\"%é漢\u{1F600}-]{1,40}").unwrap()
}

prop_compose! {
    fn any_claims()(
        file_id in "[a-zé]{1,20}(/[a-z\"0-9]{1,10}){0,3}",
        exp in (NOW + 1)..(NOW + 1_000_000),
        // In 1/1024 s: exact in binary, so that every JSON library reads the same number back.
        fraction in 0..1024u32,
        texts in proptest::array::uniform9(proptest::option::of(text())),
        rate in proptest::option::of(any::<u64>()),
        hop in any::<u8>(),
        head in any::<bool>(),
    ) -> Claims<'static> {
        let [user_id, cid, jti, rid, iss, lnk, ip, r#fn, edg] = texts.map(|text| text.map(Cow::Owned));
        let mut claims = Claims::new(
            FileId::parse(file_id).unwrap(),
            NumericDate::from_secs_f64(exp as f64 + f64::from(fraction) / 1024.0).unwrap(),
        );
        claims.lxp = lnk.as_ref().map(|_| NumericDate::from_secs(exp));
        Claims { user_id, cid, jti, rid, iss, lnk, ip, r#fn, edg, rate, hop, head, ..claims }
    }
}

fn whole_numbers(claims: &Claims<'_>) -> bool {
    claims.exp.as_secs_f64().fract() == 0.0
}

proptest! {
    #[test]
    fn what_is_sealed_opens_here_and_in_josekit(claims in any_claims()) {
        let ring = ring();
        let token = seal(&claims, ring.current()).unwrap();
        let mut scratch = Scratch::default();
        prop_assert_eq!(&open(token.as_bytes(), &ring, now(), &mut scratch).unwrap(), &claims);

        let decrypter = Dir.decrypter_from_bytes([7; 32]).unwrap();
        let (text, header) = deserialize_compact(&token, &decrypter).unwrap();
        prop_assert_eq!(header.key_id(), Some("k1"));
        let theirs: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(theirs, serde_json::to_value(&claims).unwrap());
    }

    #[test]
    fn what_josekit_seals_opens_here(
        claims in any_claims(),
        (id, byte) in prop_oneof![Just(("k1", 7)), Just(("k0", 9))],
        names_key in any::<bool>(),
    ) {
        let mut header = JweHeader::new();
        header.set_content_encryption("A256GCM");
        if names_key {
            header.set_key_id(id);
        }
        let text = serde_json::to_vec(&claims).unwrap();
        let token = serialize_compact(&text, &header, &Dir.encrypter_from_bytes([byte; 32]).unwrap()).unwrap();
        let (ring, mut scratch) = (ring(), Scratch::default());
        prop_assert_eq!(&open(token.as_bytes(), &ring, now(), &mut scratch).unwrap(), &claims);
        let (opened, key) = open_by_key(token.as_bytes(), &ring, &mut scratch).unwrap();
        prop_assert_eq!((opened, key.as_str()), (claims, id));
    }

    /// The short way to write claims writes what serde does, or says that it cannot.
    #[test]
    fn claims_written_the_short_way_are_those_of_serde(claims in any_claims(), whole in any::<bool>()) {
        let exp = if whole { NumericDate::from_secs(NOW) } else { claims.exp };
        let claims = Claims { exp, ..claims };
        let theirs = serde_json::to_string(&claims).unwrap();
        let mut ours = Vec::new();
        let is_written = minted::write(&claims, &mut ours);
        prop_assert_eq!(is_written, whole_numbers(&claims) && !theirs.contains('\\'));
        if is_written {
            prop_assert_eq!(String::from_utf8(ours).unwrap(), theirs);
        }
    }

    /// The short way through claims says what the JSON parser says, or nothing.
    #[test]
    fn claims_read_the_short_way_are_those_of_the_parser(
        claims in any_claims(),
        whole in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3u8, r#"[\[\]{}":,.0-9a-z\\\\ -]"#), 0..3),
    ) {
        let exp = if whole { NumericDate::from_secs(NOW) } else { claims.exp };
        let mut text = serde_json::to_string(&Claims { exp, ..claims }).unwrap();
        let is_minted_form = edits.is_empty() && whole && !text.contains('\\') && text.len() < 4000;
        for (at, kind, with) in edits {
            let at = at.index(text.len());
            let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
            text.replace_range(at..if kind == 0 { at } else { end }, if kind == 2 { "" } else { &with });
        }
        let mut short = Draft::new();
        let is_read = minted::read(text.as_bytes(), &mut short).is_some();
        let parsed = serde_json::from_str(&text).map_err(|_| TokenError::Claims).and_then(Draft::finish);
        if is_read {
            prop_assert_eq!(short.finish(), parsed, "{}", text);
        } else {
            // A rate may have more digits than the short way reads.
            prop_assert!(!is_minted_form || parsed.unwrap().rate.is_some_and(|rate| rate > 999_999_999_999_999));
        }
    }

    #[test]
    fn any_changed_byte_is_refused(claims in any_claims(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let ring = ring();
        let mut token = seal(&claims, ring.current()).unwrap().into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != to);
        token[at] = to;
        prop_assert!(open_authentic(&token, &ring, &mut Scratch::default()).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open_authentic(&bytes, &ring(), &mut Scratch::default()).is_err());
    }
}

//! A file's edges as a Metalink (RFC 5854), for clients that ask for one: they fetch from several and fail over by
//! themselves. It is negotiated by `Accept`, and says the same of a token as a redirection would.

use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sluice_shared::save_name::safe_name;

use crate::answer::{NO_STORE, Redirection};
use crate::mint::Minted;
use crate::routing::Edge;

mod asking;
mod facts;

pub(crate) use asking::Asker;
pub(crate) use facts::{Fact, Facts};

pub(crate) const MEDIA_TYPE: &str = "application/metalink4+xml";
const ACCEPT: HeaderValue = HeaderValue::from_static("Accept");

/// Whether the caller would rather have a Metalink: it names the type, and likes nothing better. Who asks for a range
/// wants bytes.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::ACCEPT).iter();
    let (mut metalink, mut anything) = (None, None);
    for range in fields.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let name = name.trim();
        if name.eq_ignore_ascii_case(MEDIA_TYPE) {
            metalink = Some(quality(parameters));
        } else if name == "*/*" {
            anything = Some(quality(parameters));
        }
    }
    metalink.is_some_and(|quality| quality > 0.0 && quality >= anything.unwrap_or_default())
        && !headers.contains_key(header::RANGE)
}

/// The weight among a media range's parameters (RFC 9110 §12.4.2); one that cannot be read is 0.
fn quality(parameters: &str) -> f32 {
    let mut pairs = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let weight = pairs.rfind(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.map_or(1.0, |(_, value)| value.trim().parse().unwrap_or_default())
}

/// Says of an answer that another `Accept` may have got another.
pub(crate) fn vary(response: &mut Response) {
    response.headers_mut().insert(header::VARY, ACCEPT);
}

/// The answer that names these edges, best first, and what is known of the file; its token was minted for the first.
pub(crate) fn answer(minted: &Minted, edges: &[&Edge], name: &str, fact: Option<Fact>) -> Redirection {
    let name = safe_name(name);
    let document = document(minted.token.as_str(), edges, &name, fact);
    let mut response = (StatusCode::OK, document).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Programs save it before they read it: not under the name that the file itself gets.
    let disposition = format!("attachment; filename=\"{}.meta4\"", plain(&name));
    let disposition = HeaderValue::try_from(disposition).expect("letters, digits, dots and the like");
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    vary(&mut response);
    let edge = edges.first().expect("a file is located at one edge at least").record.id.clone();
    Redirection { response, edge }
}

/// ASCII that needs no escapes in a quoted string.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

fn document(token: &str, edges: &[&Edge], name: &str, fact: Option<Fact>) -> String {
    let mut text = String::with_capacity(512 + edges.len() * (token.len() + 128));
    text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str("<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n  <file name=\"");
    escape(name, &mut text);
    text.push_str("\">\n");
    if let Some(Fact { size, sha256 }) = fact {
        let _ = writeln!(text, "    <size>{size}</size>");
        if let Some(sha256) = sha256 {
            text.push_str("    <hash type=\"sha-256\">");
            for byte in sha256 {
                let _ = write!(text, "{byte:02x}");
            }
            text.push_str("</hash>\n");
        }
    }
    for (place, edge) in (1..).zip(edges) {
        let _ = write!(text, "    <url priority=\"{place}\">");
        escape(edge.record.url.as_str(), &mut text);
        let _ = writeln!(text, "/download?token={token}</url>");
    }
    text.push_str("  </file>\n</metalink>\n");
    text
}

/// Text for an attribute or an element (XML 1.0 §2.2, §2.4): what may not be there at all becomes `_`.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => out.push('_'),
            c if c.is_control() => out.push('_'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_for_those_who_ask_for_it() {
        let table = [
            ("", "", false),
            ("*/*", "", false),
            ("text/html, application/xhtml+xml, */*;q=0.8", "", false),
            ("*/*,application/metalink4+xml,application/metalink+xml", "", true),
            ("application/metalink4+xml", "", true),
            ("Application/Metalink4+XML ; q=0.5", "", true),
            ("application/metalink4+xml;q=0", "", false),
            ("application/metalink4+xml;q=0.000", "", false),
            ("application/metalink4+xml;q=many", "", false),
            ("application/metalink4+xml;q=0.1, */*;q=0.8", "", false),
            ("application/metalink4+xml;q=0.9, */*;q=0.8", "", true),
            ("application/metalink4+xmlx", "", false),
            ("application/metalink+xml", "", false),
            ("*/*,application/metalink4+xml", "bytes=5-", false),
        ];
        for (accept, range, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::ACCEPT, accept), (header::RANGE, range)] {
                if !value.is_empty() {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(is_wanted(&headers), expected, "{accept}, {range}");
        }
        let mut two = HeaderMap::new();
        two.append(header::ACCEPT, HeaderValue::from_static("*/*"));
        two.append(header::ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        assert!(is_wanted(&two), "fields of one name are one list");
    }

    #[test]
    fn no_name_ends_its_attribute() {
        let name = safe_name("\"/><url>http://evil.example/</url>&'\u{1}\u{fffe}漢\n");
        let fact = Fact { size: 5, sha256: Some([0xab; 32]) };
        let text = document("TOKEN", &[], &name, Some(fact));
        let expected =
            "<file name=\"&quot;_&gt;&lt;url&gt;http:__evil.example_&lt;_url&gt;&amp;&apos;__漢_\">";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("<size>5</size>") && text.contains(&"ab".repeat(32)));
        assert_eq!(plain("a\"b\r\n漢.bin"), "a_b___.bin");
    }
}

//! The text of a head → a response of HTTP/2. Heads are written once, for all versions of HTTP.

use http::{HeaderName, HeaderValue, Response, StatusCode, Version};

/// More than any head here has.
const FIELDS_MAX: usize = 32;

/// The response that a text begins with, and where its head ends.
pub(super) fn response(text: &[u8]) -> (Response<()>, usize) {
    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(text).expect("written by us");
    let httparse::Status::Complete(head_bytes) = parsed else { unreachable!("a head is written whole") };
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_2;
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    *response.status_mut() = status.expect("written by us");
    for field in head.headers {
        // RFC 9113 §8.2.2: connections of this version have frames for that.
        if field.name.eq_ignore_ascii_case("Connection") {
            continue;
        }
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("written by us");
        let value = HeaderValue::from_bytes(field.value).expect("written by us");
        response.headers_mut().append(name, value);
    }
    (response, head_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_connection_is_taken_over() {
        let text =
            b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nETag: \"a\"\r\nVary: Origin\r\n\r\nbody";
        let (response, head_bytes) = response(text);
        assert_eq!(&text[head_bytes..], b"body");
        assert_eq!(response.status(), 206);
        assert_eq!(response.headers().len(), 2);
        assert_eq!(response.headers()["etag"], "\"a\"");
    }
}

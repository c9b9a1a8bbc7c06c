//! `multipart/byteranges` (RFC 9110 §14.6): some ranges of a file as the parts of one body. It makes what stands between
//! the ranges, and never puts them together: a body is sent piece by piece, from where the file's bytes are.

use std::ops::Range;

/// What separates parts. 128 random bits, drawn anew for each answer: nobody who chooses a file's content knows them,
/// so that no file has a line that ends a part early (RFC 2046 §5.1.1), but for chance.
#[derive(Debug, Clone, Copy)]
pub struct Boundary(pub u128);

impl std::fmt::Display for Boundary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A body of several parts.
#[derive(Debug)]
pub struct Multipart {
    boundary: Boundary,
    pub parts: Box<[Part]>,
    /// Behind the last part.
    pub closing: Box<str>,
    /// Of the whole body.
    pub bytes: u64,
}

/// One part: its head, with the delimiter before it, and the bytes of the file that follow.
#[derive(Debug)]
pub struct Part {
    pub head: Box<str>,
    pub range: Range<u64>,
}

impl Multipart {
    /// Of a file of `size` bytes; every range lies within it.
    pub fn new(boundary: Boundary, ranges: Vec<Range<u64>>, media_type: &str, size: u64) -> Self {
        let parts: Box<[_]> = ranges
            .into_iter()
            .enumerate()
            .map(|(place, range)| {
                // Nothing stands before the first delimiter, so no line has to end there.
                let line_end = if place == 0 { "" } else { "\r\n" };
                let head = format!("{line_end}{}", part_head(boundary, &range, media_type, size)).into();
                Part { head, range }
            })
            .collect();
        let closing: Box<str> = format!("\r\n--{boundary}--\r\n").into();
        let bytes = parts.iter().map(Part::bytes).sum::<u64>() + closing.len() as u64;
        Self { boundary, parts, closing, bytes }
    }

    /// The body's own media type.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }
}

impl Part {
    fn bytes(&self) -> u64 {
        self.head.len() as u64 + (self.range.end - self.range.start)
    }
}

fn part_head(boundary: Boundary, range: &Range<u64>, media_type: &str, size: u64) -> String {
    let (first, last) = (range.start, range.end - 1);
    format!(
        "--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
    )
}

/// The most that one part more adds to a body, beside the file's bytes.
pub fn part_head_bytes(media_type: &str, size: u64) -> u64 {
    let last = size.saturating_sub(1)..size.max(1);
    ("\r\n".len() + part_head(Boundary(0), &last, media_type, size).len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_it_says() {
        let multipart = Multipart::new(Boundary(7), vec![90..100, 0..1], "text/plain", 100);
        let file = [b'x'; 100];
        let mut body = Vec::new();
        for part in &multipart.parts {
            body.extend_from_slice(part.head.as_bytes());
            let place = |offset: u64| usize::try_from(offset).unwrap();
            body.extend_from_slice(&file[place(part.range.start)..place(part.range.end)]);
            assert!(part.head.len() as u64 <= part_head_bytes("text/plain", 100));
        }
        body.extend_from_slice(multipart.closing.as_bytes());
        assert_eq!(body.len() as u64, multipart.bytes);
        let boundary = "00000000000000000000000000000007";
        assert_eq!(
            String::from_utf8(body).unwrap(),
            format!(
                "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 90-99/100\r\n\r\nxxxxxxxxxx\r\n\
                 --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/100\r\n\r\nx\r\n--{boundary}--\r\n"
            )
        );
        assert_eq!(multipart.content_type(), format!("multipart/byteranges; boundary={boundary}"));
    }
}

//! A hundred thousand requests with ranges and conditions, generated: each is answered as the model says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "places of files that are in memory")]

mod model;
mod support;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Date, Expected, IfRange, Meant, Rules, Spec, Tags, expected};
use support::{Answer, Edge, content};

const REQUESTS: usize = 100_000;
/// Requests that are under way at a time: what they are answered with fits the sockets.
const BATCH: usize = 32;
const RANGES_MAX: usize = 6;

/// Each run the same.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

struct Served {
    token: String,
    bytes: Vec<u8>,
    etag: String,
    modified: SystemTime,
}

impl Served {
    fn new(edge: &Edge, name: &str, bytes: Vec<u8>) -> Self {
        edge.file(name, &bytes);
        let answer = edge.get(name, "");
        assert!(answer.status == 200 && answer.body == bytes);
        let modified = httpdate::parse_http_date(answer.field("Last-Modified").unwrap()).unwrap();
        Self { token: edge.token(name), bytes, etag: answer.field("ETag").unwrap().to_owned(), modified }
    }

    /// What another part's head adds, as it is written (RFC 9110 §14.6).
    fn part_head_bytes(&self) -> u64 {
        let last = self.bytes.len().max(1) - 1;
        let boundary = "0".repeat(32);
        let (kind, size) = ("application/octet-stream", self.bytes.len());
        format!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {last}-{last}/{size}\r\n\r\n"
        )
        .len() as u64
    }
}

/// Writes a request down, and says what it means.
fn request(random: &mut Random, served: &Served) -> (String, Meant) {
    let mut meant = Meant { is_head: random.one_in(10), ..Meant::default() };
    let mut fields = String::new();
    if random.one_in(8) {
        let (text, tags) = tags(random, &served.etag);
        write!(fields, "If-Match: {text}\r\n").unwrap();
        meant.if_match = Some(tags);
    }
    if random.one_in(8) {
        let (text, tags) = tags(random, &served.etag);
        write!(fields, "if-none-match: {text}\r\n").unwrap();
        meant.if_none_match = Some(tags);
    }
    if random.one_in(8) {
        let (text, date) = date(random, served.modified);
        write!(fields, "If-Modified-Since: {text}\r\n").unwrap();
        meant.if_modified_since = Some(date);
    }
    if random.one_in(8) {
        let (text, date) = date(random, served.modified);
        write!(fields, "If-Unmodified-Since: {text}\r\n").unwrap();
        meant.if_unmodified_since = Some(date);
    }
    if random.one_in(3) {
        let (text, if_range) = if_range(random, served);
        write!(fields, "If-Range: {text}\r\n").unwrap();
        meant.if_range = Some(if_range);
    }
    if !random.one_in(6) {
        let (text, specs) = range(random, served.bytes.len() as u64);
        write!(fields, "Range: {text}\r\n").unwrap();
        meant.range = Some(specs);
        if random.one_in(40) {
            fields.push_str("Range: bytes=0-0\r\n");
            meant.range = Some(None);
        }
    }
    let method = if meant.is_head { "HEAD" } else { "GET" };
    let token = &served.token;
    (format!("{method} /download?token={token} HTTP/1.1\r\nHost: e\r\n{fields}\r\n"), meant)
}

fn tags(random: &mut Random, own: &str) -> (String, Tags) {
    match random.below(10) {
        0 => (random.pick(&["*", " * "]).to_owned(), Tags::Any),
        1 => (random.pick(&["", "x", "W/", "\"open", "w/\"x\"", "'x'"]).to_owned(), Tags::Broken),
        _ => {
            let mut text = String::new();
            let mut list = Vec::new();
            for place in 0..=random.below(3) {
                let (is_weak, is_own) = (random.one_in(3), random.one_in(3));
                let opaque = if is_own { own } else { random.pick(&["\"\"", "\"a,b\"", "\"W/\"", "\"*\""]) };
                let separator = if place == 0 { "" } else { random.pick(&[",", ", ", " ,\t", ",,"]) };
                write!(text, "{separator}{}{opaque}", if is_weak { "W/" } else { "" }).unwrap();
                list.push((is_weak, is_own));
            }
            (text, Tags::List(list))
        }
    }
}

fn date(random: &mut Random, own: SystemTime) -> (String, Date) {
    if random.one_in(8) {
        return (random.pick(&["", "yesterday", "2026-11-26T00:00:00Z", "784111777"]).to_owned(), None);
    }
    let after = random.pick(&[-86_400, -3600, -1, 0, 0, 1, 60, 86_400]);
    let own = i64::try_from(own.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(own + after).unwrap());
    (written(random, &httpdate::fmt_http_date(at)), Some(after))
}

/// A date in one of its three forms (§5.6.7).
fn written(random: &mut Random, fixed: &str) -> String {
    let words: Vec<&str> = fixed.split(' ').collect();
    let [weekday, day, month, year, time, _] = words[..] else { panic!("{fixed}") };
    let short = &weekday[..3];
    match random.below(3) {
        0 => fixed.to_owned(),
        1 => {
            let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
            let long = days.iter().find(|day| day.starts_with(short)).unwrap();
            format!("{long}, {day}-{month}-{} {time} GMT", &year[2..])
        }
        _ => format!("{short} {month} {:>2} {time} {year}", day.trim_start_matches('0')),
    }
}

fn if_range(random: &mut Random, served: &Served) -> (String, IfRange) {
    if random.one_in(2) {
        let (text, date) = date(random, served.modified);
        return (text, IfRange::Date(date));
    }
    let (is_weak, is_own) = (random.one_in(4), !random.one_in(3));
    let opaque = if is_own { &served.etag } else { "\"other\"" };
    (format!("{}{opaque}", if is_weak { "W/" } else { "" }), IfRange::Tag { is_weak, is_own })
}

fn range(random: &mut Random, size: u64) -> (String, Option<Vec<Spec>>) {
    let unit = if random.one_in(8) {
        random.pick(&["lines=", "bytes ", "bytes:", "="])
    } else {
        random.pick(&["bytes=", "bytes=", "Bytes=", "bytes=,"])
    };
    let mut text = unit.to_owned();
    let count = if random.one_in(3) { 1 } else { random.below(RANGES_MAX as u64 + 2) };
    let mut specs = Vec::new();
    for place in 0..count {
        let (spec, element) = spec(random, size);
        let separator = if place == 0 { "" } else { random.pick(&[",", ", ", ",\t,", " ,"]) };
        write!(text, "{separator}{element}").unwrap();
        specs.push(spec);
    }
    let is_bytes = unit.to_ascii_lowercase().starts_with("bytes=");
    (text, is_bytes.then_some(specs))
}

fn spec(random: &mut Random, size: u64) -> (Spec, String) {
    // Around the ends of the file and of other ranges.
    let place = |random: &mut Random| match random.below(6) {
        0 => random.below(4),
        1 => (size + 2).saturating_sub(random.below(5)),
        _ => random.below(size + 10),
    };
    match random.below(24) {
        0..=13 => {
            let first = place(random);
            let last = match random.below(12) {
                0 => place(random),
                1..=3 => first + random.below(size + 2),
                _ => first + random.below(20),
            };
            (Spec::FromTo(first, last), format!("{first}-{last}"))
        }
        14..=15 => {
            let first = place(random);
            (Spec::From(first), format!("{first}-"))
        }
        16..=22 => {
            let length = if random.one_in(2) { random.below(20) } else { place(random) };
            (Spec::Suffix(length), format!("-{length}"))
        }
        _ => (
            Spec::Broken,
            random.pick(&["-", "x-1", "1-x", "1", "+1-2", "1--2", "0x1-2", "1 - 2"]).to_owned(),
        ),
    }
}

/// Holds an answer against what the model says.
fn judge(answer: &Answer, meant: &Meant, expected: &Expected, served: &Served) -> Result<(), String> {
    let claim = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let size = served.bytes.len();
    let status = match expected {
        Expected::Whole => 200,
        Expected::Runs(_) => 206,
        Expected::NotModified => 304,
        Expected::PreconditionFailed => 412,
        Expected::RangeNotSatisfiable => 416,
    };
    claim(answer.status == status, "status")?;
    claim(answer.field("ETag") == Some(&served.etag), "ETag")?;
    match expected {
        Expected::Whole if meant.is_head => {
            claim(answer.field("Content-Length") == Some(&size.to_string()), "length")
        }
        Expected::Whole => claim(answer.body == served.bytes, "content"),
        Expected::Runs(runs) if runs.len() == 1 => {
            let (first, last) = runs[0];
            let range = format!("bytes {first}-{last}/{size}");
            claim(answer.field("Content-Range") == Some(&range), "Content-Range")?;
            claim(answer.body == served.bytes[first as usize..=last as usize], "content")
        }
        Expected::Runs(runs) => judge_parts(answer, runs, served),
        Expected::RangeNotSatisfiable => {
            claim(answer.field("Content-Range") == Some(&format!("bytes */{size}")), "Content-Range")
        }
        Expected::NotModified | Expected::PreconditionFailed => claim(answer.body.is_empty(), "no content"),
    }
}

/// A body of parts, taken apart as a client does (RFC 2046 §5.1.1).
fn judge_parts(answer: &Answer, runs: &[(u64, u64)], served: &Served) -> Result<(), String> {
    let kind = answer.field("Content-Type").unwrap_or_default();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").ok_or("Content-Type")?;
    if answer.field("Content-Range").is_some() {
        return Err("Content-Range of the whole".to_owned());
    }
    let mut rest = &answer.body[..];
    for (place, (first, last)) in runs.iter().enumerate() {
        let bytes = &served.bytes[*first as usize..=*last as usize];
        let head = format!(
            "{}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
            if place == 0 { "" } else { "\r\n" },
            served.bytes.len()
        );
        rest = rest.strip_prefix(head.as_bytes()).ok_or(format!("head of part {place}"))?;
        rest = rest.strip_prefix(bytes).ok_or(format!("content of part {place}"))?;
    }
    let sent = answer.body.len() as u64;
    let most = served.bytes.len() as u64 + served.part_head_bytes() * (runs.len() as u64 + 1);
    if sent > most {
        return Err(format!("{sent} bytes are more than the file and its part heads"));
    }
    if rest == format!("\r\n--{boundary}--\r\n").as_bytes() { Ok(()) } else { Err("the end".to_owned()) }
}

#[test]
fn the_edge_agrees_with_the_model() {
    let limits = format!("ranges_max = {RANGES_MAX}");
    let edge = Edge::start_configured("", "size = \"64MiB\"\nrevalidate = \"60s\"", &limits);
    // In memory, in shared memory, in windows.
    let sizes = [0, 1, 60, 700, 1500, 2000, 2000, 9000, 70_000];
    let files: Vec<Served> = sizes
        .iter()
        .enumerate()
        .map(|(at, size)| Served::new(&edge, &format!("{at}.bin"), content(*size, at as u64)))
        .collect();
    let mut random = Random(0x5EED);
    let mut seen = [0usize; 6];
    for _ in 0..REQUESTS.div_ceil(BATCH * 10) {
        let mut connection = edge.connect();
        for _ in 0..10 {
            let batch: Vec<_> = (0..BATCH)
                .map(|_| {
                    // Large files cost the model a while.
                    let most = if random.one_in(50) { files.len() } else { files.len() - 2 };
                    let served = &files[usize::try_from(random.below(most as u64)).unwrap()];
                    (served, request(&mut random, served))
                })
                .collect();
            let texts: String = batch.iter().map(|(_, (text, _))| text.as_str()).collect();
            connection.send(&texts);
            for (served, (text, meant)) in batch {
                let answer = connection.try_answer(meant.is_head).unwrap();
                let rules = Rules { ranges_max: RANGES_MAX, gap_min: served.part_head_bytes() };
                let expected = expected(&meant, served.bytes.len() as u64, &rules);
                if let Err(what) = judge(&answer, &meant, &expected, served) {
                    let size = served.bytes.len();
                    panic!(
                        "{what} of {size} bytes: {text}\nmeant {meant:?}\nexpected {expected:?}\n{}",
                        answer.head
                    );
                }
                let kind = match &expected {
                    Expected::Whole => 0,
                    Expected::Runs(runs) => 1 + usize::from(runs.len() > 1),
                    Expected::NotModified => 3,
                    Expected::PreconditionFailed => 4,
                    Expected::RangeNotSatisfiable => 5,
                };
                seen[kind] += 1;
            }
        }
    }
    assert!(seen.iter().sum::<usize>() >= REQUESTS);
    assert!(seen.iter().all(|count| *count > REQUESTS / 50), "each kind of answer was asked for: {seen:?}");
}

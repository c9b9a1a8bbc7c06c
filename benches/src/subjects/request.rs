//! A request's head, read, and the plan of its answer.

use std::hint::black_box;

use sluice_edge_node::plan::{Plan, Representation, plan};
use sluice_edge_node::request::{RequestHead, TokenParameter, find_end};

use super::{Operation, Subject, token};

const COUNTED: u32 = 5000;

pub(super) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "request/curl",
        beside: Some("request/curl-httparse"),
        limit: "httparse, and the search for the head's end: the token is most of it",
        counted: COUNTED,
        make: || reading(head(CURL)),
    },
    Subject {
        name: "request/curl-httparse",
        beside: None,
        limit: "the bytes of the head, looked at in vectors",
        counted: COUNTED,
        make: || parsing(head(CURL)),
    },
    Subject {
        name: "request/browser",
        beside: Some("request/browser-httparse"),
        limit: "httparse: fourteen fields",
        counted: COUNTED,
        make: || reading(head(BROWSER)),
    },
    Subject {
        name: "request/browser-httparse",
        beside: None,
        limit: "the bytes of the head, looked at in vectors",
        counted: COUNTED,
        make: || parsing(head(BROWSER)),
    },
    Subject {
        name: "plan/plain",
        beside: None,
        limit: "nothing: it looks at what is not there",
        counted: COUNTED,
        make: || planning("", |plan| *plan == Plan::Full),
    },
    Subject {
        name: "plan/range",
        beside: Some("plan/plain"),
        limit: "the numbers of the range",
        counted: COUNTED,
        make: || planning("Range: bytes=1048576-2097151\r\n", |plan| matches!(plan, Plan::Partial(_))),
    },
    Subject {
        name: "plan/conditional",
        beside: Some("plan/plain"),
        limit: "the entity tags of the list",
        counted: COUNTED,
        make: || planning(CONDITIONAL, |plan| *plan == Plan::NotModified),
    },
    Subject {
        name: "plan/multipart",
        beside: Some("plan/range"),
        limit: "the list of its eight ranges, which it allocates",
        counted: COUNTED,
        make: || planning(EIGHT, |plan| matches!(plan, Plan::Parts(parts) if parts.len() == 8)),
    },
];

const CURL: &str = "Host: edge-1.example:9000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n";
const BROWSER: &str = "Host: edge-1.example:9000\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
    sec-ch-ua: \"Chromium\";v=\"126\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
    Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n";
const CONDITIONAL: &str = "If-None-Match: \"another\", \"6400000-18a2b3c4d5e6f-1a2b\"\r\n";
const EIGHT: &str = "Range: bytes=0-999,10000-10999,20000-20999,30000-30999,40000-40999,50000-50999,60000-60999,\
    70000-70999\r\n";
const FILE: Representation<'static> = Representation {
    size: 100 << 20,
    etag: "\"6400000-18a2b3c4d5e6f-1a2b\"",
    modified_secs: 1_700_000_000,
    part_head_bytes: 120,
};
const NOW: u64 = 1_800_000_000;
const RANGES_MAX: usize = 32;

fn head(fields: &str) -> Vec<u8> {
    format!("GET /download?token={} HTTP/1.1\r\n{fields}\r\n", token::sealed()).into_bytes()
}

/// As an edge reads it: where it ends, what it is, its token.
fn reading(head: Vec<u8>) -> Operation {
    Box::new(move || {
        let bytes = black_box(&head[..]);
        assert_eq!(find_end(bytes, 0), Ok(Some(bytes.len())));
        let request = RequestHead::parse(bytes).expect("a plain request");
        assert!(request.resource().is_ok());
        assert!(matches!(black_box(request.token()), TokenParameter::Given(_)));
    })
}

fn parsing(head: Vec<u8>) -> Operation {
    Box::new(move || {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        assert!(request.parse(black_box(&head)).is_ok_and(|status| status.is_complete()));
        black_box(&request);
    })
}

fn planning(fields: &str, is_expected: fn(&Plan) -> bool) -> Operation {
    let text = head(&format!("Host: edge\r\n{fields}"));
    // Lives as long as the program, as what borrows it does.
    let head = RequestHead::parse(text.leak()).expect("a plain request");
    Box::new(move || {
        let plan = plan(head.method, black_box(&head.conditions), &FILE, NOW, RANGES_MAX);
        assert!(is_expected(black_box(&plan)));
    })
}

//! Every bench by its name: what stands beside it, and what limits it.

use crate::subjects;

/// What is said of a bench, or of all whose names begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The bench that stands beside it, for scale.
    pub beside: Option<String>,
    pub limit: &'static str,
}

/// A row for all benches `name/…`; `beside/…` stands beside each, where there is such a one.
struct Family {
    name: &'static str,
    beside: Option<&'static str>,
    limit: &'static str,
}

const fn family(name: &'static str, beside: Option<&'static str>, limit: &'static str) -> Family {
    Family { name, beside, limit }
}

/// Those that are no [`subjects`]: by size of the cluster or of the file.
const FAMILIES: &[Family] = &[
    family("pick/plain", None, "memory: the ring's table misses the caches"),
    family("pick/hot", Some("pick/plain"), "the walk to the second to eighth owner, and two loads compared"),
    family("pick/start-of-no-zone", Some("pick/plain"), "one hash for each zone"),
    family(
        "pick/counted-and-assigned",
        Some("pick/plain"),
        "two atomic additions, whose lines other cores write too",
    ),
    family("pick/bounded", Some("pick/plain"), "the walk past edges that are over their bound"),
    family("change/membership", None, "the ring's insertion, and the table of successors of one zone"),
    family("change/death", Some("change/membership"), "copies of the list of edges: no ring changes"),
    family("edge/bare", None, "the kernel's TCP over loopback, and waking the other thread"),
    family("edge/send", Some("edge/bare"), "the kernel's TCP; a tenth is the token"),
    family("edge/sendfile", Some("edge/bare"), "the kernel's walk over pages, and the client's copies"),
    family(
        "edge/cold",
        Some("edge/bare"),
        "the disk, which is read past the page cache; and the ring's five operations for a small file, one after the other",
    ),
    family("cache/hit", None, "one round trip between two threads"),
    family(
        "cache/fill",
        Some("cache/hit"),
        "the disk, which is read past the page cache; and OPENAT2, STATX, READ, STATX, CLOSE, one after the other",
    ),
    family("redirect/bare-hyper", None, "the kernel's TCP, and hyper"),
    family(
        "redirect/coordinator",
        Some("redirect/bare-hyper"),
        "the kernel's TCP and hyper; sealing is a fifth of the rest",
    ),
];

/// What is said of a bench; nothing of one that nobody has entered here.
pub fn of(name: &str) -> Option<Known> {
    if let Some(subject) = subjects::find(name) {
        return Some(Known { beside: subject.beside.map(str::to_owned), limit: subject.limit });
    }
    FAMILIES.iter().find_map(|family| {
        let rest = name.strip_prefix(family.name)?.strip_prefix('/')?;
        Some(Known { beside: family.beside.map(|beside| format!("{beside}/{rest}")), limit: family.limit })
    })
}

/// A cost that no bench has by itself: what one takes beyond another.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    pub name: &'static str,
    pub of: &'static str,
    pub without: &'static str,
    pub limit: &'static str,
}

/// Nothing reads claims but what has opened a token, so that they are measured with and without. Without, the parser is asked
/// too and refuses at the first byte: some hundred instructions that the difference lacks.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "claims/minted",
        of: "open/sluice",
        without: "open/sluice-without-claims",
        limit: "one pass over the text, field by field in the order of coordinators",
    },
    Difference {
        name: "claims/foreign",
        of: "open/sluice-foreign",
        without: "open/sluice-without-claims",
        limit: "serde_json's parser, after the quick pass has given up",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_what_stands_beside() {
        let send = of("edge/send/1KiB").expect("it is known");
        assert_eq!(send.beside.as_deref(), Some("edge/bare/1KiB"));
        assert_eq!(of("open/sluice").and_then(|known| known.beside).as_deref(), Some("open/josekit"));
        assert_eq!((of("edge/send"), of("another/one")), (None, None));
        for difference in DIFFERENCES {
            assert!(subjects::find(difference.of).is_some() && subjects::find(difference.without).is_some());
        }
    }
}

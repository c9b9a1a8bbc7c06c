use proptest::prelude::*;

use super::mark::{KEPT_AFTER_END_MS, LAST_MS, LINK_KEPT_AFTER_END_MS};
use super::*;
use crate::file_id::FileId;

const NOW: Instant = Instant(1_800_000_000_000);

fn target(kind: Kind, value: &str) -> Target {
    Target::new(kind, value).unwrap()
}

/// Set and until, in milliseconds from now.
fn mark(set: i64, until: i64) -> Mark {
    let at = |offset| Instant(NOW.0.saturating_add_signed(offset));
    Mark { set: at(set), until: at(until), cut: false }
}

fn subject() -> Subject<'static> {
    Subject { file: "a/b/c.bin", link: Some("l"), user: Some("u"), client: Some("c") }
}

#[test]
fn each_kind_bars_what_it_names() {
    let table = [
        (Kind::Link, "l", true),
        (Kind::Link, "u", false),
        (Kind::User, "u", true),
        (Kind::User, "U", false),
        (Kind::Client, "c", true),
        (Kind::Client, "l", false),
        (Kind::File, "a/b/c.bin", true),
        (Kind::File, "a/b", false),
        (Kind::Key, "l", false),
        (Kind::Prefix, "", true),
        (Kind::Prefix, "a", true),
        (Kind::Prefix, "a/", true),
        (Kind::Prefix, "a/b", true),
        (Kind::Prefix, "a/b/", true),
        (Kind::Prefix, "a/b/c.bin", true),
        (Kind::Prefix, "a/b/c", false),
        (Kind::Prefix, "b", false),
        (Kind::Prefix, "a/b/c.bin/", false),
    ];
    for (kind, value, expected) in table {
        let mut revocations = Revocations::default();
        assert!(revocations.merge(&target(kind, value), mark(-1, 1)));
        let barred = revocations.bar(&subject(), NOW);
        assert_eq!(barred, expected.then_some(Barred { by: kind, cut: false }), "{kind:?} {value}");
        assert_eq!(revocations.bar(&subject(), Instant(NOW.0 + 1)), None, "it has ended");
        assert_eq!(revocations.is_key_revoked(value, NOW), kind == Kind::Key);
    }
    let nobody = Subject { file: "x", link: None, user: None, client: None };
    assert_eq!(Revocations::default().bar(&nobody, NOW), None);
}

#[test]
fn one_mark_that_cuts_is_enough() {
    let mut revocations = Revocations::default();
    revocations.merge(&target(Kind::User, "u"), mark(-1, 1));
    revocations.merge(&target(Kind::Prefix, "a"), Mark { cut: true, ..mark(-1, 1) });
    assert_eq!(revocations.bar(&subject(), NOW), Some(Barred { by: Kind::User, cut: true }));
}

#[test]
fn lifting_is_remembered_longer_than_what_it_lifts() {
    let (target, mut revocations) = (target(Kind::File, "f"), Revocations::default());
    revocations.merge(&target, mark(0, 1000));
    revocations.merge(&target, mark(1, 0));
    assert!(!revocations.is_file_barred("f", NOW));
    revocations.forget(Instant(NOW.0 + KEPT_AFTER_END_MS));
    assert!(!revocations.merge(&target, mark(0, 1000)), "an old list says so again");
    revocations.forget(Instant(NOW.0 + KEPT_AFTER_END_MS + 1));
    assert!(revocations.is_empty());
}

#[test]
fn a_links_mark_is_forgotten_soon_unless_it_lifts_another() {
    let table = [
        (Kind::Link, mark(0, 1000), 1000 + LINK_KEPT_AFTER_END_MS),
        (Kind::Link, mark(1, 0), KEPT_AFTER_END_MS),
        (Kind::User, mark(0, 1000), 1000 + KEPT_AFTER_END_MS),
    ];
    for (kind, mark, kept_ms) in table {
        let mut revocations = Revocations::default();
        revocations.merge(&target(kind, "x"), mark);
        revocations.forget(Instant(NOW.0 + kept_ms));
        assert_eq!((revocations.count(kind), revocations.len()), (1, 1), "{kind:?} {mark:?}");
        revocations.forget(Instant(NOW.0 + kept_ms + 1));
        assert!(revocations.is_empty(), "{kind:?} {mark:?}");
    }
}

#[test]
fn a_copy_keeps_what_it_had() {
    let mut revocations = Revocations::default();
    let ids: Vec<_> = (0..500).map(|number| format!("u{number:022}")).collect();
    for id in &ids {
        revocations.merge(&target(Kind::Link, id), mark(0, 1000));
    }
    let before = revocations.clone();
    revocations.merge(&target(Kind::Link, &ids[7]), mark(1, 0));
    revocations.merge(&target(Kind::Link, "another"), mark(0, 1000));
    assert_eq!((before.len(), revocations.len()), (500, 501));
    assert_eq!(before.mark_on(&target(Kind::Link, &ids[7])), Some(&mark(0, 1000)));
    assert_eq!(revocations.iter().count(), 501);
}

/// The clock of whoever set the mark before was ahead.
#[test]
fn what_is_barred_stands_whatever_was_said_before() {
    let (book, user) = (RevocationBook::open(None).unwrap(), target(Kind::User, "u"));
    let now = Instant::now();
    let (ahead, later) = (Instant(now.0 + 3_600_000), Instant(now.0 + 60_000));
    book.merge([(user.clone(), Mark { set: ahead, until: now, cut: false })]);
    let barred = book.bar(&user, later, true).unwrap();
    assert_eq!(barred, Mark { set: Instant(ahead.0 + 1), until: later, cut: true });
    assert_eq!(book.load().mark_on(&user), Some(&barred));
    assert_eq!(book.lift(&user), Ok(true));
    assert!(!book.load().mark_on(&user).unwrap().is_in_force(Instant::now()));
    assert_eq!(book.lift(&user), Ok(false), "nothing is in force");
    let last = target(Kind::Key, "k");
    book.merge([(last.clone(), Mark { set: Instant(LAST_MS), until: now, cut: false })]);
    assert_eq!(book.bar(&last, later, false), Err(BarError::Last));
}

#[test]
fn owners_links_are_bounded_and_leave_room_for_what_operators_bar() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("revocations.json");
    let book = RevocationBook::open(Some(&path)).unwrap();
    let now = Instant::now();
    let (soon, later) = (Instant(now.0 + 600_000), Instant(now.0 + 1_200_000));
    let link = |number: usize| target(Kind::Link, &format!("u{number:022}"));
    let mark = Mark { set: now, until: soon, cut: false };
    book.merge((0..89_999).map(|number| (link(number), mark)));
    assert_eq!(book.bar_link(&link(90_000), soon), Ok(()));
    assert_eq!(book.bar_link(&link(90_001), soon), Err(BarError::Full(90_000)));
    assert_eq!(book.bar_link(&link(90_000), later), Ok(()), "it has its place");
    assert_eq!(book.load().mark_on(&link(90_000)).unwrap().until, later);
    assert!(book.bar(&link(90_001), later, false).is_ok());
    book.merge((90_002..100_001).map(|number| (link(number), mark)));
    assert_eq!(book.bar(&link(100_001), soon, false), Err(BarError::Full(100_000)));
    assert!(book.bar(&target(Kind::Key, "k"), later, false).is_ok());
    // More than other files of ours may have, and whoever starts next reads it.
    book.save().unwrap();
    assert!(path.metadata().unwrap().len() > 16 << 20);
    assert_eq!(RevocationBook::open(Some(&path)).unwrap().load().len(), 100_001);
}

#[test]
fn names_are_read_back_and_no_others_are_taken() {
    for kind in Kind::ALL {
        for value in ["x", "a/b", "ü 日本", "a.b-c_d"] {
            let target = target(kind, value);
            assert_eq!(Target::parse_key(&target.key()), Some(target));
        }
    }
    assert_eq!(target(Kind::User, "ann").key(), "revoked/user/YW5u");
    assert_eq!(target(Kind::Prefix, "").key(), "blocked/");
    let others = [
        "",
        "revoked",
        "revoked/x/YW5u",
        "revoked/prefix/YW5u",
        "revoked/user/",
        "revoked/user/YW5",
        "blocked",
        "revoked/user/YW5u/",
        "revoked/file/L2E",
        "revoked/user/_w",
        "revoked/user/Cg",
        "edges/YW5u",
        "revoked/user/YW5u==",
    ];
    for name in others {
        assert_eq!(Target::parse_key(name), None, "{name}");
    }
}

#[test]
fn a_book_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("revocations.json");
    let book = RevocationBook::open(Some(&path)).unwrap();
    assert!(!book.was_there());
    let changes = book.changes();
    let soon = Instant(Instant::now().0 + 60_000);
    let marks = [
        (target(Kind::User, "u"), Mark { set: Instant::now(), until: soon, cut: true }),
        (target(Kind::Prefix, ""), Mark { set: Instant::now(), until: soon, cut: false }),
    ];
    assert!(book.merge(marks.clone()));
    assert_eq!(*changes.borrow(), 1);
    assert!(!book.merge(marks));
    assert_eq!(*changes.borrow(), 1, "nothing new");
    assert!(!RevocationBook::open(Some(&path)).unwrap().was_there());
    book.save().unwrap();
    let again = RevocationBook::open(Some(&path)).unwrap();
    assert!(again.was_there());
    assert_eq!(**again.load(), **book.load());
    assert_eq!(again.load().len(), 2);
    // Two processes of one program, the one about to follow the other.
    again.merge([(target(Kind::File, "f"), Mark { set: Instant::now(), until: soon, cut: false })]);
    again.save().unwrap();
    book.merge([(target(Kind::Link, "l"), Mark { set: Instant::now(), until: soon, cut: false })]);
    book.save().unwrap();
    assert_eq!((book.load().len(), RevocationBook::open(Some(&path)).unwrap().load().len()), (4, 4));
    std::fs::write(&path, "nonsense").unwrap();
    assert!(matches!(RevocationBook::open(Some(&path)), Err(BookError::Text { .. })));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(RevocationBook::open(Some(&path)), Err(BookError::Read { .. })));
}

proptest! {
    /// Whoever hears the same marks, in whatever order and however often, comes to the same.
    #[test]
    fn order_does_not_matter(
        marks in prop::collection::vec((0..3usize, 0..4i64, 0..4i64, any::<bool>()), 1..12),
        seed in any::<prop::sample::Index>(),
    ) {
        let marks: Vec<_> = marks
            .into_iter()
            .map(|(at, set, until, cut)| (target(Kind::ALL[at], "x"), Mark { cut, ..mark(set, until) }))
            .collect();
        let merged = |marks: &mut dyn Iterator<Item = &(Target, Mark)>| {
            let mut revocations = Revocations::default();
            for (target, mark) in marks {
                revocations.merge(target, *mark);
            }
            revocations
        };
        let turn = seed.index(marks.len());
        let once = merged(&mut marks.iter());
        let otherwise = merged(&mut marks[turn..].iter().chain(marks.iter().rev()).chain(&marks[..turn]));
        prop_assert_eq!(once, otherwise);
    }

    #[test]
    fn prefixes_bar_what_is_under_them(file in "[ab]{1,2}(/[ab]{1,2}){0,3}", prefix in "([ab]{1,2}(/[ab]{1,2}){0,3}/?)?") {
        let mut revocations = Revocations::default();
        revocations.merge(&target(Kind::Prefix, &prefix), mark(-1, 1));
        prop_assert_eq!(revocations.is_file_barred(&file, NOW), FileId::parse(&*file).unwrap().is_under(&prefix));
    }
}

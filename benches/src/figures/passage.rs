//! A piece of a document: words, and places for numbers between them.

use std::ops::Range;

use anyhow::{Context as _, bail};

/// Words as they stand in the document, and what each number in it is.
#[derive(Debug)]
pub(super) struct Passage<'t> {
    /// One more than places.
    words: Vec<&'t str>,
    places: Vec<Place<'t>>,
}

/// `{path;form}`
#[derive(Debug)]
struct Place<'t> {
    path: &'t str,
    form: Form,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// `.2`: so many decimals.
    Decimals(usize),
    /// `k`: to the nearest thousand.
    Thousands,
    /// `%`: a share, as whole percent.
    Percent,
    /// `1/`: its reciprocal, whole.
    Reciprocal,
    /// `us`: seconds for a hundred thousand, as microseconds for one, one decimal.
    Micros,
    /// `KiB`: bytes, in KiB, one decimal.
    Kibibytes,
}

/// Where a passage is in a document.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) whole: Range<usize>,
    pub(super) numbers: Vec<Range<usize>>,
}

impl<'t> Passage<'t> {
    pub(super) fn parse(text: &'t str) -> anyhow::Result<Self> {
        let (mut words, mut places, mut rest) = (Vec::new(), Vec::new(), text.trim());
        while let Some((before, after)) = rest.split_once('{') {
            let (inner, behind) = after.split_once('}').context("a brace is not closed")?;
            let (path, form) = inner.rsplit_once(';').context("a place has no form")?;
            words.push(before);
            places.push(Place { path, form: Form::parse(form)? });
            rest = behind;
        }
        words.push(rest);
        Ok(Self { words, places })
    }

    /// The numbers as they should be written, by what `value` has for each path.
    pub(super) fn numbers(&self, value: impl Fn(&str) -> anyhow::Result<f64>) -> anyhow::Result<Vec<String>> {
        self.places.iter().map(|place| Ok(place.form.write(value(place.path)?))).collect()
    }

    /// With these numbers.
    pub(super) fn written(&self, numbers: &[String]) -> String {
        let behind = self.words.iter().skip(1);
        let pairs = numbers.iter().zip(behind).map(|(number, words)| format!("{number}{words}"));
        format!("{}{}", self.words.first().copied().unwrap_or_default(), pairs.collect::<String>())
    }

    /// The first place where a document has these words, with any numbers.
    pub(super) fn find(&self, text: &str) -> Option<Found> {
        text.char_indices().find_map(|(at, _)| self.at(text, at))
    }

    fn at(&self, text: &str, start: usize) -> Option<Found> {
        let (mut at, mut numbers) = (start, Vec::new());
        for (turn, words) in self.words.iter().enumerate() {
            at += length_of_words(&text[at..], words)?;
            if turn < self.places.len() {
                let length = length_of_number(&text[at..])?;
                numbers.push(at..at + length);
                at += length;
            }
        }
        Some(Found { whole: start..at, numbers })
    }
}

impl Found {
    /// The document with these numbers in its place.
    pub(super) fn with(&self, text: &str, numbers: &[String]) -> String {
        let mut mended = text.to_owned();
        for (place, number) in self.numbers.iter().zip(numbers).rev() {
            mended.replace_range(place.clone(), number);
        }
        mended
    }
}

impl Form {
    fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "k" => Self::Thousands,
            "%" => Self::Percent,
            "1/" => Self::Reciprocal,
            "us" => Self::Micros,
            "KiB" => Self::Kibibytes,
            _ => match text.strip_prefix('.').map(str::parse) {
                Some(Ok(decimals)) => Self::Decimals(decimals),
                _ => bail!("no form of a number is called {text:?}"),
            },
        })
    }

    fn write(self, value: f64) -> String {
        match self {
            Self::Decimals(decimals) => grouped(&format!("{value:.decimals$}")),
            Self::Thousands => grouped(&format!("{:.0}", (value / 1e3).round() * 1e3)),
            Self::Percent => format!("{:.0}", value * 100.0),
            Self::Reciprocal => format!("{:.0}", 1.0 / value),
            Self::Micros => format!("{:.1}", value * 10.0),
            Self::Kibibytes => format!("{:.1}", value / 1024.0),
        }
    }
}

/// Commas between thousands.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.find('.').map_or((number, ""), |at| number.split_at(at));
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// How far a text goes that begins with these words, any white space standing for any other.
fn length_of_words(text: &str, words: &str) -> Option<usize> {
    let (mut at, mut words) = (0, words.chars().peekable());
    while let Some(word) = words.next() {
        let rest = &text[at..];
        if word.is_whitespace() {
            while words.next_if(|next| next.is_whitespace()).is_some() {}
            let trimmed = rest.trim_start();
            if trimmed.len() == rest.len() {
                return None;
            }
            at += rest.len() - trimmed.len();
        } else {
            at += rest.strip_prefix(word).map(|_| word.len_utf8())?;
        }
    }
    Some(at)
}

/// Digits, with points and commas between them.
fn length_of_number(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 0;
    while is_digit(at) || (at > 0 && matches!(bytes.get(at), Some(b'.' | b',')) && is_digit(at + 1)) {
        at += 1;
    }
    (at > 0).then_some(at)
}

/// All numbers of a text, as far as they go.
pub(super) fn numbers_in(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(|character: char| character.is_ascii_digit())?;
        at = start + length_of_number(&text[start..])?;
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_their_forms() {
        for (form, value, written) in [
            (".2", 0.719, "0.72"),
            (".0", 12_345.6, "12,346"),
            ("k", 106_539.9, "107,000"),
            ("%", 0.9802, "98"),
            ("1/", 0.242, "4"),
            ("us", 0.9219, "9.2"),
            ("KiB", 890.06, "0.9"),
        ] {
            assert_eq!(Form::parse(form).unwrap().write(value), written);
        }
        assert!(
            Form::parse("2").is_err() && Passage::parse("{a}").is_err() && Passage::parse("{a;.1").is_err()
        );
    }

    #[test]
    fn a_passage_is_found_over_line_breaks_and_with_any_number() {
        let passage = Passage::parse("at {a;.2} of\nthe {b;.0}.").unwrap();
        let text = "1 at 2 at 0.7 of the\n  1,300. And";
        let found = passage.find(text).unwrap();
        assert_eq!((&text[found.whole.clone()], found.numbers.len()), ("at 0.7 of the\n  1,300.", 2));
        let numbers = ["0.71".to_owned(), "9".to_owned()];
        assert_eq!(found.with(text, &numbers), "1 at 2 at 0.71 of the\n  9. And");
        assert_eq!(passage.written(&numbers), "at 0.71 of\nthe 9.");
        assert!(passage.find("at 0.7 ofthe 1,300.").is_none());
    }

    #[test]
    fn numbers_end_before_full_stops() {
        let text = "of 1,024.5, and 3. Or v2";
        let numbers: Vec<&str> = numbers_in(text).map(|at| &text[at]).collect();
        assert_eq!(numbers, ["1,024.5", "3", "2"]);
    }
}

//! JSON objects read member by member with serde: text is borrowed where it has no escapes, and a name that occurs
//! twice is an error, known or not. RFC 7519 §4 and RFC 7516 §4 leave duplicates to the reader; Sluice refuses them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A JSON string, borrowed from the input unless it has escapes.
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Members an object may have beside those its reader knows.
const UNKNOWN_MEMBERS_MAX: usize = 16;

/// The names of members that the reader does not know, kept to notice repetitions. No heap while there are none.
#[derive(Default)]
pub(crate) struct UnknownNames<'a>(Vec<Cow<'a, str>>);

impl<'a> UnknownNames<'a> {
    pub(crate) fn insert<E: de::Error>(&mut self, name: Cow<'a, str>) -> Result<(), E> {
        if self.0.contains(&name) {
            return Err(E::custom("repeated member"));
        }
        if self.0.len() == UNKNOWN_MEMBERS_MAX {
            return Err(E::custom("too many unknown members"));
        }
        self.0.push(name);
        Ok(())
    }
}

/// Fills a member's place, once.
pub(crate) fn set_once<T, E: de::Error>(place: &mut Option<T>, value: T) -> Result<(), E> {
    if place.replace(value).is_some() {
        return Err(E::custom("repeated member"));
    }
    Ok(())
}

//! `Content-Type` by a file name's extension, and which types browsers may show instead of saving them.

use std::sync::Arc;

/// Where the general table is wrong for downloads: `.ts` is a video here, and a compressed archive is what its last
/// extension says.
const OVERRIDES: [(&str, &str); 6] = [
    ("ts", "video/mp2t"),
    ("zst", "application/zstd"),
    ("xz", "application/x-xz"),
    ("bz2", "application/x-bzip2"),
    ("jsonl", "application/jsonl"),
    ("parquet", "application/vnd.apache.parquet"),
];

/// The media type of a file called `name`; `application/octet-stream` where nothing is known.
pub(crate) fn of_name(name: &str) -> &'static str {
    known(name).unwrap_or("application/octet-stream")
}

/// The same where the extension tells one.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let found = OVERRIDES.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    match found {
        Some((_, media_type)) => Some(media_type),
        None => mime_guess::from_ext(extension).first_raw(),
    }
}

/// Whether a browser that shows such a file runs scripts of it, with all rights of this edge's origin.
fn is_active(media_type: &str) -> bool {
    let (_, subtype) = media_type.split_once('/').unwrap_or_default();
    matches!(subtype, "html" | "xml") || subtype.ends_with("+xml")
}

/// Media types that browsers may show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InlineTypes(Arc<[String]>);

/// Text that names no media type that may be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotInline {
    #[error(
        "has {0:?}, which is no media type; write one as in \"application/pdf\", or all of a kind as in \"image/*\""
    )]
    Unknown(String),
    #[error("has {0:?}, whose scripts would run in this edge's name; such files are always saved")]
    Active(String),
}

impl InlineTypes {
    /// # Errors
    /// One of them is no media type, or one that is never shown.
    pub(crate) fn settle(types: Vec<String>) -> Result<Self, NotInline> {
        let is_token = |token: &str| {
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        };
        for text in &types {
            if !text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype)) {
                return Err(NotInline::Unknown(text.clone()));
            }
            if is_active(text) {
                return Err(NotInline::Active(text.clone()));
            }
        }
        Ok(Self(types.into()))
    }

    pub(crate) fn contains(&self, media_type: &str) -> bool {
        let is_meant = |wanted: &String| match wanted.strip_suffix('*') {
            Some(kind) => media_type.starts_with(kind),
            None => media_type == wanted,
        };
        !is_active(media_type) && self.0.iter().any(is_meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_decide() {
        let table = [
            ("a.pdf", "application/pdf"),
            ("a.PDF", "application/pdf"),
            ("a.tar.zst", "application/zstd"),
            ("a.tar.gz", "application/gzip"),
            ("film.ts", "video/mp2t"),
            ("page.html", "text/html"),
            ("a", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
            ("", "application/octet-stream"),
        ];
        for (name, expected) in table {
            assert_eq!(of_name(name), expected, "{name}");
        }
    }

    #[test]
    fn what_may_run_scripts_is_never_shown() {
        let settle =
            |types: &[&str]| InlineTypes::settle(types.iter().map(|one| (*one).to_owned()).collect());
        let shown = settle(&["application/pdf", "image/*", "text/*", "application/*"]).unwrap();
        for name in ["a.pdf", "a.png", "a.txt"] {
            assert!(shown.contains(of_name(name)), "{name}");
        }
        for name in ["a.html", "a.htm", "a.svg", "a.xhtml", "a.xml", "a.mp4"] {
            assert!(!shown.contains(of_name(name)), "{name}");
        }
        assert!(!settle(&[]).unwrap().contains("application/pdf"));
        for bad in ["pdf", "", "/", "image/", "a/b/c"] {
            assert!(matches!(settle(&[bad]), Err(NotInline::Unknown(_))), "{bad}");
        }
        for bad in ["text/html", "image/svg+xml"] {
            assert!(matches!(settle(&[bad]), Err(NotInline::Active(_))), "{bad}");
        }
    }
}

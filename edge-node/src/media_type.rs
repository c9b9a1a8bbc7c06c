//! `Content-Type` by a file name's extension.

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
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let found = OVERRIDES.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    match found {
        Some((_, media_type)) => media_type,
        None => mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream"),
    }
}

#[cfg(test)]
mod tests {
    use super::of_name;

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
}

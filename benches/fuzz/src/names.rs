//! File ids, queries, names to save as, and headers of the PROXY protocol.

use sluice_shared::file_id::FileId;
use sluice_shared::proxy_protocol::{Header, parse};
use sluice_shared::query::Query;
use sluice_shared::save_name::safe_name;

/// No id and no name leads elsewhere.
pub(crate) fn run(data: &[u8]) {
    if let Ok(Header::Whole { header_bytes, .. }) = parse(data) {
        assert!(header_bytes <= data.len());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for id in [FileId::parse(text), FileId::parse_percent_encoded(text)].into_iter().flatten() {
        let id = id.as_str();
        assert!(!id.is_empty() && id.len() <= 1024);
        assert!(id.split('/').all(|segment| !matches!(segment, "" | "." | "..")));
        assert!(!id.contains(['\0', '\\', '\n', '\r']));
    }
    let name = safe_name(text);
    assert!((1..=255).contains(&name.len()) && !matches!(&*name, "." | ".."));
    assert!(!name.contains(['/', '\0', '\\', '\n', '\r']));
    if let Ok(query) = Query::parse(text) {
        let _ = query.value("token");
    }
}

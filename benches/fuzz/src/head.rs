//! The head of a request to an edge (RFC 9112).

use sluice_edge_node::request::{
    HEAD_BYTES_MAX, RequestHead, TokenParameter, find_end, forwarded_for, too_large,
};

/// Where it ends does not depend on how it came; what is read of it lies within it.
pub(crate) fn run(data: &[u8]) {
    let whole = find_end(data, 0);
    // The same bytes, a piece first.
    let first = data.len() / 2;
    if let (Ok(None), Ok(Some(end))) = (find_end(&data[..first], 0), &whole) {
        assert_eq!(find_end(data, first), Ok(Some(*end)), "found whatever the pieces");
        assert!(*end > first);
    }
    if data.len() > HEAD_BYTES_MAX {
        let _ = too_large(data);
    }
    let Ok(Some(end)) = whole else { return };
    let head = &data[..end];
    assert!(head.ends_with(b"\r\n\r\n"), "an empty line ends it");
    assert_eq!(find_end(head, 0), Ok(Some(end)), "and no later one");
    let Ok(request) = RequestHead::parse(head) else { return };
    let _ = request.resource();
    let bytes = head.as_ptr_range();
    let is_within = |part: &[u8]| part.is_empty() || bytes.contains(&part.as_ptr());
    if let TokenParameter::Given(token) = request.token() {
        assert!(token.len() <= head.len(), "decoding makes nothing longer");
    }
    let conditions = &request.conditions;
    let fields = [conditions.range, conditions.if_range, conditions.if_modified_since, request.origin];
    assert!(fields.into_iter().flatten().all(is_within));
    assert!(forwarded_for(head).all(is_within));
    // Lists that came in several fields are joined.
    for list in [&conditions.if_match, &conditions.if_none_match].into_iter().flatten() {
        assert!(list.len() <= head.len());
    }
}

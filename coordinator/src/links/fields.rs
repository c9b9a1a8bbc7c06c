//! The body of `POST /api/links`, every field judged and named.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use sluice_shared::client_net::ClientNet;
use sluice_shared::file_id::{FileId, is_allowed};
use sluice_shared::token::ticket::BIND_REDEEMER;

use crate::api::is_user_id;
use crate::call::object;
use crate::error::{ApiError, FieldFault};

/// Longest name to save as, in bytes: what file systems take.
pub(crate) const FILENAME_BYTES_MAX: usize = 255;
pub(crate) const DOWNLOADS_MAX: u32 = 1_000_000;

/// A link to be.
#[derive(Debug, PartialEq)]
pub(crate) struct NewLink<'b> {
    pub(super) file_id: FileId<'b>,
    pub(super) user_id: Option<String>,
    pub(super) ttl: Option<Duration>,
    pub(super) filename: Option<String>,
    pub(super) max_downloads: Option<u32>,
    pub(super) bind_ip: Option<String>,
    pub(super) rate: Option<u64>,
}

/// As it came. A `null` is an absent field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink<'b> {
    #[serde(borrow)]
    file_id: Cow<'b, str>,
    user_id: Option<String>,
    ttl: Option<u64>,
    filename: Option<String>,
    max_downloads: Option<u32>,
    bind_ip: Option<String>,
    rate: Option<u64>,
}

impl<'b> NewLink<'b> {
    /// # Errors
    /// The first fault, by its field.
    pub(crate) fn parse(body: &'b [u8]) -> Result<Self, ApiError> {
        let mut deserializer = serde_json::Deserializer::from_slice(object(body)?);
        let raw: RawLink<'b> = serde_path_to_error::deserialize(&mut deserializer).map_err(json_fault)?;
        deserializer.end().map_err(|_| json("something follows the object"))?;
        let file_id = FileId::parse(raw.file_id);
        let file_id = file_id.map_err(|fault| FieldFault::of("file_id", format!("is refused: {fault}")))?;
        check(
            "user_id",
            raw.user_id.as_deref(),
            is_user_id,
            "is not 1 to 256 bytes without control characters",
        )?;
        check("ttl", raw.ttl, |ttl| ttl > 0, "is 0")?;
        check("filename", raw.filename.as_deref(), is_filename, "is not 1 to 255 bytes of one plain name")?;
        let is_count = |count| (1..=DOWNLOADS_MAX).contains(&count);
        check("max_downloads", raw.max_downloads, is_count, "is not from 1 to 1000000")?;
        let is_binding = |text: &str| text == BIND_REDEEMER || ClientNet::parse(text).is_some();
        check(
            "bind_ip",
            raw.bind_ip.as_deref(),
            is_binding,
            "is no address, no CIDR block and not 'redeemer'",
        )?;
        check("rate", raw.rate, |rate| rate > 0, "is 0")?;
        Ok(Self {
            file_id,
            user_id: raw.user_id,
            ttl: raw.ttl.map(Duration::from_secs),
            filename: raw.filename,
            max_downloads: raw.max_downloads,
            bind_ip: raw.bind_ip,
            rate: raw.rate,
        })
    }
}

fn check<T>(
    field: &'static str,
    value: Option<T>,
    is_good: impl FnOnce(T) -> bool,
    fault: &'static str,
) -> Result<(), ApiError> {
    if value.is_none_or(is_good) { Ok(()) } else { Err(FieldFault::of(field, fault)) }
}

/// One name, no path: neither separators nor what could hide its ending.
fn is_filename(name: &str) -> bool {
    let is_plain = |c: char| is_allowed(c) && c != '/';
    (1..=FILENAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(is_plain)
        && !matches!(name, "." | "..")
}

fn json(fault: &str) -> ApiError {
    ApiError::Field(FieldFault::Json(fault.to_owned()))
}

/// The parser's words, which name unknown and repeated fields, with the field whose value is wrong before them.
fn json_fault(error: serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let path = error.path().to_string();
    let fault = error.into_inner().to_string();
    // What it quotes of the body is the caller's own, and may be long.
    let fault: String = fault.chars().take(200).collect();
    if path == "." { json(&fault) } else { json(&format!("field '{path}': {fault}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_body_is_read() {
        let body = r#"{"file_id":"年度/a.bin","user_id":"ann","ttl":600,"filename":"報告.bin","max_downloads":3,
            "bind_ip":"redeemer","rate":1000}"#;
        let link = NewLink::parse(body.as_bytes()).unwrap();
        assert_eq!(link.file_id.as_str(), "年度/a.bin");
        assert_eq!(
            (link.ttl, link.max_downloads, link.rate),
            (Some(Duration::from_secs(600)), Some(3), Some(1000))
        );
        let least = NewLink::parse(br#"{"file_id":"a","ttl":null}"#).unwrap();
        assert_eq!((least.ttl, least.user_id, least.bind_ip), (None, None, None));
    }

    #[test]
    fn every_fault_names_its_field() {
        let long = format!(r#"{{"file_id":"a","filename":"{}"}}"#, "n".repeat(256));
        let table = [
            (r#"{"file_id":""}"#, "'file_id'"),
            (r#"{"file_id":"../a"}"#, "'file_id'"),
            (r#"{"file_id":7}"#, "'file_id'"),
            (r#"{"ttl":1}"#, "`file_id`"),
            (r#"{"file_id":"a","file_id":"b"}"#, "`file_id`"),
            (r#"{"file_id":"a","speed":1}"#, "`speed`"),
            (r#"{"file_id":"a","user_id":""}"#, "'user_id'"),
            (r#"{"file_id":"a","user_id":"a\nb"}"#, "'user_id'"),
            (r#"{"file_id":"a","ttl":0}"#, "'ttl'"),
            (r#"{"file_id":"a","ttl":-1}"#, "'ttl'"),
            (r#"{"file_id":"a","ttl":1.5}"#, "'ttl'"),
            (r#"{"file_id":"a","ttl":"600"}"#, "'ttl'"),
            (r#"{"file_id":"a","filename":"a/b"}"#, "'filename'"),
            (r#"{"file_id":"a","filename":".."}"#, "'filename'"),
            (r#"{"file_id":"a","filename":"a\u202eb"}"#, "'filename'"),
            (&long, "'filename'"),
            (r#"{"file_id":"a","max_downloads":0}"#, "'max_downloads'"),
            (r#"{"file_id":"a","max_downloads":1000001}"#, "'max_downloads'"),
            (r#"{"file_id":"a","bind_ip":"here"}"#, "'bind_ip'"),
            (r#"{"file_id":"a","rate":0}"#, "'rate'"),
            (r#"["a"]"#, "object"),
            (r#"["a",null,null,null,null,null,null]"#, "object"),
            (r#"{"file_id":"a"} x"#, "follows"),
            ("", "object"),
            ("\u{feff}{}", "object"),
        ];
        for (body, expected) in table {
            let error = NewLink::parse(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{body}: {error}");
        }
    }
}

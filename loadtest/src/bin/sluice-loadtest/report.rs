//! A summary for people: as text, and as one HTML file that needs nothing else.

mod chart;
mod html;
mod scale;
mod style;
mod text;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use sluice_shared::file_id::is_allowed;

use crate::number::whole;
use crate::summary::Summary;

pub(crate) use text::text;

/// Writes `report.html` and `report.json` into a folder, which is made when missing.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn write(summary: &Summary, folder: &Path) -> anyhow::Result<()> {
    let wrong = || format!("cannot write the report into {}", folder.display());
    fs::create_dir_all(folder).with_context(wrong)?;
    let json = serde_json::to_string(summary)? + "\n";
    fs::write(folder.join("report.json"), json).with_context(wrong)?;
    fs::write(folder.join("report.html"), html::page(summary)).with_context(wrong)
}

/// A text from elsewhere without what could move a terminal's cursor or turn text around.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_allowed(c) { c } else { '\u{fffd}' }).collect()
}

pub(crate) fn bytes_per_second(bytes: f64) -> String {
    format!("{}/s", bytes_of(bytes))
}

/// Bytes with three digits and a unit of thousands.
pub(crate) fn bytes_of(bytes: f64) -> String {
    let (number, unit) = match bytes {
        bytes if bytes < 1e3 => return format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => (bytes / 1e3, "kB"),
        bytes if bytes < 1e9 => (bytes / 1e6, "MB"),
        bytes if bytes < 1e12 => (bytes / 1e9, "GB"),
        bytes => (bytes / 1e12, "TB"),
    };
    let digits = match whole(number) {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

/// A rate with three digits.
pub(crate) fn rate_of(rate: f64) -> String {
    let digits = match whole(rate) {
        0 if rate == 0.0 => 0,
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    format!("{rate:.digits$}")
}

#[cfg(test)]
mod tests;

//! The one place that prints.

use std::io::{self, Write};

use serde::Deserialize;

use crate::Format;
use crate::fault::Fault;
use crate::plain::{plain, plain_json};

/// Onto standard output, whole or with an error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// That a change was made: the API's JSON, where it has one, else the sentence.
pub(crate) fn confirm(format: Format, json: &str, sentence: &str) -> Result<(), Fault> {
    let text = match format {
        Format::Json if json.is_empty() => plain_json(&serde_json::json!({ "done": sentence }).to_string()),
        Format::Json => plain_json(json),
        Format::Table => plain(sentence),
    };
    print(&text).map_err(Fault::Output)
}

/// A sentence on standard error, for whoever looks.
pub(crate) fn tell(sentence: &str) {
    // Where nobody can be told, there is nobody to tell that.
    let _ = writeln!(io::stderr(), "sluicectl: {}", plain(sentence));
}

/// What etcd has and a coordinator does not use.
#[derive(Deserialize)]
pub(crate) struct Skipped {
    key: String,
    fault: String,
}

/// Names it, for whoever looks.
pub(crate) fn tell_skipped(skipped: Vec<Skipped>) {
    for Skipped { key, fault } in skipped {
        tell(&format!("skipped in etcd: {key}: {fault}"));
    }
}

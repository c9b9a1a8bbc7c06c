//! The one place that prints.

use std::io::{self, Write};

use crate::plain::plain;

/// Onto standard output, whole or with an error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// A sentence on standard error, for whoever looks.
pub(crate) fn tell(sentence: &str) {
    // Where nobody can be told, there is nobody to tell that.
    let _ = writeln!(io::stderr(), "sluicectl: {}", plain(sentence));
}

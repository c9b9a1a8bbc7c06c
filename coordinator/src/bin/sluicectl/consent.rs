//! A question before what cannot be taken back.

use std::io::{self, IsTerminal, Write};

use crate::fault::Fault;
use crate::plain::plain;

/// Asks on the terminal; `given` answers beforehand.
///
/// # Errors
/// The answer is not yes, or there is nobody to ask.
pub(crate) fn ask(question: &str, given: bool) -> Result<(), Fault> {
    if given {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Fault::NobodyToAsk);
    }
    let mut line = String::new();
    let asked = write!(io::stderr(), "{} [y/N] ", plain(question));
    let answered = asked.and_then(|()| io::stdin().read_line(&mut line));
    if answered.is_ok() && is_yes(&line) { Ok(()) } else { Err(Fault::Declined) }
}

fn is_yes(line: &str) -> bool {
    let word = line.trim();
    word.eq_ignore_ascii_case("y") || word.eq_ignore_ascii_case("yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for (line, expected) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yn\n", false)]
        {
            assert_eq!(is_yes(line), expected, "{line:?}");
        }
    }
}

//! The words after a verb, taken one by one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::slice;
use std::str::FromStr;
use std::time::Duration;

use pen_records::duration::{DefaultUnit, parse_duration};

use super::error::CommandError;
use crate::config::address::AddressError;

/// The result of parsing a command or a part of it.
pub(super) type Parsed<T> = Result<T, CommandError>;

/// A verb and the unread words after the verb.
pub(super) struct CommandWords<'a> {
    /// The verb as error messages name it.
    pub(super) verb: String,
    rest: slice::Iter<'a, OsString>,
}

impl<'a> CommandWords<'a> {
    /// Returns the words after `verb`.
    pub(super) fn new(verb: String, words: &'a [OsString]) -> Self {
        Self { verb, rest: words.iter() }
    }

    /// Returns the error for a word that is not `what`.
    pub(super) fn expected<T>(&self, what: &'static str) -> Parsed<T> {
        Err(CommandError::Expected(self.verb.clone(), what))
    }

    /// Returns whether all words have been read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.len() == 0
    }

    /// Reads the next word, which has to be UTF-8.
    pub(super) fn word(&mut self, what: &'static str) -> Parsed<&str> {
        match self.rest.next().and_then(|word| word.to_str()) {
            Some(word) => Ok(word),
            None => Err(CommandError::Expected(self.verb.clone(), what)),
        }
    }

    /// Reads a number.
    pub(super) fn number<T: FromStr>(&mut self, what: &'static str) -> Parsed<T> {
        let number = self.word(what)?.parse().ok();
        number.map_or_else(|| self.expected(what), Ok)
    }

    /// Reads a duration; see [`duration`].
    pub(super) fn time(&mut self) -> Parsed<Duration> {
        let what = "seconds, or a number with ms, s, m or h behind it";
        let time = duration(self.word(what)?);
        time.map_or_else(|| self.expected(what), Ok)
    }

    /// Reads a word of any bytes that is not empty.
    pub(super) fn bytes(&mut self, what: &'static str) -> Parsed<Vec<u8>> {
        match self.rest.next().map(|word| word.as_bytes().to_vec()) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => self.expected(what),
        }
    }

    /// Reads a path that is not empty.
    pub(super) fn path(&mut self, what: &'static str) -> Parsed<PathBuf> {
        match self.rest.next() {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => self.expected(what),
        }
    }

    /// Reads an address with `parse`.
    pub(super) fn address<T>(&mut self, parse: fn(&str) -> Result<T, AddressError>) -> Parsed<T> {
        let verb = self.verb.clone();
        parse(self.word("an address")?).map_err(|error| CommandError::Address(verb, error))
    }

    /// Returns `command`, if no word is left.
    pub(super) fn end<T>(&mut self, command: T) -> Parsed<T> {
        match self.rest.next() {
            None => Ok(command),
            Some(word) => Err(CommandError::Surplus(self.verb.clone(), printable(word))),
        }
    }
}

/// Returns a word as printable text.
pub(super) fn printable(word: &OsString) -> String {
    word.to_string_lossy().escape_debug().to_string()
}

/// The longest duration, a century: a longer one is a typing mistake.
const LONGEST: Duration = Duration::from_secs(3_155_760_000);

/// Parses a duration of whole milliseconds: a number of seconds, or a number followed by a unit; see
/// [`parse_duration`]. Returns `None` for anything else, and for more than a century.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let time = parse_duration(text, DefaultUnit::Seconds).ok()?;
    // Commands are written with milliseconds as the smallest unit.
    (time <= LONGEST && time.subsec_micros() % 1_000 == 0).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_milliseconds_up_to_a_century() {
        for (text, millis) in [
            ("0", Some(0)),
            ("250ms", Some(250)),
            ("5000us", Some(5)),
            ("10", Some(10_000)),
            ("10s", Some(10_000)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("3155760000", Some(3_155_760_000_000)),
            ("3155760001", None),
            ("3155760000001ms", None),
            ("18446744073709551615", None),
            ("500us", None),
            ("-1", None),
            ("1d", None),
            ("", None),
        ] {
            assert_eq!(duration(text).map(|time| time.as_millis()), millis, "{text}");
        }
    }
}

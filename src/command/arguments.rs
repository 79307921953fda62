//! The words after a verb, taken one by one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::slice;
use std::str::FromStr;
use std::time::Duration;

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

/// Parses a duration: a number of seconds, or a number followed by `ms`, `s`, `m` or `h`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    // More than a century is a typing mistake.
    let millis = number.parse::<u64>().ok()?.checked_mul(millis)?;
    (millis <= 3_155_760_000_000).then(|| Duration::from_millis(millis))
}

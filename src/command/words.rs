//! Splitting a line of the control language into words, and quoting words.
//!
//! ```text
//! line  = *blank [ word *( 1*blank word ) ] *blank       ; blank is a space or a tab
//! line  = *blank "#" *OCTET                              ; a comment
//! word  = bare | DQUOTE *( char / escape ) DQUOTE        ; bare does not begin with DQUOTE
//! escape = "\\" / "\" DQUOTE / "\n" / "\xHH"
//! ```
//!
//! C pen has neither tabs nor quotes. Every line that C pen understands means the same here, except for words
//! that begin with a quote.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

/// Splits a line into words. A comment has no words.
///
/// # Errors
/// A quote is not closed, a word follows a closing quote, or an escape is unknown.
pub fn split(line: &[u8]) -> Result<Vec<OsString>, WordsError> {
    let mut rest = line.trim_ascii();
    let mut words = Vec::new();
    if rest.first() == Some(&b'#') {
        return Ok(words);
    }
    if line.contains(&0) {
        return Err(WordsError::Nul);
    }
    while let Some(&first) = rest.first() {
        let (word, behind) = if first == b'"' { quoted(&rest[1..])? } else { bare(rest) };
        words.push(OsString::from_vec(word));
        rest = behind.trim_ascii_start();
    }
    Ok(words)
}

fn is_blank(byte: &u8) -> bool {
    byte.is_ascii_whitespace()
}

fn bare(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    (text[..end].to_vec(), &text[end..])
}

/// Returns the text between the quotes, and the rest of the line.
fn quoted(mut text: &[u8]) -> Result<(Vec<u8>, &[u8]), WordsError> {
    let mut word = Vec::new();
    loop {
        let (byte, behind) = match text {
            [] => return Err(WordsError::Open),
            [b'"', rest @ ..] if rest.first().is_none_or(is_blank) => return Ok((word, rest)),
            [b'"', ..] => return Err(WordsError::Behind),
            [b'\\', b'n', rest @ ..] => (b'\n', rest),
            [b'\\', byte @ (b'\\' | b'"'), rest @ ..] => (*byte, rest),
            [b'\\', b'x', high, low, rest @ ..] => (hex(*high, *low)?, rest),
            [b'\\', ..] => return Err(WordsError::Escape),
            [byte, rest @ ..] => (*byte, rest),
        };
        word.push(byte);
        text = behind;
    }
}

fn hex(high: u8, low: u8) -> Result<u8, WordsError> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (high, low) = digit(high).zip(digit(low)).ok_or(WordsError::Escape)?;
    // A path cannot contain NUL, and no other word needs it.
    if (high, low) == (0, 0) { Err(WordsError::Nul) } else { Ok(high << 4 | low) }
}

/// A word as it is written in a line.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a OsStr);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\\';
        let bytes = self.0.as_bytes();
        let first = bytes.first().is_some_and(|&byte| byte != b'#');
        if let Some(text) = self.0.to_str().filter(|_| first && bytes.iter().all(plain)) {
            return f.write_str(text);
        }
        f.write_str("\"")?;
        for &byte in bytes {
            match byte {
                b'"' => f.write_str("\\\"")?,
                b'\\' => f.write_str("\\\\")?,
                b'\n' => f.write_str("\\n")?,
                b' '..=b'~' => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_str("\"")
    }
}

/// A duration in a command: whole seconds as a bare number, as C pen writes them, else milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct DurationText(pub Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() == 0 {
            write!(f, "{}", self.0.as_secs())
        } else {
            write!(f, "{}ms", self.0.as_millis())
        }
    }
}

/// An error in the quotes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordsError {
    /// An unclosed quote.
    Open,
    /// A character right after a closing quote.
    Behind,
    /// An unknown escape between quotes.
    Escape,
    /// A NUL byte.
    Nul,
}

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "expected a closing quote",
            Self::Behind => "expected a space behind the closing quote",
            Self::Escape => "expected \\\\, \\\", \\n or \\xHH behind a backslash within quotes",
            Self::Nul => "expected no NUL bytes",
        })
    }
}

impl std::error::Error for WordsError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_fall_into_words() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"  \t\r\n", &[]),
            (b"# server 1", &[]),
            (b"  # server 1", &[]),
            (b"server 1\tport 80\r\n", &["server", "1", "port", "80"]),
            (b"log \"/var/log/my pen.log\"", &["log", "/var/log/my pen.log"]),
            (b"log \"a\\\"b\\\\c\\x41\\n\"", &["log", "a\"b\\cA\n"]),
            (b"log a\"b", &["log", "a\"b"]),
            (b"log \"\"", &["log", ""]),
            (b"log # no comment", &["log", "#", "no", "comment"]),
        ];
        for (line, expected) in cases {
            assert_eq!(split(line).unwrap(), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_is_wrong_with_quotes_is_said() {
        let cases: &[(&[u8], WordsError)] = &[
            (b"log \"a", WordsError::Open),
            (b"log \"a\"b", WordsError::Behind),
            (b"log \"\\q\"", WordsError::Escape),
            (b"log \"\\xg0\"", WordsError::Escape),
            (b"log \"\\x00\"", WordsError::Nul),
            (b"log a\0b", WordsError::Nul),
        ];
        for (line, expected) in cases {
            assert_eq!(split(line), Err(*expected), "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_word_is_read_as_it_is_written(word in prop::collection::vec(1_u8.., 0..40)) {
            let line = format!("log {}", Quoted(OsStr::from_bytes(&word)));
            let words = split(line.as_bytes()).unwrap();
            prop_assert_eq!(&words[1..], [OsString::from_vec(word)]);
        }

        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _words = split(&line);
        }
    }
}

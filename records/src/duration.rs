//! Durations as users type them: a number and a unit.

use std::fmt;
use std::time::Duration;

/// The unit of a number that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultUnit {
    /// As `ms` behind the number.
    Milliseconds,
    /// As `s` behind the number.
    Seconds,
}

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// No number with a unit.
    Malformed,
    /// Beyond 2^64 microseconds.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "expected a number, with ms, s, m or h behind it or not",
            Self::TooLong => "the time is too long",
        })
    }
}

impl std::error::Error for DurationError {}

/// Parses digits and an optional unit: `us`, `ms`, `s`, `m` or `h`, without a space between them.
///
/// # Errors
/// Anything else, and durations beyond 2^64 microseconds.
pub fn parse_duration(text: &str, default: DefaultUnit) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(DurationError::Malformed)?;
    let micros = match (unit, default) {
        ("us", _) => 1,
        ("ms", _) | ("", DefaultUnit::Milliseconds) => 1_000,
        ("s", _) | ("", DefaultUnit::Seconds) => 1_000_000,
        ("m", _) => 60_000_000,
        ("h", _) => 3_600_000_000,
        _ => return Err(DurationError::Malformed),
    };
    if number.is_empty() {
        return Err(DurationError::Malformed);
    }
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(micros).map(Duration::from_micros).ok_or(DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_too_great_is_said_to_be() {
        for text in ["99999999999999999999", "18446744073709551615s"] {
            let error = parse_duration(text, DefaultUnit::Milliseconds);
            assert_eq!(error, Err(DurationError::TooLong), "{text}");
        }
    }

    #[test]
    fn a_number_has_a_unit_or_the_default_one() {
        for (text, milliseconds, seconds) in [
            ("250", Some(250_000), Some(250_000_000)),
            ("007ms", Some(7_000), Some(7_000)),
            ("5us", Some(5), Some(5)),
            ("10s", Some(10_000_000), Some(10_000_000)),
            ("10m", Some(600_000_000), Some(600_000_000)),
            ("2h", Some(7_200_000_000), Some(7_200_000_000)),
            ("18446744073709551", Some(18_446_744_073_709_551_000), None),
            ("", None, None),
            ("m", None, None),
            ("-1s", None, None),
            ("1.5s", None, None),
            ("1 s", None, None),
            ("1d", None, None),
            ("1é", None, None),
        ] {
            let parse = |unit| parse_duration(text, unit).ok().map(|it| it.as_micros());
            assert_eq!(parse(DefaultUnit::Milliseconds), milliseconds, "{text}");
            assert_eq!(parse(DefaultUnit::Seconds), seconds, "{text}");
        }
    }
}

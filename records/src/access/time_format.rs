//! Times in a format of their own: `%{format}t` of Apache's `mod_log_config`, where `format` is a
//! strftime format or one of `sec`, `msec`, `usec`, `msec_frac`, `usec_frac`. One time may be
//! spread over several directives (`%{%d/%b/%Y %T}t.%{msec_frac}t %{%z}t`), so pieces are collected
//! in one [`TimestampParts`].

use super::StampZone;
use super::timestamp::{self, TimestampParser, decimal};
use crate::time::{Resolution, Timestamp};

/// The format of a time, or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// `10/Oct/2000:13:55:36 -0700`
    Clf,
    /// ISO 8601.
    Iso,
    /// Seconds since the epoch, with or without a fraction.
    Epoch,
    /// Milliseconds since the epoch.
    EpochMillis,
    /// Microseconds since the epoch.
    EpochMicros,
    /// Three digits of the fraction of a second.
    MillisFraction,
    /// Six digits of the fraction of a second.
    MicrosFraction,
    /// A strftime format.
    Strftime(Vec<StrftimePiece>),
}

/// One conversion of strftime(3), in the C locale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StrftimePiece {
    Byte(u8),
    Day,
    MonthName,
    Month,
    Year,
    ShortYear,
    Hour,
    Hour12,
    Half,
    Minute,
    Second,
    Zone,
    ZoneName,
    Epoch,
    Name,
    DayOfYear,
    /// An ignored number of at most so many digits.
    Number(usize),
}

/// The parts of a time that is being parsed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimestampParts {
    whole: Option<i64>,
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    zone: Option<i64>,
    whole_zone: StampZone,
    pub(super) resolution: Option<Resolution>,
}

impl TimeFormat {
    /// Compiles the text between the braces. `Err` is the offset of an unknown conversion.
    pub(super) fn apache(text: &str) -> Result<Self, usize> {
        match text {
            "" => return Ok(Self::Clf),
            "sec" => return Ok(Self::Epoch),
            "msec" => return Ok(Self::EpochMillis),
            "usec" => return Ok(Self::EpochMicros),
            "msec_frac" => return Ok(Self::MillisFraction),
            "usec_frac" => return Ok(Self::MicrosFraction),
            _ => {}
        }
        let mut pieces = Vec::new();
        strftime(text, &mut pieces)?;
        Ok(Self::Strftime(pieces))
    }

    /// Parses a time in this format at `at`; returns the offset of its end.
    pub(super) fn read(
        &self,
        line: &[u8],
        at: usize,
        stamp: &mut TimestampParts,
        clock: &mut TimestampParser,
    ) -> Option<usize> {
        let read = match self {
            Self::Clf => clock.clf(line, at)?,
            Self::Iso => timestamp::iso(line, at)?,
            Self::Epoch => timestamp::epoch(line, at)?,
            Self::EpochMillis => return stamp.epoch(line, at, 1_000, Resolution::Millisecond),
            Self::EpochMicros => return stamp.epoch(line, at, 1, Resolution::Microsecond),
            Self::MillisFraction => return stamp.fraction(line, at, 3, Resolution::Millisecond),
            Self::MicrosFraction => return stamp.fraction(line, at, 6, Resolution::Microsecond),
            Self::Strftime(pieces) => {
                return pieces.iter().try_fold(at, |at, piece| stamp.piece(*piece, line, at));
            }
        };
        stamp.whole = Some(read.time.0.as_micros());
        stamp.whole_zone = read.zone;
        stamp.finer(read.time.1);
        Some(read.end)
    }
}

impl TimestampParts {
    /// Assembles the time, if the parts suffice. Without a zone the time is UTC.
    pub(super) fn finish(&self) -> Option<(Timestamp, Resolution)> {
        let resolution = self.resolution.unwrap_or(Resolution::Second);
        let seconds = match self.whole {
            Some(whole) => return Some((Timestamp::from_micros(whole + self.micros), resolution)),
            None => self.midnight()? + self.hours()? * 3600 + self.minute * 60 + self.second,
        };
        let time = Timestamp::from_seconds(seconds - self.zone.unwrap_or(0)).offset_by(self.micros);
        Some((time, resolution))
    }

    /// Whether the time names its zone.
    pub(super) fn zone(&self) -> StampZone {
        match (self.whole, self.zone) {
            (Some(_), _) => self.whole_zone,
            (None, Some(_)) => StampZone::Given,
            (None, None) => StampZone::Missing,
        }
    }

    fn midnight(&self) -> Option<i64> {
        let year = self.year?;
        match (self.month, self.day, self.day_of_year) {
            (Some(month), Some(day), _) => timestamp::midnight(year, month, day),
            (_, _, Some(day)) => Some(timestamp::midnight(year, 1, 1)? + (day - 1) * 86_400),
            _ => None,
        }
    }

    fn hours(&self) -> Option<i64> {
        let hour = self.hour?;
        Some(match self.afternoon {
            Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
            None => hour,
        })
    }

    fn finer(&mut self, resolution: Resolution) {
        let coarser = self.resolution.unwrap_or(Resolution::Second);
        self.resolution = Some(coarser.min(resolution));
    }

    fn epoch(&mut self, line: &[u8], at: usize, unit: i64, step: Resolution) -> Option<usize> {
        let (value, end) = number(line, at, 17)?;
        self.whole = Some(value.checked_mul(unit)?);
        self.finer(step);
        Some(end)
    }

    fn fraction(
        &mut self,
        line: &[u8],
        at: usize,
        width: usize,
        step: Resolution,
    ) -> Option<usize> {
        let digits = line.get(at..at + width)?;
        decimal(digits)?;
        self.micros = timestamp::fraction_micros(digits);
        self.finer(step);
        Some(at + width)
    }

    fn piece(&mut self, piece: StrftimePiece, line: &[u8], at: usize) -> Option<usize> {
        let byte = line.get(at).copied();
        let (value, end) = match piece {
            StrftimePiece::Byte(expected) => return (byte == Some(expected)).then_some(at + 1),
            StrftimePiece::MonthName => {
                let end = letters(line, at)?;
                let name = line.get(at..at + 3)?;
                self.month = Some(timestamp::month(name)?);
                return Some(end);
            }
            StrftimePiece::Name | StrftimePiece::ZoneName => return letters(line, at),
            StrftimePiece::Half => {
                let name = line.get(at..at + 2)?.to_ascii_uppercase();
                self.afternoon = Some(name == b"PM");
                return (name == b"PM" || name == b"AM").then_some(at + 2);
            }
            StrftimePiece::Zone => {
                let (zone, taken) = timestamp::numeric_zone(line.get(at..)?)?;
                self.zone = Some(zone);
                return Some(at + taken);
            }
            StrftimePiece::Epoch => {
                let (seconds, end) = number(line, at, 11)?;
                self.whole = Some(seconds.checked_mul(1_000_000)?);
                return Some(end);
            }
            StrftimePiece::Year => number(line, at, 4)?,
            StrftimePiece::DayOfYear => number(line, at, 3)?,
            StrftimePiece::Number(width) => number(line, at, width)?,
            // `%e`, `%k` and `%l` pad with a space.
            _ if byte == Some(b' ') => number(line, at + 1, 1)?,
            _ => number(line, at, 2)?,
        };
        let most = match piece {
            StrftimePiece::Hour => 23,
            StrftimePiece::Hour12 => 12,
            StrftimePiece::Minute => 59,
            StrftimePiece::Second => 60,
            StrftimePiece::DayOfYear => 366,
            _ => i64::MAX,
        };
        if value > most {
            return None;
        }
        match piece {
            StrftimePiece::Day => self.day = Some(value),
            StrftimePiece::Month => self.month = Some(value),
            StrftimePiece::Year => self.year = Some(value),
            // POSIX: 69 to 99 are in the twentieth century.
            StrftimePiece::ShortYear => {
                self.year = Some(value + if value < 69 { 2000 } else { 1900 });
            }
            StrftimePiece::Hour | StrftimePiece::Hour12 => self.hour = Some(value),
            StrftimePiece::Minute => self.minute = value,
            StrftimePiece::Second => self.second = value,
            StrftimePiece::DayOfYear => self.day_of_year = Some(value),
            _ => {}
        }
        Some(end)
    }
}

/// Parses one to `width` digits.
fn number(line: &[u8], at: usize, width: usize) -> Option<(i64, usize)> {
    let rest = line.get(at..)?;
    let len = rest.iter().take(width).take_while(|b| b.is_ascii_digit()).count();
    let value = decimal(rest.get(..len)?)?;
    Some((i64::try_from(value).ok()?, at + len))
}

fn letters(line: &[u8], at: usize) -> Option<usize> {
    let len = line.get(at..)?.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    (len > 0).then_some(at + len)
}

/// Compiles a format of strftime(3); `Err` is the offset of an unknown conversion.
fn strftime(text: &str, pieces: &mut Vec<StrftimePiece>) -> Result<(), usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte != b'%' {
            pieces.push(StrftimePiece::Byte(byte));
            continue;
        }
        let mut letter = bytes.next().map(|(_, letter)| letter).ok_or(at)?;
        // Modifiers for other digits, eras and padding do not matter to the parser.
        while matches!(letter, b'E' | b'O' | b'-' | b'_' | b'0') {
            letter = bytes.next().map(|(_, letter)| letter).ok_or(at)?;
        }
        let longer = match letter {
            b'T' | b'X' => "%H:%M:%S",
            b'D' | b'x' => "%m/%d/%y",
            b'F' => "%Y-%m-%d",
            b'R' => "%H:%M",
            b'r' => "%I:%M:%S %p",
            b'c' => "%a %b %e %H:%M:%S %Y",
            _ => {
                pieces.push(piece(letter).ok_or(at)?);
                continue;
            }
        };
        strftime(longer, pieces)?;
    }
    Ok(())
}

fn piece(letter: u8) -> Option<StrftimePiece> {
    Some(match letter {
        b'd' | b'e' => StrftimePiece::Day,
        b'b' | b'B' | b'h' => StrftimePiece::MonthName,
        b'm' => StrftimePiece::Month,
        b'Y' => StrftimePiece::Year,
        b'y' => StrftimePiece::ShortYear,
        b'H' | b'k' => StrftimePiece::Hour,
        b'I' | b'l' => StrftimePiece::Hour12,
        b'p' | b'P' => StrftimePiece::Half,
        b'M' => StrftimePiece::Minute,
        b'S' => StrftimePiece::Second,
        b'z' => StrftimePiece::Zone,
        b'Z' => StrftimePiece::ZoneName,
        b's' => StrftimePiece::Epoch,
        b'a' | b'A' => StrftimePiece::Name,
        b'j' => StrftimePiece::DayOfYear,
        b'u' | b'w' => StrftimePiece::Number(1),
        b'U' | b'V' | b'W' | b'C' | b'g' => StrftimePiece::Number(2),
        b'G' => StrftimePiece::Number(4),
        b'n' => StrftimePiece::Byte(b'\n'),
        b't' => StrftimePiece::Byte(b'\t'),
        b'%' => StrftimePiece::Byte(b'%'),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strftime_formats_are_read() {
        for (format, text, micros) in [
            ("%d/%b/%Y:%H:%M:%S %z", "10/Oct/2000:13:55:36 -0700", 971_211_336_000_000),
            ("%d/%b/%Y:%T", "10/Oct/2000:13:55:36", 971_186_136_000_000),
            ("%Y-%m-%dT%T%z", "2024-01-02T03:04:05+0530", 1_704_144_845_000_000),
            ("%F %T", "2024-01-02 03:04:05", 1_704_164_645_000_000),
            ("%a %b %e %H:%M:%S %Y", "Tue Jan  2 03:04:05 2024", 1_704_164_645_000_000),
            ("%c", "Tue Jan  2 03:04:05 2024", 1_704_164_645_000_000),
            ("%m/%d/%y %I:%M:%S %p", "01/02/24 03:04:05 PM", 1_704_207_845_000_000),
            ("%m/%d/%y %r", "01/02/24 12:04:05 AM", 1_704_153_845_000_000),
            ("%A, %d %B %Y %R %Z", "Tuesday, 02 January 2024 03:04 UTC", 1_704_164_640_000_000),
            ("%Y.%j %R", "2024.060 00:00", 1_709_164_800_000_000),
            ("%s", "1704164645", 1_704_164_645_000_000),
            ("sec", "1704164645", 1_704_164_645_000_000),
            ("msec", "1704164645123", 1_704_164_645_123_000),
            ("usec", "1704164645123456", 1_704_164_645_123_456),
        ] {
            let form = TimeFormat::apache(format).expect(format);
            let (mut stamp, mut clock) = (TimestampParts::default(), TimestampParser::default());
            let end = form.read(text.as_bytes(), 0, &mut stamp, &mut clock);
            assert_eq!(end, Some(text.len()), "{format}");
            let time = stamp.finish().map(|(time, _)| time.as_micros());
            assert_eq!(time, Some(micros), "{format}");
        }
    }

    #[test]
    fn a_time_in_several_directives_is_one_time() {
        let line = b"10/Oct/2000:13:55:36.123456 -0700";
        let (mut stamp, mut clock) = (TimestampParts::default(), TimestampParser::default());
        let mut at = 0;
        for (form, gap) in [("%d/%b/%Y:%T", 1), ("usec_frac", 1), ("%z", 0)] {
            at = TimeFormat::apache(form).unwrap().read(line, at, &mut stamp, &mut clock).unwrap()
                + gap;
        }
        assert_eq!(at, line.len());
        let time = Timestamp::from_micros(971_211_336_123_456);
        assert_eq!(stamp.finish(), Some((time, Resolution::Microsecond)));
    }

    #[test]
    fn unknown_conversions_are_named_by_their_offset() {
        assert_eq!(TimeFormat::apache("%H:%Q"), Err(3));
        assert_eq!(TimeFormat::apache("%H:%"), Err(3));
    }
}

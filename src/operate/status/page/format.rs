//! Counts, sizes and times as the page shows them.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

/// A count with commas between the thousands.
pub(super) struct Thousands(pub(super) u64);

impl Display for Thousands {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// A limit; 0 means "no limit" and is shown as `-`.
pub(super) struct LimitOrDash(pub(super) u32);

impl Display for LimitOrDash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("-") } else { Thousands(self.0.into()).fmt(f) }
    }
}

/// A number of bytes, with up to three digits and a decimal unit.
pub(super) struct ByteSize(pub(super) f64);

impl Display for ByteSize {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut size = self.0;
        for unit in ["B", "kB", "MB", "GB", "TB"] {
            if size < 999.5 {
                let digits = if size < 9.95 && unit != "B" { 1 } else { 0 };
                return write!(f, "{size:.digits$} {unit}");
            }
            size /= 1_000.0;
        }
        write!(f, "{size:.0} PB")
    }
}

/// A duration in its two greatest units, such as `2 h 5 min`.
pub(super) struct ShortDuration(pub(super) Duration);

impl Display for ShortDuration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

/// Returns date and time in UTC, such as `2026-11-22 20:23:20 UTC`.
pub(super) fn utc(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn figures_are_short_and_have_units() {
        for (size, expected) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1_000.0, "1.0 kB"),
            (9_960.0, "10 kB"),
            (999_600.0, "1.0 MB"),
            (1.5e9, "1.5 GB"),
            (7e18, "7000 PB"),
        ] {
            assert_eq!(ByteSize(size).to_string(), expected, "{size}");
        }
        assert_eq!(Thousands(1_234_567).to_string(), "1,234,567");
        assert_eq!(Thousands(999).to_string(), "999");
        for (seconds, expected) in
            [(0, "0 s"), (75, "1 min 15 s"), (7_325, "2 h 2 min"), (266_525, "3 d 2 h")]
        {
            assert_eq!(ShortDuration(Duration::from_secs(seconds)).to_string(), expected);
        }
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_379_000, "2026-11-22 20:23:20 UTC"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}

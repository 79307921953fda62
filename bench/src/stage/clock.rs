//! Clocks that are wrong: the stamps of a log, moved.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::{ActionError, Doing};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Moves all stamps of a log as if its server's clock were so many seconds ahead.
///
/// # Errors
/// When it cannot be read or written.
pub fn shift(log: &Path, seconds: i64) -> Result<(), ActionError> {
    let text = fs::read_to_string(log).doing(format_args!("read {}", log.display()))?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        out.push('[');
        rest = after;
        if let Some((stamp, after)) = after.split_at_checked(20)
            && let Some(at) = parse(stamp)
        {
            write(at + seconds, &mut out);
            rest = after;
        }
    }
    out.push_str(rest);
    fs::write(log, out).doing(format_args!("write {}", log.display()))
}

/// `25/Nov/2026:14:15:01` as seconds since the epoch.
fn parse(stamp: &str) -> Option<i64> {
    let number = |from: usize, len: usize| stamp.get(from..from + len)?.parse::<i64>().ok();
    let month = MONTHS.iter().position(|&month| stamp.get(3..6) == Some(month))?;
    let days = days(number(7, 4)?, i64::try_from(month).ok()? + 1, number(0, 2)?);
    Some(days * 86_400 + number(12, 2)? * 3_600 + number(15, 2)? * 60 + number(18, 2)?)
}

/// Days since the epoch, by counting years from March.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469
}

fn write(at: i64, out: &mut String) {
    let (days_since, second) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    // Logs here are of today; so the year is found at once.
    let mut year = 1970 + days_since / 366;
    while days(year + 1, 1, 1) <= days_since {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= days_since {
        month += 1;
    }
    let day = days_since - days(year, month, 1) + 1;
    let name = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month));
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    write!(out, "{day:02}/{}/{year}:{hour:02}:{minute:02}:{second:02}", name.unwrap_or(&"Jan"))
        .expect("writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_moved_over_the_ends_of_months_and_years() {
        for (stamp, seconds, expected) in [
            ("25/Nov/2026:14:15:01", 0, "25/Nov/2026:14:15:01"),
            ("25/Nov/2026:14:15:01", -90, "25/Nov/2026:14:13:31"),
            ("31/Dec/2026:23:59:59", 3, "01/Jan/2027:00:00:02"),
            ("01/Mar/2024:00:30:00", -3_600, "29/Feb/2024:23:30:00"),
        ] {
            let mut out = String::new();
            write(parse(stamp).unwrap() + seconds, &mut out);
            assert_eq!(out, expected);
        }
        assert_eq!(parse("01/Jan/1970:00:00:00"), Some(0));
        assert_eq!(parse("not a stamp at all.."), None);
    }
}

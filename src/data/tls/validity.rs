//! Until when a certificate is good. rustls has no use for that of its own certificates and does not
//! say it; whoever runs pen wants to know before clients do.
//!
//! ```text
//! Certificate = SEQUENCE { tbsCertificate SEQUENCE { [0] version?, serialNumber INTEGER,
//!               signature SEQUENCE, issuer SEQUENCE, validity SEQUENCE { Time, Time }, ... }, ... }
//! Time        = UTCTime "YYMMDDhhmmssZ" / GeneralizedTime "YYYYMMDDhhmmssZ"            ; RFC 5280, 4.1
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// When it ends to be good; `None` if it is no certificate.
pub(super) fn end(der: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (body, _) = value(certificate, SEQUENCE)?;
    let body = value(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_, body) = value(body, INTEGER)?;
    let (_, body) = value(body, SEQUENCE)?;
    let (_, body) = value(body, SEQUENCE)?;
    let (validity, _) = value(body, SEQUENCE)?;
    let (_, _, to) = element(validity)?;
    let (kind, time, _) = element(to)?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = number(time, 2)?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
        }
        GENERALIZED_TIME => number(time, 4)?,
        _ => return None,
    };
    moment(year, rest)
}

/// The first element: its tag, what is in it, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Nothing in a certificate is longer than four bytes can say.
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (inner, rest) = rest.split_at_checked(len)?;
    Some((tag, inner, rest))
}

/// What is in the first element, if it has that tag, and what follows.
fn value(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, inner, rest) = element(der)?;
    (tag == expected).then_some((inner, rest))
}

fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let add =
        |sum: u64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0'));
    Some((number.iter().try_fold(0, add)?, rest))
}

fn moment(year: u64, rest: &[u8]) -> Option<SystemTime> {
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day);
    if rest != b"Z" || !fits || hour > 23 || minute > 59 || second > 60 || year < 1_970 {
        return None;
    }
    // Years begin with March here, so a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let seconds = (days.checked_sub(719_468)? * 24 + hour) * 3_600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn until(year: i32, month: u8, day: u8) -> Option<u64> {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(year, month, day);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let end = end(certificate.der())?;
        Some(end.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn the_end_is_found_in_either_form() {
        // As `date -u -d DAY +%s` has them.
        for (day, expected) in [
            ((1970, 1, 2), 86_400),
            ((2000, 2, 29), 951_782_400),
            ((2024, 2, 29), 1_709_164_800),
            ((2026, 11, 25), 1_795_564_800),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((2100, 3, 1), 4_107_542_400),
        ] {
            let (year, month, of_month) = day;
            assert_eq!(until(year, month, of_month), Some(expected), "{day:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..400_usize) {
            end(&bytes);
            let params = CertificateParams::default();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let mut der = certificate.der().to_vec();
            let at = at % der.len();
            der[at..].iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            end(&der);
            end(&der[..at]);
        }
    }
}

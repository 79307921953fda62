//! The dates of a certificate. rustls does not report those of a program's own certificate; operators want to know the end
//! before peers do.
//!
//! ```text
//! Certificate = SEQUENCE { tbsCertificate SEQUENCE { [0] version?, serialNumber INTEGER,
//!               signature SEQUENCE, issuer SEQUENCE, validity SEQUENCE { Time, Time }, ... }, ... }
//! Time        = UTCTime "YYMMDDhhmmssZ" / GeneralizedTime "YYYYMMDDhhmmssZ"            ; RFC 5280, 4.1
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDateTime};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// First and last moment of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The certificate is valid from then on.
    pub start: SystemTime,
    /// The certificate is valid until then.
    pub end: SystemTime,
}

impl Validity {
    /// Returns the dates of a certificate; `None` if the bytes are no certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (certificate, _) = value(der, SEQUENCE)?;
        let (body, _) = value(certificate, SEQUENCE)?;
        let body = value(body, VERSION).map_or(body, |(_, rest)| rest);
        let (_, body) = value(body, INTEGER)?;
        let (_, body) = value(body, SEQUENCE)?;
        let (_, body) = value(body, SEQUENCE)?;
        let (validity, _) = value(body, SEQUENCE)?;
        let (kind, from, to) = element(validity)?;
        let start = time_of(kind, from)?;
        let (kind, to, _) = element(to)?;
        Some(Self { start, end: time_of(kind, to)? })
    }
}

/// Returns a time as people write it, to the minute.
#[must_use]
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = i64::try_from(seconds).ok().and_then(|it| DateTime::from_timestamp(it, 0));
    time.map_or_else(|| format!("{seconds} s"), |it| it.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// Returns tag and content of the first element, and the bytes behind the element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // No element of a certificate needs a longer length.
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (inner, rest) = rest.split_at_checked(len)?;
    Some((tag, inner, rest))
}

/// Returns the content of the first element, if its tag is `expected`, and the bytes behind the
/// element.
fn value(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, inner, rest) = element(der)?;
    (tag == expected).then_some((inner, rest))
}

/// Parses a `UTCTime` or `GeneralizedTime`.
fn time_of(kind: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match kind {
        // Years from 1950 to 2049 (RFC 5280, 4.1.2.5.1).
        UTC_TIME => {
            let year: u8 = text.get(..2)?.parse().ok()?;
            format!("{}{text}", if year < 50 { "20" } else { "19" })
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    // chrono would also accept fewer digits.
    if text.len() != "YYYYMMDDhhmmssZ".len() {
        return None;
    }
    let end = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?.and_utc();
    // A certificate that is valid since before the epoch began early enough.
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(end.timestamp()).unwrap_or(0)))
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
        let end = Validity::of(certificate.der())?.end;
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

    #[test]
    fn a_time_is_said_as_people_write_it() {
        let time = UNIX_EPOCH + Duration::from_secs(1_795_564_800);
        assert_eq!(utc(time), "2026-11-25 00:00 UTC");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..400_usize) {
            let _ = Validity::of(&bytes);
            let params = CertificateParams::default();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let mut der = certificate.der().to_vec();
            let at = at % der.len();
            der[at..].iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            let _ = Validity::of(&der);
            let _ = Validity::of(&der[..at]);
        }
    }
}

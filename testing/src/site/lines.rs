//! Access log lines in several formats.

use std::io::Write as _;
use std::net::Ipv4Addr;

use chrono::DateTime;

use super::LineFormat;
use super::demand::Demand;

/// What a line is written from.
pub(super) struct LineParts<'a> {
    /// Whom the server takes for the client.
    pub peer: Ipv4Addr,
    /// The port of it.
    pub port: u16,
    /// The number by which the line is known again: the user field, which the join does not look at.
    pub number: usize,
    /// Microseconds since the epoch, by the server's clock.
    pub stamp: i64,
    /// The id that the balancer gave the request; `-` for none.
    pub id: &'a str,
    /// Whether the time is in the second half.
    pub is_late: bool,
    /// The size of the response as the server counts it.
    pub bytes: u64,
    /// The request and its response.
    pub demand: &'a Demand,
}

/// Returns a line without a line end.
pub(super) fn write_line(format: LineFormat, parts: &LineParts<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(200);
    match format {
        LineFormat::Json => parts.json(&mut out),
        LineFormat::JsonParts => parts.json_in_parts(&mut out),
        _ => parts.text(format, &mut out),
    }
    out
}

/// The word in the user field, by which a line is known again.
const USER: &str = "user-";

/// The number that stands in a line's user field.
#[must_use]
pub fn line_number(line: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(line, USER.as_bytes())? + USER.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let digits: Vec<u8> = digits.copied().collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

impl LineParts<'_> {
    fn text(&self, format: LineFormat, out: &mut Vec<u8>) {
        if format == LineFormat::VhostCombined {
            out.extend_from_slice(&self.demand.host);
            out.extend_from_slice(b":80 ");
        }
        let stamp = match format {
            LineFormat::CombinedMillis | LineFormat::CommonMillis => self.millis(),
            LineFormat::LocalTime => self.time(7_200, "%Y-%m-%d %H:%M:%S"),
            LineFormat::SummerTime if self.is_late => self.time(3_600, "%d/%b/%Y:%H:%M:%S +0100"),
            LineFormat::SummerTime => self.time(7_200, "%d/%b/%Y:%H:%M:%S +0200"),
            _ => self.time(0, "%d/%b/%Y:%H:%M:%S +0000"),
        };
        let Self { peer, number, demand, .. } = self;
        put(out, format_args!("{peer} - {USER}{number:06} [{stamp}] \""));
        out.extend_from_slice(&demand.request);
        put(out, format_args!("\" {} {}", demand.status, self.bytes));
        if matches!(format, LineFormat::Common | LineFormat::CommonMillis) {
            return;
        }
        for header in [&demand.referer, &demand.agent] {
            out.extend_from_slice(b" \"");
            out.extend_from_slice(header.as_deref().unwrap_or(b"-"));
            out.push(b'"');
        }
        if matches!(format, LineFormat::Port | LineFormat::PortUntold) {
            put(out, format_args!(" {}", self.port));
        }
        if format == LineFormat::Id {
            put(out, format_args!(" {}", self.id));
        }
    }

    fn json(&self, out: &mut Vec<u8>) {
        let Self { peer, number, demand, .. } = self;
        let stamp = self.time(0, "%Y-%m-%dT%H:%M:%S+00:00");
        put(out, format_args!(r#"{{"time_iso8601":"{stamp}","remote_addr":"{peer}","#));
        put(out, format_args!(r#""remote_user":"{USER}{number:06}","request":""#));
        out.extend_from_slice(&demand.request);
        self.json_end(out);
    }

    fn json_in_parts(&self, out: &mut Vec<u8>) {
        let Self { peer, number, demand, .. } = self;
        let stamp = self.millis();
        let mut words = demand.request.split(|&byte| byte == b' ');
        put(out, format_args!(r#"{{"msec":{stamp},"remote_addr":"{peer}","#));
        put(out, format_args!(r#""remote_user":"{USER}{number:06}""#));
        for key in ["request_method", "request_uri", "server_protocol"] {
            let word = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
            put(out, format_args!(r#","{key}":"{word}""#));
        }
        put(out, format_args!(r#","server_name":""#));
        out.extend_from_slice(&demand.host);
        self.json_end(out);
    }

    /// Status, size and headers; the last value's quote is still open.
    fn json_end(&self, out: &mut Vec<u8>) {
        let demand = self.demand;
        put(out, format_args!(r#"","status":{},"body_bytes_sent":{}"#, demand.status, self.bytes));
        for (key, header) in [("http_referer", &demand.referer), ("http_user_agent", &demand.agent)]
        {
            put(out, format_args!(r#","{key}":""#));
            out.extend_from_slice(header.as_deref().unwrap_or_default());
            out.push(b'"');
        }
        out.push(b'}');
    }

    fn time(&self, ahead: i64, format: &str) -> String {
        let seconds = self.stamp.div_euclid(1_000_000) + ahead;
        let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        time.format(format).to_string()
    }

    fn millis(&self) -> String {
        let millis = self.stamp.div_euclid(1_000);
        format!("{}.{:03}", millis.div_euclid(1_000), millis.rem_euclid(1_000))
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // writing to a Vec does not fail
}

//! Lines within lines: behind an envelope, or as a text in a JSON object.

use super::timestamp::TimestampParser;
use super::{envelope, json};
use crate::request::unescape;

/// Returns the line within a line: behind envelopes of syslog, container runtimes, the journal or grep, or as a text
/// in a JSON object, as in Docker's json-file. `None` without a line within. `text` is scratch space for escaped text.
#[cold]
pub fn carried<'a>(line: &'a [u8], text: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let inner = match json::open(line, 0) {
        Some(start) => {
            let clock = &mut TimestampParser::default();
            let escaped = json::wrapped(line, start, clock)?.text.of(line);
            text.resize(escaped.len(), 0);
            let length = unescape(escaped, text);
            &text[..length]
        }
        None => line,
    };
    // Only the line end: a request that was cut behind a word ends in a space.
    let behind = inner.get(envelope::find(inner).length as usize..)?;
    let behind = behind.strip_suffix(b"\n").unwrap_or(behind);
    let behind = behind.strip_suffix(b"\r").unwrap_or(behind);
    (!behind.is_empty() && behind.len() < line.len()).then_some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARRIERS: [(&str, &str); 10] = [
        ("Nov 22 20:23:21 lb pen[7]: ", ""),
        ("2026-11-22T20:23:21.545803+00:00 relay lb pen[7]: ", ""),
        ("<134>1 2026-11-22T20:23:21Z lb pen 14 - - ", ""),
        ("2026-11-22T20:23:21.545803123Z stdout F ", ""),
        ("lb-1  | ", ""),
        ("/var/log/pen.log:", ""),
        ("pen.log:12:", ""),
        (r#"{"log":""#, r#"\n","stream":"stderr","time":"2026-11-22T20:23:21Z"}"#),
        (r#"{"_HOSTNAME":"lb","MESSAGE":""#, r#""}"#),
        (r#"{"log":"<134>Nov 22 20:23:21 pen: "#, r#"\r\n"}"#),
    ];

    fn found_in_each_carrier(mapping: &str) {
        for (before, behind) in CARRIERS {
            let mut text = Vec::new();
            let line = format!("{before}{mapping}{behind}");
            let found = carried(line.as_bytes(), &mut text).map(String::from_utf8_lossy);
            assert_eq!(found.as_deref(), Some(mapping), "{line}");
        }
    }

    #[test]
    fn a_line_is_found_in_what_carries_it() {
        let mapping = "192.0.2.7 1795379001 10.0.0.1 GET /a HTTP/1.1";
        found_in_each_carrier(mapping);
        let escaped = r#"{"log":"\u003c134\u003eNov 22 20:23:21 a[1]: \"GET \\x\" \/\n"}"#;
        assert_eq!(carried(escaped.as_bytes(), &mut Vec::new()), Some(&br#""GET \x" /"#[..]));
        for line in
            ["", "{", "{}", r#"{"log":""}"#, mapping, "\u{1}", r#"{"log":"{\"log\":\"\"}"}"#]
        {
            let mut text = Vec::new();
            let found = carried(line.as_bytes(), &mut text);
            assert!(found.is_none_or(|found| found.len() < line.len()), "{line}");
        }
    }

    #[test]
    fn a_carried_request_that_was_cut_behind_a_word_keeps_its_space() {
        for mapping in [
            "192.0.2.7 1795379001 10.0.0.1 GET /a ",
            "2001:db8::7 1795379001 10.0.0.1 GET /a  ",
            "192.0.2.7 1795379001 10.0.0.1 ",
            "pen1 1795379001.5 request 192.0.2.7 5 10.0.0.1 80 - - 7 1 - - - - - - - - - - GET /a ",
        ] {
            found_in_each_carrier(mapping);
        }
    }
}

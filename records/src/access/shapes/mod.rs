//! Access lines of servers that follow none of the usual formats: application servers and frameworks with a
//! form of their own ([`pattern`]), lines of keys and values ([`pairs`]), and W3C logs ([`w3c`]).
//!
//! The shapes are tried on lines in no usual format, and only in a log without usual lines. Among usual lines, a
//! line of such a shape is a message of an application, about a request with a line of its own.

mod pairs;
mod pattern;
mod stamp;
mod w3c;

use std::sync::LazyLock;

use self::pattern::ShapePattern;
pub(super) use self::w3c::W3cFields;
use super::AccessLine;
use super::envelope::{self, Envelope};
use super::field::LineDraft;
use super::timestamp::TimestampParser;
use crate::time::Timestamp;

/// Names of the shapes, with their patterns: see [`ShapePattern::compile`].
const SHAPES: [(&str, &str); 16] = [
    ("Gin", r#"[GIN] %t | %s | %* | %c | %m "%u""#),
    ("werkzeug", r#"%c - %w [%t] "%m %u %p" %s %*"#),
    ("werkzeug", r#"INFO:%w:%c - %w [%t] "%m %u %p" %s %*"#),
    ("aiohttp", r#"INFO:%w:%c [%t] "%m %u %p" %s %*"#),
    ("uvicorn", r#"INFO: %c - "%m %u %p" %s%*"#),
    ("uvicorn", r#"%c - "%m %u %p" %s%*"#),
    ("Tornado", "[%w %t %w] %s %m %u (%c) %*"),
    ("Rust log", r#"[%t %w %w] %c "%m %u %p" %s %*"#),
    ("client and time", r#"%c %t "%m %u %p" %s %*"#),
    ("Rails", r#"%*Started %m "%u" for %c at %t"#),
    ("uWSGI", "[pid: %*] %c (%*) {%*} [%t] %m %u => generated %b bytes in %* (%p %s)%*"),
    ("chi", r#"%t "%m %u %p" from %c - %s %*"#),
    ("PHP", "[%t] %c [%s]: %m %u"),
    ("Squid", "%t %w %c %w/%s %w %m %u %*"),
    ("AWS ELB", r#"%t %w %c %w %w %w %w %s %w %w %w "%m %u %p" "%a"%*"#),
    ("AWS ALB", r#"%w %t app/%w %c %w %w %w %w %s %w %w %w "%m %u %p" "%a"%*"#),
];

/// The name of each shape, as the report gives it: those of [`SHAPES`], then [`PAIRS`] and [`W3C`].
pub(super) const NAMES: [&str; SHAPES.len() + 2] = {
    let mut names = [""; SHAPES.len() + 2];
    let mut index = 0;
    while index < SHAPES.len() {
        names[index] = SHAPES[index].0;
        index += 1;
    }
    names[PAIRS] = "keys and values";
    names[W3C] = "W3C";
    names
};

const PAIRS: usize = SHAPES.len();
const W3C: usize = SHAPES.len() + 1;

static PATTERNS: LazyLock<[ShapePattern; SHAPES.len()]> =
    LazyLock::new(|| SHAPES.map(|(_, text)| ShapePattern::compile(text)));

/// What is known of the shapes of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct ShapeParser {
    /// The shape of the last line.
    last: usize,
    fields: Option<W3cFields>,
}

impl ShapeParser {
    /// Parses the line behind `envelope` into `found`; returns the index of its shape in [`NAMES`].
    #[cold]
    pub(super) fn parse(
        &mut self,
        line: &[u8],
        envelope: Envelope,
        near: Option<Timestamp>,
        clock: &mut TimestampParser,
        found: &mut AccessLine,
    ) -> Option<usize> {
        if let Some(fields) = W3cFields::of_directive(line) {
            self.fields = Some(fields);
            return None;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let order = [self.last].into_iter().chain((0..NAMES.len()).filter(|&it| it != self.last));
        for shape in order {
            *found = AccessLine::in_envelope(envelope);
            if !self.is_of(shape, line, envelope, clock, found) {
                continue;
            }
            if found.time.is_none()
                && let Some(time) = envelope::time(line, near)
            {
                (found.time, found.zone) = (Some(time.0), time.1);
            }
            self.last = shape;
            return Some(shape);
        }
        None
    }

    /// Parses a line of one shape.
    fn is_of(
        &self,
        shape: usize,
        line: &[u8],
        envelope: Envelope,
        clock: &mut TimestampParser,
        found: &mut AccessLine,
    ) -> bool {
        let mut draft = LineDraft::new(found);
        let start = envelope.length as usize;
        let read = match PATTERNS.get(shape) {
            Some(pattern) => pattern.read(line, start, clock, &mut draft),
            None if shape == PAIRS => pairs::read(line, start, clock, &mut draft),
            None => self.fields.as_ref().and_then(|it| it.read(line, clock, &mut draft)),
        };
        draft.has_client && read.is_some() && draft.finish().request != super::LoggedRequest::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Parser, Spec, StampZone};
    use crate::request::{Cut, Fingerprint};

    const SECONDS: i64 = 1_795_379_001;

    /// Parses each line in a log of its own: client, request and status must be right.
    fn check(name: &str, lines: &[&str]) {
        let mut parser = Parser::new(&Spec::auto());
        for line in lines {
            let text = line.as_bytes();
            let found = parser.parse(text).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(found.client.of(text), b"10.0.0.9", "{line}");
            let target = found.request.target(text);
            let expected = Fingerprint::of_raw(b"GET /a?b=1", Cut::Target);
            assert_eq!(target, expected, "{line}");
            assert!(found.status.is_none_or(|status| status == 200), "{line}");
            if let Some((time, _)) = found.time {
                let whole = time.as_micros().div_euclid(1_000_000);
                assert_eq!(whole, SECONDS, "{line}");
            }
        }
        assert!(parser.format().starts_with(name), "{}", parser.format());
    }

    #[test]
    fn lines_of_frameworks_and_other_servers_are_read() {
        check(
            "Gin",
            &[
                r#"[GIN] 2026/11/22 - 20:23:21 | 200 |     1.204834ms |        10.0.0.9 | GET      "/a?b=1""#,
                "[GIN] 2026/11/22 - 20:23:21 |\x1b[97;42m 200 \x1b[0m|  1.2ms |  10.0.0.9 |\x1b[97;44m GET     \x1b[0m \"/a?b=1\"",
            ],
        );
        check(
            "werkzeug",
            &[
                r#"10.0.0.9 - - [22/Nov/2026 20:23:21] "GET /a?b=1 HTTP/1.1" 200 -"#,
                "10.0.0.9 - - [22/Nov/2026 20:23:21] \"\x1b[33mGET /a?b=1 HTTP/1.1\x1b[0m\" 200 -",
            ],
        );
        check(
            "werkzeug",
            &[r#"INFO:werkzeug:10.0.0.9 - - [22/Nov/2026 20:23:21] "GET /a?b=1 HTTP/1.1" 200 -"#],
        );
        check(
            "aiohttp",
            &[
                r#"INFO:aiohttp.access:10.0.0.9 [22/Nov/2026:20:23:21 +0000] "GET /a?b=1 HTTP/1.1" 200 5 "-" "x""#,
            ],
        );
        check("uvicorn", &[r#"INFO:     10.0.0.9:50001 - "GET /a?b=1 HTTP/1.1" 200 OK"#]);
        check(
            "uvicorn",
            &[
                r#"2026-11-22T20:23:21Z web1 uvicorn[7]: INFO:     10.0.0.9:50001 - "GET /a?b=1 HTTP/1.1" 200 OK"#,
            ],
        );
        check("Tornado", &["[I 261122 20:23:21 web:2239] 200 GET /a?b=1 (10.0.0.9) 0.45ms"]);
        check(
            "Rust log",
            &[
                r#"[2026-11-22T20:23:21Z INFO  actix_web::middleware::logger] 10.0.0.9 "GET /a?b=1 HTTP/1.1" 200 512 "-" "x" 0.000123"#,
                r#"[2026-11-22T20:23:21Z INFO  warp::filters::log] 10.0.0.9:4001 "GET /a?b=1 HTTP/1.1" 200 "-" "x" 12.3µs"#,
            ],
        );
        check(
            "client and time",
            &[r#"10.0.0.9 1795379001.123 "GET /a?b=1 HTTP/1.1" 200 512 "-" "x""#],
        );
        check(
            "Rails",
            &[
                r#"Started GET "/a?b=1" for 10.0.0.9 at 2026-11-22 20:23:21 +0000"#,
                r#"I, [2026-11-22T20:23:21.123456 #12]  INFO -- : [7f] Started GET "/a?b=1" for 10.0.0.9 at 2026-11-22 20:23:21 +0000"#,
            ],
        );
        check(
            "uWSGI",
            &[
                "[pid: 285|app: 0|req: 1/1] 10.0.0.9 () {32 vars in 396 bytes} [Sun Nov 22 20:23:21 2026] GET /a?b=1 => generated 512 bytes in 3 msecs (HTTP/1.1 200) 2 headers in 78 bytes (1 switches on core 0)",
            ],
        );
        check(
            "chi",
            &[
                r#"2026/11/22 20:23:21 "GET http://shop.example/a?b=1 HTTP/1.1" from 10.0.0.9:40001 - 200 512B in 12.3µs"#,
            ],
        );
        check("PHP", &["[Sun Nov 22 20:23:21 2026] 10.0.0.9:40001 [200]: GET /a?b=1"]);
        check(
            "Squid",
            &[
                "1795379001.123     12 10.0.0.9 TCP_MISS/200 512 GET http://shop.example/a?b=1 - HIER_DIRECT/10.0.1.5 text/html",
            ],
        );
        check(
            "AWS ELB",
            &[
                r#"2026-11-22T20:23:21.123456Z shop-lb 10.0.0.9:40001 10.0.1.5:80 0.000073 0.001048 0.000057 200 200 0 29 "GET http://shop.example:80/a?b=1 HTTP/1.1" "curl/8.0" - -"#,
            ],
        );
        check(
            "AWS ALB",
            &[
                r#"http 2026-11-22T20:23:21.123456Z app/my-lb/50dc 10.0.0.9:40001 10.0.1.5:80 0.000 0.001 0.000 200 200 34 366 "GET http://shop.example:80/a?b=1 HTTP/1.1" "curl/8.0" - - arn:aws:x "Root=1-5" "-" "-" 0 2026-11-22T20:23:21.122000Z "forward" "-""#,
            ],
        );
    }

    #[test]
    fn lines_of_keys_and_values_are_read() {
        check(
            "keys and values",
            &[
                r#"time=2026-11-22T20:23:21Z level=INFO msg="a request" method=GET path=/a?b=1 remote_addr=10.0.0.9:40001 status=200"#,
                r#"ts=1795379001.5 remote_ip=10.0.0.9 method=GET uri="/a?b=1" proto=HTTP/1.1 status=200 ua="x y=\"z\"""#,
                "time:[22/Nov/2026:20:23:21 +0000]\thost:10.0.0.9\tforwardedfor:-\treq:GET /a?b=1 HTTP/1.1\tstatus:200\tsize:5\tua:x: y",
                "time:2026-11-22T20:23:21Z\tremote_addr:10.0.0.9\trequest:GET /a?b=1 HTTP/1.1\tstatus:200",
            ],
        );
    }

    #[test]
    fn a_w3c_log_is_read_by_its_directive() {
        for (directive, line) in [
            (
                "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) sc-status",
                "2026-11-22 20:23:21 10.0.0.1 GET /a b=1 80 - 10.0.0.9 Mozilla/5.0+(X11) 200",
            ),
            (
                "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs-uri-query",
                "2026-11-22\t20:23:21\tFRA2\t512\t10.0.0.9\tGET\td1.example\t/a\t200\tb=1",
            ),
        ] {
            let mut parser = Parser::new(&Spec::auto());
            assert!(parser.parse(line.as_bytes()).is_err(), "{line}");
            assert!(parser.parse(directive.as_bytes()).is_err(), "{directive}");
            let found = parser.parse(line.as_bytes()).expect(line);
            assert_eq!(found.client.of(line.as_bytes()), b"10.0.0.9");
            let (time, _) = found.time.expect(line);
            assert_eq!((time.as_micros() / 1_000_000, found.zone), (SECONDS, StampZone::Given));
            let expected = Fingerprint::of_raw(b"GET /a?b=1", Cut::Target);
            assert_eq!(found.request.target(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn among_usual_lines_a_message_about_a_request_is_no_access_line() {
        let usual = br#"10.0.0.9 - - [22/Nov/2026:20:23:21 +0000] "GET /a HTTP/1.1" 200 5"#;
        let message = br#"Started GET "/a" for 10.0.0.9 at 2026-11-22 20:23:21 +0000"#;
        let mut parser = Parser::new(&Spec::auto());
        assert!(parser.parse(message).is_ok());
        assert!(parser.parse(usual).is_ok());
        assert!(parser.parse(message).is_err());
    }

    #[test]
    fn text_of_a_client_is_not_taken_for_the_rest_of_the_line() {
        for line in [
            r#"Started GET "/" for 203.0.113.9 at 2026-11-22 20:23:21 +0000" for 10.0.0.9 at 2026-11-22 20:23:21 +0000"#,
            r#"2026/11/22 20:23:21 "GET /" from 203.0.113.9 - 200 x HTTP/1.1" from 10.0.0.9:4 - 200 512B in 1s"#,
            r#"2026-11-22 20:23:21 INFO GET /a for somebody"#,
            r#"[2026-11-22T20:23:21.123Z] "GET /a HTTP/1.1" 200 - 0 512 3 2 "-" "x" "8f0d" "shop.example" "10.0.1.5:80""#,
        ] {
            let read = Parser::new(&Spec::auto()).parse(line.as_bytes());
            assert!(read.is_err(), "{line}: {read:?}");
        }
    }
}

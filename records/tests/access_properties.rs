//! Properties of the access line parser that hold for any bytes.

use pen_records::access::{AccessLine, LineSpan, LoggedRequest, Parser, Spec, write_with_text};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::{prop_assert, prop_assert_eq, proptest};

/// Formats of each kind, so that the bytes reach every parser.
const SPECS: &[&str] = &[
    "auto",
    "common",
    "combined",
    "vhost_combined",
    "json",
    "json:client=a.b,time=c[0],status=d",
    "%{X-Forwarded-For}i %h %l %u %t \"%r\" %>s %b",
    "%v:%p,%a:%{remote}p,%{%d/%b/%Y %T}t.%{usec_frac}t %{%z}t,%u,%m %U%q %H",
    "$http_x $remote_addr - $remote_user [$time_local] $request $status $args",
    "log_format j escape=json '{\"a\":{\"b\":\"$remote_addr\"},\"t\":\"$msec\",\"r\":\"$request\"}';",
];

/// Fragments of lines, joined at random: closer to real lines than random bytes.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: &[&[u8]] = &[
        b" ",
        b"\"",
        b"\\",
        b"-",
        b"[",
        b"]",
        b"{",
        b"}",
        b":",
        b",",
        b"\r",
        b"192.0.2.1",
        b"[2001:db8::1]:80",
        b"a.example:443",
        b"[10/Oct/2000:13:55:36 -0700]",
        b"10/Oct/2000:13:55:36.5 -0700",
        b"2000-10-10T20:55:36.123456Z",
        b"971211336.123",
        b"\"GET / HTTP/1.1\" 200 5",
        b"\"remote_addr\":",
        b"{\"a\":{\"b\":\"192.0.2.1\"}",
        b"<190>Oct 10 13:55:36 web nginx: ",
        b"<165>1 - - - - - [a b=\"]\"] ",
        b"Nov 14 22:13:20.5 ",
        b"2023-11-14T22:13:20.346494690Z ",
        b"stdout F ",
        b"web-1  | ",
        b"access.log:17:",
        b"\x01\0\0\0\0\0\0\x5f",
        b"{\"log\":\"",
        b"\\n\"}",
        b"[GIN] 2026/11/22 - 20:23:21 | 200 | 1ms | ",
        b" | GET \"/a\"",
        b"Started GET \"/a\" for ",
        b" at 2026-11-22 20:23:21 +0000",
        b"method=GET path=/ ",
        b"remote_addr=",
        b"status=200 ",
        b"\t",
        b"host:",
        b"#Fields: date time c-ip cs-method cs-uri-stem",
        b"2026-11-22 20:23:21 ",
        b"GET /a",
        b"{'remote_addr': '",
        b"\x1b[97;42m",
        b"2026-11-22T20:23:21Z,192.0.2.1,GET,/a,200",
        b"time,remote_addr,method,uri,status",
        b",\"x, \"\"y\"\"\"",
        b"|GET|/a|200",
        b";",
        b"192.0.2.1 -  22/Nov/2026:20:23:21 +0000 \"GET /a\" 200",
        b"[Sun, 22 Nov 2026 20:23:21 GMT]",
        b"20:23:21 | 200 | 1ms | 192.0.2.1 | GET | /a | -",
        b"INFO\thttp.log.access\thandled request\t",
        b"11/22/26, 20:23:21, ",
    ];
    prop_oneof![
        6 => select(known).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..6),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..200), vec(piece(), 0..24).prop_map(|pieces| pieces.concat())]
}

/// Lines with a few different heads, so that a line often begins like the previous one.
fn relative() -> impl Strategy<Value = Vec<u8>> {
    let envelopes: &[&[u8]] = &[b"", b"", b"<190>Oct 10 13:55:36 web nginx: ", b"\"", b"x "];
    let heads: &[&[u8]] = &[
        b"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"",
        b"192.0.2.1 - - [10/Oct/2000:13:55:37 -0700] \"",
        b"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] (0 s) \"",
        b"192.0.2.1:80 - x [10/Oct/2000:13:55:36.5 -0700] \"",
        b"a.example:443 192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"",
    ];
    (select(envelopes), select(heads), bytes())
        .prop_map(|(envelope, head, rest)| [envelope, head, &rest].concat())
}

/// All spans of a line.
fn spans(line: &AccessLine) -> Vec<LineSpan> {
    let mut spans = vec![line.client];
    spans.extend([line.time_text, line.referer, line.user_agent, line.host].into_iter().flatten());
    spans.extend([line.user, line.forwarded_for].into_iter().flatten());
    match line.request {
        LoggedRequest::Absent => {}
        LoggedRequest::Line(request) => spans.push(request),
        LoggedRequest::Parts { method, target, query, protocol } => {
            spans.extend([method, target]);
            spans.extend([query, protocol].into_iter().flatten());
        }
    }
    spans
}

/// A user name that may look like other fields.
fn user() -> impl Strategy<Value = String> {
    let words = || select(&["-", "203.0.113.9", "203.0.113.9:80", "a.example", "x", ",", "'"][..]);
    prop_oneof![
        "[ -!#-~]{1,40}",
        vec(words(), 1..8).prop_map(|words| words.join(" ")),
        vec(words(), 1..4).prop_map(|words| words.concat()),
    ]
}

/// A value with Apache's escapes, as written into quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A directive, the literal behind it, and a value.
#[derive(Clone, Debug)]
struct DirectiveSample {
    directive: &'static str,
    value: String,
    quoted: bool,
}

/// The test inserts the directive of the client.
fn sample() -> impl Strategy<Value = DirectiveSample> {
    let free = "[ -~]{0,20}".prop_map(|value| escaped(&value));
    let quoted = select(&["%r", "%{Referer}i", "%{User-Agent}i", "%{X}i", "%{Y}C"][..]);
    let word = |directive, pattern: &'static str| {
        pattern.prop_map(move |value| DirectiveSample { directive, value, quoted: false })
    };
    prop_oneof![
        (quoted, free).prop_map(|(directive, value)| DirectiveSample {
            directive,
            value,
            quoted: true
        }),
        word("%>s", "[1-5][0-9]{2}"),
        word("%b", "[1-9][0-9]{0,9}"),
        word("%{remote}p", "[1-9][0-9]{0,3}"),
        word("%k", "[0-9]{1,3}"),
        word("%D", "[0-9]{1,9}"),
        word("%v", "[a-z]{1,9}\\.example"),
        word("%l", "-"),
        word("%L", "-|[A-Za-z0-9]{8}"),
        Just(DirectiveSample {
            directive: "%t",
            value: "[10/Oct/2000:13:55:36 -0700]".into(),
            quoted: false
        }),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_only_the_client_changes(lines in vec(bytes(), 1..4)) {
        for spec in SPECS {
            let mut parser = Parser::new(&Spec::parse(spec).expect(spec));
            for line in &lines {
                match parser.parse(line) {
                    Ok(found) => {
                        let client = found.client;
                        for span in spans(&found) {
                            prop_assert!(span.start <= span.end, "{spec}");
                            prop_assert!(span.end as usize <= line.len(), "{spec}");
                            prop_assert!(span.start >= found.envelope, "{spec}");
                        }
                        prop_assert!(client.start < client.end, "{spec}");
                        let mut same = Vec::new();
                        write_with_text(line, client, client.of(line), &mut same);
                        prop_assert_eq!(&same, line);
                        let mut other = Vec::new();
                        write_with_text(line, client, b"198.51.100.200", &mut other);
                        let (start, end) = (client.start as usize, client.end as usize);
                        prop_assert_eq!(&other[..start], &line[..start]);
                        prop_assert_eq!(&other[start + 14..], &line[end..]);
                    }
                    Err(wrong) => prop_assert!(wrong.at as usize <= line.len(), "{spec}: {wrong}"),
                }
            }
            prop_assert!(!parser.format().is_empty());
        }
    }

    #[test]
    fn what_was_read_before_changes_nothing_where_a_line_leaves_no_choice(
        lines in vec(relative(), 1..8)
    ) {
        for name in SPECS {
            let spec = Spec::parse(name).expect(name);
            let mut parser = Parser::new(&spec);
            for line in lines.iter().chain(&lines) {
                let mut first = Parser::new(&spec);
                let (ours, alone) = (parser.parse(line), first.parse(line));
                // Forms of a server's own are looked for only where no usual line came before.
                let format = first.format();
                let is_usual = ["common", "combined", "vhost", "json"];
                let is_usual = is_usual.iter().any(|name| format.starts_with(name));
                // A second time in brackets would be behind words of any kind.
                let leaves_choice = *name == "auto"
                    && (alone.is_err() || !is_usual || line.iter().filter(|&&b| b == b'[').count() > 1);
                prop_assert!(leaves_choice || ours == alone, "{ours:?}, alone {alone:?}");
            }
        }
    }

    #[test]
    fn what_a_client_chooses_does_not_move_the_client(
        user in user(), layout in 0..3_usize, lines in 8..40_usize,
    ) {
        let (usual, start) = [
            ("192.0.2.1 - - [", 0),
            ("a.example 192.0.2.1 - - [", 10),
            ("a.example - 192.0.2.1 - - [", 12),
        ][layout];
        let rest = "10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5";
        let mut parser = Parser::new(&Spec::auto());
        for _ in 0..lines {
            // Not the same bytes twice: equal heads are read once.
            for zone in ["-0700", "-0600"] {
                let line = format!("{usual}{}", rest.replace("-0700", zone));
                parser.parse(line.as_bytes()).expect("a usual line");
            }
        }
        let line = format!("{}{user} [{rest}", usual.strip_suffix("- [").expect("a user"));
        if let Ok(found) = parser.parse(line.as_bytes()) {
            prop_assert_eq!(found.client.start, start, "{}", line);
        }
    }

    #[test]
    fn any_format_is_compiled_or_refused_within_it(text in "\\PC{0,60}", line in bytes()) {
        check_format(&text, &line)?;
    }

    #[test]
    fn pieces_of_formats_are_compiled_or_refused_within_them(
        pieces in vec(select(&[
            "LogFormat ", "log_format x ", "escape=json ", "json:", "client=", "a.b", ",", ";",
            "%h", "%", "%{", "}", "t", "%t", "%{%d", "%>s", "%^FB", "%!200,304{Referer}i", "%%",
            "$remote_addr", "$", "${", "$time_local", "$request_uri", "$uri", "$is_args", "$args",
            "\"", "'", "\\", " ", "[", "]", "{\"a\":", "\"$remote_addr\"", "é",
        ][..]), 0..14),
        line in bytes(),
    ) {
        check_format(&pieces.concat(), &line)?;
    }

    #[test]
    fn a_line_made_by_a_format_has_the_values_it_was_made_of(
        samples in vec(sample(), 0..9),
        place in any::<proptest::sample::Index>(),
        client in prop_oneof!["[0-9]{1,2}(\\.[0-9]{1,2}){3}", "[0-9a-f]{1,4}::[0-9a-f]{1,4}"],
    ) {
        let mut samples = samples;
        let place = place.index(samples.len() + 1);
        let sample = DirectiveSample { directive: "%a", value: client.clone(), quoted: false };
        samples.insert(place, sample);
        let (mut format, mut line) = (String::new(), String::new());
        for (index, DirectiveSample { directive, value, quoted }) in samples.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            let quote = if *quoted { "\"" } else { "" };
            format.push_str(&format!("{space}{quote}{directive}{quote}"));
            line.push_str(&format!("{space}{quote}{value}{quote}"));
        }
        let found = Parser::new(&Spec::parse(&format).expect("it names the client"))
            .parse(line.as_bytes());
        let found = match found {
            Ok(found) => found,
            Err(wrong) => return Err(proptest::test_runner::TestCaseError::fail(
                format!("{wrong}: {format}: {line}"))),
        };
        let text = |span: LineSpan| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
        prop_assert_eq!(text(found.client), client);
        let first = |directive: &str| {
            samples.iter().find(|s| s.directive == directive).map(|s| s.value.clone())
        };
        prop_assert_eq!(found.referer.map(text), first("%{Referer}i"));
        prop_assert_eq!(found.user_agent.map(text), first("%{User-Agent}i"));
        prop_assert_eq!(found.host.map(text), first("%v"));
        prop_assert_eq!(found.status.map(|n| n.to_string()), first("%>s"));
        prop_assert_eq!(found.bytes.map(|n| n.to_string()), first("%b"));
        prop_assert_eq!(found.peer_port.map(|n| n.to_string()), first("%{remote}p"));
        prop_assert_eq!(found.time.is_some(), first("%t").is_some());
        if let LoggedRequest::Line(request) = found.request {
            prop_assert_eq!(Some(text(request)), first("%r"));
        } else {
            prop_assert_eq!(None, first("%r"));
        }
    }
}

fn check_format(text: &str, line: &[u8]) -> Result<(), proptest::test_runner::TestCaseError> {
    match Spec::parse(text) {
        Ok(spec) => {
            if let Ok(found) = Parser::new(&spec).parse(line) {
                let mut same = Vec::new();
                write_with_text(line, found.client, found.client.of(line), &mut same);
                prop_assert_eq!(&same, line);
            }
        }
        Err(wrong) => {
            prop_assert!(wrong.at <= text.len(), "{wrong}");
            prop_assert!(!wrong.to_string().is_empty());
        }
    }
    Ok(())
}

/// Lines of each kind.
const WHOLE: &[&str] = &[
    r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "-" "x (y)" "198.51.100.7""#,
    r#"a.example - 192.0.2.1 - b [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "http://b/" "x""#,
    r#"Nov 14 22:13:20 FW1 fw1 nginx: 192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5"#,
    r#"<190>1 2023-11-14T22:13:20.1+00:00 web1 nginx - - - 192.0.2.1 - - "GET / HTTP/1.1" 200 5"#,
    r#"web-1  | 192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "-" "x""#,
    r#"[10/Oct/2000:13:55:36 -0700] 192.0.2.1 TLSv1.3 X "GET / HTTP/1.1" 512"#,
    r#"{"remote_addr":"192.0.2.1","msec":971211336.1,"request":"GET / HTTP/1.1","status":200,"x":,}"#,
    r#"{"a":{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","msec":971211336.1}}"#,
    r#"{"log":"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5\n","stream":"stdout"}"#,
    r#"[GIN] 2026/11/22 - 20:23:21 | 200 |     1.204834ms |        192.0.2.1 | GET      "/a""#,
    r#"Started GET "/a" for 192.0.2.1 at 2026-11-22 20:23:21 +0000"#,
    r#"time=2026-11-22T20:23:21Z level=INFO remote_addr=192.0.2.1 method=GET path=/a status=200"#,
    "time:[22/Nov/2026:20:23:21 +0000]\thost:192.0.2.1\treq:GET /a HTTP/1.1\tstatus:200",
    r#"{'remote_addr': '192.0.2.1', 'time': 971211336.1, 'request': 'GET / HTTP/1.1', 'x': None}"#,
    r#"h2 2026-11-22T20:23:21.1Z app/lb/5 192.0.2.1:40 10.0.1.5:80 0.1 0.1 0.1 200 200 3 3 "GET http://a/b HTTP/1.1" "c" - -"#,
];

#[test]
fn a_line_that_is_cut_has_its_client_or_is_refused() {
    for line in WHOLE {
        let client = Parser::new(&Spec::auto()).parse(line.as_bytes()).expect(line).client;
        assert_eq!(client.of(line.as_bytes()), b"192.0.2.1", "{line}");
        for cut in 0..line.len() {
            let line = &line.as_bytes()[..cut];
            if let Ok(found) = Parser::new(&Spec::auto()).parse(line) {
                assert_eq!(found.client, client, "{}", line.escape_ascii());
            }
            let _ = Parser::new(&Spec::auto()).time_of_unread(line);
        }
    }
}

//! Lines of each shape, in a log of such lines.

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
    let format = parser.format();
    assert!(format.starts_with(name), "{format}: {lines:?}");
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
        "common with another time",
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
        "Jupyter",
        &[
            "[I 2026-11-22 20:23:21.123 ServerApp] 200 GET /a?b=1 (@10.0.0.9) 1.23ms",
            "[I 2026-11-22 20:23:21.123 JupyterHub log:192] 200 GET /a?b=1 (ann@10.0.0.9) 1.23ms",
        ],
    );
    check(
        "Rust log",
        &[
            r#"[2026-11-22T20:23:21Z INFO  actix_web::middleware::logger] 10.0.0.9 "GET /a?b=1 HTTP/1.1" 200 512 "-" "x" 0.000123"#,
            r#"[2026-11-22T20:23:21Z INFO  warp::filters::log] 10.0.0.9:4001 "GET /a?b=1 HTTP/1.1" 200 "-" "x" 12.3µs"#,
        ],
    );
    check("client and time", &[r#"10.0.0.9 1795379001.123 "GET /a?b=1 HTTP/1.1" 200 512 "-" "x""#]);
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
            r#"2026/11/22 20:23:21 [web1/8fPqzLkJ2a-000001] "GET http://shop.example/a?b=1 HTTP/1.1" from 10.0.0.9:40001 - 200 512B in 12.3µs"#,
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

/// Forms of further programs, each with its name.
const FURTHER_LINES: &[(&str, &str)] = &[
    (
        "common with another time",
        r#"10.0.0.9 - - [22/Nov/2026:20:23:21 UTC] "GET /a?b=1 HTTP/1.1" 200 512"#,
    ),
    (
        "common with another time",
        r#"10.0.0.9 - - [22/Nov/2026:20:23:21 CET] "GET /a?b=1 HTTP/1.1" 200 512 "-" "x""#,
    ),
    (
        "common with another time",
        r#"10.0.0.9 - - [22/Nov/2026:20:23:21] "GET /a?b=1 HTTP/1.1" 200 512 "-" "x""#,
    ),
    (
        "common with another time",
        r#"10.0.0.9:50001 - - [22/Nov/2026:20:23:21] "GET /a?b=1" 200 512"#,
    ),
    (
        "common with another time",
        r#"10.0.0.9 - - [Sun, 22 Nov 2026 20:23:21 GMT] "GET /a?b=1 HTTP/1.1" 200 512 "-" "x""#,
    ),
    (
        "common with another time",
        r#"10.0.0.9 - - 2026-11-22 20:23:21.123 "GET /a?b=1 HTTP/1.1" 200 512"#,
    ),
    (
        "common without quotes",
        "10.0.0.9 - - [22/Nov/2026:20:23:21 +0000] GET /a?b=1 HTTP/1.1 200 512",
    ),
    (
        "uvicorn",
        r#"[2026-11-22 20:23:21 +0000] [12] [INFO] 10.0.0.9:50001 - "GET /a?b=1 HTTP/1.1" 200"#,
    ),
    ("uvicorn", r#"2026-11-22 20:23:21,123 - INFO - 10.0.0.9:50001 - "GET /a?b=1 HTTP/1.1" 200"#),
    (
        "uvicorn",
        r#"2026-11-22 20:23:21,123 - uvicorn.access - INFO - 10.0.0.9:50001 - "GET /a?b=1 HTTP/1.1" 200"#,
    ),
    ("common", r#"[2026-11-22 20:23:21 +0000] 10.0.0.9 - "GET /a?b=1 HTTP/1.1" 200 1.234"#),
    (
        "Sanic",
        "[2026-11-22 20:23:21 +0000] - (sanic.access)[INFO][10.0.0.9:50001]: GET http://shop.example/a?b=1  200 512",
    ),
    (
        "Twisted",
        r#""10.0.0.9" - - [22/Nov/2026:20:23:21 +0000] "GET /a?b=1 HTTP/1.1" 200 512 "-" "x""#,
    ),
    (
        "Twisted",
        r#"2026-11-22T20:23:21+0000 [twisted.python.log#info] "10.0.0.9" - - [22/Nov/2026:20:23:21 +0000] "GET /a?b=1 HTTP/1.1" 200 512 "-" "x""#,
    ),
    (
        "Fiber",
        "2026/11/22 20:23:21 | 200 |      12.345µs |        10.0.0.9 | GET     | /a?b=1              | -",
    ),
    (
        "Fiber",
        "20:23:21 | 200 |      12.345µs |        10.0.0.9 | GET     | /a?b=1              | -",
    ),
    (
        "Fiber",
        "2026-11-22T20:23:21.123456789Z 20:23:21 |\x1b[92m 200 \x1b[0m|   12.345µs |        10.0.0.9 |\x1b[96m GET     \x1b[0m| /a?b=1  | -",
    ),
    ("morgan", "10.0.0.9 - GET /a?b=1 HTTP/1.1 200 512 - 1.234 ms"),
    ("morgan", "2026-11-22T20:23:21: 10.0.0.9 - GET /a?b=1 HTTP/1.1 200 512 - 1.234 ms"),
    ("PHP-FPM", r#"10.0.0.9 -  22/Nov/2026:20:23:21 +0000 "GET /a?b=1" 200"#),
    (
        "PHP-FPM",
        r#"10.0.0.9 - - 22/Nov/2026:20:23:21 +0000 "GET /a?b=1" 200 /var/www/index.php 12.345 2048 81.00%"#,
    ),
    (
        "Istio",
        r#"[2026-11-22T20:23:21.123Z] "GET /a?b=1 HTTP/1.1" 200 - via_upstream - "-" 0 512 3 2 "198.51.100.7" "a "b" c" "8f0d" "shop.example" "10.0.1.5:80" outbound|80||web 10.0.1.1:40000 10.0.1.5:80 10.0.0.9:50001 - default"#,
    ),
    (
        "Confluence",
        "[22/Nov/2026:20:23:21 +0000] - http-nio-8090-exec-1 10.0.0.9 GET /a?b=1 HTTP/1.1 200 12ms 512 - x",
    ),
    (
        "Bitbucket",
        r#"10.0.0.9 | http | i@1 | - | 2026-11-22 20:23:21,123 | "GET /a?b=1 HTTP/1.1" | "" "x" | 200 | 65 | 512 | - | 12 | - |"#,
    ),
    (
        "IIS",
        "10.0.0.9, -, 11/22/26, 20:23:21, W3SVC1, WEB1, 10.0.1.5, 12, 65, 512, 200, 0, GET, /a, b=1,",
    ),
    (
        "keys and values",
        "I, [2026-11-22T20:23:21.123456 #12]  INFO -- : method=GET path=/a?b=1 format=html status=200 remote_ip=10.0.0.9",
    ),
    (
        "keys and values",
        "logger=context t=2026-11-22T20:23:21.123Z level=info method=GET path=/a?b=1 status=200 remote_addr=10.0.0.9",
    ),
    (
        "keys and values",
        "time=2026-11-22T20:23:21Z, remote_ip=10.0.0.9, method=GET, uri=/a?b=1, status=200",
    ),
    (
        "console with JSON",
        "2026/11/22 20:23:21.123\tINFO\thttp.log.access.log0\thandled request\t{\"request\": {\"remote_ip\": \"10.0.0.9\", \"remote_port\": \"50001\", \"proto\": \"HTTP/1.1\", \"method\": \"GET\", \"uri\": \"/a?b=1\"}, \"status\": 200}",
    ),
    (
        "console with JSON",
        "2026-11-22T20:23:21.123Z\t\x1b[34mINFO\x1b[0m\tserver/log.go:12\thandled\t{\"method\": \"GET\", \"path\": \"/a?b=1\", \"remote_addr\": \"10.0.0.9:50001\", \"status\": 200}",
    ),
    ("table", r#"2026-11-22T20:23:21Z,10.0.0.9,GET,/a?b=1,HTTP/1.1,200,512,"x, ""y""""#),
    (
        "table",
        r#""10.0.0.9","22/Nov/2026:20:23:21 +0000","GET /a?b=1 HTTP/1.1","200","512","-","x""#,
    ),
    ("table", r#"10.0.0.9,-,[22/Nov/2026:20:23:21 +0000],"GET /a?b=1 HTTP/1.1",200,512"#),
    (
        "table",
        r#"shop.example,443,10.0.0.9,-,-,[22/Nov/2026:20:23:21 +0000],2247,200,"HTTP/1.1","GET","/a","?b=1","-","x",-"#,
    ),
    ("table", "10.0.0.9;2026-11-22 20:23:21;GET;/a?b=1;200;512"),
    ("table", "10.0.0.9 | 2026-11-22 20:23:21 | GET /a?b=1 HTTP/1.1 | 200 | 512"),
    ("table", "2026-11-22T20:23:21Z\t10.0.0.9\tGET\t/a?b=1\tHTTP/1.1\t200\t512"),
    ("table", "2026-11-22T20:23:21.123Z|6b2f|10.0.0.9|anonymous|GET|/a?b=1|200|-1|512|12|x"),
];

#[test]
fn lines_of_further_programs_are_read() {
    for (name, line) in FURTHER_LINES {
        check(name, &[line]);
    }
}

#[test]
fn a_table_is_read_by_its_names() {
    for (names, line) in [
        (
            "time,remote_addr,method,uri,protocol,status,upstream",
            "2026-11-22T20:23:21Z,10.0.0.9,GET,/a?b=1,HTTP/1.1,200,10.0.1.5",
        ),
        (
            r#""Client IP","Date","Time","Request","Status""#,
            r#""10.0.0.9","2026-11-22","20:23:21","GET /a?b=1 HTTP/1.1","200""#,
        ),
        (
            "date;server_ip;client_ip;method;url;status",
            "2026-11-22 20:23:21;10.0.1.5;10.0.0.9;GET;/a?b=1;200",
        ),
        (
            "timestamp\tip\tcs-method\tcs-uri-stem\tcs-uri-query\tsc-status",
            "1795379001\t10.0.0.9\tGET\t/a\tb=1\t200",
        ),
    ] {
        let mut parser = Parser::new(&Spec::auto());
        assert!(parser.parse(names.as_bytes()).is_err(), "{names}");
        let text = line.as_bytes();
        let found = parser.parse(text).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(found.client.of(text), b"10.0.0.9", "{line}");
        let expected = Fingerprint::of_raw(b"GET /a?b=1", Cut::Target);
        assert_eq!(found.request.target(text), expected, "{line}");
        let (time, _) = found.time.expect(line);
        assert_eq!((time.as_micros() / 1_000_000, found.status), (SECONDS, Some(200)), "{line}");
        assert!(parser.format().starts_with("table"), "{}", parser.format());
    }
}

#[test]
fn a_table_that_may_have_another_client_is_refused() {
    let (names, line) =
        ("time,client_ip,method,url,status", "2026-11-22T20:23:21Z,10.0.0.9,GET,/a,200");
    let mut parser = Parser::new(&Spec::auto());
    for line in [
        // Two addresses and no names.
        "2026-11-22T20:23:21Z,10.0.1.5,10.0.0.9,GET,/a?b=1,200",
        // No time, no request.
        "a,10.0.0.9,GET,/a?b=1,200",
        "2026-11-22T20:23:21Z,10.0.0.9,200,512,x",
    ] {
        assert!(parser.parse(line.as_bytes()).is_err(), "{line}");
    }
    assert!(parser.parse(names.as_bytes()).is_err());
    assert!(parser.parse(line.as_bytes()).is_ok());
    for line in [
        // A comma too many: the client may stand elsewhere.
        "2026-11-22T20:23:21Z,10.0.0.9,GET,/a,198.51.100.7,200",
        "2026-11-22T20:23:21Z,shop.example,GET,/a,200",
        "2026-11-22T20:23:21Z,10.0.0.9,GET,\"/a,200",
        "yesterday,10.0.0.9,GET",
    ] {
        assert!(parser.parse(line.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn another_logger_of_caddy_writes_no_accesses() {
    let line = "2026/11/22 20:23:21.123\tERROR\thttp.log.error\tx\t{\"request\": {\"remote_ip\": \"10.0.0.9\", \"proto\": \"HTTP/1.1\", \"method\": \"GET\", \"uri\": \"/a\"}, \"status\": 502}";
    assert!(Parser::new(&Spec::auto()).parse(line.as_bytes()).is_err());
}

#[test]
fn zones_of_other_times() {
    for (stamp, zone) in [
        ("22/Nov/2026:20:23:21 UTC", StampZone::Given),
        ("Sun, 22 Nov 2026 20:23:21 GMT", StampZone::Given),
        ("22/Nov/2026:20:23:21 CET", StampZone::Missing),
        ("22/Nov/2026:20:23:21", StampZone::Missing),
    ] {
        let line = format!("10.0.0.9 - - [{stamp}] \"GET /a HTTP/1.1\" 200 5");
        let found = Parser::new(&Spec::auto()).parse(line.as_bytes()).expect(stamp);
        assert_eq!(found.zone, zone, "{stamp}");
    }
}

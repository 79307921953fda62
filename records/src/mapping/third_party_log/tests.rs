//! Lines written by HAProxy 2.6, and lines of other balancers from their manuals.

use super::*;
use crate::time::Timestamp;

const UTC: fn(Timestamp) -> i64 = |_| 0;

/// The content of a line as text, for tables.
fn said(spec: &ThirdPartySpec, line: &str) -> String {
    let mut reader = ThirdPartyReader::new(spec);
    let record = reader.read(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Some(record) = record else { return "nothing".to_owned() };
    let port = record.client_port.map_or_else(|| "-".to_owned(), |port| port.to_string());
    let whom = match record.whom {
        ThirdPartyServer::At(addr, port) => format!("{addr} {}", port.unwrap_or(0)),
        ThirdPartyServer::Named { group, server } => {
            format!("{}/{}", group.escape_ascii(), server.escape_ascii())
        }
        ThirdPartyServer::Nobody => "nobody".to_owned(),
        ThirdPartyServer::Unnamed => "unnamed".to_owned(),
    };
    let own = record.balancer.map_or_else(|| "-".to_owned(), |own| own.to_string());
    let times = record.span.logged(UTC);
    let times = times.map_or_else(
        || "-".to_owned(),
        |(asked, end, _)| format!("{} {}", asked.as_micros() / 1_000, end.as_micros() / 1_000),
    );
    let request = String::from_utf8_lossy(record.request());
    let text = format!("{} {port} -> {whom} by {own} at {times} {request}", record.client);
    text.trim_end().to_owned()
}

#[test]
fn lines_of_haproxy_are_read_as_they_are() {
    for (line, expected) in [
        (
            r#"<134>Nov 25 16:46:11 haproxy[4866]: 127.0.0.1:60114 [25/Nov/2026:16:46:11.526] web app/w1 1/2/0/3/10 200 128 - - ---- 1/1/0/0/0 0/0 "GET /plain HTTP/1.1""#,
            "127.0.0.1 60114 -> app/w1 by - at 1795625171529 1795625171536 GET /plain HTTP/1.1",
        ),
        (
            r#"<134>1 2026-11-25T16:46:11.542686+00:00 - haproxy 4866 - - 127.0.0.1:60128 [25/Nov/2026:16:46:11.541] web app/w2 0/0/0/0/0 200 129 - - ---- 1/1/0/0/0 0/0 "GET /q?a=#22b#22&c=<d> HTTP/1.1""#,
            "127.0.0.1 60128 -> app/w2 by - at 1795625171541 1795625171541 GET /q?a=\"b\"&c=<d> HTTP/1.1",
        ),
        (
            r#"Nov 25 16:46:11 lb haproxy[4866]: 127.0.0.1:60142 [25/Nov/2026:16:46:11.565] web~ app/w1 0/0/0/0/0 200 128 - - ---- 1/1/0/0/0 0/0 {curl/8 (x)|} "GET http://a.example/h2?x=y HTTP/2.0""#,
            "127.0.0.1 60142 -> app/w1 by - at 1795625171565 1795625171565 GET /h2?x=y HTTP/1.1",
        ),
        (
            r#"127.0.0.1:60666 [25/Nov/2026:16:46:11.585] webp app/w2 0/0/0/0/0 200 129 - - ---- 1/1/0/0/0 0/0 "GET /p1 HTTP/1.1" 127.0.0.1:44044 127.0.77.2:18081"#,
            "127.0.0.1 60666 -> 127.0.77.2 18081 by 127.0.0.1:44044 at 1795625171585 1795625171585 GET /p1 HTTP/1.1",
        ),
        (
            r#"::1:54870 [25/Nov/2026:16:46:14.630] v6 app/w2 0/0/0/0/0 200 129 - - ---- 1/1/0/0/0 0/0 "GET /six HTTP/1.1" ::1:52700 2001:db8::2:18081"#,
            "::1 54870 -> 2001:db8::2 18081 by [::1]:52700 at 1795625174630 1795625174630 GET /six HTTP/1.1",
        ),
        (
            "127.0.0.1:56040 [25/Nov/2026:16:46:11.594] tcp tapp/w1 1/2/40 153 -- 1/1/0/0/0 0/0",
            "127.0.0.1 56040 -> tapp/w1 by - at 1795625171597 1795625171634",
        ),
        (
            "127.0.0.1:39116 [25/Nov/2026:16:46:11.604] tcpp tapp/w1 1/0/+1 +0 -- 1/1/1/1/0 0/0 127.0.0.1:52812 127.0.77.1:18081",
            "127.0.0.1 39116 -> 127.0.77.1 18081 by 127.0.0.1:52812 at 1795625171605 1795625171605",
        ),
        (
            r#"127.0.0.1:38272 [25/Nov/2026:16:48:58.348] web web/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>""#,
            "127.0.0.1 38272 -> nobody by - at 1795625338348 1795625338348",
        ),
        (
            // `option httplog clf`, and the same with captured headers.
            r#"<134>Nov 29 20:35:34 haproxy[26370]: 127.0.0.1 - - [29/Nov/2026:20:35:34 +0000] "GET /a?b=%20c HTTP/1.1" 200 117 "" "" 39160 730 "c" "app" "web1" 0 0 0 4 4 ---- 1 1 0 0 0 0 0 "" "" "#,
            "127.0.0.1 39160 -> app/web1 by - at 1795984534730 1795984534734 GET /a?b=%20c HTTP/1.1",
        ),
        (
            r#"127.0.0.1 - - [29/Nov/2026:20:35:34 +0000] "GET /a HTTP/1.1" 200 117 "" "" 39160 730 "c" "app" "web1" 0 0 0 4 4 ---- 1 1 0 0 0 0 0 "" "" "curl/8" "text/html""#,
            "127.0.0.1 39160 -> app/web1 by - at 1795984534730 1795984534734 GET /a HTTP/1.1",
        ),
        (
            r#"unix:1 [25/Nov/2026:16:48:58.348] web app/w1 0/0/0/0/1 200 0 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1" - 127.0.0.1:80"#,
            "",
        ),
    ] {
        if expected.is_empty() {
            let mut reader = ThirdPartyReader::new(&ThirdPartySpec::haproxy());
            assert!(reader.read(line.as_bytes()).is_err(), "{line}");
            continue;
        }
        assert_eq!(said(&ThirdPartySpec::haproxy(), line), expected, "{line}");
        assert!(ThirdPartyReader::may_be_haproxys(line.as_bytes()), "{line}");
    }
}

#[test]
fn formats_of_other_balancers_are_read() {
    for (format, line, expected) in [
        (
            // Envoy's default, with its own address added.
            r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_LOCAL_ADDRESS%\n"#,
            r#"[2026-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "-" "nsq2http" "cc21d9b0" "locations" "10.0.2.1:80" 203.0.113.9:5555 10.0.1.1:40100"#,
            "203.0.113.9 5555 -> 10.0.2.1 80 by 10.0.1.1:40100 at 1776284220310 1776284220536 POST /api/v1/locations HTTP/1.1",
        ),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %START_TIME(%s.%3f)% %DURATION% tcp://%UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% %BYTES_SENT%",
            "2001:db8::9 1776284220.310 1500 tcp://[2001:db8::1]:443 [2001:db8::2]:40100 77",
            "2001:db8::9 - -> 2001:db8::1 443 by [2001:db8::2]:40100 at 1776284220310 1776284221810",
        ),
        (
            r#"%<cqtq> %<ttms> %<chi> %<chp> %<pqsi> %<pqsp> %<nhi> %<nhp> "%<cqhm> %<cquup> %<cqpv>" %<sssc> %<sscl> %<sshl> "%<{User-Agent}cqh>""#,
            r#"1432194201.810 15 203.0.113.9 4711 127.0.0.1 40100 10.0.0.1 80 "GET /a?b http/1.1" 200 512 100 "Mozilla/5.0 (X11)""#,
            "203.0.113.9 4711 -> 10.0.0.1 80 by 127.0.0.1:40100 at 1432194201810 1432194201825 GET /a?b HTTP/1.1",
        ),
        (
            // Written by Traffic Server 9.2, on a reused connection.
            r#"%<cqtq> %<ttms> %<chi> %<chp> %<pqsi> %<pqsp> %<nhi> %<nhp> "%<cqhm> %<cquup> %<cqpv>" %<sssc> %<sscl> %<sshl> "%<{User-Agent}cqh>" "%<{Referer}cqh>""#,
            r#"1795628328.372 0 127.0.3.9 57574 0 0 127.0.77.1 18081 "GET /p2 http/1.1" 200 6 147 "a "q" b" "-""#,
            "127.0.3.9 57574 -> 127.0.77.1 18081 by - at 1795628328372 1795628328372 GET /p2 HTTP/1.1",
        ),
        (
            r#"log_format up '$remote_addr [$time_local] "$request" $status $body_bytes_sent "$upstream_addr" $request_time "$http_user_agent"';"#,
            r#"203.0.113.9 [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 5 "10.0.0.1:80, 10.0.0.2:80" 1.250 "x""#,
            "203.0.113.9 - -> 10.0.0.2 80 by - at 971211334750 971211336000 GET /a HTTP/1.1",
        ),
        (
            // Of a retried request.
            r#"$remote_addr [$time_iso8601] "$request" $status $upstream_status $upstream_response_length $request_time "$upstream_addr""#,
            r#"203.0.113.9 [2026-11-29T15:44:32+00:00] "GET http://a.example/a HTTP/1.0" 200 502, 200 0, 3 0.250 "10.0.0.1:80, 10.0.0.2:80""#,
            "203.0.113.9 - -> 10.0.0.2 80 by - at 1795967071750 1795967072000 GET /a HTTP/1.0",
        ),
        (
            r#"LogFormat "%a %t \"%r\" %>s %b %D %{BALANCER_WORKER_NAME}e" balancer"#,
            r#"203.0.113.9 [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 5 2000 http://10.0.0.1:8080"#,
            "203.0.113.9 - -> 10.0.0.1 8080 by - at 971211336000 971211336002 GET /a HTTP/1.1",
        ),
        (
            // The flags of `%o`, a space at the beginning, doubled spaces and one at the end.
            r#"log-format "%{+Q}o  %{-Q}ci %cp  [%tr] %ft %b %s %ST %B %hr %hs %r ""#,
            r#"127.0.0.1 45904 [29/Nov/2026:20:35:34.707] "web" "app" "web1" 200 117 "{my #22agent#22 x}" "GET /a HTTP/1.1" "#,
            "127.0.0.1 45904 -> app/web1 by - at 1795984534707 1795984534707 GET /a HTTP/1.1",
        ),
        (
            r"log-format %ci:%cp\ [%tr]\ %b/%s\ %{+Q}r",
            r#"127.0.0.1:45904 [29/Nov/2026:20:35:34.707] app/web1 "GET /a HTTP/1.1""#,
            "127.0.0.1 45904 -> app/web1 by - at 1795984534707 1795984534707 GET /a HTTP/1.1",
        ),
        (
            r#"%[src]:%[src_port] %[bc_src]:%[bc_src_port] %(name)si:%(port:sint)sp %Ts "%[capture.req.method] %[capture.req.uri] %[capture.req.ver]" %{+Q}[req.hdr(a),map_sub(/x[1])] %{+Q}[src,ipmask(24)]"#,
            r#"127.0.0.1:45904 10.0.0.9:4000 10.0.0.1:80 1795984534 "GET /a HTTP/1.1" "b" "127.0.0.0""#,
            "127.0.0.1 45904 -> 10.0.0.1 80 by 10.0.0.9:4000 at 1795984534000 1795984534000 GET /a HTTP/1.1",
        ),
        (
            r#"log-format "%ci:%cp %Ts.%ms %b/%s %Ta %{+Q}r %bi:%bp %{+Q,+E}[var(txn.user_agent)]""#,
            r#"203.0.113.9:1 1776284220.310 b/s 5 "GET / HTTP/1.1" 127.0.0.1:9 "a\"b\\c\]d""#,
            "203.0.113.9 1 -> b/s by 127.0.0.1:9 at 1776284220310 1776284220315 GET / HTTP/1.1",
        ),
    ] {
        let spec =
            ThirdPartySpec::parse(format).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(said(&spec, line), expected, "{format}");
    }
}

#[test]
fn headers_are_as_web_servers_log_them() {
    let spec = ThirdPartySpec::parse(
        r"%ci %s %{+Q}r %{+Q,+E}[var(txn.user_agent)] %{+Q,+E}[var(txn.referer)]",
    )
    .unwrap();
    for (logged, agent) in [(r#"a\"b\\c\]d\\\]"#, r#"a"b\c]d\]"#), ("", "-"), (r"a\\]", r"a\]")] {
        let line = format!(r#"192.0.2.1 s "GET / HTTP/1.1" "{logged}" """#);
        let mut reader = ThirdPartyReader::new(&spec);
        let record = reader.read(line.as_bytes()).expect(logged).expect(logged);
        let now =
            (Timestamp::default(), Timestamp::default(), crate::time::Resolution::Millisecond);
        let server = crate::addr::ServerAddr::Unix(b"/s");
        let first = record.events((server, None), 1, now).next().expect("an event");
        assert_eq!(
            first.user_agent,
            Some(crate::attribution::text_hash(agent.as_bytes())),
            "{logged}"
        );
        assert_eq!(first.referer, Some(crate::attribution::text_hash(b"-")), "{logged}");
    }
}

#[test]
fn a_client_cannot_write_its_own_port_or_server() {
    // The path is not quoted, and its content looks like the following fields.
    let spec = ThirdPartySpec::parse("%DOWNSTREAM_REMOTE_ADDRESS% %REQ(:PATH)% %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% %REQ(X)%").unwrap();
    let mut reader = ThirdPartyReader::new(&spec);
    assert!(reader.read(b"203.0.113.9:1 /a 10.0.0.1:80 10.0.0.9:4000 -").is_ok());
    assert!(
        reader
            .read(b"203.0.113.9:1 /a 10.0.0.7:80 10.0.0.9:7 10.0.0.1:80 10.0.0.9:4000 -")
            .is_err()
    );
}

#[test]
fn haproxys_texts_quotes_and_dates_are_read_as_it_writes_them() {
    const ENVELOPE: &str = "<134>Nov 30 14:22:22 haproxy[18959]: ";
    for (format, line) in [
        (
            r"from %ci at %Ts.%ms to server %s of %b: %{+Q}r -> %ST (%B bytes)",
            r#"from 127.3.0.1 at 1796048542.425 to server web1 of app: "GET /p HTTP/1.1" -> 200 (328 bytes)"#,
        ),
        (
            r#"{"ts":"%Ts.%ms","c_ip":"%ci","m":%{+Q}HM,"u":%{+Q}HU,"v":%{+Q}HV,"b":"%b","s":"%s","st":%ST}"#,
            r#"{ts:1796048542.425,c_ip:127.3.0.1,m:"GET",u:"/p",v:"HTTP/1.1",b:app,s:web1,st:200}"#,
        ),
        (
            r#""%[date(0,ms)] %ci %b/%s %{+Q}r %ST""#,
            r#"1796048542425 127.3.0.1 app/web1 "GET /p HTTP/1.1" 200"#,
        ),
        (
            r#""%Ts.%ms %ci %b/%s %{+Q}r %ST""#,
            r#"1796048542.425 127.3.0.1 app/web1 "GET /p HTTP/1.1" 200"#,
        ),
    ] {
        let spec = ThirdPartySpec::parse(&format!("log-format {format}")).expect(format);
        for line in [line.to_owned(), format!("{ENVELOPE}{line}")] {
            let text = said(&spec, &line);
            assert!(
                text.starts_with("127.3.0.1 - -> app/web1 by - at 1796048542425"),
                "{line}: {text}"
            );
            assert!(text.ends_with("GET /p HTTP/1.1"), "{line}: {text}");
        }
    }
    // An address that ends before a colon, with more colons behind.
    let spec = ThirdPartySpec::parse("log-format {c:%ci,t:%Ts,srv:%si:%sp,st:%ST,r:%{+Q}r}")
        .expect("a format");
    let text =
        said(&spec, r#"{c:127.3.0.1,t:1796048542,srv:127.31.0.1:8101,st:200,r:"GET /p HTTP/1.1"}"#);
    assert!(text.starts_with("127.3.0.1 - -> 127.31.0.1 8101 "), "{text}");
}

#[test]
fn formats_that_name_no_client_are_refused() {
    for (format, expected) in [
        ("log-format %s", "no field names the client: expected %ci"),
        ("%START_TIME% %UPSTREAM_HOST%", "no field names the client"),
        ("%ci %[var(txn.x", "is not closed"),
        ("%REQ(:METHOD", "is not closed"),
    ] {
        let error = ThirdPartySpec::parse(format).expect_err(format).to_string();
        assert!(error.contains(expected), "{format}: {error}");
    }
}

#[test]
fn logs_of_aws_are_read() {
    for (format, line) in [
        (
            "elb",
            r#"2026-11-25T16:46:11.123456Z lb 192.0.2.1:2817 10.0.0.1:80 0.000073 0.001048 0.000057 200 200 0 29 "GET http://a.example:80/a HTTP/1.1" "curl/8.0" - -"#,
        ),
        (
            "alb",
            r#"h2 2026-11-25T16:46:11.123456Z app/lb/50dc 192.0.2.1:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 "GET https://a.example:443/a HTTP/2.0" "x \x22y\x22" TLS_AES_128_GCM_SHA256 TLSv1.3 arn:aws:x "Root=1-5" "-" "-" 0 2026-11-25T16:46:11.122000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-""#,
        ),
    ] {
        let spec = ThirdPartySpec::parse(format).expect(format);
        let said = said(&spec, line);
        assert!(said.starts_with("192.0.2.1 2817 -> 10.0.0.1 80 by - at "), "{said}");
        assert!(said.ends_with(" GET /a HTTP/1.1"), "{said}");
    }
}

#[test]
fn formats_that_name_no_server_say_so() {
    for format in ["%ci:%cp [%tr] %{+Q}r", "%<chi> %<pqsp>", "$remote_addr $status", "combined"] {
        assert!(ThirdPartySpec::parse(format).expect(format).lacks_server(), "{format}");
    }
    for format in ["haproxy", "traefik", "json", "conntrack", "nginx-stream", "%ci %s"] {
        assert!(!ThirdPartySpec::parse(format).expect(format).lacks_server(), "{format}");
    }
}

#[test]
fn a_format_of_haproxy_does_not_exclude_its_own_formats() {
    let format = |text: &str| ThirdPartySpec::parse(text).expect(text);
    let spec = ThirdPartySpec::any_of(&[format("%ci %s"), format("traefik")]);
    for (line, expected) in [
        ("192.0.2.1 w1", "192.0.2.1 - -> /w1 by - at -"),
        (
            "192.0.2.1:7 [25/Nov/2026:16:46:11.526] web app/w1 1/2/0/3/10 200 128 - - ---- 1/1/0/0/0 0/0 \"GET /a HTTP/1.1\"",
            "192.0.2.1 7 -> app/w1 by - at 1795625171529 1795625171536 GET /a HTTP/1.1",
        ),
        (
            r#"192.0.2.1 - - [25/Nov/2026:16:46:11 +0000] "GET /a HTTP/2.0" 200 9 "-" "-" 7 "web@docker" "http://10.0.0.1:80" 4ms"#,
            "192.0.2.1 - -> 10.0.0.1 80 by - at 1795625171000 1795625171004 GET /a HTTP/1.1",
        ),
        // Not about traffic.
        ("<133>Nov 29 15:18:30 haproxy[2]: Proxy web started.", "nothing"),
        ("Server app/w1 is DOWN, reason: Layer4 connection problem", "nothing"),
    ] {
        assert_eq!(said(&spec, line), expected, "{line}");
    }
}

#[test]
fn json_is_read_by_its_usual_keys_or_by_the_names_of_a_format() {
    let json = |text: &str| ThirdPartySpec::parse(text).expect(text);
    let named = r#"log-format "%{+json}o %(client_ip)ci %(port)cp %(when)tr %(backend)b %(server)s %(line)r %(took:sint)Ta %B""#;
    for (spec, line, expected) in [
        (
            // Traefik's.
            json("json"),
            r#"{"ClientAddr":"192.0.2.1:7","ClientHost":"192.0.2.1","ClientPort":"7","Duration":4000000,"OriginContentSize":9,"OriginStatus":200,"RequestMethod":"GET","RequestPath":"/a?b","RequestProtocol":"HTTP/2.0","ServiceAddr":"10.0.0.1:80","StartUTC":"2026-11-25T16:46:11.5Z","level":"info"}"#,
            "192.0.2.1 7 -> 10.0.0.1 80 by - at 1795625171500 1795625171504 GET /a?b HTTP/1.1",
        ),
        (
            // Envoy's, as Istio sets it up.
            json("json"),
            r#"{"start_time":"2026-11-25T16:46:11.500Z","method":"GET","path":"/a","protocol":"HTTP/1.1","response_code":200,"bytes_sent":9,"duration":4,"upstream_host":"10.0.0.1:80","upstream_local_address":"10.0.0.9:4000","downstream_remote_address":"192.0.2.1:7"}"#,
            "192.0.2.1 7 -> 10.0.0.1 80 by 10.0.0.9:4000 at 1795625171500 1795625171504 GET /a HTTP/1.1",
        ),
        (
            // Caddy's, which names no server and dates the end.
            json("caddy"),
            r#"{"level":"info","ts":1795625171.504,"logger":"http.log.access","request":{"remote_ip":"192.0.2.1","remote_port":"7","proto":"HTTP/1.1","method":"GET","host":"a.example","uri":"/a"},"duration":0.004,"status":200}"#,
            "192.0.2.1 7 -> unnamed by - at 1795625171500 1795625171504 GET /a HTTP/1.1",
        ),
        (
            json(named),
            r#"{"client_ip": "192.0.2.1", "port": 7, "when": "25/Nov/2026:16:46:11.526", "backend": "app", "server": "w1", "line": "GET /a HTTP/1.1", "took": 4}"#,
            "192.0.2.1 7 -> app/w1 by - at 1795625171526 1795625171530 GET /a HTTP/1.1",
        ),
    ] {
        assert_eq!(said(&spec, line), expected, "{line}");
    }
}

#[test]
fn the_port_towards_the_server_is_found_in_messages_of_nginx_stream() {
    let mut reader = ThirdPartyReader::new(&ThirdPartySpec::parse("nginx-stream").unwrap());
    let mut said = |line: &str| {
        let record = reader.read(line.as_bytes()).expect(line)?;
        let local = record.span.is_local();
        Some(format!("{} {:?} {:?} {local}", record.client, record.whom, record.balancer))
    };
    let at = "2026/11/29 15:18:30 [info] 71#71:";
    assert_eq!(said(&format!("{at} *25 client 192.0.2.1:4711 connected to 0.0.0.0:443")), None);
    assert_eq!(said(&format!("{at} *26 client [2001:db8::1]:5 connected to [::]:443")), None);
    assert_eq!(said(&format!("{at} *9 proxy 10.0.0.9:1 connected to 10.0.0.1:443")), None);
    for (number, client) in [(26, "2001:db8::1"), (25, "192.0.2.1")] {
        let line = format!("{at} *{number} proxy 10.0.0.9:40100 connected to 10.0.0.1:443");
        let record = said(&line).expect("a record");
        assert!(record.starts_with(client), "{record}");
        assert!(
            record.contains("10.0.0.1") && record.ends_with("Some(10.0.0.9:40100) true"),
            "{record}"
        );
    }
    assert!(reader.read(b"what is this").is_err());
}

#[test]
fn the_zone_of_local_times_is_that_of_the_envelope() {
    let line = |stamp: &str| {
        format!(
            "<134>1 {stamp} - haproxy 1 - - 203.0.113.9:1 [25/Nov/2026:16:46:11.541] web app/w 0/0/0/0/20 200 1 - - ---- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\""
        )
    };
    for (stamp, minutes) in [
        ("2026-11-25T16:46:11.562686+00:00", 0),
        ("2026-11-25T16:46:11.562686+02:00", 120),
        ("2026-11-25T15:46:11.562686Z", 60),
        ("2026-11-25T22:16:11.562686Z", -330),
    ] {
        let line = line(stamp);
        let mut reader = ThirdPartyReader::new(&ThirdPartySpec::haproxy());
        let record = reader.read(line.as_bytes()).expect(stamp).expect(stamp);
        assert!(!record.span.is_local(), "{stamp}");
        let (asked, ..) = record.span.logged(UTC).expect(stamp);
        assert_eq!(asked.as_micros() / 1_000_000, 1_795_625_171 - minutes * 60, "{stamp}");
    }
    let mut reader = ThirdPartyReader::new(&ThirdPartySpec::haproxy());
    let line = line("x");
    let bare = line.split_once("- - ").map(|(_, line)| line).expect("an envelope");
    assert!(reader.read(bare.as_bytes()).expect(bare).expect(bare).span.is_local());
}

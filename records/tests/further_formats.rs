//! Lines as programs write them that are none of the usual: each has its client and its request, in a log of such lines.

use pen_records::access::{AccessLine, Parser, Spec};
use pen_records::request::{Cut, Fingerprint};

const TIME: &str = "[22/Nov/2026:23:38:40 +0000]";
const DATE: &str = "22/Nov/2026:23:38:40 +0000";
const REQUEST: &str = "GET /p?x=7 HTTP/1.1";

#[test]
fn client_and_request_are_found_without_a_format() {
    let tail = format!("\"{REQUEST}\" 200 271 \"-\" \"curl/8.0\"");
    let stamp = "2026-11-22T23:38:40";
    for line in [
        // Heads.
        format!("{TIME} 10.0.0.9 shop.example {tail}"),
        format!("6f2a9b0c4d1e8f7a6b5c4d3e2f1a0b9c 10.0.0.9 - - {TIME} {tail}"),
        format!("DE 10.0.0.9 - - {TIME} {tail}"),
        format!("\"198.51.100.7, 203.0.113.9\" 10.0.0.9 - - {TIME} {tail}"),
        format!("\"198.51.100.7\" 10.0.0.9 - - {TIME} {tail}"),
        // Envelopes.
        format!("<190>10.0.0.9 - - {TIME} {tail}"),
        format!("{stamp}Z {{app=\"web\", pod=\"web-1\"}} 10.0.0.9 - - {TIME} {tail}"),
        format!("[pod/web-7d9f-abcde/nginx] {stamp}.123456789Z 10.0.0.9 - - {TIME} {tail}"),
        format!("web-7d9f-abcde nginx 10.0.0.9 - - {TIME} {tail}"),
        format!("[12345.678901] web1 nginx[1]: 10.0.0.9 - - {TIME} {tail}"),
        // What `cat -n`, `grep -C` and editors put in front.
        format!("     7\t10.0.0.9 - - {TIME} {tail}"),
        format!("\t10.0.0.9 - - {TIME} {tail}"),
        format!("\u{feff}10.0.0.9 - - {TIME} {tail}"),
        // Quotes and brackets.
        format!("\"10.0.0.9\" \"NULL-AUTH-USER\" \"{DATE}\" \"{REQUEST}\" 200 271"),
        format!(
            "\"10.0.0.9\" \"-\" \"bob\" \"{DATE}\" \"{REQUEST}\" \"200\" \"271\" \"-\" \"curl/8.0\""
        ),
        format!("[10.0.0.9] - - {TIME} {tail}"),
        // JSON.
        format!(
            r#"{{"clientip":"198.51.100.7","remote":"10.0.0.9","time":"{stamp}Z","method":"GET","uri":"/p?x=7","proto":"HTTP/1.1"}}"#
        ),
        format!(
            r#"{{"time":"{TIME}","remoteIP":"10.0.0.9","request":"/p","query":"?x=7","method":"GET","protocol":"HTTP/1.1"}}"#
        ),
        format!(
            r#"{{"upstream_response_time":0.001, 0.002 : 0.1,"time_iso8601":"{stamp}+00:00","remote_addr":"10.0.0.9","request":"{REQUEST}"}}"#
        ),
        format!(r#",{{"ts":"{stamp}Z","remote_addr":"10.0.0.9","request":"{REQUEST}"}}"#),
        format!(
            r#"{{"@timestamp":"{stamp}Z","source.ip":"10.0.0.9","http.request.method":"GET","url.original":"/p?x=7","http.version":"1.1"}}"#
        ),
        r#"{"started_at":1795390720250,"client_ip":"10.0.0.9","request":{"method":"GET","uri":"/p?x=7"},"proto":"HTTP/1.1"}"#.to_owned(),
        format!(
            r#"{{"version":"1.1","host":"web1","short_message":"10.0.0.9 - - {TIME} \"{REQUEST}\" 200 271","timestamp":1795390720.5}}"#
        ),
        format!(
            r#"{{"@timestamp":"{stamp}Z","source":{{"address":"10.0.0.9"}},"http":{{"request":{{"method":"GET"}},"version":"1.1"}},"url":{{"original":"/p?x=7"}}}}"#
        ),
        format!(
            r#"{{"httpRequest":{{"remoteIp":"10.0.0.9","requestMethod":"GET","requestUrl":"https://shop.example/p?x=7","protocol":"HTTP/1.1"}},"timestamp":"{stamp}Z"}}"#
        ),
        format!(
            r#"{{"@timestamp":"{stamp}Z","nginx":{{"access":{{"remote_ip":"10.0.0.9","method":"GET","url":"/p?x=7","http_version":"1.1"}}}}}}"#
        ),
        format!(
            r#"{{"time":"{stamp}Z","clientip":"10.0.0.9","verb":"GET","request":"/p?x=7","httpversion":"1.1"}}"#
        ),
        format!(
            r#"{{"RemoteAddr":"10.0.0.9","Method":"GET","URI":"/p?x=7","Protocol":"HTTP/1.1","Time":"{stamp}Z"}}"#
        ),
        format!(
            r#"{{"remote-addr":"10.0.0.9","method":"GET","url":"/p?x=7","http-version":"1.1","date":"{stamp}Z"}}"#
        ),
        // Serilog, Logback and other loggers of applications.
        format!(
            r#"{{"@t":"{stamp}Z","RequestMethod":"GET","RequestPath":"/p","QueryString":"?x=7","Protocol":"HTTP/1.1","StatusCode":200,"ClientIp":"10.0.0.9"}}"#
        ),
        format!(
            r#"{{"@timestamp":"{stamp}Z","remote_host":"10.0.0.9","requested_url":"{REQUEST}","status_code":200}}"#
        ),
        format!(
            r#"{{"timestamp":"{stamp}Z","peer_addr":"10.0.0.9:40100","request":"{REQUEST}"}}"#
        ),
        format!(r#"{{"time":"{stamp}Z","ipAddress":"10.0.0.9","request":"{REQUEST}"}}"#),
        // Hypercorn, with its peer's port.
        format!("10.0.0.9:52638 - - {TIME} \"GET /p?x=7 1.1\" 200 271 \"-\" \"curl/8.0\""),
    ] {
        assert_is_read(&line);
    }
}

/// Cloudflare, Akamai, Fastly and Azure, also with stamps in other forms, as each can be set.
#[test]
fn json_of_services_in_front_of_servers_is_read() {
    let cloudflare = |stamp: &str| {
        format!(
            r#"{{"ClientIP":"10.0.0.9","ClientRequestHost":"shop.example","ClientRequestMethod":"GET","ClientRequestProtocol":"HTTP/1.1","ClientRequestURI":"/p?x=7","EdgeEndTimestamp":{stamp},"EdgeResponseBytes":271,"EdgeResponseStatus":200,"EdgeStartTimestamp":{stamp},"RayID":"3a6050bcbe121a87"}}"#
        )
    };
    for line in [
        cloudflare(r#""2026-11-22T23:38:40Z""#),
        cloudflare(r#""2026-11-22T23:38:40.25Z""#),
        cloudflare("1795390720"),
        cloudflare("1795390720250000100"),
        cloudflare(r#""1795390720250""#),
        cloudflare("1795390720").replace("\"ClientRequestURI\"", "\"ClientRequestPath\""),
        r#"{"version":1,"reqTimeSec":"1795390720.250","bytes":"271","cliIP":"10.0.0.9","statusCode":"200","proto":"HTTP/1.1","reqHost":"shop.example","reqMethod":"GET","reqPath":"/p","queryStr":"x=7","UA":"curl/8.0"}"#.to_owned(),
        r#"{"timestamp":"2026-11-22T23:38:40+0000","client_ip":"10.0.0.9","host":"shop.example","url":"/p?x=7","request_method":"GET","request_protocol":"HTTP/1.1","request_referer":"","request_user_agent":"curl/8.0","response_status":200,"response_body_size":271}"#.to_owned(),
        r#"{"timeStamp":"2026-11-22T23:38:40+00:00","category":"ApplicationGatewayAccessLog","properties":{"clientIP":"10.0.0.9","clientPort":40100,"httpMethod":"GET","requestUri":"/p","requestQuery":"x=7","httpStatus":200,"httpVersion":"HTTP/1.1","sentBytes":271}}"#.to_owned(),
    ] {
        assert_is_read(&line);
    }
}

/// In a log of such lines.
fn assert_is_read(line: &str) {
    let mut parser = Parser::new(&Spec::auto());
    parser.learn(std::iter::repeat_n(line.as_bytes(), 20));
    let read = parser.parse(line.as_bytes());
    let read = read.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(read.client.of(line.as_bytes()), b"10.0.0.9", "{line}");
    let request = read.request.fingerprint(line.as_bytes(), Cut::Long);
    assert_eq!(request, Fingerprint::of_raw(REQUEST.as_bytes(), Cut::Long), "{line}");
    assert!(read.status.is_none_or(|status| status == 200), "{line}");
    let (time, _) = read.time.expect(line);
    assert_eq!(time.as_micros().div_euclid(1_000_000), 1_795_390_720, "{line}");
}

#[test]
fn a_request_without_its_protocol_is_in_parts() {
    for line in [
        r#"{"request":"GET /p?x=7","ip":"10.0.0.9","timestamp":"2026-11-22T23:38:40Z"}"#,
        "2026/11/22 23:38:40 ...eb/logger.go:102:f() [I] router: completed GET /p?x=7 for 10.0.0.9:40100, 200 OK in 2ms",
    ] {
        let mut parser = Parser::new(&Spec::auto());
        let read = parser.parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(read.client.of(line.as_bytes()), b"10.0.0.9", "{line}");
        let usual = format!("10.0.0.9 - - {TIME} \"{REQUEST}\" 200 271");
        let expected = Parser::new(&Spec::auto()).parse(usual.as_bytes()).expect("common");
        let without = |line: &str, read: &AccessLine| {
            read.request.without_protocol(line.as_bytes(), Cut::Long)
        };
        assert_eq!(without(line, &read), without(&usual, &expected), "{line}");
    }
}

#[test]
fn an_address_beside_the_name_of_the_balancer_is_not_replaced() {
    for head in ["198.51.100.N localhost", "localhost \"198.51.100.N\"", "lb1 \"198.51.100.N\""] {
        let line = |number: u32| {
            let head = head.replace('N', &number.to_string());
            format!("{head} - - {TIME} \"{REQUEST}\" 200 271 \"-\" \"curl/8.0\"")
        };
        let lines: Vec<String> = (0..100).map(line).collect();
        let mut parser = Parser::new(&Spec::auto());
        parser.learn(lines.iter().map(String::as_bytes));
        for line in lines {
            let read = parser.parse(line.as_bytes());
            assert!(
                !read.is_ok_and(|it| it.client.of(line.as_bytes()).starts_with(b"198")),
                "{line}"
            );
        }
    }
}

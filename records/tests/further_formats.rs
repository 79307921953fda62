//! Lines as programs write them that are none of the usual: each has its client and its request, in a log of such lines.

use pen_records::access::{Parser, Spec};
use pen_records::request::{Cut, Fingerprint};

const TIME: &str = "[22/Nov/2026:23:38:40 +0000]";
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
        // Envelopes.
        format!("<190>10.0.0.9 - - {TIME} {tail}"),
        format!("{stamp}Z {{app=\"web\", pod=\"web-1\"}} 10.0.0.9 - - {TIME} {tail}"),
        format!("[pod/web-7d9f-abcde/nginx] {stamp}.123456789Z 10.0.0.9 - - {TIME} {tail}"),
        format!("web-7d9f-abcde nginx 10.0.0.9 - - {TIME} {tail}"),
        format!("[12345.678901] web1 nginx[1]: 10.0.0.9 - - {TIME} {tail}"),
        // JSON.
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
    ] {
        let mut parser = Parser::new(&Spec::auto());
        parser.learn(std::iter::repeat_n(line.as_bytes(), 20));
        let read = parser.parse(line.as_bytes());
        let read = read.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(read.client.of(line.as_bytes()), b"10.0.0.9", "{line}");
        assert!(read.time.is_some(), "{line}");
        let request = read.request.fingerprint(line.as_bytes(), Cut::Long);
        assert_eq!(request, Fingerprint::of_raw(REQUEST.as_bytes(), Cut::Long), "{line}");
    }
}

#[test]
fn an_address_beside_the_name_of_the_balancer_is_not_replaced() {
    let line = |number: u32| {
        format!("198.51.100.{number} localhost - - {TIME} \"{REQUEST}\" 200 271 \"-\" \"curl/8.0\"")
    };
    let lines: Vec<String> = (0..100).map(line).collect();
    let mut parser = Parser::new(&Spec::auto());
    parser.learn(lines.iter().map(String::as_bytes));
    for line in lines {
        assert!(parser.parse(line.as_bytes()).is_err(), "{line}");
    }
}

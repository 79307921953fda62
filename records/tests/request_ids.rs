//! Ids of requests are found in lines of web servers and of balancers, as each writes them.

use pen_records::access::{Parser, Spec};
use pen_records::mapping::third_party_log::{ThirdPartyReader, ThirdPartySpec};
use pen_records::request_id::RequestId;
use pen_records::time::{Resolution, Timestamp};

const ID: &str = "6f2a9b0c4d1e8f7a6b5c4d3e2f1a0b9c";
const UUID: &str = "6f2a9b0c-4d1e-8f7a-6b5c-4d3e2f1a0b9c";
const LINE: &str = r#"10.0.0.9 - - [29/Nov/2026:15:44:32 +0000] "GET / HTTP/1.1" 200 3"#;

#[test]
fn a_web_servers_line_has_the_id_that_the_balancer_sent() {
    let nginx = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent"#;
    let apache = r#"%h %l %u %t "%r" %>s %b"#;
    let header = r#""%{X-Request-Id}i""#;
    for (format, line, id) in [
        ("auto".to_owned(), format!("{LINE} {ID}"), Some(ID)),
        ("auto".to_owned(), format!("{LINE} \"{ID}\""), Some(ID)),
        ("auto".to_owned(), format!("{LINE} \"-\" \"curl\" 0.003 \"{UUID}\" 40312"), Some(UUID)),
        ("auto".to_owned(), format!("{LINE} \"-\" \"{UUID}\""), None),
        (
            "auto".to_owned(),
            format!(r#"{{"remote_addr":"10.0.0.9","request_id":"{ID}"}}"#),
            Some(ID),
        ),
        (
            "auto".to_owned(),
            format!(
                r#"{{"remote_addr":"10.0.0.9","request_id":"own","http_x_request_id":"{ID}"}}"#
            ),
            Some(ID),
        ),
        (
            "json:client=ip,request_id=rid".to_owned(),
            r#"{"ip":"10.0.0.9","rid":"a-b-c-d-e"}"#.to_owned(),
            Some("a-b-c-d-e"),
        ),
        (format!("{nginx} $http_x_request_id"), format!("{LINE} a_b_c_d_e"), Some("a_b_c_d_e")),
        (
            format!("{nginx} $request_id \"$http_x_request_id\""),
            format!("{LINE} own \"{ID}\""),
            Some(ID),
        ),
        (format!("{apache} {header}"), format!("{LINE} \"{ID}\""), Some(ID)),
        (
            format!("{apache} %{{UNIQUE_ID}}e"),
            format!("{LINE} ZWx@bn8AAQEAAAbc"),
            Some("ZWx@bn8AAQEAAAbc"),
        ),
    ] {
        let spec = Spec::parse(&format).expect(&format);
        let read = Parser::new(&spec).parse(line.as_bytes()).expect(&line);
        let found = read.request_id.map(|id| id.of(line.as_bytes()));
        assert_eq!(found, id.map(str::as_bytes), "{format}: {line}");
    }
}

#[test]
fn a_balancers_line_has_the_id_that_the_balancer_made() {
    let nginx = r#"$remote_addr [$time_local] "$request" $status "$upstream_addr""#;
    let of_nginx = r#"192.0.2.1 [29/Nov/2026:15:44:32 +0000] "GET / HTTP/1.1" 200 "10.0.0.1:80""#;
    let haproxy = r#"%ci:%cp [%trl] %si:%sp %ST %B %Ta %{+Q}r"#;
    let of_haproxy =
        r#"192.0.2.1:4711 [29/Nov/2026:15:44:32 +0000] 10.0.0.1:80 200 128 3 "GET / HTTP/1.1""#;
    for (format, line) in [
        // What the client sent is not what nginx made.
        (format!("{nginx} \"$http_x_request_id\" $request_id"), format!("{of_nginx} \"sent-by-client\" {ID}")),
        (format!("{nginx} $req_id"), format!("{of_nginx} {ID}")),
        (format!("{haproxy} %ID"), format!("{of_haproxy} {ID}")),
        (format!("{haproxy} %{{+Q}}[unique-id]"), format!("{of_haproxy} \"{ID}\"")),
        (format!("{haproxy} %[var(txn.request_id)]"), format!("{of_haproxy} {ID}")),
        (
            r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %RESPONSE_CODE% %DURATION% %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST% "%REQ(X-REQUEST-ID)%""#.to_owned(),
            format!(r#"[2026-11-29T15:44:32.100Z] "GET / HTTP/1.1" 200 3 192.0.2.1:4711 10.0.0.1:80 "{ID}""#),
        ),
        (
            "%<chi> %<cqtq> %<cqhm> %<cqup> %<sssc> %<shi> %<{X-Request-Id}pqh>".to_owned(),
            format!("192.0.2.1 1795966172.100 GET / 200 10.0.0.1 {ID}"),
        ),
        (
            r#"%h %t "%r" %>s %{BALANCER_WORKER_NAME}e %{UNIQUE_ID}e"#.to_owned(),
            format!(r#"192.0.2.1 [29/Nov/2026:15:44:32 +0000] "GET / HTTP/1.1" 200 http://10.0.0.1:80 {ID}"#),
        ),
        (
            "json".to_owned(),
            format!(
                r#"{{"downstream_remote_address":"192.0.2.1:4711","upstream_host":"10.0.0.1:80","start_time":"2026-11-29T15:44:32.100Z","method":"GET","path":"/","protocol":"HTTP/1.1","request_id":"{ID}"}}"#
            ),
        ),
    ] {
        let spec = ThirdPartySpec::parse(&format).unwrap_or_else(|error| panic!("{format}: {error}"));
        let mut reader = ThirdPartyReader::new(&spec);
        let read = reader.read(line.as_bytes());
        let record = read.unwrap_or_else(|error| panic!("{format}: {error}")).expect("a record");
        let server = pen_records::addr::ServerAddr::Ip([10, 0, 0, 1].into());
        let times = (Timestamp::MIN, Timestamp::MIN, Resolution::Second);
        let first = record.events((server, Some(80)), 1, times).next().expect("a request");
        assert_eq!(first.request_id, RequestId::of(ID.as_bytes()), "{format}");
    }
}

//! Access lines of real servers, read from the shared folder beside the workspace (`../shared`, or
//! `$PEN_SHARED`); without the folder the tests print a note and pass.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use pen_records::access::{AccessLine, LineSpan, LoggedRequest, Parser, Spec, write_with_text};

/// Formats that cannot be detected from a line, by folder or file.
const GIVEN: &[(&str, &str)] = &[
    (
        "WillTheFarmer_apache-logs-to-mysql/apache_csv/",
        r#"%v,%p,%h,%l,%u,%t,%I,%O,%S,%B,%{ms}T,%D,%^FB,%>s,\"%H\",\"%m\",\"%U\",\"%q\",\"%{Referer}i\",\"%{User-Agent}i\",\"%{VARNAME}C\",%L"#,
    ),
    (
        "crowdsecurity_hub/nginx-proxy-manager-logs/",
        r#"log_format proxy '[$time_local] $upstream_cache_status $upstream_status $status - $request_method $scheme $host "$request_uri" [Client $remote_addr] [Length $body_bytes_sent] [Gzip $gzip_ratio] [Sent-to $server] "$http_user_agent" "$http_referer"';"#,
    ),
    ("crowdsecurity_hub/npmplus-logs/", NPMPLUS),
    ("crowdsecurity_hub/nginx_http-catch-npm/", NPMPLUS),
];

const NPMPLUS: &str = r#"[$time_local] $host $remote_addr $request_time "$request" $status $body_bytes_sent $bytes_sent $http_referer $http_user_agent"#;

/// The least share of parsed lines, in thousandths; 1000 for files not listed. Blank lines do not
/// count.
const FLOORS: &[(&str, usize, &str)] = &[
    ("raravena80_haproxylogparser/", 0, "a balancer's own log"),
    ("crowdsecurity_hub/haproxy-logs/", 0, "a balancer's own log"),
    ("matomo-org_matomo-log-analytics/haproxy.log", 0, "a balancer's own log"),
    ("matomo-org_matomo-log-analytics/common.log.bz2", 0, "not unpacked here"),
    ("matomo-org_matomo-log-analytics/logs_to_tests.log", 800, "a comment"),
    ("crowdsecurity_hub/apache2-logs/", 777, "two error lines"),
    ("crowdsecurity_hub/caddy-logs/", 909, "a line of another logger"),
    ("crowdsecurity_hub/nginx-proxy-manager-logs/", 428, "three formats and error lines"),
    ("crowdsecurity_hub/nginx_http-catch-npm/", 666, "two formats"),
    ("crowdsecurity_hub/nginx_http-logs/", 888, "an error line"),
    ("crowdsecurity_hub/npmplus-logs/", 800, "two error lines"),
    ("crowdsecurity_hub/traefik_json/", 857, "a line of a plug-in"),
];

fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let named = std::env::var_os("PEN_SHARED").map(PathBuf::from);
    let found = [Some(beside), named].into_iter().flatten().find(|path| path.is_dir());
    if found.is_none() {
        println!("skipped: no shared folder with real lines");
    }
    found
}

fn content(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("a file that was listed can be read");
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes;
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).expect("whole gzip");
    plain
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.strip_suffix(b"\n").unwrap_or(content).split(|&b| b == b'\n')
}

fn spec_for(name: &str) -> Spec {
    let given = GIVEN.iter().find(|(prefix, _)| name.starts_with(prefix));
    given.map_or_else(Spec::auto, |(_, format)| Spec::parse(format).expect(format))
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder that was listed can be read") {
        let path = entry.expect("a folder that was opened can be read").path();
        if path.is_dir() {
            files(&path, into);
        } else if path.file_name().is_none_or(|name| name != "README.md") {
            into.push(path);
        }
    }
}

#[test]
fn lines_of_each_real_file_are_understood_and_only_their_client_changes() {
    let Some(shared) = shared() else { return };
    let root = shared.join("data/access");
    let mut found = Vec::new();
    files(&root, &mut found);
    found.sort();
    assert!(found.len() >= 114, "{} files", found.len());
    let mut short = Vec::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let mut parser = Parser::new(&spec_for(name));
        let content = content(&path);
        let (mut all, mut understood, mut refused) = (0, 0, Vec::new());
        for line in lines(&content) {
            if line.trim_ascii().is_empty() {
                assert!(parser.parse(line).is_err(), "{name}: a blank line");
                continue;
            }
            all += 1;
            match parser.parse(line) {
                Ok(found) => {
                    understood += 1;
                    assert!(found.time.is_some(), "{name}: {}", line.escape_ascii());
                    assert_rewrite(line, &found);
                }
                Err(wrong) => refused.push((line, wrong)),
            }
        }
        println!("{understood} of {all} in {name}: {}", parser.format());
        let floor = FLOORS.iter().find(|(prefix, ..)| name.starts_with(prefix));
        let floor = floor.map_or(1000, |(_, floor, _)| *floor);
        let first =
            refused.first().map(|(line, wrong)| format!("{wrong}: {}", line.escape_ascii()));
        if understood * 1000 < all * floor {
            short.push(format!("{name}: {understood} of {all}; {first:?}"));
        }
        if floor == 0 {
            assert_eq!(understood, 0, "{name}");
        }
    }
    assert!(short.is_empty(), "{}", short.join("\n"));
}

/// Replacing the client with a marker, and the marker with the client, must restore the line.
fn assert_rewrite(line: &[u8], found: &AccessLine) {
    let client = found.client;
    assert!(!client.of(line).is_empty(), "{}", line.escape_ascii());
    let (mut marked, mut back) = (Vec::new(), Vec::new());
    write_with_text(line, client, b"<marker>", &mut marked);
    let marker = LineSpan { start: client.start, end: client.start + 8 };
    assert_eq!(marker.of(&marked), b"<marker>");
    write_with_text(&marked, marker, client.of(line), &mut back);
    assert_eq!(back, line);
}

/// Hard lines that are no access lines of a web server.
const NO_ACCESS_LINES: &[(u32, &str)] = &[
    (45, "a balancer's own line"),
    (46, "a balancer's own line"),
    (47, "a balancer's own line"),
    (48, "a balancer's own line"),
    (52, "Caddy's line about something else"),
];

/// A hard line that is cut in its last field: read as far as it is whole.
const CUT_LINE: u32 = 43;

/// Values that have another name in the list of hard lines than in the parser.
const OTHER_NAMES: &[(u32, &str, &str)] = &[
    (36, "request", "the path alone; checked as the target"),
    (55, "vhost", "the balancer's address with its port; our host is RequestHost"),
];

/// A section of the list of hard lines.
struct HardLine<'a> {
    number: u32,
    name: &'a str,
    line: usize,
    escaped: bool,
    values: Vec<(&'a str, &'a str)>,
}

fn hard_lines(list: &str) -> Vec<HardLine<'_>> {
    list.split("\n### ").skip(1).map(hard_line).collect()
}

fn hard_line(section: &str) -> HardLine<'_> {
    let source = section.split("- source: `").nth(1).expect("a section has a source");
    let (name, rest) = source.split_once('`').expect("a file's name is in backticks");
    let line = rest.strip_prefix(" line ").expect("a line's number follows");
    let line = line.split([',', ' ']).next().and_then(|number| number.parse().ok());
    let facts = section.rsplit("```").next().expect("split gives one at least");
    let facts = facts.split("\n## ").next().expect("split gives one at least");
    let values = facts.lines().filter_map(|fact| fact.strip_prefix("- ")?.split_once(": "));
    HardLine {
        number: section.split('.').next().and_then(|n| n.parse().ok()).expect("a number"),
        name,
        line: line.expect("a line's number"),
        escaped: section.contains("(not printable ASCII"),
        values: values.collect(),
    }
}

/// A value of the list as bytes: the full value, or its two ends if the list abbreviates it.
fn expected(value: &str, escaped: bool) -> (Vec<u8>, Vec<u8>) {
    if value.starts_with("empty string") {
        return (Vec::new(), Vec::new());
    }
    let value = value
        .split_once("= ")
        .map_or(value, |(before, after)| if before.starts_with("bytes ") { after } else { value });
    let open = value.strip_prefix('`').expect("a value is in backticks");
    let (text, _) = open.rsplit_once('`').expect("a value is in backticks");
    let (head, tail) = text.split_once(" … ").unwrap_or((text, ""));
    let raw = |text: &str| {
        if !escaped {
            return text.as_bytes().to_vec();
        }
        let mut out = vec![0; text.len()];
        let len = pen_records::request::unescape(text.as_bytes(), &mut out);
        out.truncate(len);
        out
    };
    (raw(head), raw(tail))
}

/// The parsed value for a name of the list.
fn ours(found: &AccessLine, key: &str, line: &[u8]) -> Option<Vec<u8>> {
    let (mut whole, mut parts) = (None, [None; 4]);
    match found.request {
        LoggedRequest::Line(span) => whole = Some(span),
        LoggedRequest::Parts { method, target, query, protocol } => {
            parts = [Some(method), Some(target), query, protocol];
        }
        LoggedRequest::Absent => {}
    }
    let number = |value: Option<u64>| {
        Some(value.map_or_else(|| b"-".to_vec(), |value| value.to_string().into_bytes()))
    };
    let span = match key {
        "client" => Some(found.client),
        "user" => found.user,
        "time" => found.time_text,
        "request" => whole,
        "method" => parts[0],
        "uri" | "path" => parts[1],
        "query" => parts[2],
        "proto" => parts[3],
        "referer" => found.referer,
        "ua" => found.user_agent,
        "vhost" => found.host,
        "status" => return number(found.status.map(u64::from)),
        "bytes" => return number(found.bytes),
        "port" => return number(found.server_port.map(u64::from)),
        _ => return None,
    };
    Some(span.map_or_else(|| b"(none)".to_vec(), |span| span.of(line).to_vec()))
}

#[test]
fn each_hard_line_gives_what_the_list_of_them_says() {
    let Some(shared) = shared() else { return };
    let list = std::fs::read_to_string(shared.join("data/oddities.md")).unwrap();
    let hard = hard_lines(&list);
    assert_eq!(hard.len(), 55);
    for HardLine { number, name, line, escaped, values } in hard {
        let content = content(&shared.join("data/access").join(name));
        let line = lines(&content).nth(line - 1).expect("the file has that line");
        let read = Parser::new(&spec_for(name)).parse(line);
        if let Some((_, why)) = NO_ACCESS_LINES.iter().find(|(other, _)| *other == number) {
            assert!(read.is_err(), "{number}: {why}");
            continue;
        }
        let found = read.unwrap_or_else(|wrong| panic!("{number}: {wrong}"));
        if number == CUT_LINE {
            assert_eq!(found.client.of(line), b"46.118.127.106");
            assert_eq!((found.status, found.bytes, found.user_agent), (Some(200), Some(235), None));
            continue;
        }
        let mut compared = 0;
        for (key, value) in values {
            let elsewhere = OTHER_NAMES.iter().any(|(n, k, _)| (*n, *k) == (number, key));
            let Some(ours) = ours(&found, key, line).filter(|_| !elsewhere) else { continue };
            let (head, tail) = expected(value, escaped);
            let fits = if tail.is_empty() { ours == head } else { ours.starts_with(&head) };
            let found = ours.escape_ascii();
            assert!(fits && ours.ends_with(&tail), "{number}, {key}: {value}, found {found}");
            compared += 1;
        }
        assert!(compared >= 6, "{number}: {compared} values");
        let client = list_client(&list, number);
        assert_eq!((found.client.start, found.client.end), client, "{number}");
    }
}

/// The position of the client by the list.
fn list_client(list: &str, number: u32) -> (u32, u32) {
    let section = list.split(&format!("\n### {number}. ")).nth(1).expect("a section");
    let span = section.split("- client: bytes ").nth(1).expect("a client's place");
    let (start, rest) = span.split_once("..").expect("a span");
    let end = rest.split(' ').next().expect("split gives one at least");
    (start.parse().expect("a number"), end.parse().expect("a number"))
}

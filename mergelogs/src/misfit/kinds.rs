//! What kind of log lines are, by their looks: for messages about a file that was given as something else.

use pen_records::access::{Parser, Spec, carried};
use pen_records::addr::parse_ip;
use pen_records::mapping::Mapping;
use pen_records::mapping::third_party_log::{ThirdPartyReader, ThirdPartySpec};

/// Balancers whose logs need `--mapping-format`, and the format of each.
const KNOWN: [(&str, &str); 9] = [
    (
        "Envoy",
        r#"[%START_TIME%] %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %BYTES_SENT% %DURATION% "%REQ(USER-AGENT)%" "%REQ(REFERER)%""#,
    ),
    (
        "Envoy",
        r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%""#,
    ),
    (
        "nginx",
        r#"$remote_addr [$time_iso8601] $msec "$request" $status $upstream_response_length $request_time "$upstream_addr" "$http_user_agent" "$http_referer""#,
    ),
    ("HAProxy", "haproxy"),
    (
        "nginx",
        r#"$remote_addr [$time_iso8601] $msec "$request" $status $upstream_response_length $request_time "$upstream_addr" "$http_user_agent" "$http_referer" $request_id"#,
    ),
    ("Traefik", "traefik"),
    ("AWS", "elb"),
    ("AWS", "alb"),
    // As Istio sets it up.
    (
        "Envoy",
        r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%"#,
    ),
];

/// JSON of balancers, each by a key of the upstream server.
const OBJECTS: [(&[u8], &str); 3] = [
    (b"\"ServiceAddr\":", "a log of Traefik"),
    (b"\"ServiceURL\":", "a log of Traefik"),
    (b"\"upstream_host\":", "a log of Envoy"),
];

/// The kind of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum LogKind {
    /// A mapping log of pen, classic or extended.
    Mappings,
    /// A log of another balancer, in the format with this place in [`KNOWN`].
    Known(usize),
    /// JSON of another balancer, with this place in [`OBJECTS`].
    Object(usize),
    /// A log of another balancer, in a format of its own.
    Envoy,
    Haproxy,
    /// Events of `conntrack -E`.
    Conntrack,
    Access,
    /// The W3C format, which IIS writes.
    W3c,
    Json,
    ErrorLog,
    /// Requests without any address: the format names no client.
    NoClient,
    Binary,
    #[default]
    Unknown,
}

impl LogKind {
    /// Returns whose log it is, with the article.
    pub(crate) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Mappings => "a mapping log of pen",
            Self::Known(place) => match KNOWN[place].0 {
                "Envoy" => "a log of Envoy",
                "nginx" => "a log of nginx as the balancer",
                "Traefik" => "a log of Traefik",
                "AWS" => "a log of an AWS load balancer",
                _ => "a log of HAProxy",
            },
            Self::Object(place) => OBJECTS[place].1,
            Self::Envoy => "a log of Envoy",
            Self::Haproxy => "a log of HAProxy in a format of its own",
            Self::Conntrack => "a list of conntrack events",
            Self::Access => "an access log",
            Self::W3c => "a W3C log, as IIS writes it",
            Self::Json => "a log of JSON objects",
            Self::ErrorLog => "an error log",
            Self::NoClient => "a log whose lines name no client",
            Self::Binary => "no text",
            Self::Unknown => return None,
        })
    }

    /// Returns the value of `--mapping-format` that reads the log.
    pub(crate) fn mapping_format(self) -> Option<&'static str> {
        match self {
            Self::Known(place) => Some(KNOWN[place].1),
            Self::Object(_) => Some("json"),
            _ => None,
        }
    }
}

/// Recognizes lines.
pub(crate) struct KindReader {
    access: Parser,
    known: Vec<(usize, ThirdPartyReader)>,
}

impl KindReader {
    pub(crate) fn new() -> Self {
        let known = KNOWN.iter().enumerate().filter_map(|(place, (_, format))| {
            // A format that names no client is known by its looks only.
            let spec = ThirdPartySpec::parse(format).ok()?;
            Some((place, ThirdPartyReader::new(&spec)))
        });
        Self { access: Parser::new(&Spec::auto()), known: known.collect() }
    }

    /// Returns the kind of one line; `None` for an empty one.
    pub(crate) fn kind(&mut self, line: &[u8]) -> Option<LogKind> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        if is_binary(line) {
            return Some(LogKind::Binary);
        }
        let mut text = Vec::new();
        let balancers = self
            .balancers(line)
            .or_else(|| carried(line, &mut text).and_then(|line| self.balancers(line)));
        if balancers.is_some() {
            return balancers;
        }
        if line.starts_with(b"{")
            && let Some(place) = OBJECTS.iter().position(|(key, _)| has(line, key))
        {
            return Some(LogKind::Object(place));
        }
        if self.access.parse(line).is_ok_and(|line| line.time.is_some()) {
            return Some(LogKind::Access);
        }
        Some(by_looks(line))
    }

    /// Returns the kind of a balancer's line in a known format.
    fn balancers(&mut self, line: &[u8]) -> Option<LogKind> {
        if Mapping::parse_file_line(line).is_ok() {
            return Some(LogKind::Mappings);
        }
        let mut known = self.known.iter_mut();
        let place = known.find_map(|(place, it)| it.read(line).is_ok().then_some(*place));
        place.map(LogKind::Known)
    }

    /// Returns the kind of most of the lines.
    pub(crate) fn kind_of_most<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) -> LogKind {
        let mut counts: Vec<(LogKind, usize)> = Vec::new();
        for kind in lines.filter_map(|line| self.kind(line)) {
            match counts.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => counts.push((kind, 1)),
            }
        }
        let most = counts.into_iter().max_by_key(|&(_, count)| count);
        most.map_or(LogKind::Unknown, |(kind, _)| kind)
    }
}

fn has(line: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(line, text).is_some()
}

/// Returns the kind of a line that nothing reads.
fn by_looks(line: &[u8]) -> LogKind {
    let has = |text: &[u8]| has(line, text);
    let digits = |pattern: &[u8]| {
        line.len() >= pattern.len()
            && pattern.iter().zip(line).all(|(&wanted, &byte)| match wanted {
                b'0' => byte.is_ascii_digit(),
                wanted => byte == wanted,
            })
    };
    if line.starts_with(b"#Software:")
        || line.starts_with(b"#Fields:")
        || line.starts_with(b"#Version:")
    {
        LogKind::W3c
    } else if digits(b"[0000-00-00T00:00:00") && has(b"] \"") {
        LogKind::Envoy
    } else if has(b" src=") && has(b" dport=") {
        LogKind::Conntrack
    } else if ThirdPartyReader::may_be_haproxys(line) {
        LogKind::Haproxy
    } else if names_no_client(line) {
        LogKind::NoClient
    } else if digits(b"0000/00/00 00:00:00 [") || line.starts_with(b"[") && has(b"] [") {
        LogKind::ErrorLog
    } else if digits(b"0000-00-00 00:00:00 ") && is_w3c(line) {
        LogKind::W3c
    } else if line.starts_with(b"{") {
        LogKind::Json
    } else {
        LogKind::Unknown
    }
}

/// Returns whether a line has a method as a word of its own, without quotes.
fn is_w3c(line: &[u8]) -> bool {
    line.split(|&byte| byte == b' ').any(|word| matches!(word, b"GET" | b"POST" | b"HEAD"))
}

/// Returns whether a line has a request, and no word that is an address.
fn names_no_client(line: &[u8]) -> bool {
    let is_between = |byte: &u8| b" \t\"'=,|;[](){}<>".contains(byte);
    let is_address = |word: &[u8]| {
        let host = memchr::memrchr(b':', word).map_or(word, |colon| &word[..colon]);
        [word, host].into_iter().any(|host| parse_ip(host).is_some())
    };
    let words = || line.split(is_between).filter(|word| !word.is_empty());
    let is_method = |word: &[u8]| METHODS.iter().any(|method| word.eq_ignore_ascii_case(method));
    let is_target = |word: &[u8]| word.starts_with(b"/") || word.starts_with(b"http");
    let has_request = words().zip(words().skip(1)).any(|(a, b)| is_method(a) && is_target(b));
    has_request && !words().any(is_address)
}

/// Methods by which a request is known.
const METHODS: [&[u8]; 7] = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"];

/// Returns whether a line has bytes that no log has.
fn is_binary(line: &[u8]) -> bool {
    let controls = line.iter().filter(|&&byte| byte < b' ' && byte != b'\t' && byte != 0x1B);
    let odd = controls.count();
    odd > 0 && (line.contains(&0) || odd * 10 > line.len())
}

/// Returns whether a line that was not understood may still be an access line: it has a request.
pub(crate) fn has_request(line: &[u8]) -> bool {
    memchr::memmem::find(line, b" HTTP/").is_some() || is_w3c(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_known_by_their_looks() {
        let mut reader = KindReader::new();
        for (line, expected) in [
            ("192.0.2.1 1795379000 10.0.0.1 GET / HTTP/1.1", LogKind::Mappings),
            (
                r#"127.0.0.1 - - [22/Nov/2026:20:23:20 +0000] "GET / HTTP/1.1" 200 5"#,
                LogKind::Access,
            ),
            (
                r#"192.0.2.7:4711 [25/Nov/2026:16:46:11.585] web app/w2 0/0/0/3/4 200 129 - - ---- 1/1/0/0/0 0/0 "GET /p1 HTTP/1.1""#,
                LogKind::Known(3),
            ),
            (
                r#"192.0.2.7 [2026-11-29T15:44:32+00:00] 1795967072.190 "GET /nginx/0 HTTP/1.1" 200 3 0.000 "127.0.0.1:23411" "agent 0" "-""#,
                LogKind::Known(2),
            ),
            (
                r#"192.0.2.7 [2026-11-29T15:44:32+00:00] 1795967072.190 "GET / HTTP/1.1" 200 3 0.000 "10.0.0.1:80" "x" "-" 6f2a9b0c4d1e8f7a6b5c4d3e2f1a0b9c"#,
                LogKind::Known(4),
            ),
            (
                r#"192.0.2.7 - - [29/Nov/2026:15:44:32 +0000] "GET / HTTP/1.1" 200 5 "-" "x" 7 "web@docker" "http://10.0.0.1:80" 2ms"#,
                LogKind::Known(5),
            ),
            (
                r#"2026-11-29T15:44:32.123456Z lb 192.0.2.7:2817 10.0.0.1:80 0.1 0.1 0.1 200 200 0 29 "GET http://a:80/ HTTP/1.1" "x" - -"#,
                LogKind::Known(6),
            ),
            (r#"[2023-11-14T22:13:20.310Z] "GET /one HTTP/1.1" 200 -"#, LogKind::Envoy),
            (
                "[NEW] tcp 6 120 SYN_SENT src=192.0.2.7 dst=10.0.0.9 sport=4 dport=80",
                LogKind::Conntrack,
            ),
            ("#Software: Microsoft Internet Information Services 10.0", LogKind::W3c),
            ("2026-11-29 20:00:00 10.0.0.1 GET /x - 80 - 10.0.0.9 curl 200 0 0 3", LogKind::W3c),
            ("2026/11/29 20:00:00 [error] 7#7: *1 open() failed", LogKind::ErrorLog),
            ("[Sun Nov 29 20:00:00.1 2026] [core:error] [pid 7] x", LogKind::ErrorLog),
            (
                r#"[2026-11-22T20:23:21.123Z] "GET /a HTTP/1.1" 200 - via_upstream - "-" 0 512 3 2 "-" "x" "8f0d" "a.example" "10.0.1.5:80" outbound|80||web 10.0.1.1:40000 10.0.1.5:80 192.0.2.7:50001 - default"#,
                LogKind::Known(8),
            ),
            (r#"[22/Nov/2026 20:23:21] "GET /a HTTP/1.1" 200 512"#, LogKind::NoClient),
            ("GET /a 200 1.234 ms - 512", LogKind::NoClient),
            ("261122/202321.123, [response] http://web1: get /a {} 200 (12ms)", LogKind::NoClient),
            (r#"[2026-11-22T20:23:21.123Z]  "GET /a" "curl/8.0""#, LogKind::NoClient),
            ("[192.0.2.7]:50001 200 - GET /a", LogKind::Unknown),
            (r#"{"level":"info"}"#, LogKind::Json),
            (
                r#"{"ClientHost":"192.0.2.7","RequestMethod":"GET","RequestPath":"/","ServiceAddr":"10.0.0.1:80","StartUTC":"2026-11-22T20:23:21Z"}"#,
                LogKind::Object(0),
            ),
            (
                r#"{"log":"192.0.2.1 1795379000 10.0.0.1 GET / HTTP/1.1\n","stream":"stdout"}"#,
                LogKind::Mappings,
            ),
            (
                "Nov 22 20:23:20 lb pen: 192.0.2.1 1795379000 10.0.0.1 GET / HTTP/1.1",
                LogKind::Mappings,
            ),
            ("\0\u{1}\u{2}abc", LogKind::Binary),
            ("hello", LogKind::Unknown),
        ] {
            assert_eq!(reader.kind(line.as_bytes()), Some(expected), "{line}");
        }
        assert_eq!(reader.kind(b"  \r"), None);
    }

    #[test]
    fn the_kind_of_most_lines_counts() {
        let lines = ["x", "{", "{", ""].map(str::as_bytes);
        assert_eq!(KindReader::new().kind_of_most(lines.into_iter()), LogKind::Json);
        assert_eq!(KindReader::new().kind_of_most([].into_iter()), LogKind::Unknown);
    }
}

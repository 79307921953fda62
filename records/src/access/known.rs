//! The variables of nginx and the directives of Apache, so that a misspelled one is found when the
//! format is given, and not by lines that lack a field.
//!
//! From the manuals of nginx's HTTP and stream modules, of common third-party modules, of
//! ingress-nginx, and of Apache's `mod_log_config`, `mod_logio` and `mod_ssl`.

use std::fmt;

use super::format::{FormatError, FormatProblem, FormatText, is_nginx, unquoted};

/// Variables whose names begin so are known whatever follows.
const FAMILIES: &[&str] = &[
    "arg_",
    "connections_",
    "cookie_",
    "datadog_",
    "geoip2_",
    "geoip_",
    "grpc_",
    "http_",
    "jwt_",
    "oidc_",
    "opentelemetry_",
    "opentracing_",
    "otel_",
    "proxy_internal_",
    "proxy_protocol_",
    "proxy_ssl_",
    "sent_http_",
    "sent_trailer_",
    "ssl_",
    "stream_",
    "tcpinfo_",
    "trailer_",
    "upstream_",
];

/// Further variables.
const VARIABLES: &[&str] = &[
    "ancient_browser",
    "args",
    "balancer_ewma_score",
    "best_http_host",
    "binary_remote_addr",
    "body_bytes_sent",
    "brotli_ratio",
    "bytes_received",
    "bytes_sent",
    "connection",
    "connection_requests",
    "connection_time",
    "content_length",
    "content_type",
    "date_gmt",
    "date_local",
    "document_root",
    "document_uri",
    "fastcgi_path_info",
    "fastcgi_script_name",
    "forward_scheme",
    "global_rate_limit_exceeding",
    "gzip_ratio",
    "host",
    "hostname",
    "http2",
    "http3",
    "https",
    "ingress_name",
    "invalid_referer",
    "is_args",
    "is_request_port",
    "limit_conn_status",
    "limit_rate",
    "limit_req_status",
    "location_path",
    "memcached_key",
    "modern_browser",
    "msec",
    "msie",
    "namespace",
    "nginx_version",
    "pass_access_scheme",
    "pass_port",
    "pass_server_port",
    "pid",
    "pipe",
    "protocol",
    "proxy_add_x_forwarded_for",
    "proxy_alternative_upstream_name",
    "proxy_host",
    "proxy_port",
    "proxy_upstream_name",
    "query_string",
    "quic",
    "realip_remote_addr",
    "realip_remote_port",
    "realpath_root",
    "redirect_to_https",
    "remote_addr",
    "remote_port",
    "remote_user",
    "req_id",
    "request",
    "request_body",
    "request_body_file",
    "request_completion",
    "request_filename",
    "request_id",
    "request_length",
    "request_method",
    "request_port",
    "request_time",
    "request_uri",
    "scheme",
    "secure_link",
    "secure_link_expires",
    "server",
    "server_addr",
    "server_name",
    "server_port",
    "server_protocol",
    "service_name",
    "service_port",
    "session_log_binary_id",
    "session_log_id",
    "session_time",
    "slice_range",
    "spdy",
    "spdy_request_priority",
    "status",
    "the_real_ip",
    "time_iso8601",
    "time_local",
    "uid_got",
    "uid_reset",
    "uid_set",
    "uri",
    "zstd_ratio",
];

/// Directives that are a letter behind the `%`. `%t` and `%^…` are read apart.
const DIRECTIVES: &[u8] = b"aAbBcCDefhHiIklLmnoOpPqrRsStTuUvVxX%^";

/// The words in braces of directives that allow few.
const PARAMS: &[(u8, &[&str])] = &[
    (b'a', &["c"]),
    (b'h', &["c"]),
    (b'p', &["canonical", "local", "remote"]),
    (b'P', &["pid", "tid", "hextid"]),
    (b'T', &["s", "ms", "us"]),
];

/// The beginning of a name in a format, for messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FormatName {
    text: [u8; 40],
    len: u8,
}

impl FormatName {
    fn new(name: &[u8]) -> Self {
        let mut text = [0; 40];
        let len = name.len().min(text.len());
        text[..len].copy_from_slice(&name[..len]);
        Self { text, len: u8::try_from(len).unwrap_or_default() }
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text[..usize::from(self.len)]))
    }
}

impl fmt::Debug for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Refuses a pasted format with an unknown variable or directive.
pub(super) fn check(pasted: &str) -> Result<(), FormatError> {
    let text = unquoted(pasted)?;
    if is_nginx(pasted) { check_variables(&text) } else { check_directives(&text) }
}

fn check_variables(text: &FormatText) -> Result<(), FormatError> {
    let bytes = &text.bytes;
    for dollar in memchr::memchr_iter(b'$', bytes) {
        let from = dollar + 1 + usize::from(bytes.get(dollar + 1) == Some(&b'{'));
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let rest = bytes.get(from..).unwrap_or_default();
        let name = &rest[..rest.iter().take_while(|b| is_part(b)).count()];
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let is_capture = name.bytes().all(|b| b.is_ascii_digit());
        let is_known = VARIABLES.contains(&name) || FAMILIES.iter().any(|f| name.starts_with(f));
        if !is_capture && !is_known {
            let headers = ["http_referer", "http_user_agent", "http_host"];
            let meant = nearest(name, VARIABLES.iter().chain(&headers).copied());
            let name = FormatName::new(name.as_bytes());
            return Err(text.error(dollar, FormatProblem::UnknownVariable { name, meant }));
        }
    }
    Ok(())
}

fn check_directives(text: &FormatText) -> Result<(), FormatError> {
    let (bytes, mut at) = (&text.bytes, 0);
    while let Some(len) = memchr::memchr(b'%', &bytes[at.min(bytes.len())..]) {
        let start = at + len;
        at = start + 1;
        while bytes.get(at).is_some_and(|b| b.is_ascii_digit() || b"!,<>".contains(b)) {
            at += 1;
        }
        let mut param = &b""[..];
        if bytes.get(at) == Some(&b'{') {
            let Some(len) = memchr::memchr(b'}', &bytes[at..]) else { break };
            param = &bytes[at + 1..at + len];
            at += len + 1;
        }
        let Some(&letter) = bytes.get(at) else { break };
        at += 1;
        if !DIRECTIVES.contains(&letter) {
            let name = FormatName::new(&bytes[start..at]);
            return Err(text.error(start, FormatProblem::UnknownDirective { name }));
        }
        let params = PARAMS.iter().find(|(directive, _)| *directive == letter);
        if let Some((_, known)) = params.filter(|_| !param.is_empty())
            && let Ok(given) = std::str::from_utf8(param)
            && !known.contains(&given)
        {
            let meant = nearest(given, known.iter().copied());
            let name = FormatName::new(&bytes[start..at]);
            return Err(text.error(start, FormatProblem::UnknownParameter { name, meant }));
        }
    }
    Ok(())
}

/// The name that a misspelled one resembles.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let most = 1 + name.len() / 3;
    let distances = known.map(|known| (distance(name.as_bytes(), known.as_bytes()), known));
    distances.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

/// How many bytes are to be added, left out, replaced or swapped with their neighbour.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let change = usize::from(one[i - 1] != other[j - 1]);
            let mut least = (row[j - 1] + 1).min(last[j] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_is_refused_with_the_one_that_was_meant() {
        for (format, message) in [
            (
                r#"$remote_addr "$reqest""#,
                "unknown variable $reqest at byte 14: did you mean $request?",
            ),
            ("$remote_adr $status", "did you mean $remote_addr?"),
            ("log_format x '$remote_addr ${stauts}';", "unknown variable $stauts at byte 27"),
            ("{\"ip\":\"$remote_addr\",\"ua\":\"$http_useragent $user_agnt\"}", "$user_agnt"),
            ("$remote_addr $own_variable", "write $arg_own_variable"),
            ("%h %{remoet}p", "unknown %{remoet}p at byte 3: did you mean remote?"),
            ("LogFormat \"%h %Z\" x", "unknown directive %Z at byte 14"),
            ("%h %{secs}T", "unknown %{secs}T at byte 3"),
        ] {
            let error = check(format).expect_err(format).to_string();
            assert!(error.contains(message), "{format}: {error}");
        }
    }

    #[test]
    fn names_that_servers_allow_are_known() {
        for format in [
            "$remote_addr $upstream_response_time $ssl_ja3 $http_x_y $geoip2_data_country $1",
            "log_format x escape=json '$remote_addr ${tcpinfo_rtt} $time_iso8601';",
            "[$proxy_upstream_name] [$proxy_alternative_upstream_name] $req_id $remote_addr",
            r#"%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" %{remote}p %{UNIQUE_ID}e %{us}T %D"#,
            r#"%{c}a %{SSL_PROTOCOL}x %{SSL_CIPHER}c %^FB %{x}^ti %!200,304{User-agent}i %{tid}P"#,
            "%{%d/%b/%Y %T}t.%{msec_frac}t %a 100%%",
        ] {
            assert_eq!(check(format), Ok(()), "{format}");
        }
    }

    #[test]
    fn distances_count_single_mistakes() {
        for (one, other, count) in
            [("", "", 0), ("a", "", 1), ("remoet", "remote", 1), ("reqest", "request", 1)]
        {
            assert_eq!(distance(one.as_bytes(), other.as_bytes()), count, "{one} {other}");
            assert_eq!(distance(other.as_bytes(), one.as_bytes()), count, "{one} {other}");
        }
    }
}

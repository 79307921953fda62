//! The variables of nginx and HAProxy, the directives of Apache and the operators of Envoy, so that a
//! misspelled one is found when the format is given, and not by lines that lack a field.
//!
//! From the manuals of nginx's HTTP and stream modules, of common third-party modules, of
//! ingress-nginx, of Apache's `mod_log_config`, `mod_logio` and `mod_ssl`, of HAProxy 3.0 and of Envoy.
//!
//! A configuration of nginx may define variables of its own. So only a name that resembles a known one is
//! refused.

mod names;

use std::fmt;

use self::names::{DIRECTIVES, ENVOY, FAMILIES, HAPROXY, HEADERS, OF_FAMILIES, PARAMS, VARIABLES};
use super::format::{FormatError, FormatProblem, FormatText, is_nginx, unquoted};

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

/// Refuses a misspelled name of a format.
pub(super) fn check_name(text: &str, names: &'static [&'static str]) -> Result<(), FormatError> {
    let meant = nearest(text.trim(), names.iter().copied());
    let problem = |meant| FormatError::new(0, FormatProblem::UnknownName { meant });
    meant.map_or(Ok(()), |meant| Err(problem(meant)))
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
        if let Some(meant) = meant(name) {
            let name = FormatName::new(name.as_bytes());
            return Err(text.error(dollar, FormatProblem::UnknownVariable { name, meant }));
        }
    }
    Ok(())
}

/// The variable of nginx nearest to a misspelled name.
fn meant(name: &str) -> Option<&'static str> {
    if is_variable(name) {
        let is_it = VARIABLES.contains(&name) || OF_FAMILIES.contains(&name);
        return nearest(name, OF_FAMILIES.iter().copied()).filter(|_| !is_it);
    }
    let header = HEADERS.iter().find(|header| header.strip_prefix("http_") == Some(name));
    header.copied().or_else(|| nearest(name, VARIABLES.iter().copied()))
}

/// Whether nginx or a module of it defines a variable, without its `$`.
pub(super) fn is_variable(name: &str) -> bool {
    let is_capture = name.bytes().all(|b| b.is_ascii_digit());
    is_capture || VARIABLES.contains(&name) || FAMILIES.iter().any(|f| name.starts_with(f))
}

/// Refuses a variable that HAProxy does not have, without its `%`.
pub(super) fn check_haproxy(name: &str) -> Result<(), FormatProblem> {
    let is_known = name.starts_with('[') || HAPROXY.contains(&name);
    let unknown = || FormatProblem::UnknownOperator {
        name: FormatName::new(name.as_bytes()),
        program: "HAProxy",
        meant: None,
    };
    if is_known { Ok(()) } else { Err(unknown()) }
}

/// Refuses a misspelled operator of Envoy, without its `%`. Envoy gets new ones with each version.
pub(super) fn check_envoy(name: &str) -> Result<(), FormatProblem> {
    let meant = nearest(name, ENVOY.iter().copied()).filter(|_| !ENVOY.contains(&name));
    meant.map_or(Ok(()), |meant| {
        let name = FormatName::new(name.as_bytes());
        Err(FormatProblem::UnknownOperator { name, program: "Envoy", meant: Some(meant) })
    })
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

/// The name that a misspelled one resembles: short names by two letters in the wrong order alone.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let most = match name.len() {
        0..=7 => 1,
        _ => 2,
    };
    let letters = |text: &str| {
        let mut letters = text.as_bytes().to_vec();
        letters.sort_unstable();
        letters
    };
    let distances = known.map(|known| (distance(name.as_bytes(), known.as_bytes()), known));
    let near = distances.filter(|&(distance, known)| {
        distance <= most && (name.len() > 4 || letters(name) == letters(known))
    });
    near.min().map(|(_, known)| known)
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
    use super::super::Spec;
    use super::super::third_party_log::BalancerFormat;
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
            ("{\"ip\":\"$remote_addr\",\"ua\":\"$user_agent\"}", "did you mean $http_user_agent?"),
            (
                "$remote_addr $requesttime",
                "Or if your configuration defines it, write $arg_requesttime",
            ),
            ("$remote_addr $hsot", "did you mean $host?"),
            ("$remote_addr \"$http_user_agnet\"", "did you mean $http_user_agent?"),
            ("$remote_addr $upstream_adr", "did you mean $upstream_addr?"),
            ("%h %{remoet}p", "unknown %{remoet}p at byte 3: did you mean remote?"),
            ("LogFormat \"%h %Z\" x", "unknown directive %Z at byte 14"),
            ("%h %{secs}T", "unknown %{secs}T at byte 3"),
        ] {
            let error = check(format).expect_err(format).to_string();
            assert!(error.contains(message), "{format}: {error}");
        }
        for (name, meant) in [("combind", "combined"), ("vhost-combined", "vhost_combined")] {
            let error = Spec::parse(name).expect_err(name).to_string();
            assert_eq!(error, format!("unknown format: did you mean {meant}?"));
        }
        let error = BalancerFormat::parse("nginx_stream").expect_err("a typo").to_string();
        assert_eq!(error, "unknown format: did you mean nginx-stream?");
    }

    #[test]
    fn names_that_servers_allow_are_known() {
        for format in [
            "$remote_addr $upstream_response_time $ssl_ja3 $http_x_y $geoip2_data_country $1",
            "log_format x escape=json '$remote_addr ${tcpinfo_rtt} $time_iso8601';",
            // Variables that a configuration defines by `map` or `set`.
            "$remote_addr $own_variable $client_ip $real_ip $loggable $backend $pod $env $status_class",
            "$remote_addr $request_time_ms $log_user $upstream_name $request_uri_clean ${masked_ip}",
            "[$proxy_upstream_name] [$proxy_alternative_upstream_name] $req_id $remote_addr",
            r#"%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" %{remote}p %{UNIQUE_ID}e %{us}T %D"#,
            r#"%{c}a %{SSL_PROTOCOL}x %{SSL_CIPHER}c %^FB %{x}^ti %!200,304{User-agent}i %{tid}P"#,
            "%{%d/%b/%Y %T}t.%{msec_frac}t %a 100%%",
        ] {
            assert_eq!(check(format), Ok(()), "{format}");
        }
    }

    #[test]
    fn formats_of_balancers_are_checked_too() {
        for (format, message) in [
            (
                "$remote_addr $msec \"$requset\" $upstream_addr",
                "unknown variable $requset at byte 20: did you mean $request?",
            ),
            (
                "%ci:%cp [%tr] %b/%s %TR/%Tw/%Tc/%Tr/%Ta %STT %B",
                "unknown %STT at byte 40: HAProxy has none",
            ),
            (
                "[%START_TIME%] %DOWNSTREAM_REMOTE_ADDRESS% %UPSTRAEM_HOST%",
                "unknown %UPSTRAEM_HOST at byte 43: did you mean %UPSTREAM_HOST?",
            ),
            ("%h %t \"%r\" %>s %{BALANCER_WORKER_NAME}e %Z", "unknown directive %Z"),
        ] {
            let error = BalancerFormat::parse(format).expect_err(format).to_string();
            assert!(error.contains(message), "{format}: {error}");
        }
        for format in [
            "$remote_addr $msec \"$request\" $upstream_addr $own_variable",
            "%ci:%cp [%tr] %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %sslv %sslc %[ssl_fc_sni]",
            "[%START_TIME%] %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST% %UPSTREAM_REQUEST_ATTEMPT_COUNT%",
            "traefik",
        ] {
            assert!(BalancerFormat::parse(format).is_ok(), "{format}");
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

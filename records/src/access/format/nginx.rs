//! Format strings of nginx: variables from its core, `realip` and `log` modules.

use super::super::field::{DurationUnit, LogField};
use super::super::known;
use super::super::plan::PlanItem;
use super::super::time_format::TimeFormat;
use super::{FormatError, FormatProblem, FormatText, PlacedItem, directive, literal};

/// Whether a pasted text is an nginx format: has a variable or the nginx directive.
pub(in crate::access) fn is_nginx(text: &str) -> bool {
    let variable =
        |pair: &[u8]| pair[0] == b'$' && (pair[1].is_ascii_alphabetic() || pair[1] == b'{');
    directive(text, "log_format").is_some()
        || (directive(text, "LogFormat").is_none() && text.as_bytes().windows(2).any(variable))
}

/// Parses an nginx format; `field` maps a variable to its meaning.
pub(in crate::access) fn nginx(
    text: &FormatText,
    field: impl Fn(&str) -> (LogField, u8),
) -> Result<Vec<PlacedItem>, FormatError> {
    let mut items: Vec<PlacedItem> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.bytes.get(at) {
        if byte != b'$' {
            literal(&mut items, byte, text.at(at));
            at += 1;
            continue;
        }
        let unfinished = || text.error(at, FormatProblem::Unfinished);
        let braced = text.bytes.get(at + 1) == Some(&b'{');
        let from = at + 1 + usize::from(braced);
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let len =
            text.bytes[from.min(text.bytes.len())..].iter().take_while(|b| is_part(b)).count();
        let end = from + len + usize::from(braced);
        if len == 0 || (braced && text.bytes.get(end - 1) != Some(&b'}')) {
            return Err(unfinished());
        }
        let name = String::from_utf8_lossy(&text.bytes[from..from + len]);
        let offset = text.at(at);
        match name.as_ref() {
            "time_local" => items.push((PlanItem::Time(TimeFormat::Clf, false), offset)),
            "time_iso8601" => items.push((PlanItem::Time(TimeFormat::Iso, false), offset)),
            "msec" => items.push((PlanItem::Time(TimeFormat::Epoch, false), offset)),
            name => {
                let (field, rank) = field(name);
                items.push((PlanItem::Value(field, rank), offset));
            }
        }
        at = end;
    }
    Ok(items)
}

/// The meaning of an nginx variable, and its rank among variables of equal meaning.
pub(in crate::access) fn nginx_field(name: &str) -> (LogField, u8) {
    match name {
        "remote_addr" | "realip_remote_addr" => (LogField::Client, 0),
        "remote_port" | "realip_remote_port" => (LogField::PeerPort, 0),
        "server_port" => (LogField::ServerPort, 0),
        "time_local" | "time_iso8601" | "msec" => (LogField::Time, 0),
        "remote_user" => (LogField::User, 0),
        "request" => (LogField::Request, 0),
        "request_method" => (LogField::Method, 0),
        "request_uri" => (LogField::Target, 0),
        "uri" | "document_uri" => (LogField::Path, 1),
        "is_args" | "args" | "query_string" => (LogField::Query, 0),
        "server_protocol" => (LogField::Protocol, 0),
        "status" => (LogField::Status, 0),
        "body_bytes_sent" => (LogField::Bytes, 0),
        "bytes_sent" => (LogField::Bytes, 1),
        "http_referer" => (LogField::Referer, 0),
        "http_user_agent" => (LogField::UserAgent, 0),
        "http_host" => (LogField::Host, 0),
        "host" => (LogField::Host, 1),
        "server_name" => (LogField::Host, 2),
        "http_x_forwarded_for" => (LogField::ForwardedFor, 0),
        "proxy_add_x_forwarded_for" => (LogField::ForwardedFor, 1),
        "connection_requests" => (LogField::Nth, 0),
        "request_time" => (LogField::Duration(DurationUnit::Seconds), 0),
        "http_x_request_id" | "http_request_id" | "http_x_correlation_id" | "http_x_unique_id" => {
            (LogField::RequestIdHeader, 1)
        }
        "request_id" | "req_id" | "reqid" => (LogField::RequestId, 2),
        "connection"
        | "connection_time"
        | "gzip_ratio"
        | "hostname"
        | "https"
        | "pid"
        | "pipe"
        | "request_length"
        | "scheme"
        | "server_addr"
        | "ssl_cipher"
        | "ssl_protocol"
        | "upstream_cache_status" => (LogField::Word, 9),
        "request_filename" | "request_body" | "document_root" => (LogField::ClientText, 9),
        _ => {
            let clients = ["http_", "cookie_", "arg_", "sent_http_"];
            // A variable that the configuration defines may hold what a client sent.
            let is_own = !known::is_variable(name);
            let clients = is_own || clients.iter().any(|prefix| name.starts_with(prefix));
            (if clients { LogField::ClientText } else { LogField::Text }, 9)
        }
    }
}

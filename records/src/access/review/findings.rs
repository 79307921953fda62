//! Problems of a format: lines that are, or may be, misread or attributed poorly.

use super::super::field::LogField;
use super::super::known;
use super::gather::{FormatToken, has};
use super::{Finding, FormatDialect};
use crate::time::Resolution;

pub(super) fn of(dialect: FormatDialect, tokens: &[FormatToken], pasted: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !matches!(dialect, FormatDialect::Json | FormatDialect::Auto) {
        requests(tokens, &mut findings);
        quotes(dialect, tokens, pasted, &mut findings);
        clients(tokens, &mut findings);
        values(dialect, tokens, &mut findings);
    }
    findings
}

fn problem(text: String) -> Finding {
    Finding { is_problem: true, text }
}

fn note(text: String) -> Finding {
    Finding { is_problem: false, text }
}

fn named<'a>(tokens: &'a [FormatToken], name: &str) -> Option<&'a FormatToken> {
    tokens.iter().find(|token| bare(&token.text) == name)
}

/// A variable without its braces; any other text unchanged.
fn bare(text: &str) -> String {
    match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => format!("${name}"),
        None => text.to_owned(),
    }
}

/// Checks whether requests can be compared with the balancer's records.
fn requests(tokens: &[FormatToken], findings: &mut Vec<Finding>) {
    if has(tokens, LogField::Request) {
        return;
    }
    // A line with the port of its connection needs no request.
    let is_problem = !has(tokens, LogField::PeerPort);
    let finding = |text| Finding { is_problem, text };
    let nginx = tokens.iter().any(|token| token.text.starts_with('$'));
    let whole = if nginx { "$request" } else { "%r" };
    if let Some(path) = tokens.iter().find(|token| token.field == LogField::Path)
        && !has(tokens, LogField::Target)
    {
        let text = &path.text;
        findings.push(finding(format!(
            "{text} is the decoded path: a request with %XX, or a rewritten one, is not \
             recognised; log {whole}"
        )));
    }
    let is_any = |field| has(tokens, field);
    let parts = [
        (is_any(LogField::Method), "its method"),
        (is_any(LogField::Target) || is_any(LogField::Path), "its path"),
        (is_any(LogField::Protocol), "its protocol"),
    ];
    let missing: Vec<_> = parts.iter().filter(|(is_there, _)| !is_there).map(|p| p.1).collect();
    if missing.len() == 3 {
        findings.push(finding(format!("the request is not logged: log {whole}")));
    } else if !missing.is_empty() {
        let missing = missing.join(" and ");
        findings.push(finding(format!(
            "the request is logged without {missing}, so it cannot be compared with the \
             balancer's records: log {whole}"
        )));
    }
}

/// Checks whether a client can forge another field.
fn quotes(
    dialect: FormatDialect,
    tokens: &[FormatToken],
    pasted: &str,
    findings: &mut Vec<Finding>,
) {
    let client = tokens.iter().position(|token| token.field == LogField::Client);
    for (index, token) in tokens.iter().enumerate() {
        let is_header = matches!(
            token.field,
            LogField::Referer
                | LogField::UserAgent
                | LogField::ForwardedFor
                | LogField::RequestIdHeader
                | LogField::ClientText
        );
        if !is_header || is_own(token) || token.is_quoted || dialect == FormatDialect::NginxJson {
            continue;
        }
        let text = &token.text;
        findings.push(problem(if client.is_some_and(|client| index < client) {
            format!(
                "{text} is in front of the client and not in quotes: a client can forge the \
                 fields behind it, and ambiguous lines are refused; put it in quotes"
            )
        } else {
            format!("{text} may hold spaces and is not in quotes: put it in quotes")
        }));
    }
    let escape = |word: &str| pasted.contains(word) && dialect != FormatDialect::Apache;
    if escape("escape=none") {
        findings.push(problem(
            "escape=none lets clients write quotes and line ends into the log: remove it"
                .to_owned(),
        ));
    } else if escape("escape=json") && dialect == FormatDialect::Nginx {
        findings.push(problem(
            "escape=json, but the format is no JSON object of variables with a client: lines are \
             read as with escape=default"
                .to_owned(),
        ));
    }
}

/// Checks whether the client field is the TCP peer, which is the balancer.
fn clients(tokens: &[FormatToken], findings: &mut Vec<Finding>) {
    for token in tokens {
        match bare(&token.text).as_str() {
            "%h" | "%a" => findings.push(note(format!(
                "with mod_remoteip, {} and %{{remote}}p are the forwarded address and port: \
                 %{{c}}a is always the TCP peer",
                token.text
            ))),
            "$remote_addr" if named(tokens, "$realip_remote_addr").is_none() => {
                findings.push(note(
                    "with set_real_ip_from, $remote_addr and $remote_port are the forwarded \
                     address and port: log $realip_remote_addr and $realip_remote_port then"
                        .to_owned(),
                ));
            }
            _ => {}
        }
    }
    let forwarded = tokens.iter().position(|token| token.field == LogField::ForwardedFor);
    let client = tokens.iter().position(|token| token.field == LogField::Client);
    if let (Some(forwarded), Some(client)) = (forwarded, client)
        && forwarded < client
    {
        findings.push(note(format!(
            "the client field is {}, not {} before it: only the former is replaced",
            tokens[client].text, tokens[forwarded].text
        )));
    }
}

/// Whether a token is a variable that the configuration defines.
fn is_own(token: &FormatToken) -> bool {
    bare(&token.text).strip_prefix('$').is_some_and(|name| !known::is_variable(name))
}

/// Checks whether each value is as precise as possible.
fn values(dialect: FormatDialect, tokens: &[FormatToken], findings: &mut Vec<Finding>) {
    if let Some(port) = tokens.iter().find(|token| token.field == LogField::ServerPort)
        && !has(tokens, LogField::PeerPort)
    {
        let text = &port.text;
        findings.push(note(format!("{text} is the server's own port, not the balancer's")));
    }
    for token in tokens.iter().filter(|token| is_own(token)) {
        let text = &token.text;
        findings
            .push(note(format!("{text} is none of nginx's own variables: its field is skipped")));
    }
    if named(tokens, "%s").is_some() && named(tokens, "%>s").is_none() {
        findings.push(note(
            "%s is the status before an internal redirect: the balancer sees %>s".to_owned(),
        ));
    }
    if named(tokens, "%b").is_some() && !tokens.iter().any(|t| matches!(&*t.text, "%B" | "%O")) {
        findings.push(note("%b logs - for an empty body: %B logs 0, which is evidence".to_owned()));
    }
    let finest = tokens.iter().filter_map(|token| token.resolution).min();
    let finer = if dialect == FormatDialect::Apache { "%{usec}t" } else { "$msec" };
    match finest {
        None => findings.push(problem(
            "no time is logged: mergelogs cannot place such lines; penlogd uses their time of \
             arrival"
                .to_owned(),
        )),
        Some(Resolution::Second) => findings.push(note(format!(
            "the time is in whole seconds: enough for penlogd, which uses the time of arrival, \
             but mergelogs distinguishes equal requests better with {finer} behind it"
        ))),
        Some(_) => {}
    }
}

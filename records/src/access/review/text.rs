//! The review as text.

use std::fmt::{self, Write as _};

use super::{AttributionReach, FormatDialect, LoggedFields, Review};
use crate::time::Resolution;

/// The most keys listed for one field.
const KEYS: usize = 3;

impl fmt::Display for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format: {}", self.given)?;
        let language = match self.dialect {
            FormatDialect::Apache => "Apache's LogFormat",
            FormatDialect::Nginx => "nginx's log_format",
            FormatDialect::NginxJson => "nginx's log_format, writing JSON",
            FormatDialect::Json => "JSON, with the keys of each field in order of preference",
            FormatDialect::Auto => {
                "common, combined, vhost_combined and JSON, detected line by line"
            }
        };
        writeln!(f, "read as: {language}\n")?;
        if self.dialect != FormatDialect::Auto {
            self.evidence(f)?;
        }
        writeln!(f, "certainty of clients:")?;
        writeln!(f, "  behind pen: {}", self.behind_ours())?;
        writeln!(f, "  behind the C pen, or any classic record: {}", self.behind_classic())?;
        if let Some(advice) = &self.advice {
            let exact = match self.dialect {
                FormatDialect::Json => "to be exact: give lines the peer's port under the key",
                _ => "to be exact: add",
            };
            writeln!(f, "\n{exact} {}", advice.token)?;
            if let Some(format) = &advice.format {
                writeln!(f, "  {format}")?;
            }
        }
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        for finding in &self.findings {
            let kind = if finding.is_problem { "problem" } else { "note" };
            writeln!(f, "{kind}: {}", finding.text)?;
        }
        Ok(())
    }
}

impl Review {
    fn evidence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoggedFields { client, peer_port, request, time, resolution, .. } = &self.logged;
        let LoggedFields { status, bytes, referer, user_agent, .. } = &self.logged;
        let when = match resolution {
            Some(Resolution::Second) => "the time, in whole seconds",
            Some(Resolution::Millisecond) => "the time, in milliseconds",
            Some(Resolution::Microsecond) => "the time, in microseconds",
            None => "the time",
        };
        for (thing, tokens, use_of) in [
            ("client", client, "the field that is replaced"),
            ("peer's port", peer_port, "identifies the connection, so the client is exact"),
            ("request", request, "which mapping records can match"),
            ("time", time, when),
            ("status", status, "distinguishes equal requests"),
            ("size", bytes, "distinguishes equal requests"),
            ("Referer", referer, "distinguishes equal requests"),
            ("User-Agent", user_agent, "distinguishes clients"),
        ] {
            let mut by = String::new();
            for (index, token) in tokens.iter().take(KEYS).enumerate() {
                write!(by, "{}{token}", if index == 0 { "" } else { " " })?;
            }
            let more = if tokens.len() > KEYS { " ..." } else { "" };
            if tokens.is_empty() {
                writeln!(f, "  {thing:<12} not logged")?;
            } else {
                writeln!(f, "  {thing:<12} {by}{more}: {use_of}")?;
            }
        }
        writeln!(f)
    }

    fn behind_ours(&self) -> String {
        match self.reach {
            AttributionReach::Exact => {
                "exact, for every request and for TLS passthrough".to_owned()
            }
            AttributionReach::Depends => format!(
                "exact for lines with the peer's port; for other lines {}",
                assigned(&self.telling())
            ),
            AttributionReach::Assigned => assigned(&self.telling()),
            AttributionReach::Nothing => "unmatched".to_owned(),
        }
    }

    fn behind_classic(&self) -> String {
        if !self.has_request {
            return "unmatched".to_owned();
        }
        let agents = if self.logged.user_agent.is_empty() { vec![] } else { vec!["User-Agent"] };
        assigned(&agents)
    }

    /// The fields that distinguish equal requests behind `pen`.
    fn telling(&self) -> Vec<&'static str> {
        let logged = &self.logged;
        let things = [
            (&logged.user_agent, "User-Agent"),
            (&logged.referer, "Referer"),
            (&logged.status, "status"),
            (&logged.bytes, "size"),
        ];
        things.into_iter().filter(|(tokens, _)| !tokens.is_empty()).map(|(_, name)| name).collect()
    }
}

fn assigned(things: &[&str]) -> String {
    let mut by = things.join(", ");
    if !by.is_empty() {
        by.push_str(", ");
    }
    format!(
        "certain where only one client is possible, else likely,\n    by {by}order and time; \
         hardly any for TLS passthrough"
    )
}

//! Reviews a format before any line is read: the evidence in its fields, the certainty they allow,
//! problems, and the one token that would make attributions exact.
//!
//! `gather` splits the format, `findings` lists problems, `text` writes the review for users.
//! [`check()`] implements the option `--check` of `penlogd` and `mergelogs`.

mod check;
mod findings;
mod gather;
mod text;

use super::{FormatError, Spec};
use crate::time::Resolution;

pub use self::check::check;
use self::gather::GatheredTokens;
pub(super) use self::gather::written_at;

/// The review of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The format as typed.
    given: String,
    dialect: FormatDialect,
    logged: LoggedFields,
    /// Whether requests can be compared with the balancer's records.
    has_request: bool,
    /// The certainty that lines can reach behind `pen`.
    pub reach: AttributionReach,
    /// How to make attributions exact; `None` if they are.
    pub advice: Option<Advice>,
    /// Problems, the most serious first.
    pub findings: Vec<Finding>,
}

/// The language of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FormatDialect {
    Apache,
    Nginx,
    /// An nginx format that writes JSON.
    NginxJson,
    /// JSON with usual or given keys.
    Json,
    /// Detected line by line.
    Auto,
}

/// The tokens of a format, by the evidence that they log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LoggedFields {
    client: Vec<String>,
    peer_port: Vec<String>,
    request: Vec<String>,
    time: Vec<String>,
    resolution: Option<Resolution>,
    status: Vec<String>,
    bytes: Vec<String>,
    referer: Vec<String>,
    user_agent: Vec<String>,
}

/// The certainty that lines in a format can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributionReach {
    /// Each line names its connection.
    Exact,
    /// Exact if the line has one of the known keys for the peer's port.
    Depends,
    /// By the request and other evidence: certain or likely.
    Assigned,
    /// No line gets a client.
    Nothing,
}

/// How to make a format exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The token to add.
    pub token: &'static str,
    /// The format with the token, for `--format`; `None` if there is no safe place for it.
    pub format: Option<String>,
}

/// A problem of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether lines are misread or attributed poorly; otherwise the finding is a remark.
    pub is_problem: bool,
    /// The text for users.
    pub text: String,
}

impl Review {
    /// Reviews the argument of `--format`.
    ///
    /// # Errors
    /// The format is invalid.
    pub fn of(given: &str) -> Result<Self, FormatError> {
        Spec::parse(given)?;
        let GatheredTokens { dialect, pasted, tokens } = GatheredTokens::of(given)?;
        let logged = gather::logged(dialect, &tokens);
        let has_request = gather::is_whole_request(dialect, &tokens);
        let reach = match dialect {
            FormatDialect::Auto => AttributionReach::Depends,
            FormatDialect::Json if !gather::is_port_given(given) => AttributionReach::Depends,
            _ if !logged.peer_port.is_empty() => AttributionReach::Exact,
            _ if has_request => AttributionReach::Assigned,
            _ => AttributionReach::Nothing,
        };
        let advice = (reach != AttributionReach::Exact).then(|| advice(dialect, pasted.as_deref()));
        let mut findings = findings::of(dialect, &tokens, pasted.as_deref().unwrap_or_default());
        findings.sort_by_key(|finding| !finding.is_problem);
        let given = given.trim().to_owned();
        Ok(Self { given, dialect, logged, has_request, reach, advice, findings })
    }

    /// Whether the format needs no change: lines are exact, and there is no problem.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.reach == AttributionReach::Exact
            && !self.findings.iter().any(|finding| finding.is_problem)
    }
}

/// The token to add at the end, where it cannot touch another field.
fn advice(dialect: FormatDialect, pasted: Option<&str>) -> Advice {
    let token = match dialect {
        FormatDialect::Apache => "%{remote}p",
        FormatDialect::Nginx => "$remote_port",
        FormatDialect::NginxJson => r#""remote_port":"$remote_port""#,
        FormatDialect::Json => "remote_port",
        FormatDialect::Auto => "%{remote}p (Apache) or $remote_port (nginx)",
    };
    let inner = pasted.and_then(|pasted| super::format::inner(pasted).ok());
    let format = inner.and_then(|inner| match dialect {
        FormatDialect::Apache | FormatDialect::Nginx => Some(format!("{} {token}", inner.trim())),
        FormatDialect::NginxJson => {
            let open = inner.trim_end().strip_suffix('}')?;
            Some(format!("{},{token}}}", open.trim_end()))
        }
        FormatDialect::Json | FormatDialect::Auto => None,
    });
    Advice { token, format }
}

#[cfg(test)]
mod tests;

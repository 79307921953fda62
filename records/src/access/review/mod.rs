//! What a format can achieve, before a line of it was read: which evidence its fields give, how sure a
//! client can be by it, what speaks against it, and the one token that would make the client exact.
//!
//! `gather` finds what is logged, `findings` what is wrong with it, `text` says both to people.

mod findings;
mod gather;
mod text;

use super::{FormatError, Spec};
use crate::time::Resolution;

use self::gather::GatheredTokens;
pub(super) use self::gather::written_at;

/// A format as it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// As it was typed.
    given: String,
    dialect: FormatDialect,
    logged: LoggedFields,
    /// Whether requests can be compared with what the balancer saw.
    has_request: bool,
    /// How sure the clients of its lines can be behind our balancer.
    pub reach: AttributionReach,
    /// What to add to make them exact, and the whole format with it; `None` if they are.
    pub advice: Option<Advice>,
    /// What speaks against it, the gravest first.
    pub findings: Vec<Finding>,
}

/// Whose language a format is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FormatDialect {
    Apache,
    Nginx,
    /// An nginx format that makes JSON.
    NginxJson,
    /// JSON by the names that are usual or given.
    Json,
    /// Each line shows what it is.
    Auto,
}

/// What is logged, by what: the tokens of a format.
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

/// How sure a client can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributionReach {
    /// Each line names its connection.
    Exact,
    /// So it does if it has one of the keys that are looked for.
    Depends,
    /// By its request and what else is known of that: certain or likely.
    Assigned,
    /// No line gets a client.
    Nothing,
}

/// How a format would become exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The one token to add.
    pub token: &'static str,
    /// The format with it, fit for `--format`; `None` where that would have to be guessed.
    pub format: Option<String>,
}

/// What speaks against a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether lines go wrong by it, or it only may be of interest.
    pub is_problem: bool,
    /// In words.
    pub text: String,
}

impl Review {
    /// Judges what stands behind `--format`.
    ///
    /// # Errors
    /// The format cannot be used at all.
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

    /// Whether nothing is left to do: lines are exact, and nothing goes wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.reach == AttributionReach::Exact
            && !self.findings.iter().any(|finding| finding.is_problem)
    }
}

/// The one token, behind all that is there, where nothing can adjoin it.
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

//! Formats with the true client in a field: that field is parsed in place of X-Forwarded-For, so
//! that a join can be compared with the truth.

use super::format::{self, FormatError, FormatProblem, PlacedItem};
use super::plan::PlanItem;
use super::review::written_at;
use super::{Spec, field::LogField};

impl Spec {
    /// Parses the argument of `--format` like [`Spec::parse`], with
    /// [`AccessLine::forwarded_for`](super::AccessLine::forwarded_for) taken from `truth`: a token
    /// of the format (`%{X-Client}i`, `$cookie_visitor`), the name of a header logged by a token,
    /// or, for JSON, the path of a key.
    ///
    /// # Errors
    ///
    /// The format is invalid, or has no such field.
    pub fn with_truth(text: &str, truth: &str) -> Result<Self, FormatError> {
        Self::parse(text)?;
        let missing = FormatError::new(0, FormatProblem::NotLogged);
        match text.trim() {
            "common" | "combined" | "vhost_combined" => Err(missing),
            "auto" | "json" => Self::parse(&format!("json:forwarded_for={truth}")),
            json if json.starts_with("json:") => {
                Self::parse(&format!("{json},forwarded_for={truth}"))
            }
            _ => Self::parse(&retold(text, truth)?.ok_or(missing)?),
        }
    }
}

/// The format with `truth` in the place of X-Forwarded-For; `None` if the format does not log
/// `truth`.
fn retold(pasted: &str, truth: &str) -> Result<Option<String>, FormatError> {
    let (stands, other) = match format::is_nginx(pasted) {
        true => ("${http_x_forwarded_for}", "${http_x}"),
        false => ("%{X-Forwarded-For}i", "%{X}i"),
    };
    let mut tokens: Vec<PlacedItem> = format::placed(pasted)?;
    tokens.retain(|(item, _)| matches!(item, PlanItem::Value(..)));
    let (mut told, mut from, mut found) = (String::new(), 0, false);
    for (item, at) in tokens {
        let text = written_at(pasted, at);
        let by = if !found && is_of(text, truth) {
            found = true;
            stands
        } else if matches!(item, PlanItem::Value(LogField::ForwardedFor, _)) {
            other
        } else {
            continue;
        };
        told.push_str(pasted.get(from..at).unwrap_or_default());
        told.push_str(by);
        from = at + text.len();
    }
    told.push_str(pasted.get(from..).unwrap_or_default());
    Ok(found.then_some(told))
}

/// Whether a token is `truth`, or logs the header `truth`.
fn is_of(token: &str, truth: &str) -> bool {
    let bare = |text: &str| text.replace(['{', '}'], "");
    token == truth
        || (token.starts_with('$') && bare(token) == bare(truth))
        || header_of(token).is_some_and(|header| header == truth.to_ascii_lowercase())
}

/// The header that a token logs, in lower case.
fn header_of(token: &str) -> Option<String> {
    let apache = token.strip_prefix("%{").and_then(|rest| rest.strip_suffix("}i"));
    let nginx = token
        .strip_prefix("$http_")
        .or_else(|| token.strip_prefix("${http_").and_then(|rest| rest.strip_suffix('}')));
    let name = apache.map(str::to_owned).or_else(|| nginx.map(|name| name.replace('_', "-")))?;
    Some(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Parser;

    fn truth_of(format: &str, truth: &str, line: &str) -> Option<String> {
        let spec = Spec::with_truth(format, truth).unwrap_or_else(|e| panic!("{format}: {e}"));
        let found = Parser::new(&spec).parse(line.as_bytes()).expect(format);
        assert_eq!(found.client.of(line.as_bytes()), b"10.9.9.9", "{format}");
        found.forwarded_for.map(|at| String::from_utf8_lossy(at.of(line.as_bytes())).into_owned())
    }

    #[test]
    fn the_field_that_was_named_tells_who_asked() {
        let line =
            r#"10.9.9.9 [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" "a" "203.0.113.7" "b""#;
        let nginx = r#"$remote_addr [$time_local] "$request" "$http_x_forwarded_for" "$http_truth" "${cookie_id}""#;
        let apache = r#"%h %t "%r" "%{X-Forwarded-For}i" "%{Truth}i" "%{id}C""#;
        let quoted = format!("LogFormat \"{}\" own", apache.replace('"', "\\\""));
        let named = format!("log_format own '{nginx}';");
        for (format, truth, expected) in [
            (nginx, "$http_truth", "203.0.113.7"),
            (nginx, "${http_truth}", "203.0.113.7"),
            (nginx, "truth", "203.0.113.7"),
            (nginx, "X-Forwarded-For", "a"),
            (nginx, "$cookie_id", "b"),
            (&named, "Truth", "203.0.113.7"),
            (apache, "%{Truth}i", "203.0.113.7"),
            (apache, "Truth", "203.0.113.7"),
            (apache, "x-forwarded-for", "a"),
            (apache, "%{id}C", "b"),
            (&quoted, "Truth", "203.0.113.7"),
        ] {
            assert_eq!(
                truth_of(format, truth, line).as_deref(),
                Some(expected),
                "{format} {truth}"
            );
        }
    }

    #[test]
    fn a_key_of_json_may_be_named() {
        let line = r#"{"remote_addr":"10.9.9.9","http":{"from":"203.0.113.7"},"x":"b"}"#;
        for (format, truth, expected) in [
            ("auto", "http.from", "203.0.113.7"),
            ("json", "x", "b"),
            ("json:client=remote_addr", "http.from", "203.0.113.7"),
            (
                r#"log_format j escape=json '{"remote_addr":"$remote_addr","x":"$cookie_x"}';"#,
                "$cookie_x",
                "b",
            ),
        ] {
            assert_eq!(truth_of(format, truth, line).as_deref(), Some(expected), "{format}");
        }
    }

    #[test]
    fn a_field_that_is_not_logged_is_refused() {
        for (format, truth) in [
            ("combined", "X-Forwarded-For"),
            (r#"%h %t "%r""#, "X-Forwarded-For"),
            ("$remote_addr $msec", "$http_truth"),
            ("%h %{Truth}o", "Truth"),
        ] {
            let wrong = Spec::with_truth(format, truth).map(drop);
            assert_eq!(wrong, Err(FormatError::new(0, FormatProblem::NotLogged)), "{format}");
        }
    }
}

//! The option `--check` of `penlogd` and `mergelogs`: what the formats of `--format` can achieve.

use super::Review;

/// Exit status: all lines are exact behind our balancer, and nothing is wrong with the format.
const GOOD: u8 = 0;
/// Exit status: the format can be used, but something should be added or corrected.
const BETTER: u8 = 1;
/// Exit status: the format cannot be used.
const USELESS: u8 = 2;

/// Returns the review of formats, written as behind `--format`, and the exit status, which is that of
/// the worst format.
#[must_use]
pub fn check(formats: &[String]) -> (String, u8) {
    let (mut text, mut worst) = (String::new(), GOOD);
    for format in formats {
        if !text.is_empty() {
            text.push('\n');
        }
        let (server, spec) = split(format);
        if let Some(server) = server {
            text.push_str(&format!("of server {server}\n"));
        }
        worst = worst.max(match Review::of(spec) {
            Ok(review) => {
                text.push_str(&review.to_string());
                if review.is_good() { GOOD } else { BETTER }
            }
            Err(error) => {
                text.push_str(&format!("format: {spec}\nproblem: {error}\n"));
                USELESS
            }
        });
    }
    (text, worst)
}

/// Splits `SERVER=SPEC`. No format begins with a single word and `=`, but `json:`.
fn split(format: &str) -> (Option<&str>, &str) {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-_[]/".contains(&b))
    };
    match format.split_once('=') {
        Some((name, spec)) if is_name(name) && !name.starts_with("json:") => (Some(name), spec),
        _ => (None, format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_that_of_the_worst_format() {
        let of = |formats: &[&str]| {
            check(&formats.iter().map(|&format| format.to_owned()).collect::<Vec<_>>()).1
        };
        let good = r#"%h %t "%r" %>s %{remote}p"#;
        assert_eq!(of(&[good]), 0);
        assert_eq!(of(&["combined"]), 1);
        assert_eq!(of(&[good, "combined"]), 1);
        assert_eq!(of(&["%t", good]), 2);
    }

    #[test]
    fn a_format_may_be_of_one_server() {
        for (format, expected) in [
            ("10.0.0.1=combined", (Some("10.0.0.1"), "combined")),
            ("[::1]:80=%h", (Some("[::1]:80"), "%h")),
            ("json:client=a", (None, "json:client=a")),
            ("web=json:client=a", (Some("web"), "json:client=a")),
            ("%h=%t", (None, "%h=%t")),
            (
                "log_format a escape=json '$remote_addr'",
                (None, "log_format a escape=json '$remote_addr'"),
            ),
        ] {
            assert_eq!(split(format), expected, "{format}");
        }
    }
}

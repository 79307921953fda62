//! The explanations of `--explain`: one line of columns for each line of the log.
//!
//! ```text
//! certainty TAB reason TAB probability TAB candidates TAB delay TAB original TAB client TAB server [TAB why]
//! ```
//!
//! `delay` is the number of seconds from the mapping to the line, `original` the logged client, `client` the
//! written client; a missing value is `-`. [`in_words`] turns the columns into sentences.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use super::WrittenLine;
use crate::attribution::{Certainty, Explanation, Reason};

/// The heading of a file of explanations, without [`WHY_COLUMN`].
pub const HEADER: &[u8] =
    b"#certainty\treason\tprobability\tcandidates\tdelay\toriginal\tclient\tserver";

/// The heading of the last column, which is present under `--candidates`.
pub const WHY_COLUMN: &[u8] = b"\twhy";

/// The reason of a line that did not parse.
const NOT_UNDERSTOOD: &str = "not-understood";

/// Returns the word for a certainty in explanations.
const fn certainty_word(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Unmatched => "unmatched",
        Certainty::Likely => "likely",
        Certainty::Certain => "certain",
        Certainty::Exact => "exact",
    }
}

/// Writes the columns of one line and a line feed.
pub(super) fn write(
    line: &WrittenLine<'_>,
    server: &dyn fmt::Display,
    why: Option<&Explanation>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let verdict = line.verdict;
    let certainty = certainty_word(verdict.certainty);
    let reason = line.original.map_or(NOT_UNDERSTOOD, |_| verdict.reason.as_str());
    let probability = f64::from(verdict.probability) / 1_000.0;
    write!(out, "{certainty}\t{reason}\t{probability:.3}\t{}\t", verdict.candidates)?;
    match verdict.delay {
        Some(delay) => {
            let (sign, delay) = (if delay < 0 { "-" } else { "" }, delay.unsigned_abs());
            write!(out, "{sign}{}.{:06}", delay / 1_000_000, delay % 1_000_000)?;
        }
        None => write!(out, "-")?,
    }
    let original = line.original.unwrap_or(b"-").escape_ascii();
    let client = line.client.unwrap_or(b"-").escape_ascii();
    write!(out, "\t{original}\t{client}\t{server}")?;
    match why {
        Some(why) => writeln!(out, "\t{why}"),
        None => writeln!(out),
    }
}

/// Returns an explanation in sentences, from its columns; `None` if the columns are malformed. `number`
/// and `line` are the number and the text of the explained line.
#[must_use]
pub fn in_words(number: u64, line: &[u8], columns: &str) -> Option<String> {
    let mut parts = columns.split('\t');
    let [certainty, reason, probability, candidates, delay, original, client, server] =
        std::array::from_fn(|_| parts.next());
    let (certainty, reason, probability) = (certainty?, reason?, probability?);
    let (candidates, delay, original, client, server) =
        (candidates?, delay?, original?, client?, server?);
    let words = match reason {
        NOT_UNDERSTOOD => "the line is not understood, and stays as it came",
        word => Reason::of_word(word)?.words(),
    };
    let certainty = match certainty {
        "likely" => format!("likely ({probability})"),
        // Until 0.1.0 the word for an unmatched line was `none`.
        "none" => certainty_word(Certainty::Unmatched).to_owned(),
        word => word.to_owned(),
    };
    let mut out = String::new();
    let text = String::from_utf8_lossy(line);
    let write = writeln!(out, "line {number}: {}", text.trim_end().escape_debug()).and_then(|()| {
        writeln!(out, "  {client}, {certainty}: {words}")?;
        write!(out, "  logged as {original} at server {server}")?;
        if delay != "-" {
            write!(out, ", {delay} s after its record by the clocks as they are")?;
        }
        writeln!(out)?;
        match parts.next() {
            None => writeln!(out, "  records that could have explained it: {candidates}"),
            Some("-") => writeln!(out, "  no record could have explained it"),
            Some(why) => {
                writeln!(out, "  what could have explained it:")?;
                why.split("; ").try_for_each(|one| writeln!(out, "    {one}"))
            }
        }
    });
    write.ok()?;
    Some(out)
}

/// Returns whether an explanation may belong to a line: the line must contain the written client.
#[must_use]
pub fn belongs_to(columns: &str, line: &[u8]) -> bool {
    let mut columns = columns.split('\t').skip(1);
    let (reason, client) = (columns.next(), columns.nth(4).unwrap_or_default());
    reason == Some(NOT_UNDERSTOOD) || line.escape_ascii().to_string().contains(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_words() {
        for (columns, expected) in [
            (
                "certain\tonly\t1.000\t1\t0.012000\t10.9.9.9\t203.0.113.7\t10.0.0.1",
                "  203.0.113.7, certain: the only mapping with this request at this server\n  \
                 logged as 10.9.9.9 at server 10.0.0.1, 0.012000 s after its record by the clocks as they are\n  \
                 records that could have explained it: 1\n",
            ),
            (
                "likely\torder\t0.620\t2\t-\t10.9.9.9\t203.0.113.7\t10.0.0.1\ta: x; b: y",
                "  203.0.113.7, likely (0.620): the best of several, by order and time\n  \
                 logged as 10.9.9.9 at server 10.0.0.1\n  what could have explained it:\n    a: x\n    b: y\n",
            ),
            (
                "none\tnot-understood\t0.000\t0\t-\t-\t-\t10.0.0.1\t-",
                "  -, unmatched: the line is not understood, and stays as it came\n  \
                 logged as - at server 10.0.0.1\n  no record could have explained it\n",
            ),
        ] {
            let told = in_words(3, b"a line", columns).unwrap();
            assert_eq!(told, format!("line 3: a line\n{expected}"));
        }
        for columns in ["", "certain\tonly", "certain\tno\t1\t1\t-\ta\tb\tc"] {
            assert_eq!(in_words(1, b"a line", columns), None, "{columns}");
        }
    }
}

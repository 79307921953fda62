//! What `--explain` says of a line: the same columns as those of `mergelogs`.
//!
//! ```text
//! certainty TAB reason TAB probability TAB candidates TAB delay TAB original TAB client TAB server [TAB why]
//! ```
//!
//! The delay is in seconds from the mapping to the line, `original` is the client as it was logged,
//! `client` as it was written; `-` stands for what there is not.

use std::io::{self, Write as _};

use pen_records::attribution::{Certainty, Explanation, LineVerdict};

use crate::sources::ServerKey;

/// A line that was written.
pub(crate) struct Explained<'a> {
    pub(crate) verdict: &'a LineVerdict,
    /// The client as it was logged; `None` if the line was not understood.
    pub(crate) original: Option<&'a [u8]>,
    /// The client as it was written, if it is another one.
    pub(crate) client: Option<&'a [u8]>,
    pub(crate) server: Option<ServerKey>,
    /// What there was to choose from, if that is to be said, too.
    pub(crate) why: Option<&'a Explanation>,
}

impl Explained<'_> {
    /// Appends the line, line end included.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        self.try_write_to(out).expect("writing to a Vec does not fail");
    }

    fn try_write_to(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let verdict = self.verdict;
        let certainty = match verdict.certainty {
            Certainty::Unmatched => "none",
            Certainty::Likely => "likely",
            Certainty::Certain => "certain",
            Certainty::Exact => "exact",
        };
        let reason =
            if self.original.is_some() { verdict.reason.as_str() } else { "not-understood" };
        let probability = f64::from(verdict.probability) / 1_000.0;
        write!(out, "{certainty}\t{reason}\t{probability:.3}\t{}\t", verdict.candidates)?;
        match verdict.delay {
            Some(delay) => {
                let (sign, delay) = (if delay < 0 { "-" } else { "" }, delay.unsigned_abs());
                write!(out, "{sign}{}.{:06}\t", delay / 1_000_000, delay % 1_000_000)?;
            }
            None => write!(out, "-\t")?,
        }
        let original = self.original.unwrap_or(b"-");
        write!(out, "{}\t", original.escape_ascii())?;
        write!(out, "{}\t", self.client.unwrap_or(original).escape_ascii())?;
        match self.server {
            Some(key) => write!(out, "{key}")?,
            None => write!(out, "-")?,
        }
        match self.why {
            Some(why) => writeln!(out, "\t{why}"),
            None => writeln!(out),
        }
    }
}

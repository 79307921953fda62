//! Rewriting of decided lines: the written client, the explanation and the counters.
//!
//! `penlogd` and `mergelogs` pass each decided line to a [`LineRewriter`]. [`policy`] chooses the
//! replacement for the client field, [`privacy`](crate::privacy) masks client addresses, and the
//! rewriter copies the line with the client field replaced. [`explanation`] writes and reads the
//! columns of `--explain`, [`outcomes`] counts lines by certainty.

mod controls;
pub mod explanation;
pub mod outcomes;
pub mod policy;

use std::fmt;
use std::net::IpAddr;

use crate::access::{LineSpan, write_with_client, write_with_text};
use crate::attribution::{Explanation, LineVerdict};
use crate::privacy::Privacy;

pub use self::controls::escape_controls;
pub use self::outcomes::OutcomeCounts;
pub use self::policy::{LikelyPolicy, RewritePolicy, UnmatchedPolicy};

use self::policy::ClientChange;

/// A decided line, as the server logged it.
#[derive(Clone, Copy, Debug)]
pub struct LineRewrite<'a> {
    /// The line without its line feed.
    pub text: &'a [u8],
    /// The client field; `None` if the line did not parse.
    pub client: Option<LineSpan>,
    /// The outcome of the join.
    pub verdict: &'a LineVerdict,
    /// The name that replaces the client under `--unmatched server`.
    pub server: ServerName<'a>,
}

/// The name of a server, to be written as a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerName<'a> {
    /// As the user typed it.
    Typed(&'a str),
    /// The server's address.
    Addr(IpAddr),
}

/// Writes decided lines with the clients from the join.
#[derive(Clone, Debug)]
pub struct LineRewriter {
    policy: RewritePolicy,
    privacy: Option<Privacy>,
    /// Scratch buffer: the logged client of the last line, masked.
    masked: Vec<u8>,
}

impl LineRewriter {
    /// Makes a rewriter with this policy, which masks clients if `privacy` is given.
    #[must_use]
    pub const fn new(policy: RewritePolicy, privacy: Option<Privacy>) -> Self {
        Self { policy, privacy, masked: Vec::new() }
    }

    /// Masks the clients in an explanation as the clients in lines.
    pub fn mask_candidates(&mut self, why: &mut Explanation) {
        if let Some(privacy) = &mut self.privacy {
            why.clients_mut().for_each(|client| *client = privacy.client(*client));
        }
    }

    /// Appends the line and a line feed to `out`. Only the client field changes.
    pub fn write<'a>(
        &'a mut self,
        line: &LineRewrite<'a>,
        out: &'a mut Vec<u8>,
    ) -> WrittenLine<'a> {
        let LineRewrite { text, verdict, server, .. } = *line;
        let Some(span) = line.client else {
            out.extend_from_slice(text);
            out.push(b'\n');
            return WrittenLine { verdict, original: None, client: None };
        };
        let Self { policy, privacy, masked } = self;
        let original = match privacy {
            None => span.of(text),
            Some(privacy) => {
                masked.clear();
                privacy.write_field(span.of(text), masked);
                masked
            }
        };
        let start = out.len();
        match (policy.client_change(verdict), privacy) {
            (ClientChange::Keep, None) => out.extend_from_slice(text),
            (ClientChange::Keep, Some(_)) => write_with_text(text, span, original, out),
            (ClientChange::Dash, _) => write_with_text(text, span, b"-", out),
            (ClientChange::Client(client), None) => write_with_client(text, span, client, out),
            (ClientChange::Client(client), Some(privacy)) => {
                write_with_client(text, span, privacy.client(client), out);
            }
            (ClientChange::Server, _) => match server {
                ServerName::Typed(name) => write_with_text(text, span, name.as_bytes(), out),
                ServerName::Addr(addr) => write_with_client(text, span, addr.into(), out),
            },
        }
        let behind = text.len().saturating_sub(span.end as usize);
        let client = start + span.start as usize..out.len() - behind;
        out.push(b'\n');
        WrittenLine { verdict, original: Some(original), client: out.get(client) }
    }
}

/// The data of a written line, for the explanation.
#[derive(Clone, Copy, Debug)]
pub struct WrittenLine<'a> {
    verdict: &'a LineVerdict,
    /// The logged client, masked under `--privacy`; `None` if the line did not parse.
    pub original: Option<&'a [u8]>,
    /// The written client; `None` if the line did not parse.
    pub client: Option<&'a [u8]>,
}

impl WrittenLine<'_> {
    /// Appends the line's explanation and a line feed to `out`; see [`explanation`].
    pub fn explain(&self, server: &dyn fmt::Display, why: Option<&Explanation>, out: &mut Vec<u8>) {
        explanation::write(self, server, why, out).expect("writing to a Vec does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::ClientAddr;
    use crate::attribution::{Certainty, Reason};

    fn verdict(certainty: Certainty, reason: Reason) -> LineVerdict {
        let client =
            (certainty != Certainty::Unmatched).then(|| ClientAddr::Ip([203, 0, 113, 7].into()));
        LineVerdict {
            client,
            certainty,
            candidates: 1,
            reason,
            delay: Some(-12_000),
            probability: 620,
            is_unauthenticated: false,
        }
    }

    #[test]
    fn only_the_client_field_changes_and_the_explanation_names_both() {
        use {LikelyPolicy as L, UnmatchedPolicy as U};
        let cut = || Some(Privacy::cut(8, 8));
        let likely = verdict(Certainty::Likely, Reason::Order);
        let unmatched = verdict(Certainty::Unmatched, Reason::NoMapping);
        for (verdict, likely, unmatched, privacy, written, explained) in [
            (likely, L::Use, U::Keep, None, "203.0.113.7", "10.9.9.9\t203.0.113.7"),
            (likely, L::Use, U::Keep, cut(), "203.0.0.0", "10.0.0.0\t203.0.0.0"),
            (likely, L::Keep, U::Dash, None, "10.9.9.9", "10.9.9.9\t10.9.9.9"),
            (likely, L::Keep, U::Dash, cut(), "10.0.0.0", "10.0.0.0\t10.0.0.0"),
            (unmatched, L::Dash, U::Server, None, "10.0.0.1", "10.9.9.9\t10.0.0.1"),
            (unmatched, L::Dash, U::Dash, cut(), "-", "10.0.0.0\t-"),
        ] {
            let mut rewriter = LineRewriter::new(RewritePolicy { unmatched, likely }, privacy);
            for server in [ServerName::Typed("10.0.0.1"), ServerName::Addr([10, 0, 0, 1].into())] {
                let text = &b"www 10.9.9.9 - GET"[..];
                let client = Some(LineSpan { start: 4, end: 12 });
                let line = LineRewrite { text, client, verdict: &verdict, server };
                let (mut out, mut explain) = (b"before\n".to_vec(), Vec::new());
                rewriter.write(&line, &mut out).explain(&"10.0.0.1:80", None, &mut explain);
                assert_eq!(out, format!("before\nwww {written} - GET\n").into_bytes());
                let columns = String::from_utf8(explain).unwrap();
                assert!(
                    columns.contains(&format!("\t-0.012000\t{explained}\t10.0.0.1:80\n")),
                    "{columns}"
                );
            }
        }
    }

    #[test]
    fn a_line_that_was_not_understood_stays_as_it_is() {
        let verdict = verdict(Certainty::Unmatched, Reason::NoRequest);
        let policy = RewritePolicy { unmatched: UnmatchedPolicy::Dash, ..RewritePolicy::default() };
        let mut rewriter = LineRewriter::new(policy, Some(Privacy::cut(8, 8)));
        let server = ServerName::Typed("a");
        let line = LineRewrite { text: b"10.9.9.9", client: None, verdict: &verdict, server };
        let (mut out, mut explain) = (Vec::new(), Vec::new());
        rewriter.write(&line, &mut out).explain(&"a", None, &mut explain);
        assert_eq!(out, b"10.9.9.9\n");
        let columns = String::from_utf8(explain).unwrap();
        assert_eq!(columns, "unmatched\tnot-understood\t0.620\t1\t-0.012000\t-\t-\ta\n");
    }
}

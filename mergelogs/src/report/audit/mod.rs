//! The option `--audit`: compares the client of each line with a field of the log that holds the true
//! client's address. A field that is no address, such as a cookie, tells visitors apart ([`visitors`]).

mod visitors;

use std::fmt::Write as _;
use std::net::IpAddr;

use pen_records::access::{AccessLine, Parser};
use pen_records::addr::{ClientAddr, parse_ip};
use pen_records::attribution::{Certainty, LineVerdict, Reason};
use serde_json::{Map, Value, json};

use self::visitors::Visitors;
use crate::config::MergeConfig;
use crate::report::json::thousandths;

/// Wrong lines shown per certainty.
const EXAMPLES: usize = 5;
/// Bytes shown of each wrong line.
const LENGTH: usize = 300;
/// Bands of probability.
const BANDS: usize = 10;

/// Counts of right and wrong lines.
#[derive(Clone, Copy, Default)]
struct AuditOutcome {
    right: u64,
    wrong: u64,
    /// Lines whose field is missing or cannot be compared.
    no_truth: u64,
}

impl AuditOutcome {
    fn add(&mut self, is_right: Option<bool>, lines: u64) {
        *match is_right {
            Some(true) => &mut self.right,
            Some(false) => &mut self.wrong,
            None => &mut self.no_truth,
        } += lines;
    }

    fn sum(self, other: Self) -> Self {
        Self {
            right: self.right + other.right,
            wrong: self.wrong + other.wrong,
            no_truth: self.no_truth + other.no_truth,
        }
    }

    const fn known(self) -> u64 {
        self.right + self.wrong
    }
}

/// Lines of one server.
#[derive(Clone, Default)]
struct AuditTally {
    exact: AuditOutcome,
    certain: AuditOutcome,
    likely: AuditOutcome,
    /// Unmatched lines; `right` and `wrong` together have a truth.
    none: AuditOutcome,
    /// Lines that came directly, past the balancer, and name their client.
    direct: u64,
    not_understood: u64,
}

/// A line with the wrong client.
struct AuditExample {
    certainty: &'static str,
    probability: u16,
    server: String,
    client: ClientAddr,
    truth: IpAddr,
    line: String,
}

/// The comparison so far.
pub(crate) struct Audit {
    field: String,
    labels: Vec<String>,
    parsers: Vec<Parser>,
    found: AccessLine,
    servers: Vec<AuditTally>,
    bands: [AuditOutcome; BANDS],
    visitors: Visitors,
    examples: [Vec<AuditExample>; 3],
}

/// Classes of a visitor's line: exact, certain, or from [`LIKELY`] on one class per band.
const EXACT: u8 = 0;
const CERTAIN: u8 = 1;
const LIKELY: u8 = 2;

impl Audit {
    /// Returns `None` without `--audit`.
    pub(crate) fn new(config: &MergeConfig) -> Option<Self> {
        let field = config.audit.clone()?;
        let parser = |server: &crate::config::ServerInputs| Parser::new(&server.truth);
        Some(Self {
            field,
            labels: config.servers.iter().map(crate::config::ServerInputs::label).collect(),
            parsers: config.servers.iter().map(parser).collect(),
            found: AccessLine::default(),
            servers: vec![AuditTally::default(); config.servers.len()],
            bands: [AuditOutcome::default(); BANDS],
            visitors: Visitors::default(),
            examples: [const { Vec::new() }; 3],
        })
    }

    /// Compares the client of a line with the truth.
    pub(crate) fn line(&mut self, server: usize, line: &[u8], verdict: &LineVerdict) {
        let tally = &mut self.servers[server];
        if self.parsers[server].read(line, &mut self.found).is_err() {
            tally.not_understood += 1;
            return;
        }
        if verdict.reason == Reason::Direct {
            tally.direct += 1;
            return;
        }
        let told = self.found.forwarded_for.map(|at| at.of(line)).unwrap_or_default();
        let truth = address(told);
        let band = usize::from(verdict.probability) * BANDS / 1_000;
        let band = band.min(BANDS - 1);
        if truth.is_none()
            && let Some(client) = verdict.client
            && let Some(class) = class(verdict.certainty, band)
            && !told.is_empty()
            && told != b"-"
            && self.visitors.add(told, server, client, class)
        {
            return;
        }
        let is_right = truth.map(|truth| {
            matches!(verdict.client, Some(ClientAddr::Ip(client)) if client.to_canonical() == truth)
        });
        let (index, outcome) = match verdict.certainty {
            Certainty::Exact => (0, &mut tally.exact),
            Certainty::Certain => (1, &mut tally.certain),
            Certainty::Likely => (2, &mut tally.likely),
            Certainty::Unmatched => return tally.none.add(is_right, 1),
        };
        outcome.add(is_right, 1);
        if verdict.certainty == Certainty::Likely {
            self.bands[band].add(is_right, 1);
        }
        let examples = &mut self.examples[index];
        if let (Some(false), Some(truth), Some(client)) = (is_right, truth, verdict.client)
            && examples.len() < EXAMPLES
        {
            let start = line.get(..LENGTH).unwrap_or(line);
            examples.push(AuditExample {
                certainty: ["exact", "certain", "likely"][index],
                probability: verdict.probability,
                server: self.labels[server].clone(),
                client,
                truth,
                line: start.escape_ascii().to_string(),
            });
        }
    }

    /// Judges the visitors after the last line: the true client of a visitor is that of most lines.
    pub(crate) fn finish(&mut self) {
        let (servers, bands) = (&mut self.servers, &mut self.bands);
        std::mem::take(&mut self.visitors).judge(|seen, is_right| {
            let tally = &mut servers[seen.server];
            match seen.class {
                EXACT => &mut tally.exact,
                CERTAIN => &mut tally.certain,
                _ => &mut tally.likely,
            }
            .add(is_right, seen.lines);
            if let Some(band) = seen.class.checked_sub(LIKELY) {
                bands[usize::from(band)].add(is_right, seen.lines);
            }
        });
    }

    /// Returns the audit as lines of text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out).expect("writing to a String does not fail");
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "audit by {}: lines whose client is the one in it", self.field)?;
        let all = self.servers.iter().fold(AuditTally::default(), |sum, server| sum.plus(server));
        all.write_text(out, "all servers")?;
        if self.servers.len() > 1 {
            for (label, server) in self.labels.iter().zip(&self.servers) {
                server.write_text(out, label)?;
            }
        }
        if all.likely.known() > 0 {
            writeln!(out, "  likely lines by how sure they are said to be")?;
        }
        for (index, band) in self.bands.iter().enumerate().filter(|(_, band)| band.known() > 0) {
            let (low, high) = (index * 100 / BANDS, (index + 1) * 100 / BANDS);
            writeln!(
                out,
                "    {low:>2} to {high:>3} %: {} of {} right, {}",
                band.right,
                band.known(),
                percent(*band)
            )?;
        }
        for example in self.examples.iter().flatten() {
            writeln!(
                out,
                "  wrong, {} ({}.{:03}), at {}: {} and not {}: {}",
                example.certainty,
                example.probability / 1_000,
                example.probability % 1_000,
                example.server,
                example.truth,
                example.client,
                example.line
            )?;
        }
        if all.exact.known() + all.certain.known() + all.likely.known() + all.none.known() == 0 {
            writeln!(
                out,
                "  no line has anything to compare there: is {} the right field?",
                self.field
            )?;
        }
        Ok(())
    }

    /// Returns the audit as a JSON object.
    pub(crate) fn json(&self) -> Value {
        let all = self.servers.iter().fold(AuditTally::default(), |sum, server| sum.plus(server));
        let servers = self.labels.iter().zip(&self.servers).map(|(label, server)| {
            let mut members = Map::from_iter([("server".to_owned(), json!(label))]);
            members.extend(server.json());
            Value::from(members)
        });
        let bands = self.bands.iter().enumerate().map(|(index, band)| {
            let (from, to) = (index * 100 / BANDS, (index + 1) * 100 / BANDS);
            let AuditOutcome { right, wrong, .. } = band;
            json!({ "from_percent": from, "to_percent": to, "right": right, "wrong": wrong })
        });
        let mut audit = Map::from_iter([("field".to_owned(), json!(self.field))]);
        audit.extend(all.json());
        audit.extend([
            ("servers".to_owned(), servers.collect()),
            ("likely_bands".to_owned(), bands.collect()),
            (
                "examples".to_owned(),
                self.examples.iter().flatten().map(AuditExample::json).collect(),
            ),
        ]);
        audit.into()
    }
}

impl AuditExample {
    fn json(&self) -> Value {
        json!({
            "certainty": self.certainty,
            "probability": thousandths(self.probability.into()),
            "server": self.server,
            "client": self.client.to_string(),
            "truth": self.truth.to_string(),
            "line": self.line,
        })
    }
}

impl AuditTally {
    fn plus(&self, other: &Self) -> Self {
        Self {
            exact: self.exact.sum(other.exact),
            certain: self.certain.sum(other.certain),
            likely: self.likely.sum(other.likely),
            none: self.none.sum(other.none),
            direct: self.direct + other.direct,
            not_understood: self.not_understood + other.not_understood,
        }
    }

    /// Returns the counts of lines with a client.
    const fn named(&self) -> [(&'static str, AuditOutcome); 3] {
        [("exact", self.exact), ("certain", self.certain), ("likely", self.likely)]
    }

    fn write_text(&self, out: &mut String, who: &str) -> std::fmt::Result {
        let named =
            self.named().into_iter().fold(AuditOutcome::default(), |sum, (_, one)| sum.sum(one));
        let truths = AuditOutcome { wrong: named.wrong + self.none.known(), ..named };
        writeln!(
            out,
            "  {who}: {} of {} right, {}",
            truths.right,
            truths.known(),
            percent(truths)
        )?;
        for (name, outcome) in self.named().into_iter().filter(|(_, one)| one.known() > 0) {
            let AuditOutcome { right, wrong, .. } = outcome;
            writeln!(out, "    {name}: {right} right, {wrong} wrong, {}", percent(outcome))?;
        }
        for (what, count) in [
            ("without a client", self.none.known()),
            ("with nothing to compare in that field", named.no_truth + self.none.no_truth),
            ("that came past the balancer", self.direct),
            ("not understood", self.not_understood),
        ] {
            if count > 0 {
                writeln!(out, "    {count} {what}")?;
            }
        }
        Ok(())
    }

    /// Returns the JSON members for all lines or for the lines of one server.
    fn json(&self) -> Map<String, Value> {
        let named = self.named().map(|(name, outcome)| {
            let AuditOutcome { right, wrong, no_truth } = outcome;
            (name, json!({ "right": right, "wrong": wrong, "no_truth": no_truth }))
        });
        let AuditOutcome { no_truth, .. } = self.none;
        let others = [
            ("unmatched", json!({ "with_truth": self.none.known(), "no_truth": no_truth })),
            ("direct", self.direct.into()),
            ("not_understood", self.not_understood.into()),
        ];
        named.into_iter().chain(others).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn class(certainty: Certainty, band: usize) -> Option<u8> {
    match certainty {
        Certainty::Unmatched => None,
        Certainty::Likely => u8::try_from(band).ok().map(|band| LIKELY + band),
        Certainty::Certain => Some(CERTAIN),
        Certainty::Exact => Some(EXACT),
    }
}

/// Returns the last address of a list: the peer of the last proxy.
fn address(text: &[u8]) -> Option<IpAddr> {
    let last = text.rsplit(|&byte| byte == b',').next()?.trim_ascii();
    parse_ip(last).map(|addr| addr.to_canonical())
}

/// Returns the share of right lines, rounded down: 99,999 of 100,000 are 99.99 %.
fn percent(outcome: AuditOutcome) -> String {
    let known = outcome.known();
    if known == 0 {
        return "- %".to_owned();
    }
    let hundredths = u128::from(outcome.right) * 10_000 / u128::from(known);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_of_a_list_is_the_truth() {
        for (text, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("10.0.0.1, 203.0.113.7", Some("203.0.113.7")),
            ("forged,2001:db8::1", Some("2001:db8::1")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("203.0.113.7, ", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(address(text.as_bytes()), expected.map(|e| e.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn nearly_all_is_not_all() {
        let outcome = |right, wrong| AuditOutcome { right, wrong, no_truth: 0 };
        for (right, wrong, expected) in
            [(1, 0, "100.00 %"), (99_999, 1, "99.99 %"), (0, 3, "0.00 %"), (0, 0, "- %")]
        {
            assert_eq!(percent(outcome(right, wrong)), expected);
        }
    }
}

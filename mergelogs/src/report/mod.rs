//! The report at the end: what came in, what went out, how sure it is, and that the two balance.

pub(crate) mod audit;
pub(crate) mod progress;

use std::fmt::Write as _;
use std::time::Duration;

use pen_records::rewrite::OutcomeCounts;
use pen_records::time::Timestamp;
use penlogd::balance::quoted;

use crate::clocks::{Clock, Seconds};
use crate::config::Config;
use crate::join::Tally;

/// All figures of a run.
pub(crate) struct Report<'a> {
    config: &'a Config,
    clocks: &'a [Clock],
    tally: &'a Tally,
    elapsed: Duration,
    bytes: u64,
}

/// Sums over all access logs.
#[derive(Default)]
struct Lines {
    read: u64,
    not_understood: u64,
    without_time: u64,
    with_port: u64,
    pieces: u64,
    moved: u64,
    late: u64,
}

/// Sums over all mapping logs.
#[derive(Default)]
struct Mappings {
    read: u64,
    damaged: u64,
    elsewhere: u64,
    without_request: u64,
    moments: u64,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        config: &'a Config,
        clocks: &'a [Clock],
        tally: &'a Tally,
        elapsed: Duration,
        bytes: u64,
    ) -> Self {
        Self { config, clocks, tally, elapsed, bytes }
    }

    /// Every line that was read was written.
    pub(crate) fn balances(&self) -> bool {
        self.lines().read == self.tally.written
    }

    /// Some input could not be read to its end, and not because it was cut off.
    pub(crate) fn has_faults(&self) -> bool {
        let logs = self.tally.logs.iter().filter_map(|(_, _, end)| end.fault.as_ref());
        let mappings = self.tally.mapping_logs.iter().filter_map(|(_, end)| end.fault.as_ref());
        logs.chain(mappings).any(|fault| fault.kind() != std::io::ErrorKind::UnexpectedEof)
    }

    /// What is wrong with the inputs, whatever the report's style.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let fault = |origin: &crate::config::Origin, fault: &std::io::Error, lines: u64| {
            let what = if fault.kind() == std::io::ErrorKind::UnexpectedEof {
                "is cut off".to_owned()
            } else {
                format!("cannot be read further: {fault}")
            };
            format!("{origin} {what}; the {lines} lines before are used")
        };
        for (origin, end) in &self.tally.mapping_logs {
            warnings.extend(end.complaints.iter().cloned());
            let more = end.damaged - end.complaints.len() as u64;
            if more > 0 {
                warnings.push(format!("{origin}: {more} more damaged lines"));
            }
            warnings.extend(end.unnamed.iter().map(|name| {
                format!(
                    "{origin}: no address is known for the server {name}: say --server {name}=ADDR"
                )
            }));
            warnings.extend(end.fault.as_ref().map(|error| fault(origin, error, end.lines)));
        }
        for (_, origin, end) in &self.tally.logs {
            if self.config.debug {
                warnings.extend(end.complaints.iter().cloned());
            }
            warnings.extend(end.fault.as_ref().map(|error| fault(origin, error, end.lines)));
        }
        warnings
    }

    fn lines(&self) -> Lines {
        let mut sum = Lines::default();
        for (_, _, end) in &self.tally.logs {
            sum.read += end.lines;
            sum.not_understood += end.not_understood;
            sum.without_time += end.without_time;
            sum.with_port += end.with_port;
            sum.pieces += end.pieces;
            sum.moved += end.moved;
            sum.late += end.late;
        }
        sum
    }

    fn mappings(&self) -> Mappings {
        let mut sum = Mappings::default();
        for (_, end) in &self.tally.mapping_logs {
            sum.read += end.lines;
            sum.damaged += end.damaged;
            sum.elsewhere += end.elsewhere;
            sum.without_request += end.without_request;
            sum.moments += end.moments;
        }
        sum
    }

    fn total(&self) -> OutcomeCounts {
        let mut sum = OutcomeCounts::default();
        self.tally.servers.iter().for_each(|server| sum.add(server));
        sum
    }

    fn formats(&self, server: usize) -> String {
        let mut formats: Vec<&str> = Vec::new();
        for (_, _, end) in self.tally.logs.iter().filter(|(of, _, _)| *of == server) {
            if !end.format.is_empty() && !formats.contains(&end.format.as_str()) {
                formats.push(&end.format);
            }
        }
        formats.join("; ")
    }

    /// What would make the join exact, where that is within reach.
    fn advice(&self) -> Option<&'static str> {
        (self.lines().with_port > 0 && self.total().exact == 0).then_some(
            "the logs carry the peer's port, the mapping log does not: with mapping records that name the \
             balancer's own port each line's client would be exact",
        )
    }

    fn rate(&self) -> u64 {
        let millis = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        self.tally.written.saturating_mul(1_000) / millis
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let write = self.write_text(&mut out);
        write.expect("writing to a String does not fail");
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let (lines, mappings, total) = (self.lines(), self.mappings(), self.total());
        let counts = &self.tally.counts;
        let sign = if self.balances() { "=" } else { "!=" };
        writeln!(out, "lines read {} {sign} written {}", lines.read, self.tally.written)?;
        write_outcomes(out, "  all servers", &total)?;
        for (index, server) in self.config.servers.iter().enumerate() {
            write_outcomes(out, &format!("  {}", server.label()), &self.tally.servers[index])?;
            let formats = self.formats(index);
            if !formats.is_empty() {
                writeln!(out, "    format {formats}")?;
            }
            if let Some(clock) = self.clocks.get(index).filter(|clock| clock.is_worth_a_word()) {
                writeln!(out, "    {clock}")?;
            }
        }
        if total.likely > 0 {
            let hint = "a likely client is the best of several that could have asked";
            writeln!(out, "  {hint}; --explain FILE says how each line got its client")?;
        }
        for (what, count) in [
            ("without a time: placed after the line before", lines.without_time),
            ("pieces of lines above 1 MiB", lines.pieces),
            ("out of order, set right", lines.moved - lines.late),
            ("too far out of order, left in place", lines.late),
            ("decided early to bound memory", counts.hurried),
        ] {
            if count > 0 {
                writeln!(out, "  {count} lines {what}")?;
            }
        }
        writeln!(out, "mapping lines read {}", mappings.read)?;
        let unused =
            counts.mappings.saturating_sub(counts.used) + self.tally.later + self.tally.stale;
        for (what, count) in [
            ("explained a line", counts.used),
            ("explained none", unused),
            ("of servers without a log here", mappings.elsewhere),
            ("of connections and responses", mappings.moments),
            ("without a request", mappings.without_request),
            ("damaged", mappings.damaged),
            ("forgotten to bound memory", counts.evicted),
        ] {
            if count > 0 {
                writeln!(out, "  {count} {what}")?;
            }
        }
        if self.tally.delays.count() > 0 {
            writeln!(out, "lines came after their mappings by: {}", self.tally.delays)?;
        }
        if let Some((first, last)) = self.tally.span {
            writeln!(out, "from {} to {}", utc(first), utc(last))?;
        }
        writeln!(
            out,
            "{}.{:03} s, {} lines/s, {} MiB read",
            self.elapsed.as_secs(),
            self.elapsed.subsec_millis(),
            self.rate(),
            self.bytes >> 20
        )?;
        if let Some(audit) = &self.tally.audit {
            out.push_str(&audit.text());
        }
        if let Some(advice) = self.advice() {
            writeln!(out, "note: {advice}")?;
        }
        Ok(())
    }

    /// For programs: one object on one line.
    pub(crate) fn json(&self) -> String {
        let (lines, mappings, total) = (self.lines(), self.mappings(), self.total());
        let counts = &self.tally.counts;
        let mut out = String::from("{");
        let servers: Vec<_> = self
            .config
            .servers
            .iter()
            .enumerate()
            .map(|(index, server)| {
                let clock = self.clocks.get(index);
                format!(
                    "{{\"server\":{},\"format\":{},{},\"clock_ahead_seconds\":{},\"clock_within_seconds\":{},\"clock_votes\":{}}}",
                    quoted(&server.label()),
                    quoted(&self.formats(index)),
                    outcomes(&self.tally.servers[index]),
                    Seconds(clock.map_or(0, |clock| clock.ahead)),
                    Seconds(clock.map_or(0, |clock| clock.within)),
                    clock.map_or(0, |clock| clock.votes),
                )
            })
            .collect();
        let inputs: Vec<_> = self
            .tally
            .logs
            .iter()
            .map(|(_, origin, end)| (origin, end.compression, end.lines, end.fault.is_some()))
            .chain(
                self.tally
                    .mapping_logs
                    .iter()
                    .map(|(origin, end)| (origin, end.compression, end.lines, end.fault.is_some())),
            )
            .map(|(origin, compression, lines, cut)| {
                format!(
                    "{{\"file\":{},\"compression\":{},\"lines\":{lines},\"cut_off\":{cut}}}",
                    quoted(&origin.to_string()),
                    quoted(compression.map_or("plain", crate::input::archive::Compression::name)),
                )
            })
            .collect();
        let unused =
            counts.mappings.saturating_sub(counts.used) + self.tally.later + self.tally.stale;
        let (first, last) = self.tally.span.unzip();
        let time = |time: Option<Timestamp>| {
            time.map_or_else(|| "null".to_owned(), |time| quoted(&utc(time)))
        };
        let write = write!(
            out,
            "\"lines\":{{\"read\":{},\"written\":{},\"balanced\":{},{},\"without_time\":{},\"pieces\":{},\"set_right\":{},\"left_out_of_order\":{},\"hurried\":{},\"with_peer_port\":{}}},\
             \"mappings\":{{\"read\":{},\"used\":{},\"unused\":{unused},\"elsewhere\":{},\"without_request\":{},\"of_connections\":{},\"damaged\":{},\"evicted\":{}}},\
             \"servers\":[{}],\"inputs\":[{}],\"first\":{},\"last\":{},\"seconds\":{}.{:03},\"lines_per_second\":{},\"bytes_read\":{},\"delays\":{{\"histogram\":{}}},\"advice\":{}",
            lines.read,
            self.tally.written,
            self.balances(),
            outcomes(&total),
            lines.without_time,
            lines.pieces,
            lines.moved - lines.late,
            lines.late,
            counts.hurried,
            lines.with_port,
            mappings.read,
            counts.used,
            mappings.elsewhere,
            mappings.without_request,
            mappings.moments,
            mappings.damaged,
            counts.evicted,
            servers.join(","),
            inputs.join(","),
            time(first),
            time(last),
            self.elapsed.as_secs(),
            self.elapsed.subsec_millis(),
            self.rate(),
            self.bytes,
            self.tally.delays.json(),
            self.advice().map_or_else(|| "null".to_owned(), quoted),
        );
        write.expect("writing to a String does not fail");
        if let Some(audit) = &self.tally.audit {
            write!(out, ",\"audit\":{}", audit.json()).expect("writing to a String does not fail");
        }
        out.push_str("}\n");
        out
    }
}

fn write_outcomes(out: &mut String, who: &str, tally: &OutcomeCounts) -> std::fmt::Result {
    writeln!(
        out,
        "{who}: {} exact, {} certain, {} likely, {} unmatched, {} not understood",
        tally.exact, tally.certain, tally.likely, tally.unmatched, tally.not_understood
    )
}

fn outcomes(tally: &OutcomeCounts) -> String {
    format!(
        "\"exact\":{},\"certain\":{},\"likely\":{},\"unmatched\":{},\"not_understood\":{}",
        tally.exact, tally.certain, tally.likely, tally.unmatched, tally.not_understood
    )
}

/// `2026-11-22T20:23:20Z`, by the civil calendar of days since the epoch.
fn utc(time: Timestamp) -> String {
    let seconds = time.as_micros().div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Eras of 400 years, which begin in March so that a leap day comes last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z",
        era * 400 + year + carry,
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_379_000, "2026-11-22T20:23:20Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(Timestamp::from_seconds(seconds)), text);
        }
    }
}

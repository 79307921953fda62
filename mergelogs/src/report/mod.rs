//! The report after the run: lines and mappings read, lines written by certainty, clocks, and a check that
//! every line read was written.

pub(crate) mod audit;
mod json;
pub(crate) mod progress;
pub(crate) mod text;

use std::fmt::Write as _;
use std::time::Duration;

use chrono::DateTime;
use pen_daemon::error::Exit;
use pen_records::rewrite::OutcomeCounts;
use pen_records::time::Timestamp;

use crate::clocks::ArchiveClocks;
use crate::config::{InputOrigin, MergeConfig};
use crate::idle_options::idle_options;
use crate::input::heads::InputHead;
use crate::join::JoinTally;
use crate::misfit::{SaidMisfit, ServerCounts};

/// All figures of a run.
pub(crate) struct JoinReport<'a> {
    config: &'a MergeConfig,
    clocks: &'a ArchiveClocks,
    tally: &'a JoinTally,
    elapsed: Duration,
    bytes: u64,
    pub(crate) misfits: Vec<SaidMisfit>,
}

/// Sums over all access logs.
#[derive(Default)]
struct AccessTotals {
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
struct MappingTotals {
    read: u64,
    damaged: u64,
    elsewhere: u64,
    without_request: u64,
    events: u64,
}

impl<'a> JoinReport<'a> {
    pub(crate) fn new(
        config: &'a MergeConfig,
        clocks: &'a ArchiveClocks,
        tally: &'a JoinTally,
        elapsed: Duration,
        bytes: u64,
    ) -> Self {
        Self { config, clocks, tally, elapsed, bytes, misfits: Vec::new() }
    }

    /// Returns whether every line that was read was written.
    pub(crate) fn balances(&self) -> bool {
        self.lines().read == self.tally.written
    }

    /// Returns whether reading an input failed, other than by a truncated file.
    pub(crate) fn has_faults(&self) -> bool {
        let logs = self.tally.logs.iter().filter_map(|(_, _, end)| end.fault.as_ref());
        let mappings = self.tally.mapping_logs.iter().filter_map(|(_, end)| end.fault.as_ref());
        logs.chain(mappings).any(|fault| fault.kind() != std::io::ErrorKind::UnexpectedEof)
    }

    /// Returns how the run ends.
    pub(crate) fn exit(&self) -> Exit {
        if !self.balances() || self.has_faults() {
            Exit::Failed
        } else if self.misfits.is_empty() && !self.clocks.unknown.contains(&true) {
            Exit::Done
        } else {
            Exit::Misfit
        }
    }

    /// Returns what became of the lines of each server.
    pub(crate) fn counts(&self) -> Vec<ServerCounts> {
        let servers = self.tally.servers.iter().zip(&self.tally.direct);
        let counts = servers.map(|(of, &direct)| {
            let sure = of.exact + of.certain;
            let found = sure + of.likely;
            let lines = found + of.unmatched + of.not_understood;
            ServerCounts { lines, direct, not_understood: of.not_understood, found, sure }
        });
        counts.collect()
    }

    /// Returns whether mappings were of servers without a log here.
    pub(crate) fn has_mappings_elsewhere(&self) -> bool {
        self.mappings().elsewhere > 0
    }

    /// Returns the lines of each mapping log, and how many of them were damaged.
    pub(crate) fn mapping_lines(&self, mappings: &[InputHead]) -> Vec<(u64, u64)> {
        let ends = &self.tally.mapping_logs;
        let lines = mappings.iter().map(|head| {
            let of = ends.iter().find(|(origin, _)| *origin == head.origin);
            of.map_or((0, 0), |(_, end)| (end.lines, end.damaged))
        });
        lines.collect()
    }

    /// Returns the servers whose clocks are not known, with a remedy, unless another cause was found.
    fn unknown_clocks(&self) -> Vec<String> {
        let servers = self.config.servers.iter().zip(&self.clocks.unknown);
        let is_said = !self.misfits.is_empty();
        let unknown = servers.filter(|(_, is_unknown)| **is_unknown && !is_said);
        unknown
            .map(|(server, _)| {
                let name = server.label();
                format!(
                    "{name}: no difference of clocks up to an hour, and no time zone, puts its lines and its mappings \
                     together, so no line has a client: are these the logs of this server? Times without a zone: \
                     --zone {name}=ZONE, --mapping-zone ZONE"
                )
            })
            .collect()
    }

    /// Returns warnings about the inputs, for reports of any style.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unknown_clocks();
        let fault = |origin: &InputOrigin, fault: &std::io::Error, lines: u64| {
            let what = if fault.kind() == std::io::ErrorKind::UnexpectedEof {
                "is cut off".to_owned()
            } else {
                format!("cannot be read further: {fault}")
            };
            format!("{origin} {what}; the {lines} lines before are used")
        };
        for (origin, end) in &self.tally.mapping_logs {
            let name = origin.to_string();
            if !self.misfits.iter().any(|misfit| misfit.is_of_mapping_log(&name)) {
                warnings.extend(end.complaints.iter().cloned());
                let more = end.damaged - end.complaints.len() as u64;
                if more > 0 {
                    warnings.push(format!("{origin}: {more} more damaged lines"));
                }
            }
            warnings.extend(end.unnamed.iter().map(|name| {
                format!(
                    "{origin}: no address is known for the server {name}: say --server {name}=ADDR"
                )
            }));
            warnings.extend(end.fault.as_ref().map(|error| fault(origin, error, end.lines)));
        }
        warnings.extend(self.idle_options());
        for (_, origin, end) in &self.tally.logs {
            if self.config.debug {
                warnings.extend(end.complaints.iter().cloned());
            }
            warnings.extend(end.fault.as_ref().map(|error| fault(origin, error, end.lines)));
        }
        warnings.extend(self.misfits.iter().map(SaidMisfit::warning));
        warnings
    }

    /// Returns a warning for each option `--server` that no line needed.
    fn idle_options(&self) -> Vec<String> {
        let logs = &self.tally.mapping_logs;
        idle_options(self.config, |place| logs.iter().any(|(_, end)| end.options.contains(&place)))
    }

    fn lines(&self) -> AccessTotals {
        let mut sum = AccessTotals::default();
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

    fn mappings(&self) -> MappingTotals {
        let mut sum = MappingTotals::default();
        for (_, end) in &self.tally.mapping_logs {
            sum.read += end.lines;
            sum.damaged += end.damaged;
            sum.elsewhere += end.elsewhere;
            sum.without_request += end.without_request;
            sum.events += end.events;
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

    /// Returns advice that would make the join exact, where possible.
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

    /// Returns the counters of lines that needed something special.
    fn line_counters(&self) -> [ReportCounter; 6] {
        let lines = self.lines();
        let set_right = lines.moved - lines.late;
        [
            ReportCounter::new("without_time", lines.without_time)
                .said("lines without a time: placed after the line before"),
            ReportCounter::new("pieces", lines.pieces).said("lines pieces of lines above 1 MiB"),
            ReportCounter::new("set_right", set_right).said("lines out of order, set right"),
            ReportCounter::new("left_out_of_order", lines.late)
                .said("lines too far out of order, left in place"),
            ReportCounter::new("decided_early", self.tally.counts.decided_early)
                .said("lines decided early to bound memory"),
            ReportCounter::new("with_peer_port", lines.with_port),
        ]
    }

    /// Returns the counters of what became of each mapping.
    fn mapping_counters(&self) -> [ReportCounter; 7] {
        let (mappings, counts) = (self.mappings(), &self.tally.counts);
        let unused =
            counts.mappings.saturating_sub(counts.used) + self.tally.later + self.tally.expired;
        [
            ReportCounter::new("used", counts.used).said("explained a line"),
            ReportCounter::new("unused", unused).said("explained none"),
            ReportCounter::new("elsewhere", mappings.elsewhere)
                .said("of servers without a log here"),
            ReportCounter::new("of_connections", mappings.events)
                .said("of connections and responses"),
            ReportCounter::new("without_request", mappings.without_request)
                .said("without a request"),
            ReportCounter::new("damaged", mappings.damaged).said("damaged"),
            ReportCounter::new("evicted", counts.evicted).said("forgotten to bound memory"),
        ]
    }
}

/// A counter of the report.
struct ReportCounter {
    /// The member in JSON.
    key: &'static str,
    count: u64,
    /// The words behind the number in text, where a count of 0 is left out; `None`: only in JSON.
    text: Option<&'static str>,
}

impl ReportCounter {
    const fn new(key: &'static str, count: u64) -> Self {
        Self { key, count, text: None }
    }

    /// Adds the words of the text report.
    const fn said(self, text: &'static str) -> Self {
        Self { text: Some(text), ..self }
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        match self.text {
            Some(text) if self.count > 0 => writeln!(out, "  {} {text}", self.count),
            _ => Ok(()),
        }
    }
}

/// Returns a time in UTC, as `2026-11-22T20:23:20Z`.
pub(crate) fn utc(time: Timestamp) -> String {
    let seconds = time.as_micros().div_euclid(1_000_000);
    DateTime::from_timestamp(seconds, 0).map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
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

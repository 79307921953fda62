//! Finds the cause when most lines of a server find no mapping: a pure function of counts and samples.
//!
//! A cause is named only with evidence of its own. Lines that nobody can join are no misfit: direct visitors, health
//! checks of the balancer, other lines in the same file.

use pen_records::misfit::is_misfit;

use super::causes::{Misfit, MisfitCause};
use super::facts::{MappingLogFacts, ServerFacts, SurveyFacts, TimeSpan, ZoneShift};
use super::kinds::LogKind;

/// Fewest lines that show a misfit by finding nothing.
const FEW: u64 = 3;
/// Fewest lines that show a misfit without a cause.
const UNEXPLAINED: u64 = 20;
/// Divisor of lines: with that many without a client it is worth a look whether mappings name a server without a log.
const SOME: u64 = 20;
/// Microseconds between two spans that do not overlap.
const GAP: i64 = 60 * 1_000_000;

/// The lines of a server, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerCounts {
    pub(crate) lines: u64,
    /// Lines that came past the balancer and name their client.
    pub(crate) direct: u64,
    pub(crate) not_understood: u64,
    /// Lines that got a client.
    pub(crate) found: u64,
    /// Those whose client is certain or exact.
    pub(crate) sure: u64,
}

impl ServerCounts {
    /// Lines that could have found a mapping.
    fn asked(self) -> u64 {
        self.lines.saturating_sub(self.direct).saturating_sub(self.not_understood)
    }

    /// The share of lines with a client, among the lines that could have any.
    #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
    fn found_share(self) -> f64 {
        self.found as f64 / self.asked().max(1) as f64
    }

    /// Returns whether most lines found no client.
    pub(crate) fn is_lost(self) -> bool {
        is_misfit(self.lines.saturating_sub(self.direct), self.found)
    }

    /// Returns whether so many lines found no client that those may have come by an address that has no log.
    pub(crate) fn lacks_some(self) -> bool {
        self.asked().saturating_sub(self.found) * SOME >= self.asked().max(1)
    }

    /// Returns whether a closer look is worthwhile.
    pub(crate) fn is_suspect(self) -> bool {
        is_misfit(self.lines.saturating_sub(self.direct), self.sure)
    }
}

/// Returns the misfits. Servers with the same cause are in one.
pub(crate) fn diagnose(facts: &SurveyFacts, counts: &[ServerCounts]) -> Vec<Misfit> {
    let mixed_up: Vec<_> = facts
        .exact
        .mixed_up()
        .into_iter()
        .filter(|&(log, _)| counts.get(log).is_some_and(|counts| counts.is_suspect()))
        .collect();
    let mut misfits: Vec<Misfit> = Vec::new();
    let mut add = |server: &ServerFacts, counts: ServerCounts, cause| {
        let lines = counts.lines.saturating_sub(counts.direct);
        let lost = lines.saturating_sub(counts.found);
        match misfits.iter_mut().find(|misfit| misfit.cause == cause) {
            Some(misfit) => {
                misfit.servers.push(server.label.clone());
                misfit.lines += lines;
                misfit.lost += lost;
            }
            None => {
                misfits.push(Misfit { servers: vec![server.label.clone()], lines, lost, cause });
            }
        }
    };
    let case = MisfitCase { facts, mixed_up: &mixed_up };
    for (index, (server, &counts)) in facts.servers.iter().zip(counts).enumerate() {
        if let Some(cause) = case.cause(index, server, counts) {
            add(server, counts, cause);
        }
    }
    misfits
}

struct MisfitCase<'a> {
    facts: &'a SurveyFacts,
    /// Logs and the servers that they fit better.
    mixed_up: &'a [(usize, usize)],
}

impl MisfitCase<'_> {
    fn cause(
        &self,
        index: usize,
        server: &ServerFacts,
        counts: ServerCounts,
    ) -> Option<MisfitCause> {
        if is_other_text(server, counts) {
            return Some(MisfitCause::NotUnderstood {
                bad: server.not_understood.clone(),
                has_format: server.has_format,
                as_detected: server.as_detected * 2 > server.looked - server.understood,
                exchanged: self.access_log_as_mappings(),
            });
        }
        if let Some(cause) = self.mixed_up(index, server) {
            return Some(cause);
        }
        if let Some(cause) = self.other_address(index, server) {
            return Some(cause);
        }
        let asked = counts.asked();
        if !is_misfit(asked, counts.found) {
            return None;
        }
        if server.understood > 0 && server.span.is_none() {
            return Some(MisfitCause::NoTimes);
        }
        if server.without_request * 2 > server.understood && !server.ports.agree() {
            return Some(MisfitCause::NoRequests);
        }
        if let Some(cause) = self.mapping_log(asked) {
            return Some(cause);
        }
        if server.clients.are_visitors() {
            return None;
        }
        if let Some(cause) = self.no_overlap(server).filter(|_| asked >= FEW) {
            return Some(cause);
        }
        if let Some(cause) = self.changed(index, server) {
            return Some(cause);
        }
        if self.are_checks(index) || self.facts.exact.fits_of_one_sender(index) {
            return None;
        }
        self.not_named(index, server, asked)
            .or_else(|| self.other_port(server))
            .or_else(|| self.bare_mappings(server))
            .or_else(|| self.partial_overlap(server).filter(|_| asked >= UNEXPLAINED))
            .or_else(|| {
                let is_other = server.clients.has_one_with_share(counts.found_share());
                (asked >= UNEXPLAINED && !is_other).then_some(MisfitCause::Unexplained)
            })
    }

    /// Whether another address, without a log here, has the mappings of the lines that find none.
    fn other_address(&self, index: usize, server: &ServerFacts) -> Option<MisfitCause> {
        let number = self.facts.exact.other_address(index).filter(|_| server.is_named)?;
        let other = self.facts.others.get(number.checked_sub(self.facts.servers.len())?)?;
        (!other.is_alias).then(|| MisfitCause::OtherAddress { address: other.name.clone() })
    }

    /// The name of a server by its number in the samples.
    fn name(&self, number: usize) -> Option<String> {
        let given = self.facts.servers.get(number).map(|server| server.label.clone());
        given.or_else(|| {
            let other = number.checked_sub(self.facts.servers.len())?;
            self.facts.others.get(other).map(|other| other.name.clone())
        })
    }

    fn mixed_up(&self, index: usize, server: &ServerFacts) -> Option<MisfitCause> {
        if !server.is_named || !self.mixed_up.iter().any(|&(log, _)| log == index) {
            return None;
        }
        let pairs = self
            .mixed_up
            .iter()
            .filter(|&&(log, _)| self.facts.servers.get(log).is_some_and(|server| server.is_named));
        let has_several_files =
            pairs.clone().any(|&(log, _)| self.facts.servers[log].formats.len() > 1);
        let logs = pairs.filter_map(|&(log, server)| Some((self.name(log)?, self.name(server)?)));
        Some(MisfitCause::MixedUp { logs: logs.collect(), has_several_files })
    }

    /// Whether the mapping logs are mapping logs, with lines in them.
    fn mapping_log(&self, asked: u64) -> Option<MisfitCause> {
        let logs = &self.facts.mapping_logs;
        if let Some(log) = logs.iter().find(|log| is_misfit(log.looked, log.understood)) {
            return Some(MisfitCause::NoMappingLog {
                log: log.name.clone(),
                kind: log.not_understood.as_ref().map_or(LogKind::Unknown, |bad| bad.kind),
                bad: log.not_understood.clone(),
            });
        }
        let is_empty = logs.iter().all(|log| log.looked == 0);
        (is_empty && asked >= FEW).then(|| MisfitCause::NoMappings {
            logs: logs.iter().map(|log| log.name.clone()).collect(),
        })
    }

    /// Whether most mappings lack what lines are found by.
    fn bare_mappings(&self, server: &ServerFacts) -> Option<MisfitCause> {
        let logs = &self.facts.mapping_logs;
        let name = |log: &MappingLogFacts| log.name.clone();
        let is_most = |count: u64, log: &MappingLogFacts| count * 2 > log.understood;
        if let Some(log) = logs.iter().find(|log| is_most(log.without_time, log)) {
            return Some(MisfitCause::MappingsWithoutTime { log: name(log) });
        }
        let log = logs.iter().find(|log| is_most(log.without_request, log))?;
        (!server.ports.agree()).then(|| MisfitCause::MappingsWithoutRequest { log: name(log) })
    }

    fn access_log_as_mappings(&self) -> Option<String> {
        let mut logs = self.facts.mapping_logs.iter();
        logs.find(|log| log.kind == LogKind::Access).map(|log| log.name.clone())
    }

    fn mapping_span(&self) -> Option<TimeSpan> {
        let spans = self.facts.mapping_logs.iter().map(|log| log.span);
        spans.fold(None, TimeSpan::joined)
    }

    fn no_overlap(&self, server: &ServerFacts) -> Option<MisfitCause> {
        let (lines, mappings) = (server.span?, self.mapping_span()?);
        let are_local = self.facts.mapping_logs.iter().any(|log| log.kind != LogKind::Mappings);
        let zone = ZoneShift::new(lines, mappings, are_local);
        (lines.gap(mappings) > GAP).then_some(MisfitCause::NoOverlap { lines, mappings, zone })
    }

    fn partial_overlap(&self, server: &ServerFacts) -> Option<MisfitCause> {
        let (lines, mappings) = (server.span?, self.mapping_span()?);
        (lines.covered_by(mappings) < 0.5)
            .then_some(MisfitCause::PartialOverlap { lines, mappings })
    }

    /// Whether the requests are there, but for protocol, scheme or host.
    fn changed(&self, index: usize, server: &ServerFacts) -> Option<MisfitCause> {
        let (exact, loose) =
            (self.facts.exact.fit(index, index), self.facts.loose.fit(index, index));
        let pair = server.changed.clone()?;
        (loose.near * 2 > loose.lines && exact.near * 4 < loose.near)
            .then_some(MisfitCause::Changed(pair))
    }

    /// Whether the lines without a mapping are a few requests again and again, and the others fit.
    fn are_checks(&self, index: usize) -> bool {
        let checks = self.facts.exact.repeated_elsewhere(index);
        let fit = self.facts.exact.fit(index, index);
        let others = fit.lines - checks;
        checks > 0 && (u64::from(others) < FEW || !is_misfit(others.into(), fit.near.into()))
    }

    fn not_named(&self, index: usize, server: &ServerFacts, asked: u64) -> Option<MisfitCause> {
        if server.is_named {
            return None;
        }
        let others = &self.facts.others;
        let names: Vec<_> =
            others.iter().filter(|it| it.is_alias).map(|it| it.name.clone()).collect();
        let given = self.facts.servers.iter().filter(|server| server.is_named);
        let mut named: Vec<_> = given.map(|server| server.label.clone()).collect();
        named.extend(others.iter().filter(|it| !it.is_alias).map(|it| it.name.clone()));
        named.sort();
        if named.is_empty() {
            return (!names.is_empty()).then_some(MisfitCause::Unnamed { names });
        }
        let fits = self.fits(index).and_then(|number| self.name(number));
        (asked >= FEW || fits.is_some()).then_some(MisfitCause::UnknownServer { named, fits })
    }

    /// The server without a log here among whose mappings most lines of a log are.
    fn fits(&self, index: usize) -> Option<usize> {
        let given = self.facts.servers.len();
        let fit = |number: usize| self.facts.exact.fit(index, number);
        let best =
            (given..given + self.facts.others.len()).max_by_key(|&number| fit(number).near)?;
        let fit = fit(best);
        (fit.near > 0 && !is_misfit(fit.lines.into(), fit.near.into())).then_some(best)
    }

    fn other_port(&self, server: &ServerFacts) -> Option<MisfitCause> {
        let ports = &server.other_ports;
        (!ports.is_empty())
            .then(|| MisfitCause::OtherPort { ports: ports.iter().copied().collect() })
    }
}

/// Returns whether most lines of a server are not understood, though they should be. Lines of another kind between
/// access lines that fit are no misfit: an application may write into the same file.
fn is_other_text(server: &ServerFacts, counts: ServerCounts) -> bool {
    if !is_misfit(counts.lines, counts.lines - counts.not_understood.min(counts.lines)) {
        return false;
    }
    let asked = counts.asked();
    let fits = asked >= FEW && !is_misfit(asked, counts.found);
    let bad = server.looked - server.understood;
    let have_requests = bad > 0 && is_misfit(bad, bad - server.with_request.min(bad));
    !fits || have_requests
}

#[cfg(test)]
mod tests;

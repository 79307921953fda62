//! Which Host headers the lines of a server may belong to: by the name in the line, or by the log that the line is in.
//!
//! Lines name their virtual host in their own way, or not at all. Where a line's name is the Host of some record,
//! and the Host of another record is the name in some line, the two are different hosts. Beyond that, certain pairs
//! show which Hosts the requests of a log, or of a name, have.

use std::collections::{HashMap, HashSet};

use crate::attribution::costs;
use crate::attribution::line::HeldLine;

/// The Hosts of a server's records, and what lines call them.
#[derive(Default)]
pub(crate) struct ServerHosts {
    /// The Host of the last record.
    last: u32,
    /// Hosts of records.
    records: HashSet<u32>,
    /// Names in lines.
    names: HashSet<u32>,
    /// Certain pairs of a Host and a label, and those of a Host, and of a label.
    pairs: HashMap<(u32, u64), u32>,
    of_host: HashMap<u32, u32>,
    of_label: HashMap<u64, u32>,
}

impl ServerHosts {
    /// Takes the Host of a record; 0 if unknown.
    pub(crate) fn take_record(&mut self, host: u32) {
        if host != self.last && host != 0 {
            self.last = host;
            if self.records.len() < costs::HOSTS {
                self.records.insert(host);
            }
        }
    }

    /// Takes the names of a line.
    pub(crate) fn take_line(&mut self, line: &HeldLine) {
        if self.names.len() < costs::HOSTS {
            self.names.extend(names(line));
        }
    }

    /// Whether records have different Hosts.
    pub(crate) fn is_any(&self) -> bool {
        self.records.len() > 1
    }

    /// Learns from a line and the record that is surely its own.
    pub(crate) fn learn(&mut self, host: u32, line: &HeldLine) {
        if !self.is_any() || host == 0 {
            return;
        }
        if self.pairs.len() >= costs::HOSTS * 4 {
            self.pairs.clear();
            self.of_host.clear();
            self.of_label.clear();
        }
        let label = label(line);
        *self.pairs.entry((host, label)).or_default() += 1;
        *self.of_host.entry(host).or_default() += 1;
        *self.of_label.entry(label).or_default() += 1;
    }

    /// Whether a record with this Host is of another virtual host than the line.
    pub(crate) fn differs(&self, host: u32, line: &HeldLine) -> bool {
        if !self.is_any() || host == 0 || names(line).any(|name| name == host) {
            return false;
        }
        if self.names.contains(&host) && names(line).any(|name| self.records.contains(&name)) {
            return true;
        }
        let label = label(line);
        let of = |pairs: Option<&u32>| pairs.copied().unwrap_or(0);
        let both = of(self.pairs.get(&(host, label)));
        let least = of(self.of_host.get(&host)).min(of(self.of_label.get(&label)));
        least >= costs::HOST_KNOWN_AFTER && both * costs::HOST_PAIRS_RARE <= least
    }
}

/// Returns the hashes of the names that a line may call its host by.
fn names(line: &HeldLine) -> impl Iterator<Item = u32> {
    line.host.into_iter().chain(line.host_alone).map(u32::from)
}

/// Returns what lines of one virtual host have in common: the name, or else the log.
fn label(line: &HeldLine) -> u64 {
    let log = u64::from(line.origin.0) | 1 << 32;
    line.host.map_or(log, |host| u32::from(host).into())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::attribution::line::{LineOrigin, LoggedLine, ServerIndex};
    use crate::time::{Resolution, Timestamp};

    fn line(origin: u32, host: u32, alone: u32) -> HeldLine {
        let time = (Timestamp::from_seconds(1), Resolution::Second);
        let line = HeldLine::new(&LoggedLine::unread(ServerIndex(0), time));
        let (host, host_alone) = (NonZeroU32::new(host), NonZeroU32::new(alone));
        HeldLine { origin: LineOrigin(origin), host, host_alone, ..line }
    }

    #[test]
    fn hosts_that_lines_and_records_name_are_told_apart_at_once() {
        let mut hosts = ServerHosts::default();
        [1, 2, 3].into_iter().for_each(|host| hosts.take_record(host));
        // Lines of hosts 1 and 2, with the port behind the name.
        [(101, 1), (102, 2)].into_iter().for_each(|(a, b)| hosts.take_line(&line(0, a, b)));
        assert!(hosts.differs(2, &line(0, 101, 1)));
        assert!(!hosts.differs(1, &line(0, 101, 1)));
        assert!(!hosts.differs(3, &line(0, 101, 1)), "perhaps another name of host 1");
        assert!(!hosts.differs(2, &line(0, 105, 5)), "perhaps another name of host 2");
        assert!(!hosts.differs(0, &line(0, 101, 1)));
    }

    #[test]
    fn certain_pairs_show_which_hosts_a_log_has() {
        let mut hosts = ServerHosts::default();
        [1, 2, 3, 4].into_iter().for_each(|host| hosts.take_record(host));
        for _ in 0..costs::HOST_KNOWN_AFTER {
            // Host 3 is in both logs.
            [(1, 1), (2, 2), (3, 1), (3, 2)]
                .into_iter()
                .for_each(|(host, log)| hosts.learn(host, &line(log, 0, 0)));
        }
        assert!(hosts.differs(1, &line(2, 0, 0)));
        assert!(hosts.differs(2, &line(1, 0, 0)));
        for (host, log) in [(1, 1), (2, 2), (3, 1), (3, 2), (4, 1), (1, 3)] {
            assert!(!hosts.differs(host, &line(log, 0, 0)), "{host} {log}");
        }
    }

    #[test]
    fn one_host_is_not_compared_and_many_are_bounded() {
        let mut hosts = ServerHosts::default();
        (0..100).for_each(|_| hosts.take_record(1));
        (0..100).for_each(|_| hosts.learn(1, &line(1, 0, 0)));
        assert!(!hosts.is_any() && hosts.pairs.is_empty());
        for host in 1..100_000 {
            hosts.take_record(host);
            hosts.take_line(&line(0, host, 0));
            hosts.learn(host, &line(host % 7, 0, 0));
        }
        assert!(hosts.records.len() <= costs::HOSTS && hosts.names.len() <= costs::HOSTS + 1);
        assert!(hosts.pairs.len() <= 4 * costs::HOSTS);
    }
}

//! Which server's mappings a log's requests are among.
//!
//! A log that was given to the right server has nearly all of its requests among the mappings of that
//! server, at about the same time. Common requests are among those of other servers, too, by chance. The
//! requests that are near mappings of only one of two servers tell which of the two the log is of.

use std::collections::HashMap;

use crate::request::Fingerprint;
use crate::time::Timestamp;

/// Lines sampled of each log.
const LINES: usize = 2_000;
/// Servers that are compared. Further servers are ignored.
const SERVERS: usize = 128;
/// A line is near a mapping that is this much earlier or later at most, in microseconds: clocks differ a
/// little, and most requests take less than a few seconds.
const EARLIER: i64 = 5_000_000;
const LATER: i64 = 2_000_000;
/// Fewest requests that tell two servers apart.
const TELLING: u32 = 3;
/// How many times more requests have to tell for one server than for the other.
const CLEAR: u32 = 4;

/// A sample of requests of access logs, compared with mappings of servers. Logs and servers are numbered alike:
/// log 0 was given as that of server 0. Servers with greater numbers have no log here.
#[derive(Clone, Debug, Default)]
pub struct FitSample {
    lines: Vec<SampledRequest>,
    by_request: HashMap<Fingerprint, Vec<u32>>,
    /// Lines of each log.
    logs: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct SampledRequest {
    log: usize,
    /// The client in the line: a balancer's address, or that of another host.
    sender: u32,
    time: Timestamp,
    request: Fingerprint,
    /// Servers with a mapping of this request near the time.
    near: ServerSet,
    /// Servers with a mapping of this request at any time.
    ever: ServerSet,
}

/// A set of numbers below [`SERVERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ServerSet(u128);

impl ServerSet {
    const fn add(&mut self, server: usize) {
        self.0 |= 1 << server;
    }

    const fn has(self, server: usize) -> bool {
        server < SERVERS && self.0 & (1 << server) != 0
    }
}

/// How many requests of a log are among the mappings of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFit {
    /// Requests sampled of the log.
    pub lines: u32,
    /// Those with a mapping at about the same time.
    pub near: u32,
    /// Those with a mapping at any time.
    pub ever: u32,
}

impl FitSample {
    /// Returns whether the sample of a log is complete.
    #[must_use]
    pub fn is_full(&self, log: usize) -> bool {
        self.logs.get(log).is_some_and(|&lines| lines as usize >= LINES)
    }

    /// Adds a request that a server logged. `time` is by the balancer's clock. All lines are added before the first
    /// mapping.
    pub fn line(&mut self, log: usize, request: Fingerprint, time: Timestamp) {
        self.line_from(log, 0, request, time);
    }

    /// As [`Self::line`], with a hash of the client in the line.
    pub fn line_from(&mut self, log: usize, sender: u32, request: Fingerprint, time: Timestamp) {
        if self.is_full(log) {
            return;
        }
        let Ok(index) = u32::try_from(self.lines.len()) else { return };
        let (near, ever) = (ServerSet::default(), ServerSet::default());
        self.lines.push(SampledRequest { log, sender, time, request, near, ever });
        self.by_request.entry(request).or_default().push(index);
        if self.logs.len() <= log {
            self.logs.resize(log + 1, 0);
        }
        self.logs[log] += 1;
    }

    /// Adds a mapping: at `time` a client asked `server` for this request.
    pub fn mapping(&mut self, server: usize, request: Fingerprint, time: Timestamp) {
        if server >= SERVERS {
            return;
        }
        for &index in self.by_request.get(&request).into_iter().flatten() {
            let line = &mut self.lines[index as usize];
            line.ever.add(server);
            if (-LATER..=EARLIER).contains(&line.time.micros_since(time)) {
                line.near.add(server);
            }
        }
    }

    fn of(&self, log: usize) -> impl Iterator<Item = &SampledRequest> {
        self.lines.iter().filter(move |line| line.log == log)
    }

    /// Returns how well a log fits the mappings of a server.
    #[must_use]
    pub fn fit(&self, log: usize, server: usize) -> RequestFit {
        let mut fit = RequestFit::default();
        for line in self.of(log) {
            fit.lines += 1;
            fit.near += u32::from(line.near.has(server));
            fit.ever += u32::from(line.ever.has(server));
        }
        fit
    }

    /// Returns the share of a log's requests that is among no mappings at all, and that consists of a few requests
    /// again and again, as health checks are: the number of such lines.
    #[must_use]
    pub fn repeated_elsewhere(&self, log: usize) -> u32 {
        let mut counts: HashMap<Fingerprint, u32> = HashMap::new();
        for line in self.of(log).filter(|line| line.ever == ServerSet::default()) {
            *counts.entry(line.request).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_values().filter(|&count| count >= REPEATED).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.into_iter().take(CHECKS).sum()
    }

    /// Returns whether the lines of one sender fit the mappings of a log's server, and those of others do not: the others
    /// are hosts that do not ask through this balancer.
    #[must_use]
    pub fn fits_of_one_sender(&self, log: usize) -> bool {
        let mut senders: HashMap<u32, (u32, u32)> = HashMap::new();
        for line in self.of(log) {
            let (lines, near) = senders.entry(line.sender).or_default();
            *lines += 1;
            *near += u32::from(line.near.has(log));
        }
        // Common requests of others are near some mapping by chance.
        let missed = |(lines, near): (u32, u32)| f64::from(lines - near) / f64::from(lines.max(1));
        let known = senders.values().copied().filter(|&(lines, _)| lines >= SENT);
        let Some(best) = known.min_by(|&a, &b| missed(a).total_cmp(&missed(b))) else {
            return false;
        };
        let all = senders.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        let others = (all.0 - best.0, all.1 - best.1);
        missed(best) < 0.25 && missed(others) > 3.0 * missed(best) + 0.05
    }

    /// Returns each log that fits the mappings of another server better, and this server. For a server that has a log
    /// here, that log has to fit another server better, too; then logs were mixed up. Else the mappings of one server
    /// may only be incomplete.
    #[must_use]
    pub fn mixed_up(&self) -> Vec<(usize, usize)> {
        let better = |log| self.better(log).map(|server| (log, server));
        let mut found: Vec<_> = (0..self.logs.len()).filter_map(better).collect();
        loop {
            let known = found.clone();
            found.retain(|&(_, server)| {
                self.logs.get(server).is_none_or(|&lines| lines == 0)
                    || known.iter().any(|&(log, _)| log == server)
            });
            if found.len() == known.len() {
                return found;
            }
        }
    }

    /// Returns the server without a log here that has the mappings that a log's own server lacks: the same server by another
    /// address. Common requests are among its mappings by chance; the lines that find their mappings tell how many.
    #[must_use]
    pub fn other_address(&self, log: usize) -> Option<usize> {
        let has_log = |server: usize| self.logs.get(server).is_some_and(|&lines| lines > 0);
        let (found, lost): (Vec<_>, Vec<_>) = self.of(log).partition(|line| line.near.has(log));
        if lost.len() < MISSED || lost.len() * MISSED_PART < found.len() + lost.len() {
            return None;
        }
        let share = |lines: &[&SampledRequest], server: usize| {
            let near = lines.iter().filter(|line| line.near.has(server)).count();
            near as f64 / lines.len().max(1) as f64
        };
        let others = (0..SERVERS).filter(|&server| server != log && !has_log(server));
        let best = others.max_by(|&a, &b| share(&lost, a).total_cmp(&share(&lost, b)))?;
        let (of_lost, by_chance) = (share(&lost, best), share(&found, best));
        (of_lost > 0.75 && 1.0 - of_lost < (1.0 - by_chance) / 4.0).then_some(best)
    }

    /// Returns the server whose mappings a log fits best, unless its own do.
    fn better(&self, log: usize) -> Option<usize> {
        let best = (0..SERVERS).rev().max_by_key(|&server| self.fit(log, server).near)?;
        let fit = self.fit(log, best);
        let only = |one, other| {
            let lines = self.of(log).filter(|line| line.near.has(one) && !line.near.has(other));
            u32::try_from(lines.count()).unwrap_or(u32::MAX)
        };
        let (other, own) = (only(best, log), only(log, best));
        // A server without a log here is compared by nothing but this log.
        let is_given = self.logs.get(best).is_some_and(|&lines| lines > 0);
        let enough =
            if is_given { fit.near * 2 >= fit.lines } else { fit.near * 10 >= fit.lines * 9 };
        (best != log && enough && other >= TELLING && other >= CLEAR * own).then_some(best)
    }
}

/// Fewest lines without a mapping, and the least part of a log's lines, that show another address.
const MISSED: usize = 10;
const MISSED_PART: usize = 20;
/// Different requests that health checks consist of at most.
const CHECKS: usize = 3;
/// Fewest lines by which a balancer is known.
const SENT: u32 = 10;
/// How often a request of health checks is in the sample at least.
const REPEATED: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Cut;

    fn request(text: &str) -> Fingerprint {
        Fingerprint::of_raw(text.as_bytes(), Cut::Short).expect("a request")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + seconds)
    }

    /// Requests of servers, whose logs are given to the servers that `given` says. Every other request is one that all
    /// servers get all the time.
    fn sample(servers: usize, given: &[usize]) -> FitSample {
        let mut sample = FitSample::default();
        let name = |server: usize, n: i64| match n % 2 {
            0 => request("GET / HTTP/1.1"),
            _ => request(&format!("GET /{server}/{n} HTTP/1.1")),
        };
        for (log, &server) in given.iter().enumerate() {
            (0..100).for_each(|n| sample.line(log, name(server, n), at(n)));
        }
        for server in 0..servers {
            (0..100).for_each(|n| sample.mapping(server, name(server, n), at(n)));
        }
        sample
    }

    #[test]
    fn logs_of_the_right_servers_are_not_mixed_up() {
        let sample = sample(3, &[0, 1, 2]);
        assert_eq!(sample.mixed_up(), []);
        assert_eq!(sample.fit(0, 0), RequestFit { lines: 100, near: 100, ever: 100 });
        assert_eq!(sample.fit(0, 1), RequestFit { lines: 100, near: 50, ever: 50 });
        assert_eq!(sample.fit(0, 7), RequestFit { lines: 100, near: 0, ever: 0 });
    }

    #[test]
    fn swapped_logs_fit_each_others_mappings() {
        assert_eq!(sample(3, &[1, 0, 2]).mixed_up(), [(0, 1), (1, 0)]);
        assert_eq!(sample(3, &[1, 2, 0]).mixed_up(), [(0, 1), (1, 2), (2, 0)]);
    }

    #[test]
    fn a_log_of_a_server_that_has_none_here_fits_its_mappings() {
        assert_eq!(sample(3, &[0, 2]).mixed_up(), [(1, 2)]);
        assert_eq!(sample(3, &[1]).mixed_up(), [(0, 1)]);
    }

    #[test]
    fn a_server_by_two_addresses_is_known_by_the_mappings_that_one_of_them_lacks() {
        let asked = |n: i64| request(&format!("GET /{} HTTP/1.1", if n % 3 == 0 { 0 } else { n }));
        let site = |given: usize, server: fn(i64) -> usize| {
            let mut sample = FitSample::default();
            (0..given).for_each(|log| (0..200).for_each(|n| sample.line(log, asked(n), at(n))));
            (0..200).for_each(|n| sample.mapping(server(n), asked(n), at(n)));
            sample.other_address(0)
        };
        assert_eq!(site(1, |n| if n % 2 == 0 { 0 } else { 1 }), Some(1));
        assert_eq!(
            site(1, |n| if n % 10 == 1 { 1 } else { 0 }),
            Some(1),
            "few by the other address"
        );
        assert_eq!(site(2, |n| if n % 2 == 0 { 0 } else { 1 }), None, "it has a log");
        assert_eq!(site(1, |_| 0), None);
        assert_eq!(
            site(1, |n| if n % 3 == 0 { 1 } else { 5 }),
            None,
            "of a third server and of none"
        );
    }

    #[test]
    fn lost_mappings_of_one_server_mix_nothing_up() {
        let mut sample = FitSample::default();
        for n in 0..100 {
            let common = request(&format!("GET /{} HTTP/1.1", n % 5));
            sample.line(0, common, at(n));
            sample.line(1, common, at(n));
            sample.mapping(1, common, at(n));
        }
        assert_eq!(sample.fit(0, 0).near, 0);
        assert_eq!(sample.mixed_up(), []);
    }

    #[test]
    fn the_time_counts() {
        let mut sample = FitSample::default();
        sample.line(0, request("GET /a HTTP/1.1"), at(0));
        sample.mapping(0, request("GET /a HTTP/1.1"), at(-600));
        assert_eq!(sample.fit(0, 0), RequestFit { lines: 1, near: 0, ever: 1 });
        sample.mapping(0, request("GET /a HTTP/1.1"), at(-4));
        assert_eq!(sample.fit(0, 0).near, 1);
    }

    #[test]
    fn another_balancer_is_another_sender() {
        let mut sample = FitSample::default();
        let asked = |n: i64| request(&format!("GET /{n} HTTP/1.1"));
        for n in 0..90 {
            sample.line_from(0, u32::from(n % 3 == 0), asked(n), at(n));
        }
        (0..90).step_by(3).for_each(|n| sample.mapping(0, asked(n), at(n)));
        assert!(sample.fits_of_one_sender(0));
        (0..90).for_each(|n| sample.mapping(0, asked(n), at(n)));
        assert!(!sample.fits_of_one_sender(0), "both");
        assert!(!FitSample::default().fits_of_one_sender(0));
    }

    #[test]
    fn checks_are_few_requests_again_and_again() {
        let mut sample = FitSample::default();
        for n in 0..90 {
            sample.line(0, request("GET /health HTTP/1.0"), at(n));
        }
        for n in 0..10 {
            sample.line(0, request(&format!("GET /{n} HTTP/1.1")), at(n));
        }
        assert_eq!(sample.repeated_elsewhere(0), 90);
        sample.mapping(1, request("GET /health HTTP/1.0"), at(0));
        assert_eq!(sample.repeated_elsewhere(0), 0);
    }
}

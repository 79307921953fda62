//! The look for misfits in what came since the last look.

use std::collections::HashMap;
use std::net::IpAddr;

use pen_records::attribution::ServerIndex;
use pen_records::mapping::third_party_log::ThirdPartyReader;
use pen_records::misfit::{ServerList, is_misfit};
use pen_records::rewrite::OutcomeCounts;
use pen_records::time::Timestamp;

use super::Collector;
use crate::misfits::{MisfitCause, NotMapped, Silent};
use crate::sources::{LineSource, UnreadLine};

/// Fewest lines of which most have to find a mapping.
const ENOUGH: u64 = 20;
/// One in so many lines of a server without a mapping: mappings of a second address may be theirs.
const LACKING_PART: u64 = 5;

impl Collector {
    /// Takes the warnings about misfits that are to be logged.
    pub fn take_remarks(&mut self) -> Vec<String> {
        self.misfits.take()
    }

    /// Compares what came since the last look with what should come.
    pub(super) fn look(&mut self, now: Timestamp) {
        let (lines, records) = (self.intake.received.lines, self.intake.records());
        let (new_lines, new_records) =
            (lines - self.misfits.lines, records - self.misfits.mappings);
        (self.misfits.lines, self.misfits.mappings) = (lines, records);
        let mapped = self.intake.sources.servers.mapped();
        let found = self.intake.fit.compare();
        let of_sources = |servers: &HashMap<ServerIndex, ServerIndex>| -> HashMap<u32, IpAddr> {
            let sources = self.intake.sources.iter().zip(0..);
            let found = sources.filter_map(|(source, number)| {
                let server = servers.get(&source.server)?;
                Some((number, mapped.iter().find(|(_, index)| index == server)?.0))
            });
            found.collect()
        };
        let fits = SourceFits {
            mixed_up: of_sources(&found.mixed_up),
            second_address: of_sources(&found.second_address),
        };
        let has_lines = |server| self.intake.sources.iter().any(|it| it.server == server);
        let silent: Vec<IpAddr> =
            mapped.iter().filter(|(_, it)| !has_lines(*it)).map(|(addr, _)| *addr).collect();
        let mapped: Vec<IpAddr> = mapped.into_iter().map(|(addr, _)| addr).collect();
        if new_records > 0 && lines == 0 {
            let what = format_args!(
                "{records} records of a balancer, and no access line of its servers: mappings name {}; do they run \
                 penlog, with this address and port?",
                ServerList(&mapped)
            );
            self.misfits.say(MisfitCause::NoLines, now, what);
        }
        if new_lines > 0 && records == 0 {
            let what = format_args!(
                "{lines} access lines, and no record of a balancer: does pen run with -l and this address and port? \
                 Another balancer's log needs --mapping-format SENDER=SPEC"
            );
            self.misfits.say(MisfitCause::NoMappings, now, what);
        }
        if self.intake.is_keyless() && new_lines > 0 {
            let what = format_args!(
                "{records} records of a balancer's connections, and none names a request or the balancer's own port, so \
                 that no line can be matched: HAProxy's log-format needs %bi:%bp in TCP mode, and option logasap; see \
                 docs/guide/behind-haproxy-and-others.md"
            );
            self.misfits.say(MisfitCause::Keyless, now, what);
        }
        let lacking = self.look_at_sources(&mapped, &silent, &fits, now);
        if lines > 0 && records > 0 {
            let silent = silent.into_iter().filter(|it| !fits.has_second(*it)).collect();
            self.look_at_silent(silent, &lacking, now);
            self.look_at_options();
        }
    }

    /// Says which senders look like balancers, as soon as they do.
    pub(super) fn say_balancers(&mut self, now: Timestamp) {
        for (balancer, server) in std::mem::take(&mut self.intake.found_balancers) {
            let sources = &mut self.intake.sources;
            let mut addr = |source| sources.get_mut(source).map(|it| it.key.addr);
            let (Some(from), Some(server)) = (addr(balancer), addr(server)) else { continue };
            let what = format_args!(
                "{from} looks like a balancer: {server} logs the same requests with another client. Lines of {from} \
                 that {server} logs, too, are left out. Say --mapping-format {from}=SPEC if its log names servers, or \
                 refuse its lines with --from lines=NET"
            );
            self.misfits.say(MisfitCause::Balancer(balancer), now, what);
        }
    }

    /// Returns the servers of which many lines find no mapping.
    fn look_at_sources(
        &mut self,
        mapped: &[IpAddr],
        silent: &[IpAddr],
        fits: &SourceFits,
        now: Timestamp,
    ) -> Vec<IpAddr> {
        let is_keyless = self.intake.is_keyless();
        let misfits = &mut self.misfits;
        let mut lacking = Vec::new();
        for index in 0..self.intake.sources.iter().len() {
            let number = u32::try_from(index).expect("sources are numbered so");
            let Some(source) = self.intake.sources.get_mut(number) else { continue };
            let new = since(&source.counts, &source.watch.before);
            source.watch.before = source.counts;
            let unread = source.watch.unread.take();
            let found = new.exact + new.certain + new.likely;
            let understood = found + new.unmatched;
            let (lines, key, server) = (understood + new.not_understood, source.key, source.server);
            let hosts = std::mem::take(&mut source.watch.hosts);
            let shippers = source.watch.shippers;
            if lines == 0 {
                continue;
            }
            if new.unmatched >= ENOUGH && new.unmatched * LACKING_PART >= understood {
                lacking.push(key.addr);
            }
            if let Some(unread) = unread.filter(|_| is_misfit(lines, understood)) {
                let what = not_understood((new.not_understood, lines), source, &unread);
                misfits.say(MisfitCause::NotUnderstood(number), now, what);
            } else if !self.intake.sources.servers.is_mapped(server) {
                if !mapped.is_empty() {
                    let fit = fits.mixed_up.get(&number).copied();
                    let what =
                        NotMapped { lines, key, hosts: &hosts, mapped, silent, fit, shippers };
                    misfits.say(MisfitCause::NotMapped(number), now, what);
                }
            } else if let Some(fit) = fits.mixed_up.get(&number) {
                let what = format_args!(
                    "the requests in the lines of {key} are those of mappings that name {fit}, and not {}: are these \
                     servers mixed up, in --server, in penlog --server, or in an address?",
                    key.addr
                );
                misfits.say(MisfitCause::MixedUp(number), now, what);
            } else if let Some(second) = fits.second_address.get(&number) {
                let (unmatched, addr) = (new.unmatched, key.addr);
                let what = format_args!(
                    "{unmatched} of {understood} lines of {key} find no mapping: they are among those of {second}, from \
                     where no line comes. If this is another address of the server, add --server {second}={addr}"
                );
                misfits.say(MisfitCause::SecondAddress(number), now, what);
            } else if understood >= ENOUGH && is_misfit(understood, found) && !is_keyless {
                let unmatched = new.unmatched;
                let port = match key.port {
                    Some(port) => format!("is {port} another port than the balancer has for it, "),
                    None => String::new(),
                };
                let what = format_args!(
                    "{unmatched} of {understood} lines of {key} find no mapping: {port}is {key} another server than \
                     the balancer calls so, or do clients reach it past the balancer?"
                );
                misfits.say(MisfitCause::Unmatched(number), now, what);
            }
        }
        lacking
    }

    /// Says once which servers send no lines: after two looks, or at once if many lines find no mapping.
    fn look_at_silent(&mut self, silent: Vec<IpAddr>, lacking: &[IpAddr], now: Timestamp) {
        let is_known = |addr: &&IpAddr| !lacking.is_empty() || self.misfits.silent.contains(addr);
        let again: Vec<_> = silent.iter().filter(is_known).copied().collect();
        let is_new = !again.is_empty() && self.misfits.said_silent != again;
        self.misfits.silent = silent;
        if is_new {
            self.misfits.say(MisfitCause::Silent, now, Silent { servers: &again, lacking });
            self.misfits.said_silent = again;
        }
    }

    /// Says once which options nothing needed so far.
    fn look_at_options(&mut self) {
        if std::mem::replace(&mut self.misfits.has_options, true) {
            return;
        }
        let sources = &self.intake.sources;
        for (place, option) in sources.known.servers.iter().enumerate() {
            if !sources.used_servers[place] && !self.third_party.has_used(place) {
                let name = &option.known_as;
                self.misfits.remark(format_args!(
                    "--server {option} had no effect so far: no line came from {name}, no envelope, shipment or \
                     mapping names it"
                ));
            }
        }
        for ((key, _), _) in
            sources.known.formats.iter().zip(&sources.used_formats).filter(|(_, used)| !**used)
        {
            self.misfits.remark(format_args!(
                "--format {key}=… had no effect so far: no line of {key} came"
            ));
        }
        for sender in self.third_party.unused_senders() {
            self.misfits.remark(format_args!(
                "--mapping-format {sender}=… had no effect so far: no line of {sender} came"
            ));
        }
    }
}

/// What the sample shows of sources, by their numbers.
struct SourceFits {
    /// Servers with the requests of the lines.
    mixed_up: HashMap<u32, IpAddr>,
    /// Servers without lines, with the mappings for these lines.
    second_address: HashMap<u32, IpAddr>,
}

impl SourceFits {
    /// Returns whether an address is a source's second.
    fn has_second(&self, addr: IpAddr) -> bool {
        self.second_address.values().any(|&second| second == addr)
    }
}

/// Returns the counts since `before`.
const fn since(now: &OutcomeCounts, before: &OutcomeCounts) -> OutcomeCounts {
    OutcomeCounts {
        exact: now.exact - before.exact,
        certain: now.certain - before.certain,
        likely: now.likely - before.likely,
        unmatched: now.unmatched - before.unmatched,
        not_understood: now.not_understood - before.not_understood,
    }
}

fn not_understood((unread, lines): (u64, u64), source: &LineSource, line: &UnreadLine) -> String {
    let UnreadLine { text, error, is_detectable } = line;
    let (key, addr) = (source.key, source.key.addr);
    let remedy = if *is_detectable {
        "leave out its --format, by which the lines are not understood".to_owned()
    } else if ThirdPartyReader::may_be_haproxys(text.as_bytes()) {
        format!("these are lines of HAProxy: say --mapping-format '{addr}=haproxy'")
    } else {
        format!(
            "say the format of its log with --format '{key}=…', as it stands in the server's configuration; if it is \
             a balancer's log, with --mapping-format '{addr}=…'"
        )
    };
    format!(
        "{unread} of {lines} lines of {key} are not understood: {error} of \"{text}\": {remedy}"
    )
}

//! The collector's core: datagrams with their arrival times in, finished lines out. No socket, no clock.
//!
//! `admission` says what a key may send, `intake` feeds the join, `look` notices what does not fit, `shipments` reads what
//! our shippers send, `watermarks` knows how far balancers have come, `write` appends decided lines to the log, `restart`
//! has what a journal needs.

mod admission;
mod intake;
mod look;
mod restart;
mod shipments;
mod watermarks;
mod write;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pen_records::access::carried;
use pen_records::attribution::{Attributor, BalancerId, JoinSettings};
use pen_records::datagram::Datagram;
use pen_records::mapping::Mapping;
use pen_records::mapping::origins::Origins;
use pen_records::mapping::packet::Packet;
use pen_records::privacy::Privacy;
use pen_records::rewrite::{LineRewriter, RewritePolicy};
use pen_records::shipment::{DiscoveryAnswer, SenderLimits, SenderTable};
use pen_records::time::Timestamp;

use self::intake::{Intake, LineArrival, RecordSender};
use self::watermarks::Watermarks;
use crate::allow::Allow;
use crate::line_numbers::{NumberRuns, NumberSet};
use crate::misfits::MisfitWatch;
use crate::pieces::{Added, Pieces};
use crate::report::{CollectorReport, ServerReport, WaitTimes};
use crate::sources::{LineSource, LineSources};
use crate::third_party::{ReaderId, ThirdPartyReaders, UnusableLine};
use crate::warnings::WarningCause;
use crate::window_share::WindowShares;

pub use crate::peer::Peer;
pub use crate::sources::{BalancerSender, LineSender, SenderSettings};
pub use pen_records::server_alias::ServerKey;

/// Settings of the collector.
#[derive(Clone, Debug, Default)]
pub struct CollectorSettings {
    /// Waiting time, window and memory limits of the join.
    pub engine: JoinSettings,
    /// Limit for bytes of held lines; beyond it the oldest are decided early.
    pub held_bytes: usize,
    /// Limit for bytes of unfinished long lines, of our shippers and likewise of other senders.
    pub unfinished_bytes: usize,
    /// Limit of servers that send lines, and likewise of servers that only mappings name.
    pub servers: usize,
    /// Policy for the client field.
    pub rewrite: RewritePolicy,
    /// Formats and addresses of servers.
    pub known: SenderSettings,
    /// Replacement of client addresses; `None`: they are written in full.
    pub privacy: Option<Privacy>,
    /// Networks that may send mappings or lines.
    pub allow: Allow,
    /// Whether explanations list the candidates.
    pub candidates: bool,
    /// Limit of shippers whose numbers are known.
    pub senders: usize,
    /// Limit of balancers whose numbers are known.
    pub balancers: usize,
    /// Bytes of shipments that may be in transit, over all shippers.
    pub window: u32,
    /// How long a line waits for a balancer that is not heard, or whose records are missing.
    pub grace: Duration,
}

/// Bounds of a datagram's arrival time: the socket was not read in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivalTime {
    /// The datagram had not arrived yet.
    pub after: Timestamp,
    /// The datagram had arrived.
    pub by: Timestamp,
}

impl From<Timestamp> for ArrivalTime {
    fn from(now: Timestamp) -> Self {
        Self { after: now, by: now }
    }
}

/// Takes datagrams, returns finished lines.
pub struct Collector {
    settings: CollectorSettings,
    rewriter: LineRewriter,
    intake: Intake,
    senders: SenderTable,
    windows: WindowShares,
    origins: Origins,
    watermarks: Watermarks,
    third_party: ThirdPartyReaders,
    pieces: Pieces,
    queue: WaitTimes,
    misfits: MisfitWatch,
    /// Whether the last datagram brought records or lines.
    has_taken: bool,
    /// The decided lines, if a journal needs their numbers.
    decided: Option<NumberRuns>,
    /// Lines that an earlier run has written.
    done: NumberSet,
    /// Whether nothing was done since a replay.
    is_resuming: bool,
}

impl Collector {
    /// Creates a collector without traffic yet.
    #[must_use]
    pub fn new(mut settings: CollectorSettings) -> Self {
        let sources = LineSources::new(settings.known.clone(), settings.servers);
        let mut intake =
            Intake::new(Attributor::new(settings.engine), sources, settings.unfinished_bytes);
        if settings.candidates {
            intake.engine.explain_all();
        }
        Self {
            rewriter: LineRewriter::new(settings.rewrite, settings.privacy.take()),
            intake,
            senders: SenderTable::new(SenderLimits {
                senders: settings.senders,
                bytes: settings.unfinished_bytes,
                ..SenderLimits::default()
            }),
            windows: WindowShares::new(settings.window, settings.senders),
            origins: Origins::new(settings.balancers),
            watermarks: Watermarks::new(settings.grace, settings.balancers),
            third_party: ThirdPartyReaders::new(&settings.known.balancers),
            pieces: Pieces::new(settings.unfinished_bytes),
            queue: WaitTimes::default(),
            misfits: MisfitWatch::default(),
            has_taken: false,
            decided: None,
            done: NumberSet::default(),
            is_resuming: false,
            settings,
        }
    }

    /// Takes a datagram that came by UDP. Returns a reply for its sender, if one is due.
    ///
    /// Shipments carry the time at which each line was read, which is after its request was mapped. So a mapping is dated by
    /// the earliest possible arrival.
    pub fn receive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        arrived: ArrivalTime,
    ) -> Option<DiscoveryAnswer> {
        self.receive_from(from.into(), datagram, arrived)
    }

    /// Takes a datagram, as [`Self::receive`], by whichever path it came.
    pub fn receive_from(
        &mut self,
        peer: Peer,
        datagram: &[u8],
        arrived: ArrivalTime,
    ) -> Option<DiscoveryAnswer> {
        let (from, now) = (peer.addr, arrived.by);
        self.has_taken = false;
        self.misfits.came(now);
        self.watermarks.touch(now);
        // Before this datagram, whenever the lines before it are decided: so their numbers depend on arrivals alone.
        self.end_overdue(now);
        self.intake.comes_from(&peer);
        self.intake.received.datagrams += 1;
        self.intake.received.bytes += datagram.len() as u64;
        if !self.pieces.is_empty() && self.add_piece(peer, datagram, now) {
            return None;
        }
        match Datagram::parse(datagram) {
            Datagram::Mapping(mapping) => self.mapping(from, &mapping, arrived),
            Datagram::Packet(packet) => self.packet(from, &packet, arrived),
            Datagram::Lines(lines) => {
                if let Some(reader) =
                    self.third_party.of_datagram(from.ip().to_canonical(), datagram)
                {
                    if !self.settings.allow.mappings_of(from.ip()) {
                        self.refuse(from, now, "a balancer's lines");
                        return None;
                    }
                    self.has_taken = true;
                    self.intake.received.mapping_datagrams += 1;
                    lines.for_each(|line| self.third_party_line(reader, line, from, arrived.after));
                    return None;
                }
                let sender = self.line_sender(from, now)?;
                self.has_taken = true;
                self.intake.received.line_datagrams += 1;
                if self.pieces.begin(peer, datagram, now) {
                    return None;
                }
                let source = self.intake.source_of_sender(sender);
                for line in lines {
                    self.intake.line(source, line, LineArrival::new(from, now, now));
                }
            }
            Datagram::Shipment(shipment) => self.shipment(from, &shipment, now),
            Datagram::Question(question) => return self.question(peer, &question, now),
            Datagram::Answer(_) => {
                self.intake.received.junk += 1;
                self.intake.warnings.warn(
                    WarningCause::Junk,
                    from,
                    now,
                    "unexpected reply datagram (the collector sends replies, it does not receive them)",
                );
            }
            Datagram::Empty => self.intake.received.empty += 1,
            Datagram::Broken(error) => {
                self.intake.received.junk += 1;
                self.intake.warnings.warn(WarningCause::Junk, from, now, error);
            }
        }
        None
    }

    /// Appends the lines whose waiting time is over to `out`, in order of arrival, and an explanation of each to `explain`.
    pub fn decide(&mut self, now: Timestamp, out: &mut Vec<u8>, explain: Option<&mut Vec<u8>>) {
        self.resume(now);
        self.end_overdue(now);
        self.intake.release_due(now);
        self.intake.engine.advance(now);
        self.look_at_balancers(now);
        self.write_decided(now, out, explain);
        if !self.intake.found_balancers.is_empty() {
            self.say_balancers(now);
        }
        if self.misfits.is_due(now) {
            self.look(now);
        }
    }

    /// Appends all held lines: the input has ended.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>, explain: Option<&mut Vec<u8>>) {
        if self.decided.is_none() {
            self.end_overdue(Timestamp::MAX);
        } // The journal keeps the pieces, and their end may still come.
        self.intake.release_due(Timestamp::MAX);
        self.intake.engine.advance(now);
        self.intake.engine.finish();
        self.write_decided(now, out, explain);
        if self.misfits.is_due(Timestamp::MAX) {
            self.look(now);
        }
    }

    /// Returns when to call [`Self::decide`] next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let Self { intake, pieces, misfits, watermarks, .. } = self;
        let due = match intake.engine.waits_for() {
            Some(_) => Some(watermarks.next_look()),
            None => intake.engine.next_due(),
        };
        let join = [due, intake.next_release()];
        join.into_iter().chain([pieces.next_due(), misfits.next_due()]).flatten().min()
    }

    /// Returns the number of lines received, and how many of these are not to be written because they are repeated.
    #[must_use]
    pub fn lines(&self) -> (u64, u64) {
        (self.intake.received.lines, self.intake.received.repeated)
    }

    /// Returns the number of malformed datagrams.
    pub(crate) const fn junk(&self) -> u64 {
        self.intake.received.junk
    }

    /// Returns the counters so far.
    #[must_use]
    pub fn report(&self) -> CollectorReport {
        CollectorReport {
            received: self.intake.received,
            join: self.intake.engine.counts(),
            shipments: self.senders.counts(),
            packets: self.origins.counts(),
            queue: self.queue,
            held_bytes: self.intake.arena.len() as u64,
            servers: self
                .intake
                .sources
                .iter()
                .take(100)
                .map(|source| self.server_report(source))
                .collect(),
            ..CollectorReport::default()
        }
    }

    fn server_report(&self, source: &LineSource) -> ServerReport {
        ServerReport {
            key: source.key,
            format: source.parser.format(),
            counts: source.counts,
            delay: self.intake.engine.server_delay(source.server),
            clock: source.clock.ahead().map(|clock| clock.of(self.origins.ahead().unwrap_or(0))),
        }
    }

    fn mapping(&mut self, from: SocketAddr, mapping: &Mapping<'_>, arrived: ArrivalTime) {
        let now = arrived.by;
        if !self.settings.allow.mappings_of(from.ip()) {
            self.refuse(from, now, "a mapping");
            return;
        }
        self.has_taken = true;
        self.intake.received.mapping_datagrams += 1;
        let from = RecordSender { addr: from, balancer: None };
        self.intake.mapping(from, mapping, arrived.after, now);
    }

    /// Takes a packet. Records are numbered, so duplicates are dropped. Each record is dated by its age, since records wait for
    /// each other before they are sent.
    fn packet(&mut self, from: SocketAddr, packet: &Packet<'_>, arrived: ArrivalTime) {
        let now = arrived.by;
        if !self.settings.allow.mappings_of(from.ip()) {
            self.refuse(from, now, "mappings");
            return;
        }
        self.intake.received.packets += 1;
        let (before, forgotten) = (self.origins.seen(), self.origins.forgotten());
        let Some(dating) = self.origins.receive(packet, now) else { return };
        self.has_taken = packet.count() > 0;
        let balancer = BalancerId(dating.balancer());
        self.intake.engine.came(balancer, now, packet.count(), dating.missing());
        self.watermarks.came(from, packet, &dating, now);
        if self.origins.forgotten() > forgotten {
            let limit = self.settings.balancers;
            let what = format_args!(
                "a balancer more than the limit of {limit}: one that was quiet is forgotten, and its losses are not \
                 known any more (raise --memory)"
            );
            self.intake.warnings.warn(WarningCause::Senders, from, now, what);
        }
        if self.origins.seen() > before {
            let what = format_args!("a balancer, from its record {} on", packet.first);
            self.intake.warnings.warn(WarningCause::Began, from, now, what);
        }
        let from = RecordSender { addr: from, balancer: Some(balancer) };
        for mapping in packet.mappings() {
            self.intake.mapping(from, &mapping, dating.of(&mapping), now);
        }
    }

    /// Takes a log line of a balancer other than pen; `end` is its arrival.
    fn third_party_line(
        &mut self,
        reader: ReaderId,
        line: &[u8],
        from: SocketAddr,
        end: Timestamp,
    ) {
        let Err(unusable) = self.take_third_party(reader, line, from, end) else { return };
        let mut text = Vec::new();
        let within = match unusable {
            UnusableLine::Malformed(_) => carried(line, &mut text),
            _ => None,
        };
        match within.map(|within| self.take_third_party(reader, within, from, end)) {
            Some(Ok(())) => {}
            None | Some(Err(UnusableLine::Malformed(_))) => {
                self.intake.unusable(from, unusable, end);
            }
            Some(Err(unusable)) => self.intake.unusable(from, unusable, end),
        }
    }

    fn take_third_party(
        &mut self,
        reader: ReaderId,
        line: &[u8],
        from: SocketAddr,
        end: Timestamp,
    ) -> Result<(), UnusableLine> {
        let servers = &self.settings.known.servers;
        let (has_request, mappings) = self.third_party.mappings(reader, line, end, servers)?;
        *self.intake.counter(has_request) += 1;
        let sender = RecordSender { addr: from, balancer: None };
        let mut has_key = has_request;
        for mapping in mappings {
            has_key |= mapping.balancer.is_some_and(|own| own.port() != 0);
            if let Some(time) = mapping.time {
                self.intake.remember(sender, &mapping, time, end);
            }
        }
        self.intake.keyless += u64::from(!has_key);
        Ok(())
    }

    /// Returns the sender's address if the sender may send lines.
    fn line_sender(&mut self, from: SocketAddr, now: Timestamp) -> Option<IpAddr> {
        if self.settings.allow.lines_of(from.ip()) {
            return Some(from.ip().to_canonical());
        }
        self.refuse(from, now, "lines");
        None
    }

    fn refuse(&mut self, from: SocketAddr, now: Timestamp, what: &str) {
        self.intake.received.refused += 1;
        self.intake.warnings.warn(
            WarningCause::Refused,
            from,
            now,
            format_args!("may not send {what}; see --from"),
        );
    }

    /// Returns whether the datagram continues an unfinished line.
    fn add_piece(&mut self, peer: Peer, datagram: &[u8], now: Timestamp) -> bool {
        let added = self.pieces.add(peer.addr, datagram);
        if added == Added::NoPiece {
            return false;
        }
        self.has_taken = true;
        self.intake.received.line_datagrams += 1;
        if let Added::Whole(bytes) = added {
            self.whole_line(peer, &bytes, now);
        }
        true
    }

    /// Takes lines whose end did not come.
    fn end_overdue(&mut self, now: Timestamp) {
        for (peer, bytes) in self.pieces.overdue(now) {
            self.whole_line(peer, &bytes, now);
        }
    }

    fn whole_line(&mut self, peer: Peer, bytes: &[u8], now: Timestamp) {
        let from = peer.addr;
        self.intake.comes_from(&peer);
        let source = self.intake.source_of_sender(from.ip().to_canonical());
        for line in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n') {
            self.intake.line(source, line, LineArrival::new(from, now, now));
        }
    }
}

#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod grace_tests;
#[cfg(test)]
mod packet_tests;
#[cfg(test)]
mod privacy_tests;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod third_party_tests;

//! The input side of the join: counts access lines and mappings, and warns about unusable ones.

use std::net::{IpAddr, SocketAddr};

use pen_records::access::{AccessLine, LineSpan};
use pen_records::attribution::{
    Attributor, BalancerHashes, BalancerId, LineOrigin, LoggedLine, MappingEvent,
};
use pen_records::mapping::{Mapping, MappingKind};
use pen_records::time::{Resolution, Timestamp};

use crate::arena::Arena;
use crate::blocks::BlockLine;
use crate::first_lines::FirstLineFate;
use crate::fit::FitWindow;
use crate::lines::ArrivedLine;
use crate::peer::Peer;
use crate::report::ReceivedCounts;
use crate::sources::LineSources;
use crate::third_party::UnusableLine;
use crate::twins::{TwinFinder, TwinLine};
use crate::warnings::{WarningCause, Warnings};

/// How long lines may belong to records from before the first line of their server, in microseconds.
const FIRST_LINES: i64 = 10_000_000;

/// Microseconds from the reading of a line to its arrival, beyond which its shipper is behind.
const BEHIND: i64 = 1_000_000;

/// Protocols of requests, the commonest first.
const PROTOCOLS: [&[u8]; 3] = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"];

/// A line before its decision. The bytes are in the arena.
#[derive(Clone, Copy)]
pub(super) struct BufferedLine {
    /// Length of the line in bytes.
    pub(super) len: u32,
    /// The client field; `None` if the line does not parse.
    pub(super) client: Option<LineSpan>,
    /// Number of the line's source.
    pub(super) source: u32,
    /// See [`ArrivedLine::number`].
    pub(super) number: u64,
}

/// Who sent a record.
#[derive(Clone, Copy)]
pub(super) struct RecordSender {
    pub(super) addr: SocketAddr,
    /// `None`: its records have no numbers, so nobody knows of losses.
    pub(super) balancer: Option<BalancerId>,
}

/// How a line came.
#[derive(Clone, Copy)]
pub(super) struct LineArrival {
    pub(super) from: SocketAddr,
    /// When the line was read.
    pub(super) read: Timestamp,
    /// Whether it came long after: its shipper is behind.
    pub(super) is_behind: bool,
}

impl LineArrival {
    /// A line that was read at `read` and came `now`.
    pub(super) fn new(from: SocketAddr, read: Timestamp, now: Timestamp) -> Self {
        Self { from, read, is_behind: now.micros_since(read) > BEHIND }
    }
}

/// The join and its input side.
pub(super) struct Intake {
    pub(super) engine: Attributor<BufferedLine>,
    pub(super) arena: Arena,
    pub(super) sources: LineSources,
    pub(super) warnings: Warnings,
    pub(super) received: ReceivedCounts,
    /// Number of the next line to arrive.
    pub(super) next_line: u64,
    pub(super) fit: FitWindow,
    pub(super) twins: TwinFinder,
    /// Sources that turned out to look like a balancer, and the server that logs the same.
    pub(super) found_balancers: Vec<(u32, u32)>,
    /// Third-party records with neither a request nor the balancer's port.
    pub(super) keyless: u64,
    /// Whether lines belong to their source whatever their envelope says.
    pub(super) is_bound: bool,
    /// Whether the sender of the current datagram needs no key, where others have one.
    pub(super) is_unauthenticated: bool,
    balancers: BalancerHashes,
    /// Sources whose first lines are held.
    holding: Vec<u32>,
    /// Sources whose lines come in blocks and are held.
    blocked: Vec<u32>,
    /// Limit of the bytes of lines held in blocks.
    blocked_bytes: usize,
}

impl Intake {
    pub(super) fn new(
        engine: Attributor<BufferedLine>,
        sources: LineSources,
        blocked_bytes: usize,
    ) -> Self {
        Self {
            engine,
            sources,
            arena: Arena::default(),
            warnings: Warnings::default(),
            fit: FitWindow::default(),
            twins: TwinFinder::default(),
            found_balancers: Vec::new(),
            received: ReceivedCounts::default(),
            next_line: 0,
            keyless: 0,
            is_bound: false,
            is_unauthenticated: false,
            balancers: BalancerHashes::default(),
            holding: Vec::new(),
            blocked: Vec::new(),
            blocked_bytes,
        }
    }

    /// Takes notice of the sender of what comes next.
    pub(super) const fn comes_from(&mut self, peer: &Peer) {
        (self.is_bound, self.is_unauthenticated) = (peer.is_bound, peer.is_unauthenticated);
    }

    /// Returns the number of the source of lines that `sender` sends without naming a server.
    pub(super) fn source_of_sender(&mut self, sender: IpAddr) -> u32 {
        self.sources.of_sender(sender, &mut self.engine)
    }

    /// Takes a record of pen, dated `noted`.
    pub(super) fn mapping(
        &mut self,
        from: RecordSender,
        mapping: &Mapping<'_>,
        noted: Timestamp,
        now: Timestamp,
    ) {
        *self.counter(mapping.kind == MappingKind::Request) += 1;
        self.remember(from, mapping, (noted, Resolution::Microsecond), now);
    }

    /// Returns the counter of mappings, or of the other records.
    pub(super) const fn counter(&mut self, is_request: bool) -> &mut u64 {
        if is_request { &mut self.received.mappings } else { &mut self.received.events }
    }

    /// Returns how many records came, of requests and others.
    pub(super) const fn records(&self) -> u64 {
        self.received.mappings + self.received.events
    }

    /// Whether no record so far has a request or the balancer's port.
    pub(super) const fn is_keyless(&self) -> bool {
        self.keyless > 0 && self.keyless == self.records()
    }

    /// Hands a record to the engine. A record without use is counted, and warned about if the limit of servers is
    /// the cause.
    pub(super) fn remember(
        &mut self,
        from: RecordSender,
        mapping: &Mapping<'_>,
        time: (Timestamp, Resolution),
        now: Timestamp,
    ) {
        let unused = u64::from(mapping.kind == MappingKind::Request);
        let Some(server) = self.sources.server(mapping.server, &mut self.engine) else {
            self.received.mappings_unused += unused;
            let limit = self.sources.limit();
            let what = format_args!(
                "mapping for an unknown server ignored: the limit of {limit} servers is reached (raise --memory)"
            );
            self.warnings.warn(WarningCause::Servers, from.addr, now, what);
            return;
        };
        let mapping = &Mapping { server_port: server.port.or(mapping.server_port), ..*mapping };
        match MappingEvent::with_exchange(mapping, server.index, time, &mut self.balancers) {
            Some(record) => {
                let record = if self.sources.ignores_protocol(server.index).is_some() {
                    record.ignoring_protocol(mapping)
                } else {
                    record
                };
                let is_unauthenticated = self.is_unauthenticated;
                let record = MappingEvent { is_unauthenticated, ..record };
                self.fit.mapping(&record);
                if let Some(balancer) = from.balancer {
                    self.engine.recorded_by(server.index, balancer);
                }
                self.engine.mapping(&record);
            }
            None => self.received.mappings_unused += unused,
        }
    }

    /// Counts a line of a third-party balancer that is of no use.
    pub(super) fn unusable(&mut self, from: SocketAddr, line: UnusableLine, now: Timestamp) {
        self.received.mappings += 1;
        self.received.mappings_unused += 1;
        match line {
            UnusableLine::Malformed(error) => {
                self.warnings.warn(WarningCause::ThirdParty, from, now, error);
            }
            UnusableLine::UnknownServer(name) => {
                let what = format_args!(
                    "no address is known for the server {name}: say --server {name}=ADDR"
                );
                self.warnings.warn(WarningCause::ThirdParty, from, now, what);
            }
            UnusableLine::NoServer => {}
        }
    }

    /// Takes an access line. It waits in the engine, or before that for more lines of its source.
    pub(super) fn line(&mut self, source: u32, line: &[u8], arrival: LineArrival) {
        let LineArrival { from, read, is_behind } = arrival;
        let number = self.next_line;
        self.next_line += 1;
        let mut by_envelope = || self.sources.of_envelope(source, line, &mut self.engine);
        let source = if self.is_bound { None } else { by_envelope() }.unwrap_or(source);
        if self.sources.is_beyond_limit(source) {
            let limit = self.sources.limit();
            let what = format_args!(
                "a line of a server beyond the limit of {limit} is written without a client (raise --memory)"
            );
            self.warnings.warn(WarningCause::Servers, from, read, what);
        }
        let Some(place) = self.sources.get_mut(source) else { return };
        let is_unauthenticated = self.is_unauthenticated;
        let line = ArrivedLine { text: line, from, read, is_behind, number, is_unauthenticated };
        let Some(first) = &mut place.first else { return self.known_line(source, line, None) };
        match first.take(&place.parser, line) {
            FirstLineFate::Passes => self.known_line(source, line, None),
            FirstLineFate::Held { is_first: true } => self.holding.push(source),
            FirstLineFate::Held { is_first: false } => {}
            FirstLineFate::Enough => self.release(source),
        }
        if let Some(place) = self.sources.get_mut(source)
            && place.first.as_ref().is_some_and(|first| first.is_over(&place.parser))
        {
            place.first = None;
        }
    }

    /// Takes the first lines of a source that are held.
    fn release(&mut self, source: u32) {
        self.holding.retain(|&other| other != source);
        let Some(place) = self.sources.get_mut(source) else { return };
        let Some(first) = &mut place.first else { return };
        for line in first.release(&mut place.parser) {
            self.known_line(source, line.arrived(), None);
        }
    }

    /// Takes the first lines that have been held for long enough.
    pub(super) fn release_due(&mut self, now: Timestamp) {
        let due = |&source: &u32| self.held_until(source).is_none_or(|due| due <= now);
        let due: Vec<u32> = self.holding.iter().copied().filter(due).collect();
        due.into_iter().for_each(|source| self.release(source));
        for source in self.blocked.clone() {
            self.release_blocked(source, now);
        }
        let Self { blocked, sources, .. } = self;
        blocked.retain(|&source| sources.get(source).is_some_and(|it| it.blocks.bytes() > 0));
    }

    /// Takes lines of blocks after their wait, or earlier beyond the limit of bytes.
    fn release_blocked(&mut self, source: u32, now: Timestamp) {
        let share = self.blocked_bytes / self.blocked.len().max(1);
        while let Some(place) = self.sources.get_mut(source) {
            let is_full = place.blocks.bytes() > share;
            let line = if is_full { place.blocks.next_held() } else { place.blocks.next_due(now) };
            let Some(BlockLine { line, time }) = line else { break };
            self.known_line(source, line.arrived(), Some(time));
        }
    }

    /// Returns the time of a line by its stamp or by `read`; `None` if the line is held for its block.
    fn date(
        &mut self,
        source: u32,
        line: ArrivedLine<'_>,
        logged: (Timestamp, Resolution),
    ) -> Option<(Timestamp, Resolution)> {
        let time = self.sources.get_mut(source)?.date_or_hold(line, logged);
        if time.is_none() {
            if !self.blocked.contains(&source) {
                self.blocked.push(source);
            }
            self.release_blocked(source, Timestamp::MIN);
        }
        time
    }

    /// Returns when held lines go on.
    pub(super) fn next_release(&self) -> Option<Timestamp> {
        let first = self.holding.iter().filter_map(|&source| self.held_until(source));
        let due = |&source: &u32| self.sources.get(source)?.blocks.due();
        first.chain(self.blocked.iter().filter_map(due)).min()
    }

    fn held_until(&self, source: u32) -> Option<Timestamp> {
        self.sources.get(source)?.first.as_ref()?.due()
    }

    /// Takes notice that a new shipper sends lines of a source: the first ones may be from before it ran. Its clock is
    /// `ahead` by so many microseconds.
    pub(super) fn catch_up(&mut self, source: u32, ahead: i64) {
        if let Some(place) = self.sources.get_mut(source) {
            place.clock.catch_up(ahead);
            place.watch.shippers += 1;
        }
    }

    /// Takes a line, or holds it if the source sends blocks. A held line comes back `dated`.
    fn known_line(
        &mut self,
        source: u32,
        arrived: ArrivedLine<'_>,
        dated: Option<(Timestamp, Resolution)>,
    ) {
        let ArrivedLine { text: line, from, read, number, is_unauthenticated, .. } = arrived;
        let Some(place) = self.sources.get_mut(source) else { return };
        let parsed = place.parser.parse(line);
        let server = place.server;
        if parsed.as_ref().is_ok_and(|parsed| parsed.request.lacks_protocol()) {
            self.sources.ignore_protocol(server, read);
        }
        let ignores_protocol = self.sources.ignores_protocol(server);
        let time = match (dated, &parsed) {
            (Some(time), _) => time,
            (None, &Ok(AccessLine { time: Some(logged), .. })) => {
                let Some(time) = self.date(source, arrived, logged) else { return };
                time
            }
            _ => (read, Resolution::Microsecond),
        };
        let Some(place) = self.sources.get_mut(source) else { return };
        self.received.lines += 1;
        let (evidence, text, client) = match &parsed {
            Ok(parsed) => {
                let cuts = self.engine.live_cuts();
                let evidence = LoggedLine::new(line, parsed, cuts, place.server, time);
                let evidence = match ignores_protocol {
                    Some(since) => {
                        let is_new = read < since.offset_by(FIRST_LINES);
                        without_protocol(&self.engine, evidence, (line, parsed), is_new)
                    }
                    None => evidence,
                };
                let evidence = LoggedLine {
                    server_port: place.key.port,
                    origin: LineOrigin(source),
                    is_unauthenticated,
                    ..evidence
                };
                let text = line.get(parsed.envelope as usize..).unwrap_or_default();
                let client = LineSpan {
                    start: parsed.client.start.saturating_sub(parsed.envelope),
                    end: parsed.client.end.saturating_sub(parsed.envelope),
                };
                (evidence, text, Some(client))
            }
            Err(error) => {
                self.received.not_understood += 1;
                place.watch.unread(line, *error, place.parser.is_given());
                self.warnings.warn(WarningCause::Line, from, read, error);
                (LoggedLine::unread(place.server, time), line, None)
            }
        };
        let len =
            u32::try_from(text.len()).expect("a datagram, or a line put together within 2^20");
        self.arena.push(text);
        self.fit.line(&evidence);
        if self.sources.has_suspects()
            && let (Some(request), Some(client)) = (evidence.long, client)
        {
            let is_suspect = self.sources.is_suspect(source, client.of(text));
            let found = self.twins.line(TwinLine {
                number,
                source,
                is_suspect,
                request,
                status: evidence.status,
                client: evidence.sender,
                time: read,
            });
            self.found_balancers.extend(found);
        }
        self.engine.line(&evidence, BufferedLine { len, client, source, number });
    }
}

/// Returns the evidence of a line whose server logs no protocols. Records from before the server's first line have
/// the protocol. Being older, such a record comes first for a line that `is_new`.
#[cold]
fn without_protocol(
    engine: &Attributor<BufferedLine>,
    evidence: LoggedLine,
    (line, parsed): (&[u8], &AccessLine),
    is_new: bool,
) -> LoggedLine {
    let cuts = engine.live_cuts();
    let with = |protocol| evidence.assuming_protocol(line, parsed, cuts, protocol);
    let mut before = PROTOCOLS.into_iter().filter(|_| is_new).map(with);
    let known = before.find(|evidence| engine.has_mappings_of(evidence));
    known.unwrap_or_else(|| evidence.ignoring_protocol(line, parsed, cuts))
}

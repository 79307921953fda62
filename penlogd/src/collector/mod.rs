//! The collector's core: a datagram and the time in, finished lines out; no socket, no clock.

use std::net::{IpAddr, SocketAddr};

use pen_records::access::{AccessLine, LineSpan};
use pen_records::attribution::{
    Attributor, BalancerHashes, DecidedLine, FingerprintCuts, JoinSettings, LoggedLine,
    MappingEvent,
};
use pen_records::datagram::Datagram;
use pen_records::mapping::origins::Origins;
use pen_records::mapping::packet::Packet;
use pen_records::mapping::{Mapping, MappingKind};
use pen_records::privacy::Privacy;
use pen_records::rewrite::{LineRewrite, LineRewriter, RewritePolicy, ServerName};
use pen_records::shipment::{
    DiscoveryAnswer, DiscoveryQuestion, SenderLimits, SenderTable, Shipment,
};
use pen_records::time::{Resolution, Timestamp};

use crate::allow::Allow;
use crate::arena::Arena;
use crate::balance::{Balance, Queue, Received, ServerBalance};
use crate::foreign::{Foreign, Useless, Which};
use crate::pieces::{Added, Pieces};
use crate::sources::{Source, Sources};
use crate::warnings::{WarningCause, Warnings};

pub use crate::sources::{Known, Sender, ServerKey};

/// The longest datagram that is taken whole.
const DATAGRAM: u32 = 65_507;

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How far the join looks, waits and remembers.
    pub engine: JoinSettings,
    /// Bytes of lines that may wait; beyond it the oldest are decided early.
    pub held_bytes: usize,
    /// Bytes of long lines of which a part has come, of our shippers and as many of others'.
    pub unfinished_bytes: usize,
    /// Servers told apart by their lines, and as many that only mappings name.
    pub servers: usize,
    /// Which clients are written into lines.
    pub rewrite: RewritePolicy,
    /// Formats and addresses of servers.
    pub known: Known,
    /// What is written in the place of clients; `None`: themselves.
    pub privacy: Option<Privacy>,
    /// Who may send what.
    pub allow: Allow,
    /// Whether explanations name the candidates.
    pub candidates: bool,
    /// Bytes of shipments that may be under way to us, all shippers together.
    pub window: u32,
}

/// When a datagram came: nobody looked between these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// When it was not there yet.
    pub after: Timestamp,
    /// When it was there.
    pub by: Timestamp,
}

impl From<Timestamp> for Arrived {
    fn from(now: Timestamp) -> Self {
        Self { after: now, by: now }
    }
}

/// Takes datagrams, gives back lines.
pub struct Collector {
    settings: Settings,
    rewriter: LineRewriter,
    engine: Attributor<Held>,
    arena: Arena,
    sources: Sources,
    senders: SenderTable,
    origins: Origins,
    balancers: BalancerHashes,
    foreign: Foreign,
    pieces: Pieces,
    complaints: Warnings,
    received: Received,
    queue: Queue,
}

/// A line that waits; its bytes are in the arena.
#[derive(Clone, Copy)]
struct Held {
    len: u32,
    /// `None` if the line was not understood.
    client: Option<LineSpan>,
    source: u32,
}

impl Collector {
    /// One that has received nothing yet.
    #[must_use]
    pub fn new(mut settings: Settings) -> Self {
        let mut engine = Attributor::new(settings.engine);
        if settings.candidates {
            engine.explain_all();
        }
        Self {
            rewriter: LineRewriter::new(settings.rewrite, settings.privacy.take()),
            engine,
            arena: Arena::default(),
            sources: Sources::new(settings.known.clone(), settings.servers),
            senders: SenderTable::new(SenderLimits {
                bytes: settings.unfinished_bytes,
                ..SenderLimits::default()
            }),
            origins: Origins::new(),
            balancers: BalancerHashes::default(),
            foreign: Foreign::new(&settings.known.balancers),
            pieces: Pieces::new(settings.unfinished_bytes),
            complaints: Warnings::default(),
            received: Received::default(),
            queue: Queue::default(),
            settings,
        }
    }

    /// Takes a datagram. An answer is to be sent back to where it came from.
    ///
    /// Lines of our shippers bring the time they were read, which is after the request was mapped. So
    /// a mapping is as old as it can be.
    pub fn receive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        arrived: Arrived,
    ) -> Option<DiscoveryAnswer> {
        let now = arrived.by;
        self.received.datagrams += 1;
        self.received.bytes += datagram.len() as u64;
        if !self.pieces.is_empty() && self.add_piece(from, datagram, now) {
            return None;
        }
        match Datagram::parse(datagram) {
            Datagram::Mapping(mapping) => self.mapping(from, &mapping, arrived),
            Datagram::Packet(packet) => self.packet(from, &packet, arrived),
            Datagram::Lines(lines) => {
                if let Some(which) = self.foreign.of_datagram(from.ip().to_canonical(), datagram) {
                    if !self.settings.allow.mappings_of(from.ip()) {
                        self.refuse(from, now, "a balancer's lines");
                        return None;
                    }
                    self.received.mapping_datagrams += 1;
                    lines.for_each(|line| self.passage(which, line, from, arrived.after));
                    return None;
                }
                let sender = self.line_sender(from, now)?;
                self.received.line_datagrams += 1;
                if self.pieces.begin(from, datagram, now) {
                    return None;
                }
                let source = self.sources.of_sender(sender, &mut self.engine);
                for line in lines {
                    self.line(source, line, from, now);
                }
            }
            Datagram::Shipment(shipment) => self.shipment(from, &shipment, now),
            Datagram::Question(question) => return self.question(from, &question, now),
            Datagram::Answer(_) => {
                self.received.junk += 1;
                self.complaints.about(WarningCause::Junk, from, now, "an answer, but nobody asked");
            }
            Datagram::Empty => self.received.empty += 1,
            Datagram::Broken(error) => {
                self.received.junk += 1;
                self.complaints.about(WarningCause::Junk, from, now, error);
            }
        }
        None
    }

    /// Appends the lines that have waited long enough to `out`, in the order they came, and one line
    /// about each to `explain`.
    pub fn decide(&mut self, now: Timestamp, out: &mut Vec<u8>, explain: Option<&mut Vec<u8>>) {
        for (from, bytes) in self.pieces.overdue(now) {
            self.whole_line(from, &bytes, now);
        }
        self.engine.advance(now);
        self.write_decided(now, out, explain);
    }

    /// Appends all that is held: nothing more is to come.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>, explain: Option<&mut Vec<u8>>) {
        for (from, bytes) in self.pieces.overdue(Timestamp::MAX) {
            self.whole_line(from, &bytes, now);
        }
        self.engine.advance(now);
        self.engine.finish();
        self.write_decided(now, out, explain);
    }

    /// When [`Self::decide`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        [self.engine.next_due(), self.pieces.next_due()].into_iter().flatten().min()
    }

    /// What has happened so far.
    #[must_use]
    pub fn balance(&self) -> Balance {
        Balance {
            received: self.received,
            join: self.engine.counts(),
            shipments: self.senders.counts(),
            packets: self.origins.counts(),
            queue: self.queue,
            held_bytes: self.arena.len() as u64,
            servers: self
                .sources
                .iter()
                .take(100)
                .map(|source| self.server_balance(source))
                .collect(),
            ..Balance::default()
        }
    }

    fn server_balance(&self, source: &Source) -> ServerBalance {
        ServerBalance {
            key: source.key,
            format: source.parser.format(),
            counts: source.counts,
            delay: self.engine.server_delay(source.server),
            clock: source.clock.ahead().map(|clock| clock.of(self.origins.ahead().unwrap_or(0))),
        }
    }

    fn mapping(&mut self, from: SocketAddr, mapping: &Mapping<'_>, arrived: Arrived) {
        let now = arrived.by;
        if !self.settings.allow.mappings_of(from.ip()) {
            self.refuse(from, now, "a mapping");
            return;
        }
        self.received.mapping_datagrams += 1;
        self.take(from, mapping, arrived.after, now);
    }

    /// Records are numbered: what comes twice is not taken again. They are dated by their ages, since they
    /// waited for one another.
    fn packet(&mut self, from: SocketAddr, packet: &Packet<'_>, arrived: Arrived) {
        let now = arrived.by;
        if !self.settings.allow.mappings_of(from.ip()) {
            self.refuse(from, now, "mappings");
            return;
        }
        self.received.packets += 1;
        let before = self.origins.len();
        let Some(dating) = self.origins.receive(packet, now) else { return };
        self.engine.came(now, packet.count(), dating.missing());
        if self.origins.len() > before {
            let what = format_args!("a balancer, from its record {} on", packet.first);
            self.complaints.about(WarningCause::Began, from, now, what);
        }
        for mapping in packet.mappings() {
            self.take(from, &mapping, dating.of(&mapping), now);
        }
    }

    /// A line of another balancer than ours.
    fn passage(&mut self, which: Which, line: &[u8], from: SocketAddr, end: Timestamp) {
        let taken = self.foreign.mappings(which, line, end, &self.settings.known.servers);
        let (has_request, mappings) = match taken {
            Ok(taken) => taken,
            Err(useless) => {
                self.received.mappings += 1;
                self.received.mappings_unused += 1;
                let complaints = &mut self.complaints;
                match useless {
                    Useless::Unread(error) => {
                        complaints.about(WarningCause::Passage, from, end, error);
                    }
                    Useless::Unnamed(name) => complaints.about(
                        WarningCause::Passage,
                        from,
                        end,
                        format_args!(
                            "no address is known for the server {name}: say --server {name}=ADDR"
                        ),
                    ),
                    Useless::Nobody => {}
                }
                return;
            }
        };
        *(if has_request { &mut self.received.mappings } else { &mut self.received.moments }) += 1;
        for mapping in mappings {
            let unused = u64::from(mapping.kind == MappingKind::Request);
            let Some(server) = self.sources.server(mapping.server, &mut self.engine) else {
                self.received.mappings_unused += unused;
                let what = "a mapping of one server too many";
                self.complaints.about(WarningCause::Servers, from, end, what);
                continue;
            };
            let Some(time) = mapping.time else { continue };
            match MappingEvent::with_exchange(&mapping, server, time, &mut self.balancers) {
                Some(record) => self.engine.mapping(record),
                None => self.received.mappings_unused += unused,
            }
        }
    }

    fn take(&mut self, from: SocketAddr, mapping: &Mapping<'_>, noted: Timestamp, now: Timestamp) {
        let is_request = mapping.kind == MappingKind::Request;
        *(if is_request { &mut self.received.mappings } else { &mut self.received.moments }) += 1;
        let unused = u64::from(is_request);
        let Some(server) = self.sources.server(mapping.server, &mut self.engine) else {
            self.received.mappings_unused += unused;
            self.complaints.about(
                WarningCause::Servers,
                from,
                now,
                "a mapping of one server too many",
            );
            return;
        };
        let time = (noted, Resolution::Microsecond);
        match MappingEvent::with_exchange(mapping, server, time, &mut self.balancers) {
            Some(record) => self.engine.mapping(record),
            None => self.received.mappings_unused += unused,
        }
    }

    fn shipment(&mut self, from: SocketAddr, shipment: &Shipment<'_>, now: Timestamp) {
        let name = shipment.server.name;
        if let Some(which) = self.foreign.of_sender(from.ip().to_canonical(), name) {
            return self.shipped_passages(which, from, shipment, now);
        }
        let Some(sender) = self.line_sender(from, now) else { return };
        self.received.shipments += 1;
        let source = self.sources.of_shipment(sender, &shipment.server, &mut self.engine);
        let mut intake = Intake {
            engine: &mut self.engine,
            arena: &mut self.arena,
            sources: &mut self.sources,
            complaints: &mut self.complaints,
            received: &mut self.received,
        };
        // A line feed inside a line would make two of it in the log: better here than there.
        let arrival = self.senders.receive(shipment, now, |line, read| {
            if memchr::memchr(b'\n', line).is_none() {
                intake.line(source, line, from, read);
                return;
            }
            for line in line.split(|&byte| byte == b'\n') {
                intake.line(source, line, from, read);
            }
        });
        if arrival.first {
            let line = shipment.first_line;
            let what = format_args!("a shipper, from its line {line} on");
            self.complaints.about(WarningCause::Began, from, now, what);
        }
    }

    /// A shipper may carry the log of a balancer, too.
    fn shipped_passages(
        &mut self,
        which: Which,
        from: SocketAddr,
        shipment: &Shipment<'_>,
        now: Timestamp,
    ) {
        if !self.settings.allow.mappings_of(from.ip()) {
            return self.refuse(from, now, "a balancer's lines");
        }
        self.received.shipments += 1;
        let mut lines = Vec::new();
        let arrival =
            self.senders.receive(shipment, now, |line, read| lines.push((line.to_vec(), read)));
        for (line, read) in lines {
            self.passage(which, &line, from, read);
        }
        if arrival.first {
            let line = shipment.first_line;
            let what = format_args!("a shipper of a balancer's log, from its line {line} on");
            self.complaints.about(WarningCause::Began, from, now, what);
        }
    }

    fn question(
        &mut self,
        from: SocketAddr,
        question: &DiscoveryQuestion,
        now: Timestamp,
    ) -> Option<DiscoveryAnswer> {
        self.line_sender(from, now)?;
        self.received.questions += 1;
        self.senders.asked(question);
        let shippers = u32::try_from(self.senders.len().max(1)).unwrap_or(u32::MAX);
        Some(DiscoveryAnswer {
            nonce: question.nonce,
            window: (self.settings.window / shippers).max(2 * DATAGRAM),
            datagram: DATAGRAM,
        })
    }

    /// The sender, if it may send lines.
    fn line_sender(&mut self, from: SocketAddr, now: Timestamp) -> Option<IpAddr> {
        if self.settings.allow.lines_of(from.ip()) {
            return Some(from.ip().to_canonical());
        }
        self.refuse(from, now, "lines");
        None
    }

    fn refuse(&mut self, from: SocketAddr, now: Timestamp, what: &str) {
        self.received.refused += 1;
        self.complaints.about(
            WarningCause::Refused,
            from,
            now,
            format_args!("may not send {what}; see --from"),
        );
    }

    /// Whether the datagram belongs to a line in pieces.
    fn add_piece(&mut self, from: SocketAddr, datagram: &[u8], now: Timestamp) -> bool {
        match self.pieces.add(from, datagram) {
            Added::NoPiece => false,
            Added::More => {
                self.received.line_datagrams += 1;
                true
            }
            Added::Whole(bytes) => {
                self.received.line_datagrams += 1;
                self.whole_line(from, &bytes, now);
                true
            }
        }
    }

    fn whole_line(&mut self, from: SocketAddr, bytes: &[u8], now: Timestamp) {
        let source = self.sources.of_sender(from.ip().to_canonical(), &mut self.engine);
        for line in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n') {
            self.line(source, line, from, now);
        }
    }

    fn line(&mut self, source: u32, line: &[u8], from: SocketAddr, now: Timestamp) {
        Intake {
            engine: &mut self.engine,
            arena: &mut self.arena,
            sources: &mut self.sources,
            complaints: &mut self.complaints,
            received: &mut self.received,
        }
        .line(source, line, from, now);
    }

    fn write_decided(
        &mut self,
        now: Timestamp,
        out: &mut Vec<u8>,
        mut explain: Option<&mut Vec<u8>>,
    ) {
        loop {
            while let Some(decided) = self.engine.next_decided() {
                self.queue.add(now.micros_since(decided.time));
                if let Some(delay) = decided.verdict.delay {
                    self.queue.delays.add(delay);
                }
                self.write_line(&decided, out, explain.as_deref_mut());
            }
            if self.arena.len() <= self.settings.held_bytes {
                return;
            }
            // The engine counts lines; long ones are many bytes. It is told that time has passed.
            let Some(due) = self.engine.next_due() else { return };
            self.queue.hurried += 1;
            self.engine.advance(due);
        }
    }

    fn write_line(
        &mut self,
        decided: &DecidedLine<Held>,
        out: &mut Vec<u8>,
        explain: Option<&mut Vec<u8>>,
    ) {
        let Held { len, client, source } = decided.payload;
        let verdict = &decided.verdict;
        let source = self.sources.get_mut(source).expect("no source is removed");
        source.counts.count(client.is_some(), verdict);
        let key = source.key;
        let mut why = self.engine.take_why();
        if let Some(why) = &mut why {
            self.rewriter.mask_candidates(why);
        }
        let rewriter = &mut self.rewriter;
        self.arena.pop(len as usize, |text| {
            let server = ServerName::Addr(key.addr);
            let line = LineRewrite { text, client, verdict, server };
            let written = rewriter.write(&line, out);
            if let Some(explain) = explain {
                written.explain(&key, why.as_ref(), explain);
            }
        });
    }
}

/// The parts of a collector that take a line.
struct Intake<'a> {
    engine: &'a mut Attributor<Held>,
    arena: &'a mut Arena,
    sources: &'a mut Sources,
    complaints: &'a mut Warnings,
    received: &'a mut Received,
}

impl Intake<'_> {
    fn line(&mut self, source: u32, line: &[u8], from: SocketAddr, read: Timestamp) {
        self.received.lines += 1;
        let Some(place) = self.sources.get_mut(source) else { return };
        let time = (read, Resolution::Microsecond);
        let parsed = place.parser.parse(line);
        if let Ok(AccessLine { time: Some(logged), .. }) = parsed {
            place.clock.note(logged, read);
        }
        let (evidence, text, client) = match &parsed {
            Ok(parsed) => {
                let evidence =
                    LoggedLine::new(line, parsed, FingerprintCuts::Long, place.server, time);
                let evidence = LoggedLine { server_port: place.key.port, ..evidence };
                let text = line.get(parsed.envelope as usize..).unwrap_or_default();
                let client = LineSpan {
                    start: parsed.client.start.saturating_sub(parsed.envelope),
                    end: parsed.client.end.saturating_sub(parsed.envelope),
                };
                (evidence, text, Some(client))
            }
            Err(error) => {
                self.received.not_understood += 1;
                self.complaints.about(WarningCause::Line, from, read, error);
                (LoggedLine::unread(place.server, time), line, None)
            }
        };
        let len =
            u32::try_from(text.len()).expect("a datagram, or a line put together within 2^20");
        self.arena.push(text);
        self.engine.line(evidence, Held { len, client, source });
    }
}

#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod packet_tests;
#[cfg(test)]
mod privacy_tests;
#[cfg(test)]
mod tests;

//! What is remembered: mappings and their exchanges, connections, and TLS exchanges.
//!
//! Invariants: each mapping with facts is linked to them and the facts to the mapping; a server's `short`
//! counts, over all groups of the server, the lines beyond the group's mappings; the mappings that were
//! taken are used, expired, evicted, or in [`MappingTable`].
//!
//! - `mappings`: mappings by request group, in order, and the lines that wait for each group.
//! - `exchanges`, `facts`: what records say of a mapping's exchange.
//! - `signature`: what tells requests with the same first line apart.
//! - `request_ids`: which record has which id of a request.
//! - `connections`: which client had which port of the balancer.
//! - `load`: how many connections a server has.
//! - `tls`: exchanges in passed-through TLS.
//! - `events`: applies records to all of these.

pub(crate) mod client;
pub(crate) mod connections;
mod events;
pub(crate) mod exchanges;
pub(crate) mod facts;
pub(crate) mod load;
pub(crate) mod mappings;
pub(crate) mod request_ids;
pub(crate) mod signature;
pub(crate) mod slab;
pub(crate) mod tls;

use self::connections::ConnectionTable;
use self::exchanges::{ExchangeTable, request_key};
use self::facts::{DatedBy, ExchangeFacts, FactsSlot};
use self::load::ConnectionLoad;
use self::mappings::{GroupSlot, MappingSlot, MappingTable, RequestGroup, WaitingMapping};
use self::request_ids::{RecordIds, RequestIdTable};
use self::signature::{LoggedFields, RequestSignature, ServerFields};
use self::tls::TlsExchanges;
use super::costs;
use super::line::{HeldLine, LineNumber, LoggedLine, LoggedRequestId, OrderPlace, low};
use super::record::MappingEvent;
use super::settings::JoinSettings;
use crate::hash::mix;
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp, micros};

/// All that is remembered.
pub(crate) struct Memory {
    /// [`JoinSettings::wait`] in microseconds.
    pub(crate) wait: i64,
    /// [`JoinSettings::window`] in microseconds.
    pub(crate) window: i64,
    /// [`JoinSettings::max_mappings`].
    max_mappings: usize,
    /// The latest time that the driver has named.
    pub(crate) now: Timestamp,
    backlog: Backlog,
    /// By [`ServerIndex`](super::ServerIndex).
    pub(crate) servers: Vec<ServerMemory>,
    pub(crate) mappings: MappingTable,
    pub(crate) exchanges: ExchangeTable,
    pub(crate) connections: ConnectionTable,
    pub(crate) request_ids: RequestIdTable,
    /// Whether mappings without a connection were seen, of [`Cut::Short`] and of other cuts.
    seen: [bool; 2],
    /// Whether a record of another balancer than ours was seen.
    pub(crate) has_third_party: bool,
    pub(crate) counts: MappingCounts,
}

/// What is remembered of one server.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct ServerMemory {
    /// The fields that lines and records of the server have.
    pub(crate) fields: ServerFields,
    /// Whether any mapping was seen.
    pub(crate) is_known: bool,
    /// Whether a record of another balancer than ours was seen. Such records come when an exchange is over,
    /// so that the record of a rival may still be on its way.
    pub(crate) is_third_party: bool,
    /// The end of an exchange that lines follow.
    pub(crate) dated_by: DatedBy,
    /// Whether a record of our own balancer was seen that names its connection.
    pub(crate) is_ours: bool,
    /// Whether a mapping was seen that does not name the balancer's port.
    pub(crate) has_nameless: bool,
    /// Whether one was seen that does.
    pub(crate) has_named: bool,
    /// Ids of requests in the server's records.
    pub(crate) ids: RecordIds,
    /// The coarsest stamp of a mapping so far.
    pub(crate) coarsest: Resolution,
    /// Held lines for which there is no mapping yet.
    pub(crate) short: u32,
    /// Held lines.
    pub(crate) held: u32,
    /// The number of the last mapping that does not name its connection.
    pub(crate) mappings: OrderPlace,
    /// The number of the last line.
    pub(crate) lines: OrderPlace,
    /// Connections of our own balancers, and of others that record the opening.
    pub(crate) load: ConnectionLoad,
    /// TLS exchanges, if there were any.
    pub(crate) tls: Option<Box<TlsExchanges>>,
}

/// What came late: senders that were cut off send all that they have kept, the lines perhaps after their mappings.
#[derive(Clone, Copy, Default)]
struct Backlog {
    /// The oldest time of a backlog, and when the backlog is over.
    oldest: Option<(Timestamp, Timestamp)>,
}

impl Backlog {
    fn note(&mut self, time: Timestamp, now: Timestamp) {
        let oldest = self.oldest(now).min(time);
        self.oldest = Some((oldest, now.offset_by(costs::BACKLOG_LASTS)));
    }

    fn oldest(&self, now: Timestamp) -> Timestamp {
        self.oldest.filter(|&(_, over)| now < over).map_or(now, |(oldest, _)| oldest.min(now))
    }
}

/// What became of the mappings taken.
#[derive(Clone, Copy, Default)]
pub(crate) struct MappingCounts {
    pub(crate) taken: u64,
    pub(crate) used: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
}

impl ServerMemory {
    pub(crate) const fn new() -> Self {
        Self {
            fields: ServerFields::new(),
            is_known: false,
            is_third_party: false,
            dated_by: DatedBy::LaterEnd,
            is_ours: false,
            has_nameless: false,
            has_named: false,
            ids: RecordIds::new(),
            coarsest: Resolution::Microsecond,
            short: 0,
            held: 0,
            mappings: OrderPlace::FIRST,
            lines: OrderPlace::FIRST,
            load: ConnectionLoad::new(),
            tls: None,
        }
    }

    /// Returns whether a mapping with a connection was seen.
    pub(crate) const fn has_exchanges(&self) -> bool {
        self.is_ours || self.is_third_party
    }
}

impl Memory {
    pub(crate) fn new(settings: &JoinSettings) -> Self {
        Self {
            wait: micros(settings.wait),
            window: micros(settings.window),
            max_mappings: settings.max_mappings,
            now: Timestamp::MIN,
            backlog: Backlog::default(),
            servers: Vec::new(),
            mappings: MappingTable::default(),
            exchanges: ExchangeTable::default(),
            connections: ConnectionTable::default(),
            request_ids: RequestIdTable::default(),
            seen: [false; 2],
            has_third_party: false,
            counts: MappingCounts::default(),
        }
    }

    /// Takes a mapping; returns whether the server's mappings and lines are grouped by other fields now.
    pub(crate) fn take(&mut self, record: &MappingEvent) -> bool {
        if let Some(event) = &record.exchange {
            return self.take_event(record, event);
        }
        self.counts.taken += 1;
        let server = record.server.0;
        let (Some(known), Some(request)) = (self.servers.get_mut(server as usize), record.request)
        else {
            self.counts.evicted += 1;
            return false;
        };
        known.coarsest = known.coarsest.max(record.resolution);
        if !record.is_body {
            known.mappings = known.mappings.next();
        }
        (known.is_known, known.has_nameless) = (true, true);
        known.ids.count(false);
        self.seen[usize::from(record.cut != Cut::Short)] = true;
        let group = self.mappings.find_or_add(plain_key(server, record.cut, request), server);
        self.remember(group, record, None);
        false
    }

    /// Adds a mapping to a group, and evicts the oldest mappings beyond the bound.
    fn remember(
        &mut self,
        group: GroupSlot,
        record: &MappingEvent,
        facts: Option<FactsSlot>,
    ) -> MappingSlot {
        let time = (record.time, record.resolution);
        let place = self.servers[record.server.0 as usize].mappings;
        let mapping = self.mappings.add(group, record.client, time, (place, facts));
        if record.is_unauthenticated {
            self.mappings.distrust(mapping);
        }
        self.count_joined(group);
        while self.mappings.len() > self.most_mappings() {
            self.evict();
        }
        mapping
    }

    /// Counts a line with an id of its request; returns whether a record with the id is there.
    pub(crate) fn take_line_id(&mut self, line: &LoggedLine) -> bool {
        let LoggedRequestId::Given(id) = line.request_id else { return false };
        self.tidy_ids();
        // Before the first decision it is not known how late it is.
        self.request_ids.take_line(line.server.0, id, self.now.max(line.time))
    }

    /// Takes notice of a line or a mapping of this time.
    pub(crate) fn note_time(&mut self, time: Timestamp) {
        if self.now.micros_since(time) > costs::BACKLOG_LATE {
            self.backlog.note(time, self.now);
        }
    }

    /// Returns the time before which nothing is remembered, but for lines that are held.
    pub(crate) fn too_old(&self) -> Timestamp {
        self.backlog.oldest(self.now).offset_by(-self.window)
    }

    fn tidy_ids(&mut self) {
        let (oldest, most) = (self.too_old(), self.most_mappings());
        self.request_ids.tidy(oldest, most);
    }

    /// Counts a mapping that has joined a group, and so perhaps a line that lacks none any more.
    fn count_joined(&mut self, group: GroupSlot) {
        let members = self.mappings.group(group);
        if members.lines >= members.mappings {
            self.servers[members.server as usize].short -= 1;
        }
    }

    /// Returns how many mappings, and how many connections, are remembered at most. A mapping with its
    /// connection and its facts takes 400 bytes, one without 140.
    fn most_mappings(&self) -> usize {
        let most = self.max_mappings;
        (if self.connections.is_empty() { most } else { most * 3 / 8 }).max(1)
    }

    /// Forgets all mappings older than this. A mapping is as old as the end of its exchange; while the exchange goes
    /// on, the mapping is kept.
    pub(crate) fn expire(&mut self, too_old: Timestamp) {
        while let Some(oldest) = self.mappings.oldest() {
            let waiting = self.mappings.get(oldest);
            let facts = waiting.facts.map(|facts| self.exchanges.get(facts));
            if facts.map_or(waiting.time, |facts| facts.asked) >= too_old {
                break;
            }
            if waiting.time >= too_old || self.goes_on(oldest) {
                self.mappings.keep_oldest();
            } else {
                self.remove(oldest);
                self.counts.expired += 1;
            }
        }
        for _ in 0..costs::KEPT_CHECKED {
            let Some(kept) = self.mappings.next_kept() else { break };
            if self.mappings.get(kept).time < too_old && !self.goes_on(kept) {
                self.remove(kept);
                self.counts.expired += 1;
            }
        }
    }

    /// Whether the exchange of a mapping goes on: it is the last of a connection that is open.
    fn goes_on(&self, mapping: MappingSlot) -> bool {
        let Some(facts) = self.mappings.get(mapping).facts else { return false };
        let facts = self.exchanges.get(facts);
        let (connection, nth) = facts.place;
        let known = self.connections.get(connection);
        // The place of a connection that was forgotten may have another one by now.
        let is_it = request_key(known.serial, nth) == facts.key;
        is_it && !facts.ended && known.is_open() && known.asked == nth
    }

    /// Forgets a mapping kept beyond its time, or else the oldest.
    #[cold]
    fn evict(&mut self) {
        if let Some(mapping) = self.mappings.next_kept().or_else(|| self.mappings.oldest()) {
            self.remove(mapping);
            self.counts.evicted += 1;
        }
    }

    /// Removes a mapping, and no line, from its group.
    pub(crate) fn remove(&mut self, mapping: MappingSlot) {
        let group = self.mappings.group_of(mapping);
        self.forget_facts(mapping);
        self.mappings.remove(mapping);
        let members = self.mappings.group(group);
        let short = &mut self.servers[members.server as usize].short;
        *short += u32::from(members.lines > members.mappings);
        self.mappings.note_if_empty(group);
    }

    /// Makes a mapping so much less likely to be left for other lines; returns whether it is not left at all.
    pub(crate) fn claim(&mut self, mapping: MappingSlot, part: f64) -> bool {
        let unclaimed = self.mappings.claim(mapping, part);
        let is_taken = unclaimed < costs::CLAIMED_LEAST;
        if is_taken {
            self.counts.used += 1;
            self.remove(mapping);
        }
        is_taken
    }

    /// Forgets the facts of a mapping that is about to be removed.
    pub(crate) fn forget_facts(&mut self, mapping: MappingSlot) {
        if let Some(facts) = self.mappings.get(mapping).facts {
            self.exchanges.remove(facts, mapping);
        }
    }

    /// Removes the first line of a group together with the explaining mapping; `next` is the
    /// following line of the group.
    pub(crate) fn consume(
        &mut self,
        group: GroupSlot,
        mapping: MappingSlot,
        next: Option<LineNumber>,
    ) {
        self.counts.used += 1;
        self.forget_facts(mapping);
        self.mappings.remove(mapping);
        let members = self.mappings.group_mut(group);
        members.lines -= 1;
        members.first_line = next;
        self.mappings.note_if_empty(group);
    }

    /// Removes the only line of a group together with its only mapping.
    pub(crate) fn consume_both(&mut self, group: GroupSlot, mapping: MappingSlot) {
        self.counts.used += 1;
        self.forget_facts(mapping);
        self.mappings.take_both(group, mapping);
    }

    /// Adds a line to the end of a group; returns the group's last line before it.
    pub(crate) fn add_line(&mut self, group: GroupSlot, line: LineNumber) -> Option<LineNumber> {
        let members = self.count_line(group);
        let last = members.last_line.replace(line);
        if members.lines > 1 {
            return last;
        }
        members.first_line = Some(line);
        None
    }

    /// Adds the oldest held line to a group as the group's first; returns the group's first line before it.
    pub(crate) fn add_first_line(
        &mut self,
        group: GroupSlot,
        line: LineNumber,
    ) -> Option<LineNumber> {
        let members = self.count_line(group);
        let first = members.first_line.replace(line);
        if members.lines > 1 {
            return first;
        }
        members.last_line = Some(line);
        None
    }

    /// Counts one more line of a group, and whether the group is now short of mappings.
    fn count_line(&mut self, group: GroupSlot) -> &mut RequestGroup {
        let members = self.mappings.group_mut(group);
        members.lines += 1;
        if members.lines > members.mappings {
            self.servers[members.server as usize].short += 1;
        }
        members
    }

    /// Removes the first line of a group, without a mapping; `next` is the following line of the
    /// group.
    pub(crate) fn leave_group(&mut self, group: GroupSlot, next: Option<LineNumber>) {
        let members = self.mappings.group_mut(group);
        let short = &mut self.servers[members.server as usize].short;
        *short -= u32::from(members.lines > members.mappings);
        members.lines -= 1;
        members.first_line = next;
        self.mappings.note_if_empty(group);
    }

    /// Returns the group a line waits in; `None` if its request could not be read. Where mappings with and
    /// without connections were seen, or mappings of both cuts, the line waits in the only group that has
    /// any.
    pub(crate) fn group_of(&mut self, line: &LoggedLine) -> Option<GroupSlot> {
        let server = line.server.0;
        if let Some((own, request)) = self.exchange_key_of(line) {
            let has_mappings = |group| self.mappings.group(group).mappings > 0;
            let others = self.seen != [false; 2];
            if !others || self.mappings.find(own).is_some_and(has_mappings) {
                return Some(self.exchange_group(own, server, request));
            }
        }
        let long = line.long.map(|request| plain_key(server, Cut::Long, request));
        let short = line.short.map(|request| plain_key(server, Cut::Short, request));
        let (first, second) = match (long, short) {
            (Some(long), Some(short)) if self.seen == [true, false] => (short, Some(long)),
            (Some(long), short) => (long, short),
            (None, short) => (short?, None),
        };
        let has_mappings = |&group: &GroupSlot| self.mappings.group(group).mappings > 0;
        let other = second.filter(|_| self.seen == [true, true]);
        if let Some(other) = other.and_then(|key| self.mappings.find(key)).filter(has_mappings)
            && !self.mappings.find(first).is_some_and(|group| has_mappings(&group))
        {
            return Some(other);
        }
        Some(self.mappings.find_or_add(first, server))
    }

    /// Returns the group whose mappings the line could have by now, if there is such a group.
    pub(crate) fn group_now_of(&self, line: &LoggedLine) -> Option<GroupSlot> {
        let server = line.server.0;
        let of = |request: Option<Fingerprint>, cut| {
            request.and_then(|request| self.mappings.find(plain_key(server, cut, request)))
        };
        let own = self.own_group_of(line);
        own.or_else(|| of(line.long, Cut::Long)).or_else(|| of(line.short, Cut::Short))
    }

    /// Returns the group with this key, whose mappings have facts.
    fn exchange_group(&mut self, key: u64, server: u32, request: Fingerprint) -> GroupSlot {
        let group = self.mappings.find_or_add(key, server);
        let members = self.mappings.group_mut(group);
        (members.of_exchanges, members.request) = (true, Some(request));
        group
    }

    /// Returns the group of a held line by its request, after the server's fields have changed.
    pub(crate) fn regroup(&mut self, line: &HeldLine, request: Fingerprint) -> GroupSlot {
        let key = self.servers[line.server as usize].fields.key();
        let key = exchange_key(line.server, request, RequestSignature::of_held(line), key);
        self.exchange_group(key, line.server, request)
    }

    /// Returns the key of a line among mappings with facts; `None` if the server has no such
    /// mappings.
    #[inline]
    fn exchange_key_of(&self, line: &LoggedLine) -> Option<(u64, Fingerprint)> {
        let server = self.servers.get(line.server.0 as usize)?;
        if server.has_exchanges() { self.exchange_key_at(server, line) } else { None }
    }

    /// Not inline, as where no record names its connection, this is never asked.
    #[inline(never)]
    fn exchange_key_at(
        &self,
        server: &ServerMemory,
        line: &LoggedLine,
    ) -> Option<(u64, Fingerprint)> {
        let signature = RequestSignature::of_line(line);
        let fields = server.fields.key();
        let key = |request| (exchange_key(line.server.0, request, signature, fields), request);
        let target = line.target.filter(|_| server.is_third_party).map(key);
        let own = line.whole.or(line.long).map(key).filter(|_| server.is_ours || target.is_none());
        let (Some(own), Some(target)) = (own, target) else { return own.or(target) };
        let has_mappings = |(key, _): (u64, Fingerprint)| {
            self.mappings.find(key).is_some_and(|it| self.mappings.group(it).mappings > 0)
        };
        Some(if has_mappings(target) && !has_mappings(own) { target } else { own })
    }

    /// Returns a hash of what the line is compared by among mappings with facts; 0 without a request.
    pub(crate) fn request_hash(&self, line: &LoggedLine) -> u32 {
        self.exchange_key_of(line).map_or(0, |(key, _)| low(key))
    }

    /// Returns the group of mappings with facts that a line belongs to, if there is one.
    pub(crate) fn own_group_of(&self, line: &LoggedLine) -> Option<GroupSlot> {
        self.exchange_key_of(line).and_then(|(key, _)| self.mappings.find(key))
    }

    /// Learns which fields a line has; returns whether the server's mappings and lines are grouped by others now. A
    /// line that could not be parsed changes nothing.
    pub(crate) fn take_fields(&mut self, line: &LoggedLine) -> bool {
        let Some(server) = self.servers.get_mut(line.server.0 as usize) else { return false };
        let is_read = line.long.is_some() || line.target.is_some();
        let changes = is_read && server.fields.take_line(LoggedFields::of_line(line));
        if changes {
            self.move_mappings(line.server.0);
        }
        changes
    }

    /// Expects lines of a server to name ports, where clients share the balancer's connections.
    pub(crate) fn expect_peers(&mut self, server: u32) {
        if let Some(server) = self.servers.get_mut(server as usize).filter(|it| it.is_third_party) {
            server.fields.expect(LoggedFields::PEER);
        }
    }

    /// Compares lines of a source without headers; returns whether lines and mappings are grouped by others now.
    pub(crate) fn distrust_headers(&mut self, line: &HeldLine) -> bool {
        let changes = self.servers[line.server as usize].fields.distrust_headers(line.origin);
        if changes {
            self.move_mappings(line.server);
        }
        changes
    }

    /// Whether line and mapping have different headers or ports, as far as their group does not tell.
    pub(crate) fn differ(&self, facts: &ExchangeFacts, line: &HeldLine) -> bool {
        let fields = self.servers[line.server as usize].fields.beyond_key(line.origin);
        fields != LoggedFields::NONE
            && facts.signature.differs(RequestSignature::of_held(line), fields)
    }

    /// Whether all mappings of a server name the balancer's port, so that the port of a line is a key.
    pub(crate) fn has_own_ports(&self, server: u32) -> bool {
        let server = &self.servers[server as usize];
        server.is_ours && !server.is_third_party && !server.has_nameless
    }

    /// Whether a mapping is out of the question for a line: asked after the line, or long before it.
    pub(crate) fn cannot_be(&self, waiting: &WaitingMapping, line: &HeldLine) -> bool {
        let WaitingMapping { time, resolution, facts, .. } = *waiting;
        let Some(facts) = facts else { return self.is_impossible((time, resolution), line) };
        let asked = self.exchanges.get(facts).asked;
        let slack = self.wait + line.resolution.max(resolution).micros();
        let early = asked.micros_since(line.time);
        early >= slack || line.time.micros_since(time) > self.window
    }

    /// Whether a mapping of this time comes after the line, but for coarse stamps and late arrival, or is
    /// older than the window.
    pub(crate) fn is_impossible(
        &self,
        (time, resolution): (Timestamp, Resolution),
        line: &HeldLine,
    ) -> bool {
        let step = line.resolution.max(resolution).micros();
        let delay = line.time.micros_since(time);
        delay + self.wait + step <= 0 || delay > self.window
    }
}

/// Returns the key of the group of mappings without a connection: server, request and cut as one number.
/// Different groups share a key once in 2^64.
fn plain_key(server: u32, cut: Cut, request: Fingerprint) -> u64 {
    let cut = u64::from(cut != Cut::Short);
    let salt = (u64::from(server) << 1 | cut).wrapping_add(1);
    mix(salt, request.get())
}

/// Returns the key of the group of mappings with facts: server, request and signature as one number.
fn exchange_key(
    server: u32,
    request: Fingerprint,
    signature: RequestSignature,
    fields: LoggedFields,
) -> u64 {
    mix(!u64::from(server), request.get() ^ signature.hash(fields))
}

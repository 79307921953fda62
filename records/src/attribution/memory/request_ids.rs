//! Ids of requests: which record and how many lines have each.
//!
//! A client may send an id of its own, and a balancer may pass such an id on. An id of several clients' records, or of
//! several lines, is a key to nothing.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::client::RecordedClient;
use super::costs;
use crate::hash::mix;
use crate::request_id::RequestId;
use crate::time::Timestamp;

/// What has come with one id at one server.
#[derive(Clone, Copy)]
pub(crate) struct RequestIdUse {
    key: u64,
    /// The first record with the id.
    pub(crate) record: Option<RequestIdRecord>,
    /// Lines with the id.
    pub(crate) lines: u8,
    /// Whether records of several clients have the id.
    pub(crate) is_shared: bool,
}

/// A record with an id.
#[derive(Clone, Copy)]
pub(crate) struct RequestIdRecord {
    pub(crate) client: RecordedClient,
    /// See [`super::exchanges::request_key`].
    pub(crate) request_key: u64,
}

/// The ids of a window.
#[derive(Default)]
pub(crate) struct RequestIdTable {
    uses: HashTable<RequestIdUse>,
    /// Keys with the time of their first use, oldest first.
    order: VecDeque<(Timestamp, u64)>,
}

impl RequestIdTable {
    /// Counts a line with the id; returns whether a record with the id is there.
    pub(super) fn take_line(&mut self, server: u32, id: RequestId, now: Timestamp) -> bool {
        let found = self.find_or_add(server, id, now);
        found.lines = found.lines.saturating_add(1);
        found.record.is_some()
    }

    /// Takes a record with the id; returns whether another client's record has the id, too.
    pub(super) fn take_record(
        &mut self,
        (server, id): (u32, RequestId),
        record: RequestIdRecord,
        now: Timestamp,
    ) -> bool {
        let found = self.find_or_add(server, id, now);
        let first = *found.record.get_or_insert(record);
        let is_other = first.client.addr != record.client.addr;
        found.is_shared |= is_other;
        is_other
    }

    /// Returns what has come with the id.
    pub(crate) fn find(&self, server: u32, id: RequestId) -> Option<RequestIdUse> {
        let key = id_key(server, id);
        self.uses.find(key, |it| it.key == key).copied()
    }

    fn find_or_add(&mut self, server: u32, id: RequestId, now: Timestamp) -> &mut RequestIdUse {
        let key = id_key(server, id);
        let order = &mut self.order;
        self.uses
            .entry(key, |it| it.key == key, |it| it.key)
            .or_insert_with(|| {
                order.push_back((now, key));
                RequestIdUse { key, record: None, lines: 0, is_shared: false }
            })
            .into_mut()
    }

    /// Forgets ids from before `too_old`, and the oldest beyond `most`.
    pub(super) fn tidy(&mut self, too_old: Timestamp, most: usize) {
        while let Some(&(time, key)) = self.order.front()
            && (time < too_old || self.order.len() > most)
        {
            self.order.pop_front();
            if let Ok(entry) = self.uses.find_entry(key, |it| it.key == key) {
                entry.remove();
            }
        }
    }
}

fn id_key(server: u32, id: RequestId) -> u64 {
    mix(u64::from(server), id.get())
}

/// What is known of the ids in one server's records.
#[derive(Clone, Copy, Default)]
pub(crate) struct RecordIds {
    with: u32,
    without: u32,
    /// Whether two clients' records had one id: clients choose ids themselves.
    is_open: bool,
}

impl RecordIds {
    pub(crate) const fn new() -> Self {
        Self { with: 0, without: 0, is_open: false }
    }

    pub(super) fn count(&mut self, has_id: bool) {
        let counter = if has_id { &mut self.with } else { &mut self.without };
        *counter = counter.saturating_add(1);
    }

    pub(super) fn note_shared(&mut self) {
        self.is_open = true;
    }

    /// Whether any record has an id.
    pub(crate) const fn has_any(self) -> bool {
        self.with > 0
    }

    /// Whether the balancer gives nearly each request an id of its own making, as far as is known.
    pub(crate) const fn are_keys(self) -> bool {
        self.with > 0
            && !self.is_open
            && self.with / costs::RECORDS_PER_RECORD_WITHOUT_ID >= self.without
    }

    /// Whether the balancer gives each request such an id.
    pub(crate) const fn are_complete(self) -> bool {
        self.are_keys() && self.without == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(client: u8) -> RequestIdRecord {
        let addr = std::net::IpAddr::from([192, 0, 2, client]).into();
        let request_key = client.into();
        let client = RecordedClient { addr, is_unauthenticated: false };
        RequestIdRecord { client, request_key }
    }

    #[test]
    fn an_id_of_two_clients_is_shared_and_of_one_server_only() {
        let (id, now) = (RequestId::of(b"0123456789ab").unwrap(), Timestamp::MIN);
        let mut table = RequestIdTable::default();
        assert!(!table.take_record((0, id), record(1), now));
        assert!(!table.take_record((0, id), record(1), now));
        table.take_line(0, id, now);
        let found = table.find(0, id).unwrap();
        assert_eq!((found.lines, found.is_shared), (1, false));
        assert!(table.take_record((0, id), record(2), now));
        assert!(table.find(0, id).unwrap().is_shared);
        assert!(table.find(1, id).is_none());
    }

    #[test]
    fn old_ids_and_those_beyond_the_bound_are_forgotten() {
        let mut table = RequestIdTable::default();
        let id = |number: i64| RequestId::of(format!("request-{number:09}").as_bytes()).unwrap();
        for number in 0..100 {
            table.take_line(0, id(number), Timestamp::from_micros(number));
        }
        table.tidy(Timestamp::from_micros(50), 1_000);
        assert!(table.find(0, id(49)).is_none() && table.find(0, id(50)).is_some());
        table.tidy(Timestamp::MIN, 10);
        assert!(table.find(0, id(89)).is_none() && table.find(0, id(90)).is_some());
        assert_eq!((table.uses.len(), table.order.len()), (10, 10));
    }
}

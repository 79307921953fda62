//! How much of what is said on a connection is listened to.

use std::time::Instant;

use crate::data::pool::Traffic;
use crate::data::relay::duplex::Side;
use crate::data::relay::http::HttpEvent;
use crate::data::relay::http::conversation::{Conversation, EditOutcome};
use crate::data::relay::pump::ByteObserver;
use crate::data::relay::tls_observer::{ObservedExchange, TlsObserver};

/// How much of what is said is listened to.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    /// From the first byte on; until then it takes no memory.
    FromNowOn,
    All(Box<Conversation>),
}

impl Heard {
    pub(super) fn get(&self) -> Option<&Conversation> {
        match self {
            Self::All(it) => Some(it),
            Self::Nothing | Self::FromNowOn => None,
        }
    }

    /// Something is said.
    pub(super) fn begin(&mut self) -> Option<&mut Conversation> {
        if matches!(self, Self::FromNowOn) {
            *self = Self::All(Box::new(Conversation::new(None)));
        }
        match self {
            Self::All(it) => Some(it),
            Self::Nothing | Self::FromNowOn => None,
        }
    }
}

/// What is watched of TLS that passes through.
pub(super) struct Sealed<'a> {
    pub(super) may_be: bool,
    pub(super) at: &'a mut Option<Box<TlsObserver>>,
    pub(super) rests: &'a mut Vec<ObservedExchange>,
    pub(super) now: Instant,
}

impl Sealed<'_> {
    /// The first bytes of a connection.
    fn begin(&mut self, bytes: &[u8]) {
        if self.may_be && TlsObserver::may_begin(bytes) {
            *self.at = Some(Box::default());
        }
    }

    fn pass(&mut self, from: Side, bytes: &[u8]) {
        let Some(tls_observer) = self.at.as_deref_mut() else { return };
        let passed = match from {
            Side::Client => {
                tls_observer.observe_client(bytes, self.now).map(|over| self.rests.extend(over))
            }
            Side::Server => tls_observer.observe_server(bytes, self.now),
        };
        if passed.is_err() {
            *self.at = None;
        }
    }
}

pub(super) struct Watcher<'a, N, J> {
    pub(super) traffic: &'a mut Traffic,
    pub(super) conversation: &'a mut Heard,
    pub(super) edited: &'a mut Vec<u8>,
    pub(super) left_first: &'a mut Option<Side>,
    pub(super) tls_observer: Sealed<'a>,
    pub(super) note: N,
    pub(super) judge: J,
}

impl<N: FnMut(HttpEvent<'_>), J: FnMut(EditOutcome)> ByteObserver for Watcher<'_, N, J> {
    fn pass<'a>(&'a mut self, from: Side, bytes: &'a [u8]) -> &'a [u8] {
        let count = bytes.len() as u64;
        if from == Side::Client && self.traffic.to_server == 0 {
            self.tls_observer.begin(bytes);
        }
        self.tls_observer.pass(from, bytes);
        match from {
            Side::Client => self.traffic.to_server += count,
            Side::Server => self.traffic.to_client += count,
        }
        match (self.conversation.begin(), from) {
            (None, _) => bytes,
            (Some(it), Side::Client) => {
                it.from_client(bytes, self.edited, &mut self.note, &mut self.judge)
            }
            (Some(it), Side::Server) => {
                it.from_server(bytes, &mut self.note);
                bytes
            }
        }
    }

    fn refuses(&self, from: Side) -> bool {
        from == Side::Client && self.conversation.get().is_some_and(Conversation::refuses)
    }

    fn lost(&mut self, side: Side) {
        self.left_first.get_or_insert(side);
    }

    fn end(&mut self, from: Side) -> &[u8] {
        self.left_first.get_or_insert(from);
        match (self.conversation.begin(), from) {
            (Some(it), Side::Server) => it.server_ends(&mut self.note),
            (None, _) | (_, Side::Client) => b"",
        }
    }
}

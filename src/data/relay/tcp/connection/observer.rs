//! Observers of the bytes on a connection: traffic counts, HTTP and opaque TLS.

use std::time::Instant;

use crate::data::pool::Traffic;
use crate::data::relay::duplex::Side;
use crate::data::relay::http::HttpEvent;
use crate::data::relay::http::conversation::{Conversation, EditOutcome};
use crate::data::relay::pump::ByteObserver;
use crate::data::relay::tls_observer::{ObservedExchange, TlsObserver};

/// Whether HTTP is followed on a connection.
#[derive(Debug)]
pub(super) enum HttpObserver {
    Off,
    /// From the first byte on; takes no memory until then.
    Waiting,
    On(Box<Conversation>),
}

impl HttpObserver {
    pub(super) fn get(&self) -> Option<&Conversation> {
        match self {
            Self::On(conversation) => Some(conversation),
            Self::Off | Self::Waiting => None,
        }
    }

    /// Returns the conversation to feed with bytes. The first byte creates the conversation.
    fn begin(&mut self) -> Option<&mut Conversation> {
        if matches!(self, Self::Waiting) {
            *self = Self::On(Box::new(Conversation::new(None)));
        }
        match self {
            Self::On(conversation) => Some(conversation),
            Self::Off | Self::Waiting => None,
        }
    }
}

/// The place of the observer of opaque TLS.
pub(super) struct TlsSlot<'a> {
    /// Whether opaque TLS is observed if the connection turns out to be TLS.
    pub(super) enabled: bool,
    pub(super) observer: &'a mut Option<Box<TlsObserver>>,
    /// Exchanges that have ended.
    pub(super) ended: &'a mut Vec<ObservedExchange>,
    pub(super) now: Instant,
}

impl TlsSlot<'_> {
    /// Creates the observer if the first bytes of the client look like TLS.
    fn begin(&mut self, bytes: &[u8]) {
        if self.enabled && TlsObserver::may_begin(bytes) {
            *self.observer = Some(Box::default());
        }
    }

    /// Passes bytes to the observer, which is dropped if the bytes are not TLS.
    fn observe(&mut self, from: Side, bytes: &[u8]) {
        let Some(observer) = self.observer.as_deref_mut() else { return };
        let observed = match from {
            Side::Client => {
                observer.observe_client(bytes, self.now).map(|ended| self.ended.extend(ended))
            }
            Side::Server => observer.observe_server(bytes, self.now),
        };
        if observed.is_err() {
            *self.observer = None;
        }
    }
}

/// Sees all bytes of a connection before they are written.
pub(super) struct ConnectionObserver<'a, E, J> {
    pub(super) traffic: &'a mut Traffic,
    pub(super) http: &'a mut HttpObserver,
    /// Buffer for edited bytes.
    pub(super) edited: &'a mut Vec<u8>,
    pub(super) closed_first: &'a mut Option<Side>,
    pub(super) tls: TlsSlot<'a>,
    /// Called with each HTTP event.
    pub(super) on_event: E,
    /// Called if HTTP mode rejects a request or leaves a connection unchanged.
    pub(super) on_edit: J,
}

impl<E: FnMut(HttpEvent<'_>), J: FnMut(EditOutcome)> ByteObserver for ConnectionObserver<'_, E, J> {
    fn pass<'a>(&'a mut self, from: Side, bytes: &'a [u8]) -> &'a [u8] {
        let count = bytes.len() as u64;
        if from == Side::Client && self.traffic.to_server == 0 {
            self.tls.begin(bytes);
        }
        self.tls.observe(from, bytes);
        match from {
            Side::Client => self.traffic.to_server += count,
            Side::Server => self.traffic.to_client += count,
        }
        match (self.http.begin(), from) {
            (None, _) => bytes,
            (Some(it), Side::Client) => {
                let came = (bytes, self.tls.now);
                it.from_client(came, self.edited, &mut self.on_event, &mut self.on_edit)
            }
            (Some(it), Side::Server) => {
                it.from_server(bytes, &mut self.on_event);
                bytes
            }
        }
    }

    fn refuses(&self, from: Side) -> bool {
        from == Side::Client && self.http.get().is_some_and(Conversation::refuses)
    }

    fn lost(&mut self, side: Side) {
        self.closed_first.get_or_insert(side);
    }

    fn end(&mut self, from: Side) -> &[u8] {
        self.closed_first.get_or_insert(from);
        match (self.http.begin(), from) {
            (Some(it), Side::Server) => it.server_ends(&mut self.on_event),
            (None, _) | (_, Side::Client) => b"",
        }
    }
}

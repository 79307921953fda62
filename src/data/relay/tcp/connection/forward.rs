//! Forwarding on a connection: two sockets, the buffers lent by the worker, and the observers of
//! the bytes.

use std::io;
use std::time::Instant;

use super::Connection;
use super::observer::{ConnectionObserver, TlsSlot};
use super::records::{access_line, exchange_record, record_exchange};
use crate::data::relay::counters::RelayCounters;
use crate::data::relay::duplex::{Ready, Side};
use crate::data::relay::http::HttpEvent;
use crate::data::relay::pump::{self, Ends, PumpOutcome};
use crate::data::relay::socket::Socket;
use crate::data::relay::tls::{SCRATCH, TlsEnds};
use crate::data::relay::tls_observer::ObservedExchange;
use crate::logs::sinks::RecordSinks;

/// Buffers lent by a worker to the connection being served.
#[derive(Debug)]
pub(in crate::data::relay::tcp) struct ScratchBuffers {
    /// Bytes that were read.
    pub(in crate::data::relay::tcp) read: Box<[u8]>,
    /// Bytes that HTTP mode has edited.
    edited: Vec<u8>,
    /// Exchanges of opaque TLS that have ended.
    exchanges: Vec<ObservedExchange>,
}

impl ScratchBuffers {
    /// Creates buffers for reads of up to `bytes`.
    pub(in crate::data::relay::tcp) fn new(bytes: usize) -> Self {
        Self { read: vec![0; bytes].into_boxed_slice(), edited: Vec::new(), exchanges: Vec::new() }
    }
}

/// Everything a worker lends to a connection being served.
#[derive(Debug)]
pub(in crate::data::relay::tcp) struct PumpContext<'a> {
    pub(in crate::data::relay::tcp) scratch: &'a mut ScratchBuffers,
    pub(in crate::data::relay::tcp) sinks: &'a mut RecordSinks,
    pub(in crate::data::relay::tcp) counters: &'a RelayCounters,
    pub(in crate::data::relay::tcp) now: Instant,
}

impl Connection {
    /// Forwards as many bytes as the sockets and the I/O budget allow.
    pub(in crate::data::relay::tcp) fn pump(&mut self, context: PumpContext<'_>) -> PumpOutcome {
        let before = (self.traffic, self.in_flight());
        // Bytes that are only thrown away do not keep a connection from its idle timeout.
        let only_discards = self.duplex.only_discards();
        let Some(server) = &self.server else { return PumpOutcome::Wait };
        let PumpContext { scratch, sinks, counters, now } = context;
        let (number, caller) = (self.number, &self.caller);
        let recorded = self.recorded;
        let exchanges = &mut self.exchanges;
        let mut observer = ConnectionObserver {
            traffic: &mut self.traffic,
            http: &mut self.http,
            edited: &mut scratch.edited,
            closed_first: &mut self.closed_first,
            tls: TlsSlot {
                enabled: recorded && self.tls.is_none(),
                observer: &mut self.tls_observer,
                ended: &mut scratch.exchanges,
                now,
            },
            on_event: |event: HttpEvent<'_>| {
                let ended = exchanges.as_mut().and_then(|it| it.apply(&event, now));
                if let Some(ended) = ended {
                    let line = access_line(&ended, number, caller, server, now);
                    sinks.access_lines.add(&line, now);
                }
                let record = exchange_record(event, number, caller, server, now);
                if let Some(record) = record.filter(|_| recorded) {
                    sinks.record(&record, now);
                }
            },
            on_edit: |outcome| counters.count_edit(outcome),
        };
        let (duplex, unsent) = (&mut self.duplex, &mut self.unsent);
        let outcome = match &mut self.tls {
            None => {
                let mut ends = SocketPair { client: &self.client, server: &server.socket };
                pump::pump(duplex, unsent, &mut ends, &mut observer, &mut scratch.read)
            }
            Some(layers) => {
                let (ciphertext, buf) = scratch.read.split_at_mut(SCRATCH);
                let transports = [&self.client, &server.socket];
                let mut ends = TlsEnds { transports, layers, scratch: ciphertext };
                ends.flush();
                let outcome = pump::pump(duplex, unsent, &mut ends, &mut observer, buf);
                if outcome == PumpOutcome::Wait {
                    ends.trim();
                }
                outcome
            }
        };
        for exchange in scratch.exchanges.drain(..) {
            record_exchange(&exchange, number, caller, server, (sinks, now));
        }
        if (self.traffic, self.in_flight()) != before && !only_discards {
            self.active = now;
        }
        outcome
    }

    /// Like [`Self::pump`], for a connection that looks idle. The kernel reports a socket as
    /// writable only when much of the buffer is free: a receiver that takes a little now and then
    /// causes no event. So a write is tried all the same.
    pub(in crate::data::relay::tcp) fn pump_again(
        &mut self,
        context: PumpContext<'_>,
    ) -> PumpOutcome {
        for side in [Side::Client, Side::Server] {
            self.duplex.ready(side, Ready { writable: true, ..Ready::default() });
        }
        self.pump(context)
    }

    /// Returns unwritten bytes, and ciphertext sent: both change when a receiver takes bytes from
    /// an earlier read.
    fn in_flight(&self) -> (usize, u64) {
        (self.unsent.len(), self.tls.as_ref().map_or(0, |layers| layers.sent()))
    }
}

/// The two sockets of a connection without TLS.
struct SocketPair<'a> {
    client: &'a Socket,
    server: &'a Socket,
}

impl SocketPair<'_> {
    const fn at(&self, side: Side) -> &Socket {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }
}

impl Ends for SocketPair<'_> {
    fn read(&mut self, from: Side, buf: &mut [u8]) -> io::Result<usize> {
        self.at(from).read(buf)
    }

    fn write(&mut self, to: Side, bytes: &[u8]) -> io::Result<usize> {
        self.at(to).write(bytes)
    }

    fn finish(&mut self, to: Side, last: bool) -> io::Result<()> {
        if !last {
            self.at(to).finish();
        }
        Ok(())
    }
}

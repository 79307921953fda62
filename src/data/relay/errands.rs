//! What a worker does for others with each of its connections: with some of them in each round, so that traffic never
//! waits for all.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::report::Inquiry;
use super::shared::Order;
use crate::config::Endpoint;
use crate::data::pool::ServerId;

/// Slots that are looked at in a round.
const SLICE: u32 = 1_024;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Errand {
    /// Say what there is.
    Report(Inquiry),
    /// Close the connection with this number, and say so.
    Close(u64, Sender<()>),
    /// Close all to this server, as long as it is at this address.
    CloseAll(ServerId, Endpoint),
    /// Set timers anew, as times have changed.
    SetTimers,
}

/// Those that are not done, and from which slot on.
#[derive(Debug, Default)]
pub(super) struct Errands(VecDeque<(Errand, u32)>);

impl Errands {
    /// Takes an order that does not have to be carried out at once; when to stop, if that is the order.
    pub(super) fn take(&mut self, order: Order) -> Option<Instant> {
        self.add(match order {
            Order::Stop { deadline } => return Some(deadline),
            Order::Close(number, to) => Errand::Close(number, to),
            Order::CloseAll(server, at) => Errand::CloseAll(server, at),
            Order::Report(question) => Errand::Report(Inquiry::new(question)),
            #[cfg(test)]
            Order::Fall => panic!("as it was told"),
        });
        None
    }

    /// One more.
    pub(super) fn add(&mut self, errand: Errand) {
        self.0.push_back((errand, 0));
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that is at its turn, and the slots to look at. Who is not done with it then, calls [`Self::go_on`].
    pub(super) fn next(&mut self) -> Option<(Errand, Range<u32>)> {
        let (errand, from) = self.0.pop_front()?;
        Some((errand, from..from.saturating_add(SLICE)))
    }

    /// The rest of it, from a slot on, in the next round.
    pub(super) fn go_on(&mut self, errand: Errand, from: u32) {
        self.0.push_front((errand, from));
    }
}

//! How far the records of each balancer have come. A line waits for the records of its time: some may have been lost on
//! the way, and are repaired, or a balancer cannot be heard at all.
//!
//! A balancer of this package numbers its records, asks which have come, and sends an empty packet while it has none. So
//! its last packet tells that all earlier records have come, or how many are missing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use indexmap::IndexMap;
use pen_records::attribution::{BalancerId, BehindBalancer};
use pen_records::mapping::origins::PacketDating;
use pen_records::mapping::packet::Packet;
use pen_records::time::Timestamp;

use super::Collector;
use crate::warnings::WarningCause;

/// Pause between two looks at all balancers.
const LOOK: Duration = Duration::from_millis(50);
/// How long a balancer gathers records at most: a packet may have older ones than the packet before.
const GATHERED: Duration = Duration::from_millis(20);
/// Time without any call after which the collector counts as stopped: nobody could be heard.
const STOPPED: Duration = Duration::from_secs(2);
/// How long a balancer is behind before it is said.
const SAID: Duration = Duration::from_secs(5);
/// How long a new run of a balancer is heard before the silent run before it counts as ended. The new one sends first what the
/// other has left on the disk.
const SUCCEEDED: Duration = Duration::from_secs(2);

/// The records of all balancers.
#[derive(Debug)]
pub(super) struct Watermarks {
    /// How long to wait for a balancer: without any news, or for its next missing record.
    grace: Duration,
    most: usize,
    balancers: IndexMap<BalancerId, BalancerProgress>,
    /// The last call, and the first after the collector was stopped.
    called: Timestamp,
    awake: Timestamp,
    looked: Timestamp,
}

/// The records of a balancer.
#[derive(Clone, Copy, Debug)]
struct BalancerProgress {
    addr: SocketAddr,
    /// All records before have come.
    complete: Timestamp,
    /// When the last packet was sent.
    sent: Timestamp,
    /// When the first packet came, and the last.
    first: Timestamp,
    heard: Timestamp,
    /// Whether it sends something while it has no records.
    is_beating: bool,
    /// Whether it asks what has come, and so repairs losses.
    is_asking: bool,
    /// Records that are missing, and may come.
    missing: u64,
    missing_since: Option<Timestamp>,
    /// Missing records that were waited for in vain.
    given_up: u64,
    is_said: bool,
}

impl Watermarks {
    /// Waits for each balancer for `grace`, and remembers at most `most` of them.
    pub(super) fn new(grace: Duration, most: usize) -> Self {
        let (called, awake, looked) = (Timestamp::MIN, Timestamp::MIN, Timestamp::MIN);
        Self { grace, most, balancers: IndexMap::new(), called, awake, looked }
    }

    /// Takes notice of the time.
    pub(super) fn touch(&mut self, now: Timestamp) {
        if now > self.called + STOPPED {
            self.awake = now;
        }
        self.called = self.called.max(now);
    }

    /// Takes notice of a new packet.
    pub(super) fn came(
        &mut self,
        from: SocketAddr,
        packet: &Packet<'_>,
        dating: &PacketDating,
        now: Timestamp,
    ) {
        let id = BalancerId(dating.balancer());
        if self.balancers.len() >= self.most && !self.balancers.contains_key(&id) {
            self.balancers.shift_remove_index(0);
        }
        let sent = dating.sent_here() - GATHERED;
        let balancer = self.balancers.entry(id).or_insert(BalancerProgress {
            addr: from,
            complete: Timestamp::MIN,
            sent,
            first: now,
            heard: now,
            is_beating: false,
            is_asking: false,
            missing: 0,
            missing_since: None,
            given_up: 0,
            is_said: false,
        });
        balancer.addr = from;
        balancer.sent = balancer.sent.max(sent);
        balancer.heard = balancer.heard.max(now);
        balancer.is_beating |= packet.count() == 0;
        balancer.take_missing(dating.repairable(), now);
        if balancer.missing_since.is_some() && dating.is_next() {
            // Repairs go on, however many there are.
            balancer.missing_since = Some(now);
            let newest = packet.mappings().map(|mapping| dating.of(&mapping)).max();
            balancer.complete = balancer.complete.max(newest.unwrap_or(Timestamp::MIN) - GATHERED);
        }
    }

    /// Takes notice that a balancer asks which of its records have come, of which so many are missing.
    pub(super) fn asked(&mut self, balancer: BalancerId, missing: u64, now: Timestamp) {
        if let Some(balancer) = self.balancers.get_mut(&balancer) {
            // Such a one sends something while it has no records, once it was answered.
            (balancer.is_asking, balancer.is_beating) = (true, true);
            balancer.heard = balancer.heard.max(now);
            balancer.take_missing(missing, now);
        }
    }

    /// Returns the balancers that lines may have to wait for, if it is time to look. Records that are missing are waited
    /// for longer, by `wait`.
    fn look(&mut self, now: Timestamp, wait: Duration) -> Option<Vec<BehindBalancer>> {
        if self.balancers.is_empty() || now < self.next_look() {
            return None;
        }
        self.looked = now;
        let (awake, grace) = (self.awake, self.grace);
        self.end_succeeded(now);
        let behind = self.balancers.iter_mut().filter_map(|(&balancer, progress)| {
            let complete = progress.behind((awake, grace, wait), now)?;
            Some(BehindBalancer { balancer, complete })
        });
        Some(behind.collect())
    }

    /// Waits no longer for a run of a balancer that is silent since another one at its address has begun.
    fn end_succeeded(&mut self, now: Timestamp) {
        let mut begun: HashMap<IpAddr, Vec<Timestamp>> = HashMap::new();
        for progress in self.balancers.values().filter(|it| now >= it.first + SUCCEEDED) {
            begun.entry(progress.addr.ip()).or_default().push(progress.first);
        }
        for progress in self.balancers.values_mut().filter(|it| it.is_beating) {
            let mut begun = begun.get(&progress.addr.ip()).into_iter().flatten();
            progress.is_beating = !begun.any(|&first| first > progress.heard);
        }
    }

    /// Returns when to look again.
    pub(super) fn next_look(&self) -> Timestamp {
        self.looked + LOOK
    }

    /// Returns the address of a balancer that lines wait for, and whether nothing is heard of it, if that is to be said.
    fn take_said(&mut self, balancer: BalancerId, now: Timestamp) -> Option<(SocketAddr, bool)> {
        let balancer = self.balancers.get_mut(&balancer)?;
        let since = balancer.missing_since.unwrap_or(balancer.heard).max(self.awake);
        let is_due = !balancer.is_said && now > since + SAID;
        balancer.is_said |= is_due;
        is_due.then_some((balancer.addr, balancer.missing_since.is_none()))
    }
}

impl Collector {
    /// Finds the balancers that lines wait for.
    pub(super) fn look_at_balancers(&mut self, now: Timestamp) {
        let Self { watermarks, intake, settings, .. } = self;
        watermarks.touch(now);
        let Some(behind) = watermarks.look(now, settings.engine.wait) else { return };
        intake.engine.set_behind(behind);
        let Some(balancer) = intake.engine.waits_for() else { return };
        let Some((from, is_silent)) = watermarks.take_said(balancer, now) else { return };
        let why = if is_silent { "it has not been heard" } else { "records of it are missing" };
        let grace = settings.grace.as_secs();
        let what = format_args!(
            "a balancer for whose records lines of its servers wait, for up to {grace} s (--grace): {why} for 5 s"
        );
        intake.warnings.warn(WarningCause::Behind, from, now, what);
    }
}

impl BalancerProgress {
    fn take_missing(&mut self, missing: u64, now: Timestamp) {
        self.missing = missing;
        self.given_up = self.given_up.min(missing);
        if missing > self.given_up {
            self.missing_since.get_or_insert(now);
        } else {
            self.missing_since = None;
            self.complete = self.complete.max(self.sent);
        }
    }

    /// Returns up to when its records are complete, if lines wait for more.
    fn behind(
        &mut self,
        (awake, grace, wait): (Timestamp, Duration, Duration),
        now: Timestamp,
    ) -> Option<Timestamp> {
        if let Some(since) = self.missing_since.filter(|_| self.is_asking) {
            if now < since.max(awake) + grace {
                return Some(self.complete - wait);
            }
            self.given_up = self.missing;
            (self.missing_since, self.complete) = (None, self.complete.max(self.sent));
        }
        if now < self.heard + SAID {
            self.is_said = false;
        }
        // One that has ended is not heard again.
        self.is_beating &= now < self.heard.max(awake) + grace;
        self.is_beating.then_some(self.complete)
    }
}

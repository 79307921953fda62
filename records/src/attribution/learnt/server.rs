//! What the engine knows of one server.

use crate::attribution::costs;
use crate::attribution::learnt::agreement::ResponseAgreement;
use crate::attribution::learnt::calibration::Calibration;
use crate::attribution::learnt::delays::ServerDelays;
use crate::attribution::learnt::fallback::AgentFallback;
use crate::attribution::learnt::order::RequestOrder;
use crate::attribution::learnt::senders::ServerSenders;
use crate::attribution::memory::signature::LoggedFields;
use crate::attribution::memory::tls::TlsExchanges;
use crate::attribution::verdict::CertaintyCounts;
use crate::time::Resolution;

/// The state of one server.
pub(crate) struct ServerState {
    pub(crate) delays: ServerDelays,
    pub(crate) turns: RequestOrder,
    pub(crate) senders: ServerSenders,
    pub(crate) neighbours: AgentFallback,
    pub(crate) agreement: ResponseAgreement,
    /// How often what is not certain of an only client is right.
    pub(crate) doubts: Calibration,
    pub(crate) shape: LoggedFields,
    /// Exchanges under seal, if there were any.
    pub(crate) sealed: Option<Box<TlsExchanges>>,
    /// Whether any mapping was seen, and whether one of an exchange was.
    pub(crate) is_known: bool,
    pub(crate) has_exchanges: bool,
    /// Whether another balancer than ours was heard: its records come when all is over, so that one that
    /// would have been a rival may be on its way yet.
    pub(crate) is_foreign: bool,
    /// The coarsest stamp of a mapping so far.
    pub(crate) coarsest: Resolution,
    /// Lines without a mapping per million, a moving average.
    missing: i64,
    /// Lines that more than one mapping could explain, likewise.
    crowded: i64,
    /// Held lines for which there is no mapping yet.
    pub(crate) short: u32,
    /// Lines held.
    pub(crate) held: u32,
    pub(crate) counts: CertaintyCounts,
}

impl ServerState {
    pub(crate) fn new() -> Self {
        Self {
            delays: ServerDelays::new(),
            turns: RequestOrder::new(),
            senders: ServerSenders::default(),
            neighbours: AgentFallback::new(),
            agreement: ResponseAgreement::new(),
            doubts: Calibration::new(),
            shape: LoggedFields { agent: true, referer: true, port: true, peer: true },
            sealed: None,
            is_known: false,
            has_exchanges: false,
            is_foreign: false,
            coarsest: Resolution::Microsecond,
            missing: 0,
            crowded: costs::CROWDED_AT_FIRST,
            short: 0,
            held: 0,
            counts: CertaintyCounts::default(),
        }
    }

    /// Notes whether a line was without a mapping.
    pub(crate) fn note_missing(&mut self, is_missing: bool) {
        let share = if is_missing { 1_000_000 } else { 0 };
        self.missing += (share - self.missing) / costs::SHARE_MEMORY;
    }

    /// Notes whether a line could have had several mappings.
    pub(crate) fn note_crowded(&mut self, is_crowded: bool) {
        let share = if is_crowded { 1_000_000 } else { 0 };
        self.crowded += (share - self.crowded) / costs::SHARE_MEMORY;
    }

    /// Lines that more than one mapping could explain, in parts in a million.
    pub(crate) fn crowded(&self) -> u64 {
        self.crowded.unsigned_abs()
    }

    /// Whether so many mappings are missing that an only one may still be somebody else's.
    pub(crate) fn misses_mappings(&self) -> bool {
        let limit = if self.is_foreign { costs::MISSING_AT_ALL } else { costs::MISSING_LIMIT };
        self.missing > limit || self.short > 1 + self.held / costs::SHORT_SHARE
    }

    /// Whether any mapping was missing of late, so that what follows may matter.
    pub(crate) fn misses_any(&self) -> bool {
        self.missing > costs::MISSING_AT_ALL || self.short > 0
    }

    /// Whether so many lines find nothing that the headers they log may not be those that were sent.
    pub(crate) fn misses_most(&self) -> bool {
        self.missing > costs::MISSING_MOST
    }

    /// What it costs to leave a line without a client: less where mappings are often missing.
    pub(crate) fn unmatched_cost(&self) -> i64 {
        let octaves = i64::from((self.missing.max(1_000) / 1_000).ilog2());
        costs::LINE_UNMATCHED - octaves * costs::LINE_UNMATCHED_STEP
    }
}

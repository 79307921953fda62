//! The join: takes mappings and access lines, and hands each line out once, with a client or without, and
//! with a certainty.
//!
//! A driver moves the time ([`Attributor::advance`]), writes what is due ([`Attributor::next_decided`]), and
//! only then hands in what came at that time. Time is an argument: `penlogd` drives the [`Attributor`] by
//! arrival, `mergelogs` by logged time. Lines come out in the order in which they were put in.
//!
//! `docs/design/attribution.md` tells how one line is decided, step by step. The modules, each of which uses
//! only those above it:
//!
//! - `settings`, `costs`: limits that the driver sets, and every tuning constant.
//! - `line`, `record`, `verdict`: what comes in, and what comes out.
//! - `memory`: what is remembered: mappings by request group, exchanges, connections.
//! - `learnt`: what is estimated from certain pairs: delays, User-Agents, order.
//! - `queue`: the held lines.
//! - `decide`: how a line is decided: functions over these three.
//! - `attributor`: the public face, which routes.

mod attributor;
mod costs;
mod decide;
mod learnt;
mod line;
mod memory;
mod odds;
mod queue;
mod record;
mod settings;
#[cfg(test)]
mod tests;
mod verdict;

pub use self::attributor::{Attributor, BehindBalancer};
pub use self::decide::why::{DelayStart, ExplainedCandidate, Explanation};
pub use self::line::{
    BalancerId, FingerprintCuts, LineOrigin, LoggedLine, LoggedRequestId, ServerIndex, text_hash,
};
pub use self::record::{
    BalancerHashes, ExchangeEvent, MappingEvent, ResponseSizes, THIRD_PARTY_BASE,
};
pub use self::settings::JoinSettings;
pub use self::verdict::{Certainty, CertaintyCounts, DecidedLine, JoinCounts, LineVerdict, Reason};

//! The join: mappings and access lines in, each line out once, with a client or without, and with
//! a certainty.
//!
//! A driver moves the time ([`Attributor::advance`]), writes what is due
//! ([`Attributor::next_decided`]), and only then hands in what came at that time.
//! Time is an argument: `penlogd` drives the [`Attributor`] by arrival, `mergelogs` by logged time.
//! Lines come out in the order they were put in.
//!
//! - `engine`: the [`Attributor`]; holds lines for a bounded time and hands them out in order.
//! - `decide`: who asked: the only one who could have, or by one of the following two.
//! - `claim`: a line of a group by itself, where it is plain which mapping is its own.
//! - `view`: the lines and mappings of a group side by side, where it is not.
//! - `port`: a line that names the balancer's own port, by `connections`: who stood behind it when.
//! - `sealed`: a line of a request that the balancer could not read, by `turns`: exchanges in TLS that passed through.
//! - `strain`: how well such lines fit of late, and so how far a choice among them can be trusted.
//! - `exchange`: what our own balancer's records say beyond client and request.
//! - `coarse`: how long after its end an exchange is logged, where stamps are whole seconds.
//! - `note`: what is made of each of them.
//! - `loss`: what is doubted while some of them are lost.
//! - `doubt`: how often what was not certain of an only client was borne out.
//! - `outstanding`: which mappings wait for a line and which lines for a decision, found in O(1).
//! - `assign`: which line takes which mapping, for the group and not line by line.
//! - `delays`, `habits`: what certain pairs teach about the others: how long a server takes, and
//!   which User-Agent a client has.
//! - `why`: what there was to choose from, for lines of which that is asked.

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

pub use self::decide::why::{DelayStart, ExplainedCandidate, Explanation};
pub use self::line::{FingerprintCuts, LoggedLine, ServerIndex, text_hash};
pub use self::queue::Attributor;
pub use self::record::{BalancerHashes, ExchangeEvent, FOREIGN, MappingEvent, ResponseSizes};
pub use self::settings::JoinSettings;
pub use self::verdict::{Certainty, CertaintyCounts, DecidedLine, JoinCounts, LineVerdict, Reason};

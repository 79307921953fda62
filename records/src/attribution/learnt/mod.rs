//! What is estimated from pairs of line and mapping that are certain, or nearly so.
//!
//! - `delays`, `steps`, `coarse`: how long a server's lines come after their mappings.
//! - `user_agents`: which User-Agents a client has.
//! - `places`: how many places lines are off, where stamps are coarse.
//! - `end_order`: whether a server logs exchanges in the order in which they end.
//! - `named_balancers`: whether lines name the addresses that records have for their balancer.
//! - `senders`: which client fields of lines name a host that comes past the balancer.
//! - `sender_flows`: which client fields name a balancer without records.
//! - `agreement`: how often logged status and size are those that the balancer saw.
//! - `calibration`: how often doubtful single-candidate matches prove right.
//! - `fallback`: which client was last seen with a User-Agent.
//! - `flows`: how many mappings and lines there are in the same seconds.
//! - `rates`: how far the lines of one request are apart.
//! - `left_over`: how often mappings are left over, and lines without one.
//! - `logged_end`: whether lines follow the response's end or that of the request's body.
//! - `hosts`: which Host headers the lines of a log may belong to.
//! - `orphans`: which lines never have a mapping.
//! - `ports`: which fields of lines are ports of the balancer's connections.
//! - `request_ids`: whether lines have the ids that records name.
//! - `loss`: how many records were lost.
//! - `tls`: sizes of passed-through TLS, and how often its lines are out of order.
//! - `server`: all of these for one server.

pub(crate) mod agreement;
pub(crate) mod calibration;
pub(crate) mod coarse;
pub(crate) mod delays;
pub(crate) mod end_order;
pub(crate) mod fallback;
pub(crate) mod flows;
pub(crate) mod hosts;
pub(crate) mod left_over;
pub(crate) mod logged_end;
pub(crate) mod loss;
pub(crate) mod named_balancers;
pub(crate) mod orphans;
pub(crate) mod places;
pub(crate) mod ports;
pub(crate) mod rates;
pub(crate) mod request_ids;
pub(crate) mod sender_flows;
pub(crate) mod senders;
pub(crate) mod server;
pub(crate) mod stamped;
pub(crate) mod steps;
pub(crate) mod tls;
pub(crate) mod user_agents;

use self::loss::BalancerLosses;
use self::server::LearntServer;
use self::user_agents::UserAgentProfiles;
use super::costs;

/// All that is estimated.
pub(crate) struct Learnt {
    /// By [`ServerIndex`](super::ServerIndex).
    pub(crate) servers: Vec<LearntServer>,
    pub(crate) profiles: UserAgentProfiles,
    pub(crate) losses: BalancerLosses,
}

impl Learnt {
    pub(crate) fn new() -> Self {
        Self {
            servers: Vec::new(),
            profiles: UserAgentProfiles::new(),
            losses: BalancerLosses::new(),
        }
    }
}

/// Returns the cost, in thousandths of a natural logarithm, of finding one of `found` among `all` by chance.
pub(crate) fn odds_of_chance(found: u32, all: u32) -> i64 {
    let thousandths = 1_000 * i64::from(all) / i64::from(found.max(1));
    let octaves = i64::from(thousandths.max(1_000).ilog2());
    // Between two powers of two the curve is close to a straight line.
    let part = (thousandths.max(1_000) << 10 >> octaves) - (1 << 10);
    let thousand = i64::from(1_000_u32.ilog2());
    let part_of_thousand = (1_000_i64 << 10 >> thousand) - (1 << 10);
    let parts = (octaves - thousand) * 1_024 + part - part_of_thousand;
    (parts * costs::HALVING) / 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_by_chance_shows_little() {
        for (found, all, logarithm) in
            [(0, 28_000, 10.24), (1, 28_000, 10.24), (100, 28_000, 5.63), (2, 3, 0.41), (9, 9, 0.0)]
        {
            let cost = odds_of_chance(found, all);
            let expected = logarithm * 1_000.0;
            assert!(
                (f64::from(i32::try_from(cost).unwrap()) - expected).abs() < 70.0,
                "{cost} {expected}"
            );
        }
        assert_eq!(odds_of_chance(u32::MAX, 28_000), 0);
    }
}

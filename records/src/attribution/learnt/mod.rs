//! What is estimated from pairs of line and mapping that are certain, or nearly so.
//!
//! - `delays`, `coarse`: how long a server's lines come after their mappings.
//! - `user_agents`: which User-Agents a client has.
//! - `order`: whether a server answers equal requests in order.
//! - `senders`: which client fields of lines name a host that comes past the balancer.
//! - `agreement`: how often logged status and size are those that the balancer saw.
//! - `calibration`: how often doubtful single-candidate matches prove right.
//! - `fallback`: which client was last seen with a User-Agent.
//! - `logged_end`: whether lines follow the response's end or that of the request's body.
//! - `loss`: how many records were lost.
//! - `tls`, `fit`: sizes of passed-through TLS, and how well lines fit.
//! - `server`: all of these for one server.

pub(crate) mod agreement;
pub(crate) mod calibration;
pub(crate) mod coarse;
pub(crate) mod delays;
pub(crate) mod fallback;
pub(crate) mod fit;
pub(crate) mod logged_end;
pub(crate) mod loss;
pub(crate) mod order;
pub(crate) mod senders;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod user_agents;

use self::loss::RecordLosses;
use self::server::LearntServer;
use self::user_agents::UserAgentProfiles;

/// All that is estimated.
pub(crate) struct Learnt {
    /// By [`ServerIndex`](super::ServerIndex).
    pub(crate) servers: Vec<LearntServer>,
    pub(crate) profiles: UserAgentProfiles,
    pub(crate) losses: RecordLosses,
}

impl Learnt {
    pub(crate) fn new() -> Self {
        Self {
            servers: Vec::new(),
            profiles: UserAgentProfiles::new(),
            losses: RecordLosses::new(),
        }
    }
}

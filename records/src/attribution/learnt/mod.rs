//! What is estimated from pairs of lines and mappings.

pub(crate) mod agreement;
pub(crate) mod calibration;
pub(crate) mod coarse;
pub(crate) mod delays;
pub(crate) mod fallback;
pub(crate) mod fit;
pub(crate) mod loss;
pub(crate) mod order;
pub(crate) mod senders;
pub(crate) mod server;
pub(crate) mod user_agents;

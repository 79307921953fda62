//! A site on loopback: real web servers, a real balancer before them, visitors whose truth is known.
//!
//! Each part is started by itself and ends when dropped: [`Web`] is nginx or Apache at an address of its
//! own, [`Balancer`] is `pen`, [`Site`] is both, [`Collector`] and [`Shipper`] are the C programs or ours, [`Tee`]
//! lets two collectors hear the same, [`FaultyRelay`] is a bad network, [`visitors`] sends the requests. What each web server writes for the
//! world is `access.log`; what only we read is `truth.log`: the same line behind the client's own address,
//! which travelled in a header that nobody else looks at.

mod alike;
mod balancer;
mod clock;
mod collector;
mod echo;
mod haproxy;
mod kernel;
mod nginx;
mod relay;
mod site;
mod tee;
mod truth;
pub mod visitors;
mod web;

pub use alike::AlikeLines;
pub use balancer::{Balancer, Make, Mappings};
pub use clock::shift;
pub use collector::{
    Collector, Follower, Shipper, bytes_of, keygen, peak_memory, start_penlogd, wait_while_growing,
};
pub use haproxy::HaproxyLogMode;
pub use kernel::enter_own_network;
pub use nginx::NGINX_FORMAT;
pub use pen_testing::folder::line_count;
pub use pen_testing::program::{
    installed, require_installed, run_to_end, run_with_messages, sibling,
};
pub use pen_testing::{Deadline, PATIENCE, Program, TempFolder, free_port};
pub use relay::{FaultyRelay, Heard};
pub use site::Site;
pub use tee::{Faults, Share, Tee};
pub use truth::{Mark, Score, Truth, TruthText, marks, share};
pub use web::{HOSTS, LogSpelling, Output, Web, WebPlan, WebServerKind, host_name};

//! Made sites: the logs of a balancer and of its servers by a plan and a seed, with the client that each
//! line should name.
//!
//! [`plan`] says what a site is like and what happens to it, [`demand`] draws what clients ask for,
//! `traffic` sends that through the balancer to the servers, [`logs`] and `lines` write what both log, `files` puts that into a folder.
//! [`verdicts`] counts what a program made of it.
//!
//! A line is known again by its user field, which is no evidence of the join.

pub mod demand;
mod files;
mod lines;
pub mod logs;
pub mod plan;
mod traffic;
pub mod verdicts;

pub use demand::{Demand, draw};
pub use files::write_files;
pub use lines::line_number;
pub use logs::{
    BALANCER, MadeLine, MadeRecord, MadeSite, TrueClient, balancer_address, made_of, make,
    server_address,
};
pub use plan::{
    BalancerAddresses, CheckKind, Disturbance, LineFormat, LogFiles, LoggedSize, LoggedWhen,
    RecordFormat, ServerChoice, ServiceModel, SitePlan, StampedAt,
};
pub use verdicts::{BANDS, MadeScore, SaidBand, score};

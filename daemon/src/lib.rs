//! Being a Unix process: what the balancer and the collector share and records know nothing of.
//!
//! The order of a start matters, and [`process`] holds it:
//!
//! 1. arguments are read, relative paths made absolute;
//! 2. [`process::Process::detach`]: the caller waits, its child goes on;
//! 3. sockets are bound, while there still are rights to do so;
//! 4. [`process::Process::settle`]: pid file locked, jail, user, pid written;
//! 5. log files are opened, with the user's rights and inside the jail ([`logfile`]);
//! 6. the runtime starts and [`signals`] are caught;
//! 7. [`process::Settled::ready`]: the caller is told, and gone.
//!
//! [`diagnostics`] is where messages go meanwhile, [`notify`] tells a service manager, [`drops`] knows what a full
//! buffer has cost.

pub mod diagnostics;
pub mod drops;
pub mod logfile;
pub mod notify;
mod pidfile;
pub mod process;
pub mod signals;

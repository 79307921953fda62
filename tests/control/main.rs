//! The control port, `penctl` and the status page over real sockets, in front of a balancer that stands still;
//! and `penctl` with the C program it succeeds.

mod c_pen;
mod manual;
mod penctl;
mod port;
mod real;
mod status;
mod support;

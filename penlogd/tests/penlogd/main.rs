//! The program itself: on loopback, ended when dropped, waited for by what it says.

mod hostile;
mod journal;
mod manual;
mod process;
mod sandbox;
mod signals;
mod support;
mod traffic;

//! Datagrams: a client's go to one server, and that server's come back to it.
//!
//! ```text
//! worker   one thread: events, and the flows that it has
//! flow     one client's port and its server
//! flows    flows by client, and by when they were used last; owns no socket
//! port     where clients send to, many datagrams at a time
//! drops    what was lost there before anybody could take it
//! ```
//!
//! A flow has a socket of its own that is connected to the server, so that nobody else's datagrams come back
//! and a server that refuses is heard of. Clients share the socket that they send to: a flow takes
//! one descriptor. Nothing says that a flow is over but silence, and when there is room for no
//! more of them the one that was silent for the longest time goes.

pub mod drops;
mod flow;
mod flows;
pub mod port;
pub mod worker;

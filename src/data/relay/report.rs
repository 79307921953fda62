//! Reports of a worker's connections.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::config::PoolServerId;
use crate::data::pool::Traffic;
use crate::data::snapshot::{ConnectionFilter, ConnectionSnapshot};

/// A request for a report.
#[derive(Clone, Debug)]
pub struct ReportRequest {
    /// The connections to list.
    which: ConnectionFilter,
    to: Sender<ConnectionReport>,
}

impl ReportRequest {
    /// Creates a request whose answer goes to `to`.
    pub(super) const fn new(which: ConnectionFilter, to: Sender<ConnectionReport>) -> Self {
        Self { which, to }
    }
}

/// A request, and the answer as far as it has been collected.
#[derive(Debug)]
pub(super) struct ReportJob {
    request: ReportRequest,
    report: ConnectionReport,
}

/// The connections of one worker, or of all workers.
#[derive(Debug, Default)]
pub struct ConnectionReport {
    /// The connections that the request asked for.
    pub connections: Vec<ConnectionSnapshot>,
    /// Bytes of all open connections, by server. The pool counts the bytes of a connection when it ends.
    pub traffic: BTreeMap<PoolServerId, Traffic>,
}

/// A connection or a flow that can be reported.
pub(super) trait Reportable {
    /// Returns its number, which is unique while pen runs.
    fn number(&self) -> u64;

    /// Returns the descriptors towards the client and, if there is one, towards the server.
    fn descriptors(&self) -> (i32, Option<i32>);

    /// Returns the server, if one was chosen.
    fn server(&self) -> Option<PoolServerId>;

    /// Returns the bytes forwarded so far.
    fn traffic(&self) -> Traffic;

    /// Returns its state, for the status.
    fn describe(&self, now: Instant) -> ConnectionSnapshot;
}

impl ConnectionReport {
    fn add(&mut self, connection: &impl Reportable, which: ConnectionFilter, now: Instant) {
        if let Some(server) = connection.server() {
            self.add_traffic(server, connection.traffic());
        }
        let is_wanted = match which {
            ConnectionFilter::First(most) => self.connections.len() < most,
            ConnectionFilter::Number(number) => connection.number() == number,
            ConnectionFilter::Descriptor(fd) => {
                let (client, server) = connection.descriptors();
                client == fd || server == Some(fd)
            }
        };
        if is_wanted {
            self.connections.push(connection.describe(now));
        }
    }

    /// Adds the report of another worker.
    pub(super) fn join(&mut self, other: Self) {
        self.connections.extend(other.connections);
        for (server, traffic) in other.traffic {
            self.add_traffic(server, traffic);
        }
    }

    fn add_traffic(&mut self, server: PoolServerId, traffic: Traffic) {
        let sum = self.traffic.entry(server).or_default();
        sum.to_server += traffic.to_server;
        sum.to_client += traffic.to_client;
    }
}

impl ReportJob {
    /// Starts with an empty report.
    pub(super) fn new(request: ReportRequest) -> Self {
        Self { request, report: ConnectionReport::default() }
    }

    /// Adds connections to the report.
    pub(super) fn add<T: Reportable>(
        &mut self,
        connections: impl Iterator<Item = T>,
        now: Instant,
    ) {
        connections.for_each(|it| self.report.add(&it, self.request.which, now));
    }

    /// Sends the report.
    pub(super) fn send(self) {
        let _ = self.request.to.send(self.report); // the asker may have given up
    }
}

//! Samples of the last ten minutes, for the charts of the status page.

use std::collections::VecDeque;
use std::time::Duration;

use super::bytes;
use crate::config::PoolServerId;
use crate::data::snapshot::Snapshot;

/// Time between two samples.
pub const STEP: Duration = Duration::from_secs(5);
/// Samples kept: ten minutes at one every [`STEP`], first and last included.
const KEPT: usize = 121;

/// The samples, oldest first.
#[derive(Clone, Debug, Default)]
pub struct TrafficHistory {
    samples: VecDeque<HistorySample>,
}

#[derive(Clone, Debug)]
struct HistorySample {
    uptime: Duration,
    open: u64,
    accepted: u64,
    to_server: u64,
    to_client: u64,
    servers: Vec<ServerHistorySample>,
}

#[derive(Clone, Copy, Debug)]
struct ServerHistorySample {
    id: PoolServerId,
    connections: u32,
    served: u64,
    bytes: u64,
}

impl TrafficHistory {
    /// Adds a sample and drops the oldest one beyond ten minutes.
    pub fn push(&mut self, snapshot: &Snapshot) {
        let (to_server, to_client) = bytes(snapshot);
        let servers = snapshot.servers.iter().map(|server| ServerHistorySample {
            id: server.id,
            connections: server.connections,
            served: server.served,
            bytes: server.to_server + server.to_client,
        });
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(HistorySample {
            uptime: snapshot.uptime,
            open: snapshot.connections_open.now,
            accepted: snapshot.counts.accepted,
            to_server,
            to_client,
            servers: servers.collect(),
        });
    }

    /// Returns the time between the oldest and the newest sample.
    #[must_use]
    pub fn span(&self) -> Duration {
        let (first, last) = (self.samples.front(), self.samples.back());
        let span = first.zip(last).map(|(first, last)| last.uptime.saturating_sub(first.uptime));
        span.unwrap_or_default()
    }

    /// Returns the number of open connections at each sample.
    #[must_use]
    pub fn open(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| float(sample.open)).collect()
    }

    /// Returns the accepted connections per second between samples.
    #[must_use]
    pub fn accepted(&self) -> Vec<f64> {
        self.rates(|sample| sample.accepted)
    }

    /// Returns the bytes per second from clients between samples.
    #[must_use]
    pub fn to_server(&self) -> Vec<f64> {
        self.rates(|sample| sample.to_server)
    }

    /// Returns the bytes per second to clients between samples.
    #[must_use]
    pub fn to_client(&self) -> Vec<f64> {
        self.rates(|sample| sample.to_client)
    }

    /// Returns the open connections of a server at each sample; 0 where the server did not exist.
    #[must_use]
    pub fn server_connections(&self, id: PoolServerId) -> Vec<f64> {
        let of =
            |sample: &HistorySample| sample.of(id).map_or(0.0, |server| server.connections.into());
        self.samples.iter().map(of).collect()
    }

    /// Returns the latest rate of new connections to a server, per second; `None` before the second sample.
    #[must_use]
    pub fn server_rate(&self, id: PoolServerId) -> Option<f64> {
        self.rates(|sample| sample.of(id).map_or(0, |server| server.served)).last().copied()
    }

    /// Returns the latest rate of bytes in both directions, per second; `None` before the second sample.
    #[must_use]
    pub fn server_bytes(&self, id: PoolServerId) -> Option<f64> {
        self.rates(|sample| sample.of(id).map_or(0, |server| server.bytes)).last().copied()
    }

    fn rates(&self, of: impl Fn(&HistorySample) -> u64) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let rate = |(before, after): (&HistorySample, &HistorySample)| {
            let time = after.uptime.saturating_sub(before.uptime).as_secs_f64();
            // The counters of a replaced server start at 0 again: no negative rates.
            let count = float(of(after).saturating_sub(of(before)));
            if time > 0.0 { count / time } else { 0.0 }
        };
        pairs.map(rate).collect()
    }
}

impl HistorySample {
    fn of(&self, id: PoolServerId) -> Option<&ServerHistorySample> {
        self.servers.iter().find(|server| server.id == id)
    }
}

#[expect(clippy::cast_precision_loss, reason = "charts need no more than 52 bits")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::status::samples::busy;

    #[test]
    fn rates_are_differences_over_time_and_old_samples_are_dropped() {
        let (mut history, mut snapshot) = (TrafficHistory::default(), busy());
        assert!(history.accepted().is_empty());
        for _ in 0..3 {
            history.push(&snapshot);
            snapshot.uptime += Duration::from_secs(5);
            snapshot.counts.accepted += 50;
            snapshot.servers[0].served += 5;
            snapshot.servers[0].to_client += 500;
        }
        assert_eq!(history.accepted(), [10.0, 10.0]);
        assert_eq!(history.server_rate(PoolServerId::Slot(0)), Some(1.0));
        assert_eq!(history.server_bytes(PoolServerId::Slot(0)), Some(100.0));
        assert_eq!(history.server_rate(PoolServerId::Slot(77)), Some(0.0));
        snapshot.counts.accepted = 0;
        history.push(&snapshot);
        assert_eq!(history.accepted(), [10.0, 10.0, 0.0]);
        (0..500).for_each(|_| history.push(&snapshot));
        assert_eq!(history.open().len(), KEPT);
    }
}

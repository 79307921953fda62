//! The last minutes, for the lines on the page.

use std::collections::VecDeque;
use std::time::Duration;

use super::bytes;
use crate::config::PoolServerId;
use crate::data::snapshot::Snapshot;

/// How far apart samples are.
pub const STEP: Duration = Duration::from_secs(5);
/// How many are kept: ten minutes of them.
const KEPT: usize = 121;

/// Samples, the oldest first.
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
    /// Takes a sample.
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

    /// How long ago the oldest sample was taken.
    #[must_use]
    pub fn span(&self) -> Duration {
        let (first, last) = (self.samples.front(), self.samples.back());
        let span = first.zip(last).map(|(first, last)| last.uptime.saturating_sub(first.uptime));
        span.unwrap_or_default()
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| float(sample.open)).collect()
    }

    /// Connections accepted in a second.
    #[must_use]
    pub fn accepted(&self) -> Vec<f64> {
        self.rates(|sample| sample.accepted)
    }

    /// Bytes from clients in a second.
    #[must_use]
    pub fn to_server(&self) -> Vec<f64> {
        self.rates(|sample| sample.to_server)
    }

    /// Bytes to clients in a second.
    #[must_use]
    pub fn to_client(&self) -> Vec<f64> {
        self.rates(|sample| sample.to_client)
    }

    /// Connections of a server; 0 where it was not there.
    #[must_use]
    pub fn server_connections(&self, id: PoolServerId) -> Vec<f64> {
        let of =
            |sample: &HistorySample| sample.of(id).map_or(0.0, |server| server.connections.into());
        self.samples.iter().map(of).collect()
    }

    /// Connections to a server in a second, lately.
    #[must_use]
    pub fn server_rate(&self, id: PoolServerId) -> Option<f64> {
        self.rates(|sample| sample.of(id).map_or(0, |server| server.served)).last().copied()
    }

    /// Bytes from and to a server in a second, lately.
    #[must_use]
    pub fn server_bytes(&self, id: PoolServerId) -> Option<f64> {
        self.rates(|sample| sample.of(id).map_or(0, |server| server.bytes)).last().copied()
    }

    fn rates(&self, of: impl Fn(&HistorySample) -> u64) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let rate = |(before, after): (&HistorySample, &HistorySample)| {
            let time = after.uptime.saturating_sub(before.uptime).as_secs_f64();
            // A server that is replaced begins anew, which is no negative rate.
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

/// Near enough for a picture.
#[expect(clippy::cast_precision_loss, reason = "it is drawn, not counted")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::status::samples::busy;

    #[test]
    fn rates_are_differences_over_time_and_old_samples_go() {
        let (mut history, mut snapshot) = (TrafficHistory::default(), busy());
        assert_eq!(history.accepted(), []);
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

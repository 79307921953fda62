//! Admission of senders: with `--authorized`, senders with a known key, this machine, and networks that are allowed
//! without a key.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pen_daemon::error::{ActionError, Doing as _};
use pen_records::network;
use pen_records::time::Timestamp;
use pen_stream::tls;
use tracing::{info, warn};

use crate::authorized::AuthorizedKeys;
use crate::cli::CollectorKeys;
use crate::collector::{Collector, Peer};
use crate::streams::{StreamSender, Streams};

/// Decides about datagrams before the collector does.
pub(crate) struct Gate {
    keys: Option<CollectorKeys>,
    /// Datagrams of networks without keys.
    unauthenticated: u64,
}

impl Gate {
    /// Makes streams accept the keys, if there are any.
    pub(crate) fn new(
        keys: Option<CollectorKeys>,
        streams: &mut Streams,
    ) -> Result<Self, ActionError> {
        if let Some(keys) = &keys {
            set_keys(keys, streams).doing("use the key")?;
            info!(
                "{} keys in {}; the public key of this collector is {}",
                keys.authorized.len(),
                keys.authorized.path().display(),
                keys.own.public()
            );
        }
        Ok(Self { keys, unauthenticated: 0 })
    }

    /// Reads the keys of senders again. If the file has a mistake, the earlier keys stay.
    pub(crate) fn reload(&mut self, streams: &mut Streams) {
        let Some(keys) = &mut self.keys else { return };
        match AuthorizedKeys::read(keys.authorized.path()) {
            Ok(authorized) => {
                info!("{} keys in {}", authorized.len(), authorized.path().display());
                keys.authorized = Arc::new(authorized);
                if let Err(error) = set_keys(keys, streams) {
                    warn!("cannot use the keys: {error}");
                }
            }
            Err(error) => warn!("the keys of senders stay as they were: {error}"),
        }
    }

    /// Returns whether a sender of a UDP datagram may send without a key. Otherwise the datagram is counted.
    pub(crate) fn admits_datagram(
        &mut self,
        collector: &mut Collector,
        from: SocketAddr,
        datagram: &[u8],
        now: Timestamp,
    ) -> bool {
        let admits = self.admits_without_key(from.ip());
        if !admits {
            collector.refuse_datagram(from, datagram, now, NO_KEY);
        }
        admits
    }

    /// Returns the sender as known to the collector, for an allowed datagram. Otherwise the datagram is counted.
    pub(crate) fn admit_stream(
        &mut self,
        collector: &mut Collector,
        from: StreamSender,
        datagram: &[u8],
        now: Timestamp,
    ) -> Option<Peer> {
        let StreamSender { addr, key, .. } = from;
        let peer = Peer { addr, is_stream: true, is_bound: false };
        let (Some(keys), Some(key)) = (&self.keys, key) else {
            return self.admits_datagram(collector, addr, datagram, now).then_some(peer);
        };
        let rights = keys.authorized.rights(&key)?;
        let is_bound = !rights.may_send_all_lines();
        collector.admits(addr, rights, datagram, now).then_some(Peer { is_bound, ..peer })
    }

    /// Returns the number of datagrams taken without a key by `--allow-unauthenticated`.
    pub(crate) const fn unauthenticated(&self) -> u64 {
        self.unauthenticated
    }

    fn admits_without_key(&mut self, from: IpAddr) -> bool {
        let Some(keys) = &self.keys else { return true };
        let from = from.to_canonical();
        if from.is_loopback() {
            return true;
        }
        let is_allowed = keys.unauthenticated.iter().any(|net| network::contains(net, from));
        self.unauthenticated += u64::from(is_allowed);
        is_allowed
    }
}

/// The message about a sender without a key.
const NO_KEY: &str =
    "senders of other machines need a key here; see --authorized and --allow-unauthenticated";

fn set_keys(keys: &CollectorKeys, streams: &mut Streams) -> Result<(), rustls::Error> {
    let authorized = keys.authorized.clone();
    let tls = tls::collector(&keys.own, authorized.clone())?;
    streams.set_keys(tls, |key| authorized.rights(key).is_some());
    Ok(())
}

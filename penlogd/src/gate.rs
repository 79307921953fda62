//! Admission of senders: with `--authorized`, senders with a known key, this machine, and networks that are allowed
//! without a key.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_daemon::error::{ActionError, Doing as _};
use pen_records::datagram::Datagram;
use pen_records::network;
use pen_records::time::Timestamp;
use pen_stream::identity::Identity;
use pen_stream::tls::{CollectorTls, KnownSenders};
use tracing::{info, warn};

use crate::authorized::AuthorizedKeys;
use crate::cli::CollectorKeys;
use crate::collector::Collector;
use crate::peer::Peer;
use crate::quota::{QuotaLimits, Quotas};
use crate::streams::{StreamFate, StreamSender, Streams};

/// Time between two looks at the dates of the certificate.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Decides about datagrams before the collector does.
pub(crate) struct Gate {
    keys: Option<CollectorKeys>,
    /// When to look at the dates of the certificate.
    look: Option<Instant>,
    /// Datagrams of networks without keys.
    unauthenticated: u64,
    quotas: Quotas<Identity>,
}

impl Gate {
    /// Makes streams accept the senders, if there are keys or certificates.
    pub(crate) fn new(
        keys: Option<CollectorKeys>,
        streams: &mut Streams,
    ) -> Result<Self, ActionError> {
        if let Some(keys) = &keys {
            set_keys(keys, streams).doing("use the key")?;
            say(keys);
            keys.remarks().iter().for_each(|remark| warn!("{remark}"));
            if let Some(own) = &keys.own {
                info!("the public key of this collector is {}", own.public());
            }
        }
        let (look, quotas) = (Some(Instant::now() + DAY), Quotas::default());
        Ok(Self { keys, unauthenticated: 0, look, quotas })
    }

    /// Reads the senders again, and the certificate. If a file has a mistake, all stays as it was.
    pub(crate) fn reload(&mut self, streams: &mut Streams) {
        let Some(keys) = &mut self.keys else { return };
        let authorized = AuthorizedKeys::read(keys.authorized.path());
        let certificate = keys.certificate.as_ref().map(|(files, _)| files.read());
        match (authorized, certificate.transpose()) {
            (Ok(authorized), Ok(certificate)) => {
                let files = keys.certificate.take().map(|(files, _)| files);
                keys.certificate = files.zip(certificate);
                keys.authorized = Arc::new(authorized);
                if let Err(error) = set_keys(keys, streams) {
                    warn!("cannot use the keys: {error}");
                }
                say(keys);
                keys.remarks().iter().for_each(|remark| warn!("{remark}"));
            }
            (Err(error), _) => {
                warn!("the keys and certificates of senders stay as they were: {error}");
            }
            (_, Err(error)) => warn!("the certificate and the senders stay as they were: {error}"),
        }
    }

    /// Returns when to call [`Self::look_at_dates`].
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.keys.as_ref()?.certificate.as_ref()?;
        self.look
    }

    /// Warns once a day about a certificate that ends soon.
    pub(crate) fn look_at_dates(&mut self, now: Instant) {
        let Some((_, certificate)) = self.keys.as_ref().and_then(|it| it.certificate.as_ref())
        else {
            return;
        };
        if self.look.is_some_and(|due| due <= now) {
            self.look = Some(now + DAY);
            if let Some(remark) = certificate.remark() {
                warn!("{remark}");
            }
        }
    }

    /// Returns the sender of a UDP datagram as known to the collector, if it may send without a key. Otherwise the datagram
    /// is counted.
    pub(crate) fn admit_datagram(
        &mut self,
        collector: &mut Collector,
        from: SocketAddr,
        datagram: &[u8],
        now: Timestamp,
    ) -> Option<Peer> {
        let admission = self.without_key(from.ip());
        if admission == KeylessAdmission::Refused {
            collector.refuse_datagram(from, datagram, now, NO_KEY);
            return None;
        }
        let is_unauthenticated = admission == KeylessAdmission::Unauthenticated;
        Some(Peer { is_unauthenticated, ..from.into() })
    }

    /// Returns the sender as known to the collector, for an allowed datagram, and what becomes of the connection. A datagram
    /// that is not allowed is counted.
    pub(crate) fn admit_stream(
        &mut self,
        collector: &mut Collector,
        from: StreamSender<'_>,
        datagram: &[u8],
        (now, time): (Instant, Timestamp),
    ) -> (Option<Peer>, StreamFate) {
        let StreamSender { addr, identity, has_spoken, .. } = from;
        let (Some(keys), Some(identity)) = (&self.keys, identity) else {
            let peer = self.admit_datagram(collector, addr, datagram, time);
            return (peer.map(|peer| Peer { is_stream: true, ..peer }), StreamFate::Keep);
        };
        let Some((sender, rights)) = keys.authorized.entry(identity) else {
            return (None, StreamFate::Keep);
        };
        // A new connection must not bring more than the held one may.
        if !has_spoken && let Some(until) = self.quotas.wait(sender, now) {
            let seconds = until.duration_since(now).as_secs() + 1;
            return (
                None,
                StreamFate::Close(format!("{rights} has used up its quota for {seconds} s")),
            );
        }
        let is_bound = !rights.may_send_all_lines();
        let peer = Peer { addr, is_stream: true, is_bound, is_unauthenticated: false };
        let peer = collector.admits(addr, rights, datagram, time).then_some(peer);
        let brought = (line_count(datagram, &rights.limits), datagram.len() as u64);
        match self.quotas.charge((sender, rights.limits), brought, now) {
            None => (peer, StreamFate::Keep),
            Some(until) => {
                collector.say_held(addr, rights, time);
                (peer, StreamFate::Hold(until))
            }
        }
    }

    /// Returns the number of datagrams taken without a key by `--allow-unauthenticated`.
    pub(crate) const fn unauthenticated(&self) -> u64 {
        self.unauthenticated
    }

    fn without_key(&mut self, from: IpAddr) -> KeylessAdmission {
        let Some(keys) = &self.keys else { return KeylessAdmission::Trusted };
        let from = from.to_canonical();
        if from.is_loopback() {
            return KeylessAdmission::Trusted;
        }
        if !keys.unauthenticated.iter().any(|net| network::contains(net, from)) {
            return KeylessAdmission::Refused;
        }
        self.unauthenticated += 1;
        KeylessAdmission::Unauthenticated
    }
}

/// What a sender without a key may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeylessAdmission {
    /// Send, as if with a key: the sender is on this machine, or there are no keys at all.
    Trusted,
    /// Send, with all datagrams marked.
    Unauthenticated,
    Refused,
}

/// Returns the number of lines and records in a datagram, if they are limited.
fn line_count(datagram: &[u8], limits: &QuotaLimits) -> u64 {
    if limits.lines.is_none() {
        return 0;
    }
    match Datagram::parse(datagram) {
        Datagram::Shipment(shipment) => shipment.lines().count() as u64,
        Datagram::Packet(packet) => packet.count().into(),
        _ => 0,
    }
}

/// The message about a sender without a key.
const NO_KEY: &str = "senders of other machines need a key or a certificate here; see --authorized and --allow-unauthenticated";

fn set_keys(keys: &CollectorKeys, streams: &mut Streams) -> Result<(), rustls::Error> {
    let known: Arc<dyn KnownSenders> = keys.authorized.clone();
    let certificate = keys.certificate.as_ref().map(|(_, loaded)| loaded);
    let tls = CollectorTls::new(keys.own.as_ref(), certificate, &known)?;
    streams.set_tls(Arc::new(tls));
    Ok(())
}

/// Says who may connect.
fn say(keys: &CollectorKeys) {
    let path = keys.authorized.path().display();
    let (with_keys, with_certificates) = keys.authorized.kinds();
    match &keys.certificate {
        None => info!("{with_keys} keys in {path}"),
        Some((_, own)) => info!(
            "{with_keys} keys and {with_certificates} certificates in {path}; the certificate of this collector is {}, \
             until {}",
            own.path().display(),
            own.end()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::CollectorSettings;

    const START: Timestamp = Timestamp::from_micros(1_795_379_000_000_000);

    /// Keys, and a network without.
    fn gate() -> Gate {
        let folder = pen_testing::TempFolder::new();
        pen_stream::keys::keygen(&folder.join("key")).unwrap();
        let keys = CollectorKeys {
            own: pen_stream::keys::PrivateKey::read(&folder.join("key")).ok(),
            certificate: None,
            authorized: Arc::default(),
            unauthenticated: vec![network::parse("192.0.2.0/24").unwrap()],
        };
        Gate { keys: Some(keys), look: None, unauthenticated: 0, quotas: Quotas::default() }
    }

    /// Returns the explanations, and the lines that are likely for want of a key.
    fn explain(mapping_from: &str, line_from: &str) -> (String, u64) {
        let (mut gate, mut collector) = (gate(), collector());
        let line = "10.0.0.9 - - [22/Nov/2026:20:23:20 +0000] \"GET /a HTTP/1.1\" 200 5\n";
        for (from, datagram) in
            [(mapping_from, "+ 203.0.113.1 127.0.0.2 GET /a HTTP/1.1\r\n"), (line_from, line)]
        {
            let from = from.parse().unwrap();
            let datagram = datagram.replace("127.0.0.2", line_from.split_once(':').unwrap().0);
            let datagram = datagram.as_bytes();
            if let Some(peer) = gate.admit_datagram(&mut collector, from, datagram, START) {
                collector.receive_from(peer, datagram, START.into());
            }
        }
        let (mut out, mut explain) = (Vec::new(), Vec::new());
        collector.finish(START, &mut out, Some(&mut explain));
        (String::from_utf8(explain).unwrap(), collector.report().join.unauthenticated)
    }

    fn collector() -> Collector {
        let bytes = 1 << 20;
        Collector::new(CollectorSettings {
            held_bytes: bytes,
            unfinished_bytes: bytes,
            servers: 10,
            senders: 10,
            balancers: 10,
            ..CollectorSettings::default()
        })
    }

    #[test]
    fn what_is_let_in_without_a_key_is_likely_at_most() {
        let (here, there, stranger) = ("127.0.0.2:5000", "192.0.2.9:5000", "198.51.100.1:5000");
        for (mapping_from, line_from, expected, marked) in [
            (here, here, "certain\tonly\t1.000\t", 0),
            (there, here, "likely\tunauthenticated\t0.999\t", 1),
            (here, there, "likely\tunauthenticated\t0.999\t", 1),
            (stranger, here, "unmatched\tno-mapping\t", 0),
            (here, stranger, "", 0),
        ] {
            let (explained, count) = explain(mapping_from, line_from);
            let whose = format!("{mapping_from} {line_from}: {explained}");
            assert!(explained.starts_with(expected), "{whose}");
            assert_eq!((explained.is_empty(), count), (expected.is_empty(), marked), "{whose}");
        }
    }

    #[test]
    fn the_unfinished_line_of_a_sender_without_a_key_stays_one_whoever_sends_next() {
        let (mut gate, mut collector) = (gate(), collector());
        let piece = format!("10.0.0.9 - - [22/Nov/2026:20:23:20 +0000] \"GET /{}", "a".repeat(975));
        let mapping = format!("+ 203.0.113.1 192.0.2.9 GET /{}\r\n", "a".repeat(975));
        let mut send = |at: Timestamp, from: &str, datagram: &[u8]| {
            let peer = gate.admit_datagram(&mut collector, from.parse().unwrap(), datagram, at);
            collector.receive_from(peer.unwrap(), datagram, at.into());
        };
        send(START, "127.0.0.1:1", mapping.as_bytes());
        send(START, "192.0.2.9:5000", &piece.as_bytes()[..1_023]);
        send(START.offset_by(2_000_000), "127.0.0.1:1", b"");
        let (mut out, mut explain) = (Vec::new(), Vec::new());
        collector.finish(START.offset_by(4_000_000), &mut out, Some(&mut explain));
        let explain = String::from_utf8(explain).unwrap();
        assert!(!explain.contains("certain"), "{explain}");
        assert_eq!(explain.lines().count(), 1);
    }
}

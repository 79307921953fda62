//! How mapping records get to a collector.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use pen_stream::keys::PublicKey;

/// The settings of the way to a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// The protocol.
    pub transport: LogTransport,
    /// The file of the own private key. With one, records go by TLS.
    pub key: Option<PathBuf>,
    /// The collector's public key.
    pub collector_key: Option<PublicKey>,
    /// The own certificate, instead of the collector's public key.
    pub certificate: Option<PathBuf>,
    /// The authorities of the collector's certificate.
    pub authority: Option<PathBuf>,
    /// The name in the collector's certificate; `None` for the collector's host as typed.
    pub collector_name: Option<String>,
    /// The folder for records that the collector has not confirmed.
    pub spool: Option<PathBuf>,
    /// Most MiB of records in that folder.
    pub spool_mib: NonZeroUsize,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            transport: LogTransport::Udp,
            key: None,
            collector_key: None,
            certificate: None,
            authority: None,
            collector_name: None,
            spool: None,
            spool_mib: const { NonZeroUsize::new(1_024).unwrap() },
        }
    }
}

/// The protocol of packets to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTransport {
    /// UDP: at once, and repaired.
    #[default]
    Udp,
    /// TCP.
    Stream,
}

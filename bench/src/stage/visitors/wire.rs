//! How visitors reach the balancer: plainly or by TLS, at once or at a rate.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use pen_testing::random::SeededRandom;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::{ScaledRandom as _, Visit};

/// How visits are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// What is spoken within TLS; without it, plain HTTP/1.1.
    pub tls: Option<Protocol>,
    /// Requests a second, evenly spread; `None`: as fast as 48 connections can.
    pub per_second: Option<u32>,
}

impl Sending {
    /// Connections that may be open at a time: 48, or where more come in a second, as many as come in a quarter of
    /// it.
    pub(super) fn at_a_time(self) -> u32 {
        self.per_second.map_or(48, |rate| (rate / 4).max(48))
    }
}

/// What is spoken within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: requests that are sent together are answered together.
    Http2,
}

/// When each visit begins, from the first.
pub(super) fn times(visits: &[Visit], per_second: u32) -> Vec<Duration> {
    let mut random = SeededRandom::new(7);
    let mut at = 0.0;
    visits
        .iter()
        .map(|visit| {
            let requests: usize = visit.rounds.iter().map(|round| round.requests).sum();
            let share = u32::try_from(1 + random.scaled(1 << 20)).unwrap_or(1);
            // Independent visitors: gaps have the exponential law.
            let gap = -(f64::from(share) / f64::from(1 << 20)).ln();
            at += gap * f64::from(u32::try_from(requests).unwrap_or(1)) / f64::from(per_second);
            Duration::from_secs_f64(at)
        })
        .collect()
}

/// A connection that is encrypted.
pub(super) struct Sealed(StreamOwned<ClientConnection, TcpStream>);

impl Sealed {
    /// Agrees with the server, whoever that is, on how to encrypt.
    pub(super) fn new(stream: TcpStream, protocol: Protocol) -> io::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let name = ServerName::try_from("shop.example").map_err(io::Error::other)?;
        let agreed = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut sealed = Self(StreamOwned::new(agreed, stream));
        while sealed.0.conn.is_handshaking() {
            sealed.0.conn.complete_io(&mut sealed.0.sock)?;
        }
        Ok(sealed)
    }
}

impl Read for Sealed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.0.conn.send_close_notify();
        // Whoever is gone need not be told.
        let _told = self.0.conn.write_tls(&mut self.0.sock);
    }
}

/// Believes any certificate: these were made a moment ago.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

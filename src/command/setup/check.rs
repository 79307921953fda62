//! Settings that exclude each other.

use std::net::IpAddr;

use crate::config::{Endpoint, PenConfig, ServerTls, TransportKind};

/// Checks the settings as a whole.
///
/// # Errors
/// Two settings exclude each other.
pub fn check(config: &PenConfig) -> Result<(), String> {
    let is_unix = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Unix(_));
    if config.transport == TransportKind::Udp {
        if let Some(path) = config.listen.iter().find(|listen| is_unix(listen)) {
            return Err(format!("listen {path}: expected a port with -U, not a path"));
        }
        let special = [&config.settings.emergency, &config.settings.abuse].into_iter();
        let mut servers = special.chain(&config.settings.servers).flatten();
        if let Some(server) = servers.find(|server| is_unix(&server.addr)) {
            return Err(format!(
                "{}: expected a server with a port with -U, not a path",
                server.addr
            ));
        }
        for (is_set, verb) in [
            (config.settings.send_proxy.is_some(), "send_proxy"),
            (!config.settings.accept_proxy.is_empty(), "accept_proxy"),
            (config.settings.tcp.transparent, "transparent"),
            (config.settings.tls.servers != ServerTls::Off, "ssl_servers"),
            (config.settings.http.is_some(), "http"),
        ] {
            if is_set {
                return Err(format!("{verb}: expected connections, and not datagrams (-U)"));
            }
        }
    }
    let settings = &config.settings;
    if config.transport == TransportKind::Udp && settings.tls.certificate.is_some() {
        return Err(
            "ssl_certificate: expected no -U with it: datagrams are not encrypted".to_owned()
        );
    }
    let delivery = &settings.delivery;
    if delivery.key.is_some() {
        match (&delivery.collector_key, &delivery.certificate, &delivery.authority) {
            (Some(_), None, _) | (None, Some(_), Some(_)) => {}
            (Some(_), Some(_), _) => {
                return Err(
                    "log_certificate: expected no log_collector_key with it, since the collector has a certificate"
                        .to_owned(),
                );
            }
            (None, Some(_), None) => {
                return Err(
                    "log_certificate: set log_authority FILE first, the authorities of the collector's certificate"
                        .to_owned(),
                );
            }
            (None, None, _) => {
                return Err(
                    "log_key: set log_collector_key KEY first, the public key that penlogd prints at its start, or \
                     log_certificate FILE and log_authority FILE"
                        .to_owned(),
                );
            }
        }
        if settings.is_classic_collector() {
            return Err(
                "log_key: expected log_format extended, since classic records are not encrypted"
                    .to_owned(),
            );
        }
    }
    if settings.acls.countries.is_none()
        && let Some((number, _)) = settings.acls.iter().find(|(_, list)| list.has_countries())
    {
        return Err(format!(
            "acl {number}: rules by country need a database: set geoip FILE first"
        ));
    }
    let special = [&settings.emergency, &settings.abuse].into_iter();
    for server in special.chain(&settings.servers).flatten() {
        if let Some(listen) = config.listen.iter().find(|listen| is_same(listen, &server.addr)) {
            return Err(format!(
                "{}: expected another machine or port: pen listens there itself ({listen})",
                server.addr
            ));
        }
    }
    Ok(())
}

/// Returns whether connections to `server` arrive at `listen`.
pub(crate) fn is_same(listen: &Endpoint, server: &Endpoint) -> bool {
    match (listen, server) {
        (Endpoint::Ip(listen), Endpoint::Ip(server)) => {
            let here = server.ip().is_loopback() || server.ip().is_unspecified();
            let takes =
                |ip: IpAddr| ip.is_unspecified() && here && ip.is_ipv4() == server.is_ipv4();
            server.port() != 0
                && listen.port() == server.port()
                && (listen.ip() == server.ip() || takes(listen.ip()))
        }
        (listen, server) => listen == server,
    }
}

//! Keys of balancers that log JSON: Traefik, Envoy as Istio sets it up, and nginx.

use super::super::field::{BalancerField, DurationUnit, LogField};

/// The keys, the meanings of their values, and their ranks.
const USUAL: &[(&str, LogField, u8)] = &[
    // Traefik's `json` format.
    ("ClientHost", LogField::Client, 0),
    ("ClientAddr", LogField::Client, 1),
    ("ClientPort", LogField::Part(BalancerField::ClientPort), 0),
    ("request_X-Request-Id", LogField::RequestIdHeader, 0),
    ("ServiceAddr", LogField::Part(BalancerField::Server), 0),
    ("StartUTC", LogField::Time, 0),
    ("Duration", LogField::Duration(DurationUnit::Nanoseconds), 0),
    ("RequestMethod", LogField::Method, 0),
    ("RequestPath", LogField::Target, 0),
    ("RequestProtocol", LogField::Protocol, 0),
    ("OriginStatus", LogField::Status, 0),
    ("OriginContentSize", LogField::Part(BalancerField::Body), 0),
    // Envoy as Istio sets it up.
    ("downstream_remote_address", LogField::Client, 2),
    ("upstream_host", LogField::Part(BalancerField::Server), 0),
    ("upstream_local_address", LogField::Part(BalancerField::Own), 0),
    ("request_id", LogField::RequestIdHeader, 1),
    ("start_time", LogField::Time, 1),
    ("duration", LogField::Duration(DurationUnit::Milliseconds), 1),
    ("method", LogField::Method, 1),
    ("path", LogField::Target, 1),
    ("protocol", LogField::Protocol, 1),
    ("response_code", LogField::Status, 1),
    ("bytes_sent", LogField::Part(BalancerField::Body), 0),
    // nginx, named after its variables.
    ("remote_addr", LogField::Client, 3),
    ("upstream_addr", LogField::Part(BalancerField::Servers), 0),
    ("upstream_response_length", LogField::Part(BalancerField::Bodies), 0),
    ("msec", LogField::Time, 2),
    ("time_iso8601", LogField::Time, 3),
    ("time_local", LogField::Time, 4),
    ("request_time", LogField::Duration(DurationUnit::Seconds), 2),
    ("request", LogField::Request, 0),
    ("request_method", LogField::Method, 2),
    ("request_uri", LogField::Target, 2),
    ("server_protocol", LogField::Protocol, 2),
    ("status", LogField::Status, 2),
];

/// The keys of Caddy, which dates a line by the end of the request.
const CADDY: &[(&str, LogField, u8)] = &[
    ("request.remote_ip", LogField::Client, 0),
    ("request.client_ip", LogField::Client, 1),
    ("request.remote_port", LogField::Part(BalancerField::ClientPort), 0),
    ("ts", LogField::Time, 0),
    ("duration", LogField::Duration(DurationUnit::Seconds), 0),
    ("request.method", LogField::Method, 0),
    ("request.uri", LogField::Target, 0),
    ("request.proto", LogField::Protocol, 0),
    ("request.host", LogField::Host, 0),
    ("request.headers.User-Agent", LogField::UserAgent, 0),
    ("request.headers.Referer", LogField::Referer, 0),
    ("request.headers.X-Request-Id", LogField::RequestIdHeader, 1),
    ("uuid", LogField::RequestId, 0),
    ("status", LogField::Status, 0),
    ("logger", LogField::Logger, 0),
];

/// The keys of Caddy's access log.
pub(super) fn caddy() -> Vec<(Vec<Vec<u8>>, LogField, u8)> {
    let path = |path: &str| path.split('.').map(|key| key.as_bytes().to_vec()).collect();
    CADDY.iter().map(|(name, field, rank)| (path(name), *field, *rank)).collect()
}

/// The usual keys of balancers.
pub(super) fn usual() -> Vec<(Vec<Vec<u8>>, LogField, u8)> {
    let key = |key: &str| vec![key.as_bytes().to_vec()];
    USUAL.iter().map(|(name, field, rank)| (key(name), *field, *rank)).collect()
}

//! The keys of interest in a JSON object: a tree, so that each depth is searched for its own keys.

use super::super::field::{DurationUnit, LogField};

/// The keys of interest, and the meaning of their values.
#[derive(Clone, Debug)]
pub(in crate::access) struct JsonNames {
    pub(super) nodes: Vec<JsonNode>,
    fields: Vec<(Vec<Vec<u8>>, LogField, u8)>,
}

/// The keys of interest in one object.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonNode {
    /// Sorted by length, then bytes.
    children: Vec<(Box<[u8]>, usize)>,
    pub(super) field: Option<(LogField, u8)>,
}

/// The keys of nginx users, Caddy and Traefik; the number is the rank. What is named after the peer of the connection
/// ranks before what is named after the client, which often is that of X-Forwarded-For.
const USUAL: &[(&str, LogField, u8)] = &[
    ("remote_addr", LogField::Client, 0),
    ("request.remote_ip", LogField::Client, 0),
    ("ClientHost", LogField::Client, 1),
    ("request.remote_addr", LogField::Client, 1),
    ("ClientAddr", LogField::Client, 2),
    ("remote_ip", LogField::Client, 2),
    ("remoteAddr", LogField::Client, 3),
    ("client_ip", LogField::Client, 6),
    ("clientip", LogField::Client, 6),
    ("client", LogField::Client, 7),
    ("client_addr", LogField::Client, 7),
    ("remote_host", LogField::Client, 4),
    ("remoteIP", LogField::Client, 4),
    ("remote", LogField::Client, 5),
    ("ip", LogField::Client, 8),
    ("remote_port", LogField::PeerPort, 0),
    ("request.remote_port", LogField::PeerPort, 0),
    ("ClientPort", LogField::PeerPort, 0),
    ("server_port", LogField::ServerPort, 0),
    ("msec", LogField::Time, 0),
    ("ts", LogField::Time, 1),
    ("StartUTC", LogField::Time, 1),
    ("time_iso8601", LogField::Time, 2),
    ("time_local", LogField::Time, 3),
    ("StartLocal", LogField::Time, 3),
    ("@timestamp", LogField::Time, 4),
    ("timestamp", LogField::Time, 5),
    ("time", LogField::Time, 6),
    ("date", LogField::Time, 7),
    ("request", LogField::Request, 0),
    ("request_line", LogField::Request, 1),
    ("request_method", LogField::Method, 0),
    ("request.method", LogField::Method, 0),
    ("RequestMethod", LogField::Method, 0),
    ("method", LogField::Method, 1),
    ("request_uri", LogField::Target, 0),
    ("request.uri", LogField::Target, 0),
    ("RequestPath", LogField::Target, 0),
    ("uri", LogField::Target, 1),
    ("url", LogField::Target, 2),
    ("path", LogField::Target, 3),
    ("args", LogField::Query, 1),
    ("query_string", LogField::Query, 1),
    ("server_protocol", LogField::Protocol, 0),
    ("request.proto", LogField::Protocol, 0),
    ("RequestProtocol", LogField::Protocol, 0),
    ("protocol", LogField::Protocol, 1),
    ("proto", LogField::Protocol, 2),
    ("http_version", LogField::Protocol, 3),
    ("status", LogField::Status, 0),
    ("DownstreamStatus", LogField::Status, 0),
    ("status_code", LogField::Status, 1),
    ("body_bytes_sent", LogField::Bytes, 0),
    ("DownstreamContentSize", LogField::Bytes, 0),
    ("bytes_sent", LogField::Bytes, 1),
    ("size", LogField::Bytes, 2),
    ("bytes", LogField::Bytes, 3),
    ("length", LogField::Bytes, 4),
    ("http_referer", LogField::Referer, 0),
    ("http_referrer", LogField::Referer, 0),
    ("request.headers.Referer", LogField::Referer, 0),
    ("request_Referer", LogField::Referer, 0),
    ("referer", LogField::Referer, 1),
    ("referrer", LogField::Referer, 1),
    ("http_user_agent", LogField::UserAgent, 0),
    ("request.headers.User-Agent", LogField::UserAgent, 0),
    ("request_User-Agent", LogField::UserAgent, 0),
    ("user_agent", LogField::UserAgent, 1),
    ("agent", LogField::UserAgent, 2),
    ("http_host", LogField::Host, 0),
    ("request.host", LogField::Host, 0),
    ("RequestHost", LogField::Host, 0),
    ("host", LogField::Host, 1),
    ("vhost", LogField::Host, 2),
    ("server_name", LogField::Host, 3),
    ("remote_user", LogField::User, 0),
    ("user_id", LogField::User, 1),
    ("ClientUsername", LogField::User, 0),
    ("user", LogField::User, 2),
    ("http_x_forwarded_for", LogField::ForwardedFor, 0),
    ("request.headers.X-Forwarded-For", LogField::ForwardedFor, 0),
    ("request_X-Forwarded-For", LogField::ForwardedFor, 0),
    ("x_forwarded_for", LogField::ForwardedFor, 1),
    ("connection_requests", LogField::Nth, 0),
    ("request_time", LogField::Duration(DurationUnit::Seconds), 0),
    ("duration", LogField::Duration(DurationUnit::Seconds), 1),
    ("Duration", LogField::Duration(DurationUnit::Nanoseconds), 0),
    ("http_x_request_id", LogField::RequestIdHeader, 0),
    ("request.headers.X-Request-Id", LogField::RequestIdHeader, 0),
    ("request_X-Request-Id", LogField::RequestIdHeader, 0),
    ("x_request_id", LogField::RequestIdHeader, 1),
    ("request_id", LogField::RequestIdHeader, 2),
    ("requestId", LogField::RequestIdHeader, 2),
    ("req_id", LogField::RequestIdHeader, 2),
    ("correlation_id", LogField::RequestIdHeader, 3),
    ("duration_ms", LogField::Duration(DurationUnit::Milliseconds), 0),
    ("logger", LogField::Logger, 0),
];

/// Further keys: of the Elastic Common Schema and Google's `httpRequest`, and the usual ones in other spellings.
const FURTHER: &[(&str, LogField, u8)] = &[
    ("source.address", LogField::Client, 3),
    ("source.ip", LogField::Client, 4),
    ("client.address", LogField::Client, 5),
    ("client.ip", LogField::Client, 6),
    ("httpRequest.remoteIp", LogField::Client, 3),
    ("RemoteAddr", LogField::Client, 4),
    ("remote-addr", LogField::Client, 4),
    ("remoteIp", LogField::Client, 4),
    ("RemoteIP", LogField::Client, 4),
    ("remoteAddress", LogField::Client, 4),
    ("remote_address", LogField::Client, 4),
    ("RemoteIpAddress", LogField::Client, 4),
    ("clientIp", LogField::Client, 7),
    ("clientIP", LogField::Client, 7),
    ("ClientIP", LogField::Client, 7),
    ("client-ip", LogField::Client, 7),
    ("peer_addr", LogField::Client, 4),
    ("peer_ip", LogField::Client, 4),
    ("remoteHost", LogField::Client, 4),
    ("RemoteHost", LogField::Client, 4),
    ("RemoteAddress", LogField::Client, 4),
    ("RemoteIp", LogField::Client, 4),
    ("RemoteIpAddr", LogField::Client, 4),
    ("client_address", LogField::Client, 7),
    ("clientAddress", LogField::Client, 7),
    ("ClientAddress", LogField::Client, 7),
    ("ClientIp", LogField::Client, 7),
    ("ClientIpAddress", LogField::Client, 7),
    ("source_ip", LogField::Client, 8),
    ("sourceIp", LogField::Client, 8),
    ("src_ip", LogField::Client, 8),
    ("ip_address", LogField::Client, 8),
    ("ipAddress", LogField::Client, 8),
    ("IpAddress", LogField::Client, 8),
    ("@t", LogField::Time, 8),
    ("Timestamp", LogField::Time, 8),
    ("datetime", LogField::Time, 8),
    ("dateTime", LogField::Time, 8),
    ("start_time", LogField::Time, 8),
    ("startTime", LogField::Time, 8),
    ("started_at", LogField::Time, 8),
    ("asctime", LogField::Time, 8),
    ("log_time", LogField::Time, 8),
    ("access_time", LogField::Time, 8),
    ("requestTime", LogField::Time, 8),
    ("Time", LogField::Time, 8),
    ("eventTime", LogField::Time, 8),
    ("requested_url", LogField::Request, 2),
    ("http.request.method", LogField::Method, 3),
    ("httpRequest.requestMethod", LogField::Method, 3),
    ("requestMethod", LogField::Method, 4),
    ("verb", LogField::Method, 4),
    ("Method", LogField::Method, 4),
    ("http_method", LogField::Method, 4),
    ("httpMethod", LogField::Method, 4),
    ("url.original", LogField::Target, 4),
    ("httpRequest.requestUrl", LogField::Target, 4),
    ("url.path", LogField::Target, 5),
    ("requested_uri", LogField::Target, 5),
    ("requestUri", LogField::Target, 5),
    ("requestUrl", LogField::Target, 5),
    ("requestURI", LogField::Target, 5),
    ("URI", LogField::Target, 5),
    ("URL", LogField::Target, 5),
    ("Path", LogField::Target, 5),
    ("query", LogField::Query, 2),
    ("url.query", LogField::Query, 2),
    ("requestQuery", LogField::Query, 3),
    ("queryString", LogField::Query, 3),
    ("QueryString", LogField::Query, 3),
    ("http.version", LogField::Protocol, 4),
    ("httpRequest.protocol", LogField::Protocol, 4),
    ("httpVersion", LogField::Protocol, 4),
    ("httpversion", LogField::Protocol, 4),
    ("http-version", LogField::Protocol, 4),
    ("Protocol", LogField::Protocol, 4),
    ("http.response.status_code", LogField::Status, 2),
    ("httpRequest.status", LogField::Status, 2),
    ("response", LogField::Status, 3),
    ("response_code", LogField::Status, 3),
    ("statusCode", LogField::Status, 3),
    ("StatusCode", LogField::Status, 3),
    ("httpStatus", LogField::Status, 3),
    ("Status", LogField::Status, 3),
    ("http.response.body.bytes", LogField::Bytes, 5),
    ("user_agent.original", LogField::UserAgent, 2),
    ("httpRequest.userAgent", LogField::UserAgent, 3),
    ("user-agent", LogField::UserAgent, 3),
    ("userAgent", LogField::UserAgent, 3),
    ("UserAgent", LogField::UserAgent, 3),
    ("http.request.referrer", LogField::Referer, 2),
    ("httpRequest.referer", LogField::Referer, 2),
    ("http.request.id", LogField::RequestIdHeader, 3),
];

/// Keys of services in front of servers: Cloudflare, Akamai, Fastly and Azure.
const SERVICES: &[(&str, LogField, u8)] = &[
    ("cliIP", LogField::Client, 6),
    ("ClientSrcPort", LogField::PeerPort, 1),
    ("EdgeStartTimestamp", LogField::Time, 8),
    ("EdgeEndTimestamp", LogField::Time, 9),
    ("reqTimeSec", LogField::Time, 8),
    ("timeStamp", LogField::Time, 8),
    ("ClientRequestMethod", LogField::Method, 5),
    ("reqMethod", LogField::Method, 5),
    ("ClientRequestURI", LogField::Target, 6),
    ("reqPath", LogField::Target, 6),
    ("ClientRequestPath", LogField::Target, 7),
    ("queryStr", LogField::Query, 4),
    ("ClientRequestProtocol", LogField::Protocol, 5),
    ("request_protocol", LogField::Protocol, 5),
    ("EdgeResponseStatus", LogField::Status, 4),
    ("response_status", LogField::Status, 4),
    ("httpStatusCode", LogField::Status, 4),
    ("EdgeResponseBytes", LogField::Bytes, 6),
    ("response_body_size", LogField::Bytes, 6),
    ("sentBytes", LogField::Bytes, 6),
    ("ClientRequestUserAgent", LogField::UserAgent, 4),
    ("request_user_agent", LogField::UserAgent, 4),
    ("UA", LogField::UserAgent, 4),
    ("ClientRequestReferer", LogField::Referer, 3),
    ("request_referer", LogField::Referer, 3),
    ("ClientRequestHost", LogField::Host, 4),
    ("reqHost", LogField::Host, 4),
];

/// See [`JsonNames::wrappers`]; the text stands for the request.
const WRAPPERS: &[(&str, LogField, u8)] = &[
    ("log", LogField::Request, 0),
    ("MESSAGE", LogField::Request, 0),
    ("message", LogField::Request, 1),
    ("msg", LogField::Request, 2),
    ("line", LogField::Request, 3),
    ("short_message", LogField::Request, 4),
    ("textPayload", LogField::Request, 4),
    ("event.original", LogField::Request, 4),
    ("@message", LogField::Request, 4),
    ("Body", LogField::Request, 5),
    ("body", LogField::Request, 5),
    ("_raw", LogField::Request, 5),
    ("_HOSTNAME", LogField::Host, 0),
    ("host.name", LogField::Host, 0),
    ("host.hostname", LogField::Host, 1),
    ("hostname", LogField::Host, 1),
    ("host", LogField::Host, 2),
    ("time", LogField::Time, 0),
    ("@timestamp", LogField::Time, 1),
    ("timestamp", LogField::Time, 2),
    ("__REALTIME_TIMESTAMP", LogField::Time, 3),
];

impl JsonNames {
    /// The usual keys.
    pub(in crate::access) fn usual() -> Self {
        Self::usual_and(&[])
    }

    /// The given keys, and the usual ones.
    pub(in crate::access) fn usual_and(more: &[(&str, LogField, u8)]) -> Self {
        let fields = more.iter().chain(USUAL).chain(FURTHER).chain(SERVICES);
        let nested = fields.map(|(path, field, rank)| (split(path), *field, *rank));
        // Some loggers write the keys of objects within as one key.
        let flat = FURTHER.iter().filter(|(path, ..)| path.contains('.'));
        let flat = flat.map(|(path, field, rank)| (vec![path.as_bytes().to_vec()], *field, *rank));
        Self::build(nested.chain(flat).collect())
    }

    /// The field of a key that is not nested, and its rank.
    pub(in crate::access) fn field(&self, key: &[u8]) -> Option<(LogField, u8)> {
        self.nodes[self.child(0, key)?].field
    }

    /// The keys of text, host and time in the logs of Docker, the journal and log shippers.
    pub(super) fn wrappers() -> Self {
        let fields = WRAPPERS.iter().map(|(path, field, rank)| (split(path), *field, *rank));
        Self::build(fields.collect())
    }

    /// The given keys only.
    pub(in crate::access) fn build(fields: Vec<(Vec<Vec<u8>>, LogField, u8)>) -> Self {
        let mut nodes = vec![JsonNode::default()];
        for (path, field, rank) in &fields {
            let mut node = 0;
            for key in path {
                node = child_or_new(&mut nodes, node, key);
            }
            nodes[node].field.get_or_insert((*field, *rank));
        }
        Self { nodes, fields }
    }

    /// Replaces all keys for `field` with the value at `path`. Dots in a path separate nested keys;
    /// a key that contains dots is found too.
    pub(in crate::access) fn with(self, field: LogField, path: &str) -> Self {
        let same =
            |other: &LogField| std::mem::discriminant(other) == std::mem::discriminant(&field);
        let mut fields = self.fields;
        let keys = split(path);
        fields.retain(|(other_path, other, _)| !same(other) && *other_path != keys);
        if keys.len() > 1 {
            fields.push((vec![path.as_bytes().to_vec()], field, 1));
        }
        fields.push((keys, field, 0));
        Self::build(fields)
    }

    /// The paths of all fields, joined with dots, of each field the best rank first.
    pub(in crate::access) fn paths(&self) -> Vec<(LogField, String)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by_key(|(_, _, rank)| *rank);
        let path = |keys: &[Vec<u8>]| String::from_utf8_lossy(&keys.join(&b'.')).into_owned();
        fields.iter().map(|(keys, field, _)| (*field, path(keys))).collect()
    }

    pub(super) fn child(&self, node: usize, key: &[u8]) -> Option<usize> {
        let children = &self.nodes[node].children;
        let order = |known: &[u8]| known.len().cmp(&key.len()).then_with(|| known.cmp(key));
        let index = children.binary_search_by(|(known, _)| order(known)).ok()?;
        Some(children[index].1)
    }
}

fn split(path: &str) -> Vec<Vec<u8>> {
    path.split('.').map(|key| key.strip_suffix("[0]").unwrap_or(key).as_bytes().to_vec()).collect()
}

fn child_or_new(nodes: &mut Vec<JsonNode>, node: usize, key: &[u8]) -> usize {
    let order = |known: &[u8]| known.len().cmp(&key.len()).then_with(|| known.cmp(key));
    match nodes[node].children.binary_search_by(|(known, _)| order(known)) {
        Ok(index) => nodes[node].children[index].1,
        Err(index) => {
            nodes.push(JsonNode::default());
            let new = nodes.len() - 1;
            nodes[node].children.insert(index, (key.into(), new));
            new
        }
    }
}

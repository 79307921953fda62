//! HAProxy's configuration for a site: the one of `docs/guide/behind-haproxy-and-others.md`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::Mappings;

/// HAProxy's mode and log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaproxyLogMode {
    /// Requests, by `option httplog`.
    Http,
    /// Requests, with all that we recommend.
    HttpPorts,
    /// Connections, by `option tcplog`.
    Tcp,
    /// Connections, with the ports, logged when they are opened.
    TcpPorts,
}

/// What is recommended for requests.
const HTTP_PORTS: &str = "\
  http-request set-var(txn.user_agent) req.fhdr(user-agent)
  http-request set-var(txn.referer) req.fhdr(referer)
  http-response set-var(txn.content_length) res.hdr(content-length)
  log-format \"%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq \
%hr %hs %{+Q}r %bi:%bp %si:%sp %{+Q,+E}[var(txn.user_agent)] %{+Q,+E}[var(txn.referer)] \
%[var(txn.content_length)]\"
";

/// And for connections.
const TCP_PORTS: &str = "  option logasap
  log-format \"%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq %bi:%bp %si:%sp\"
";

/// The configuration; to a file it logs by its standard output.
pub(super) fn configuration(
    manner: HaproxyLogMode,
    addr: SocketAddr,
    servers: &[SocketAddr],
    mappings: &Mappings,
) -> String {
    let log = match mappings {
        Mappings::File(_) => "stdout len 16384 format raw".to_owned(),
        Mappings::Collector(addr) => format!("{addr} len 16384"),
    };
    let (mode, logging) = match manner {
        HaproxyLogMode::Http => ("http", "  option httplog\n"),
        HaproxyLogMode::HttpPorts => ("http", HTTP_PORTS),
        HaproxyLogMode::Tcp => ("tcp", "  option tcplog\n"),
        HaproxyLogMode::TcpPorts => ("tcp", TCP_PORTS),
    };
    // Where several threads write to the standard output at once, one of them may drop its line.
    let mut text = format!(
        "global
  nbthread 1
  log {log} local0
  maxconn 1000
  tune.http.logurilen 8000
defaults
  mode {mode}
  log global
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend site
  bind {addr}
{logging}  default_backend app
backend app
  balance roundrobin
"
    );
    for (server, number) in servers.iter().zip(1..) {
        writeln!(text, "  server web{number} {server}").expect("writing to a String does not fail");
    }
    text
}

//! nginx's configuration as a balancer: the one of `docs/guide/behind-haproxy-and-others.md`.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Mappings;
use crate::{ActionError, Doing as _};

/// The log format that is recommended.
pub const NGINX_FORMAT: &str = r#"$remote_addr [$time_iso8601] $msec "$request" $status $upstream_response_length $request_time "$upstream_addr" "$http_user_agent" "$http_referer""#;

/// Writes the configuration; returns its path.
pub(super) fn configure(
    folder: &Path,
    addr: SocketAddr,
    servers: &[SocketAddr],
    mappings: &Mappings,
) -> Result<PathBuf, ActionError> {
    let log = match mappings {
        Mappings::File(path) => path.display().to_string(),
        Mappings::Collector(addr) => format!("syslog:server={addr}"),
    };
    let own = folder.join("nginx-balancer");
    fs::create_dir_all(&own).doing(format_args!("make {}", own.display()))?;
    let mut upstream = String::new();
    for server in servers {
        write!(upstream, " server {server};").expect("writing to a String does not fail");
    }
    let text = format!(
        "daemon off;
worker_processes 1;
pid {own}/pid;
error_log {own}/error.log;
events {{ worker_connections 1024; }}
http {{
  client_body_temp_path {own}/body;
  proxy_temp_path {own}/proxy;
  fastcgi_temp_path {own}/fastcgi;
  uwsgi_temp_path {own}/uwsgi;
  scgi_temp_path {own}/scgi;
  log_format pen '{NGINX_FORMAT}';
  access_log {log} pen;
  client_max_body_size 16m;
  keepalive_requests 1000000;
  upstream app {{{upstream} }}
  server {{
    listen {addr} backlog=1024;
    location / {{ proxy_pass http://app; }}
  }}
}}
",
        own = own.display()
    );
    let path = own.join("nginx.conf");
    fs::write(&path, text).doing(format_args!("write {}", path.display()))?;
    Ok(path)
}

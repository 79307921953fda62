//! nginx's configurations as a balancer: those of `docs/guide/behind-haproxy-and-others.md`.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Mappings;
use crate::{ActionError, Doing as _};

/// The log format that is recommended.
pub const NGINX_FORMAT: &str = r#"$remote_addr [$time_iso8601] $msec "$request" $status $upstream_response_length $request_time "$upstream_addr" "$http_user_agent" "$http_referer""#;

/// Where the module for connections is, unless it is built in.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Writes a configuration; returns its path.
pub(super) fn configure(folder: &Path, text: &str) -> Result<PathBuf, ActionError> {
    let own = own_folder(folder);
    fs::create_dir_all(&own).doing(format_args!("make {}", own.display()))?;
    let path = own.join("nginx.conf");
    fs::write(&path, text).doing(format_args!("write {}", path.display()))?;
    Ok(path)
}

fn own_folder(folder: &Path) -> PathBuf {
    folder.join("nginx-balancer")
}

fn upstream(servers: &[SocketAddr]) -> String {
    let mut upstream = String::new();
    for server in servers {
        write!(upstream, " server {server};").expect("writing to a String does not fail");
    }
    upstream
}

fn log_of(mappings: &Mappings) -> String {
    match mappings {
        Mappings::File(path) => path.display().to_string(),
        Mappings::Collector(addr) => format!("syslog:server={addr}"),
    }
}

/// A balancer of requests.
pub(super) fn http(
    folder: &Path,
    addr: SocketAddr,
    servers: &[SocketAddr],
    mappings: &Mappings,
) -> String {
    let (own, log, upstream) = (own_folder(folder), log_of(mappings), upstream(servers));
    format!(
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
    location / {{ proxy_pass http://app; proxy_set_header Host $http_host; }}
  }}
}}
",
        own = own.display()
    )
}

/// A balancer of connections, whose error log is that of mappings.
pub(super) fn stream(
    folder: &Path,
    addr: SocketAddr,
    servers: &[SocketAddr],
    mappings: &Mappings,
) -> String {
    let (own, log, upstream) = (own_folder(folder), log_of(mappings), upstream(servers));
    let module = if Path::new(STREAM_MODULE).exists() {
        format!("load_module {STREAM_MODULE};\n")
    } else {
        String::new()
    };
    format!(
        "{module}daemon off;
worker_processes 1;
pid {own}/pid;
error_log {own}/error.log;
events {{ worker_connections 1024; }}
stream {{
  error_log {log} info;
  upstream app {{{upstream} }}
  server {{
    listen {addr} backlog=1024;
    proxy_pass app;
  }}
}}
",
        own = own.display()
    )
}

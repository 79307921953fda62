//! Visitors that speak TLS, without a TLS library here: nginx makes their connections.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Process, free_port, program};
use crate::{During, Failure};

/// An nginx that takes plain requests and sends each over TLS from the address that its header names.
#[derive(Debug)]
pub struct Relay {
    addr: SocketAddr,
    _process: Process,
}

impl Relay {
    /// Starts it towards a balancer and waits until it listens.
    ///
    /// # Errors
    /// When nginx is not installed or does not start.
    pub fn start(folder: &Path, balancer: SocketAddr) -> Result<Self, Failure> {
        let addr = free_port(Ipv4Addr::LOCALHOST)?;
        let folder = folder.join("relay");
        fs::create_dir_all(&folder).during(format_args!("make {}", folder.display()))?;
        let (config, here) = (folder.join("relay.conf"), folder.display());
        let text = format!(
            "daemon off;
user root;
worker_processes 1;
pid {here}/pid;
events {{ worker_connections 1024; }}
http {{
  client_body_temp_path {here}/body;
  proxy_temp_path {here}/proxy;
  fastcgi_temp_path {here}/fastcgi;
  uwsgi_temp_path {here}/uwsgi;
  scgi_temp_path {here}/scgi;
  access_log off;
  server {{
    listen {addr} backlog=1024;
    location / {{
      proxy_pass https://{balancer};
      proxy_bind $http_x_true_client;
      proxy_set_header Host shop.example;
      proxy_http_version 1.1;
    }}
  }}
}}
"
        );
        fs::write(&config, text).during(format_args!("write {}", config.display()))?;
        let mut command = Command::new(program("nginx")?);
        command.arg("-p").arg(&folder).arg("-c").arg(&config);
        command.arg("-e").arg(folder.join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Process::start("nginx", &mut command, folder.join("stderr"))?;
        process.wait_for_port(addr)?;
        Ok(Self { addr, _process: process })
    }

    /// Where plain requests go.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

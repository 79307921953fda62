//! The web server behind the balancers, on the core of the clients.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use crate::stage::{Program, TempFolder, free_port, require_installed};
use crate::{ActionError, Doing};

/// Where clients and web server run.
pub(super) const CORE: &str = "1";

/// A page of 1 KiB.
pub(super) const SMALL: &str = "/small";

/// A page of 1 MiB.
pub(super) const LARGE: &str = "/large";

/// A running nginx.
pub(super) struct Origin {
    addr: SocketAddr,
    _process: Program,
}

impl Origin {
    pub(super) fn start(folder: &TempFolder) -> Result<Self, ActionError> {
        let addr = free_port(Ipv4Addr::LOCALHOST);
        for (page, bytes) in [(SMALL, 1 << 10), (LARGE, 1 << 20)] {
            let path = folder.path().join(format!("www{page}"));
            fs::create_dir_all(folder.path().join("www")).doing("make a folder for pages")?;
            fs::write(&path, vec![b'x'; bytes]).doing(format_args!("write {}", path.display()))?;
        }
        let here = folder.path().display();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {here}/origin.pid;\nworker_rlimit_nofile 20000;\nevents {{ worker_connections 10000; }}\nhttp {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 100000000;\n  open_file_cache max=10;\n  client_body_temp_path {here}/body;\n  proxy_temp_path {here}/proxy;\n  fastcgi_temp_path {here}/fastcgi;\n  uwsgi_temp_path {here}/uwsgi;\n  scgi_temp_path {here}/scgi;\n  server {{ listen {addr} backlog=4096; root {here}/www; }}\n}}\n"
        );
        let config = folder.join("origin.conf");
        fs::write(&config, text).doing(format_args!("write {}", config.display()))?;
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]).arg(require_installed("nginx")?);
        command.arg("-e").arg(folder.join("origin.log")).arg("-c").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Program::start("nginx", &mut command)?;
        process.wait_for_port(addr)?;
        Ok(Self { addr, _process: process })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

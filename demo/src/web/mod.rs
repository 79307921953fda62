//! The web servers of the demonstration: nginx, or the [`tiny`] one where nginx is not installed.

mod tiny;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pen_testing::program::installed;
use pen_testing::{ActionError, Doing as _, Program, free_port};

/// A running web server with an access log in Combined Log Format; ends when dropped.
pub(crate) struct DemoWeb {
    pub(crate) addr: SocketAddr,
    pub(crate) access_log: PathBuf,
    /// `None` for the tiny server, a thread of this process.
    _nginx: Option<Program>,
}

impl DemoWeb {
    /// Starts server `number` at 127.0.1.`number`, with its files in a folder below `parent`.
    pub(crate) fn start(parent: &Path, number: u8) -> Result<Self, ActionError> {
        let addr = free_port(Ipv4Addr::new(127, 0, 1, number));
        let folder = parent.join(format!("web{number}"));
        fs::create_dir_all(&folder).doing(format_args!("create {}", folder.display()))?;
        let access_log = folder.join("access.log");
        let nginx = match installed("nginx") {
            Some(program) => Some(nginx(&program, &folder, addr)?),
            None => tiny::serve(addr, &access_log).map(|()| None)?,
        };
        Ok(Self { addr, access_log, _nginx: nginx })
    }
}

fn nginx(program: &Path, folder: &Path, addr: SocketAddr) -> Result<Program, ActionError> {
    let config = folder.join("nginx.conf");
    let text = configuration(folder, addr);
    fs::write(&config, text).doing(format_args!("write {}", config.display()))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(&config).arg("-e").arg(folder.join("error.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut nginx = Program::start("nginx", &mut command)?;
    nginx.wait_for_port(addr)?;
    Ok(nginx)
}

/// One process without privileges, all files below `folder`, the same answer to every request.
fn configuration(folder: &Path, addr: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
events {{ }}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  access_log {folder}/access.log combined;
  server {{
    listen {addr};
    location / {{ return 200 \"hello\\n\"; }}
  }}
}}
"
    )
}

//! A real nginx behind the balancer, with logs of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use pen::config::Endpoint;

use crate::support::until;

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pen-access-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("there is room");
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// nginx at a socket in the folder.
pub(crate) struct Nginx(Child);

impl Nginx {
    pub(crate) fn start(folder: &Folder) -> (Self, Endpoint) {
        let root = folder.0.display();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
             events {{ worker_connections 64; }}
             http {{
               client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
               uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
               log_format own '\"$request\" $status $body_bytes_sent \"$http_referer\" '
                              '\"$http_user_agent\" \"$http_host\" $connection_requests';
               log_format told '$http_x_forwarded_for $http_x_forwarded_proto';
               access_log {root}/own.log own; access_log {root}/told.log told;
               gzip on; gzip_min_length 1; gzip_types text/plain;
               server {{
                 listen unix:{root}/socket; root {root};
                 location /echo {{ return 200 \"hello\"; }}
                 location /gone {{ return 204; }}
                 location /away {{ return 302 /; }}
               }}
             }}"
        );
        fs::write(folder.join("nginx.conf"), config).expect("there is room");
        fs::write(folder.join("page.txt"), "a page\n".repeat(3_000)).expect("there is room");
        let nginx = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        let socket = folder.join("socket");
        until("nginx listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        (Self(nginx), Endpoint::Unix(socket))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

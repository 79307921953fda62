//! A real nginx behind the balancer, with logs of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;

use pen::config::Endpoint;
use pen_testing::{Program, TempFolder, wait_until};

/// nginx at a socket in the folder.
pub(crate) struct Nginx {
    _program: Program,
}

impl Nginx {
    pub(crate) fn start(folder: &TempFolder) -> (Self, Endpoint) {
        let root = folder.path().display();
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
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(folder.join("nginx.conf"));
        let nginx = Program::start("nginx", &mut command).expect("nginx is installed");
        let socket = folder.join("socket");
        wait_until("nginx listens", || UnixStream::connect(&socket).is_ok());
        (Self { _program: nginx }, Endpoint::Unix(socket))
    }
}

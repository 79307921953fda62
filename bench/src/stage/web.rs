//! nginx and Apache with configurations of their own.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::echo::WebSocketEcho;
use super::{Program, free_port, line_count, require_installed, run_to_end};
use crate::{ActionError, Doing};

/// Which web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebServerKind {
    /// nginx with one worker; it logs a request when the response has been sent.
    Nginx,
    /// Apache with threads; it logs then too, but with the time at which the request came.
    Apache,
}

/// Where the public log goes besides the file `access.log`.
#[derive(Clone, Debug)]
pub enum Output {
    /// To a program's standard input: Apache's piped log.
    Pipe(String),
    /// Into a FIFO or a file, in this spelling.
    At(PathBuf, LogSpelling),
    /// The same, but only the lines of the virtual host with this number.
    OfHost(PathBuf, LogSpelling, u8),
    /// To a collector as syslog: nginx's own.
    Syslog(SocketAddr),
}

/// How much a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSpelling {
    /// What both servers are set up for.
    Combined,
    /// Combined, with the peer's port at its end.
    WithPort,
    /// Without Referer and User-Agent.
    Common,
    /// What combined lines say as JSON.
    Json,
    /// The same, with the peer's port.
    JsonWithPort,
}

impl LogSpelling {
    /// The name of the format in a server's configuration.
    const fn name(self) -> &'static str {
        match self {
            Self::Combined => "combined",
            Self::WithPort => "ports",
            Self::Common => "short",
            Self::Json => "json",
            Self::JsonWithPort => "json_ports",
        }
    }
}

/// How many virtual hosts there are.
pub const HOSTS: u8 = 2;

/// The name of a virtual host by its number.
#[must_use]
pub fn host_name(host: u8) -> String {
    format!("shop{host}.example")
}

/// What to start.
#[derive(Clone, Debug)]
pub struct WebPlan {
    /// Which web server.
    pub kind: WebServerKind,
    /// The server's number, from 1: the address is 127.0.1.number, and each answer is `number` bytes longer.
    pub number: u8,
    /// Further ways for the public log.
    pub outputs: Vec<Output>,
    /// Whether the server ends TLS.
    pub tls: bool,
    /// The address to listen at instead; several servers may share an IP address and differ by port.
    pub addr: Option<SocketAddr>,
}

/// A running web server.
#[derive(Debug)]
pub struct Web {
    process: Program,
    addr: SocketAddr,
    folder: PathBuf,
    _echo: WebSocketEcho,
}

impl Web {
    /// Starts it in a folder of its own under `folder` and waits until it listens.
    ///
    /// # Errors
    /// If the program is not installed or does not start.
    pub fn start(folder: &Path, plan: &WebPlan) -> Result<Self, ActionError> {
        let ip = Ipv4Addr::new(127, 0, 1, plan.number);
        let addr = plan.addr.unwrap_or_else(|| free_port(ip));
        let folder = folder.join(format!("web{}", plan.number));
        write_pages(&folder, plan.number)?;
        if plan.tls {
            write_certificate(&folder)?;
        }
        let echo = WebSocketEcho::start()?;
        let inner = Inner { pages: free_port(ip), echo: echo.addr() };
        let config = folder.join("web.conf");
        let (name, text) = match plan.kind {
            WebServerKind::Nginx => ("nginx", nginx(&folder, addr, &inner, plan)),
            WebServerKind::Apache => ("apache2", apache(&folder, addr, &inner, plan)),
        };
        fs::write(&config, text).doing(format_args!("write {}", config.display()))?;
        let mut command = Command::new(require_installed(name)?);
        match plan.kind {
            WebServerKind::Nginx => {
                command.arg("-p").arg(&folder).arg("-c").arg(&config);
                command.arg("-e").arg(folder.join("error.log"));
            }
            WebServerKind::Apache => {
                command.arg("-d").arg(&folder).arg("-f").arg(&config).arg("-DFOREGROUND");
            }
        }
        command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Program::start(name, &mut command)?;
        process.wait_for_port(addr)?;
        Ok(Self { process, addr, folder, _echo: echo })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it and the programs that it started said.
    #[must_use]
    pub fn error_log(&self) -> PathBuf {
        self.folder.join("error.log")
    }

    /// The public log.
    #[must_use]
    pub fn access_log(&self) -> PathBuf {
        self.folder.join("access.log")
    }

    /// The private log: client, request id, peer's port, and the public line.
    #[must_use]
    pub fn truth_log(&self) -> PathBuf {
        self.folder.join("truth.log")
    }

    /// The number of logged requests.
    #[must_use]
    pub fn logged(&self) -> usize {
        line_count(&self.truth_log())
    }

    /// Rotates the public log as logrotate does: renames it to `access.log.1`, then has the server reopen it.
    ///
    /// # Errors
    /// If the server does not create the new log.
    pub fn rotate(&mut self) -> Result<PathBuf, ActionError> {
        let (log, old) = (self.access_log(), self.folder.join("access.log.1"));
        fs::rename(&log, &old).doing(format_args!("rename {}", log.display()))?;
        self.process.signal(Signal::SIGUSR1)?;
        self.process.wait_for("open its log again", || log.exists())?;
        let addr = self.addr;
        self.process.wait_for_port(addr)?;
        Ok(old)
    }

    /// Ends the web server, which writes the rest of its logs.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn stop(&mut self) -> Result<(), ActionError> {
        self.process.stop(Signal::SIGTERM).map(|_status| ())
    }
}

/// The pages: `page.html` for any address, ten files under `slow/` that a limit makes slow, and others
/// to be asked for in odd ways. A
/// server's number shows in their sizes, so that equal lines come from one server.
fn write_pages(folder: &Path, number: u8) -> Result<(), ActionError> {
    let at = |name: &str| folder.join("www").join(name);
    for name in ["slow", "files", "packed", "big"] {
        fs::create_dir_all(at(name)).doing(format_args!("make {}", at(name).display()))?;
    }
    let page = |size: usize| "x".repeat(size + usize::from(number));
    let write = |path: PathBuf, text: String| {
        fs::write(&path, text).doing(format_args!("write {}", path.display()))
    };
    write(folder.join("www/page.html"), page(300))?;
    (0..10).try_for_each(|file| {
        write(at("slow").join(format!("s{file}")), page(2_048 + 2_048 * file))?;
        write(at("files").join(format!("f{file}")), page(1_000 + 100 * file))?;
        write(
            at("packed").join(format!("f{file}")),
            words(3_000 + 500 * file + usize::from(number)),
        )?;
        write(at("big").join(format!("f{file}")), page(200_000))
    })
}

/// Text that does not shrink to the same few bytes.
fn words(size: usize) -> String {
    let mut text = String::new();
    let mut number = size;
    while text.len() < size {
        number = number.wrapping_mul(48_271) % 2_147_483_647;
        write!(text, "{number} ").expect("writing to a String does not fail");
    }
    text
}

/// What stands behind nginx.
struct Inner {
    pages: SocketAddr,
    echo: SocketAddr,
}

fn write_certificate(folder: &Path) -> Result<(), ActionError> {
    let mut command = Command::new(require_installed("openssl")?);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-nodes", "-days", "2", "-subj", "/CN=shop.example", "-keyout"]);
    command.arg(folder.join("key.pem")).arg("-out").arg(folder.join("cert.pem"));
    run_to_end(&mut command).map(|_output| ())
}

fn nginx(folder: &Path, addr: SocketAddr, inner: &Inner, plan: &WebPlan) -> String {
    let folder = folder.display();
    let Inner { pages: inner, echo } = inner;
    let page = "x".repeat(300 + usize::from(plan.number));
    let json = "\"remote_addr\":\"$remote_addr\",\"request\":\"$request\",\"status\":$status,\
                \"body_bytes_sent\":$body_bytes_sent,\"http_referer\":\"$http_referer\",\
                \"http_user_agent\":\"$http_user_agent\"";
    let mut hosts = String::new();
    for host in 0..HOSTS {
        let name = host_name(host);
        writeln!(hosts, "  map $host $is_host{host} {{ default 0; {name} 1; }}")
            .expect("writing to a String does not fail");
    }
    let mut logs = String::new();
    for output in &plan.outputs {
        let done = match output {
            Output::At(path, spelling) => {
                writeln!(logs, "  access_log {} {};", path.display(), spelling.name())
            }
            Output::OfHost(path, spelling, host) => writeln!(
                logs,
                "  access_log {} {} if=$is_host{host};",
                path.display(),
                spelling.name()
            ),
            Output::Syslog(to) => writeln!(logs, "  access_log syslog:server={to} combined;"),
            Output::Pipe(_) => Ok(()),
        };
        done.expect("writing to a String does not fail");
    }
    let (ssl, certificate) = if plan.tls {
        (" ssl http2", "  ssl_certificate cert.pem;\n  ssl_certificate_key key.pem;\n")
    } else {
        ("", "")
    };
    format!(
        "daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 4096;
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  log_format truth '$http_x_true_client $http_x_request_id $remote_port $remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"';
  log_format ports '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\" $remote_port';
  log_format short '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent';
  log_format json escape=json '{{\"time_local\":\"$time_local\",{json}}}';
  log_format json_ports escape=json '{{\"time_local\":\"$time_local\",\"remote_port\":$remote_port,{json}}}';
{hosts}  access_log {folder}/access.log combined;
  access_log {folder}/truth.log truth;
{logs}{certificate}  keepalive_requests 1000000;
  client_max_body_size 16m;
  client_header_timeout 2s;
  server {{
    listen {addr}{ssl} backlog=1024;
    root {folder}/www;
    location / {{ return 200 \"{page}\"; }}
    location /slow/ {{ sendfile on; sendfile_max_chunk 2k; limit_rate 40k; }}
    location /files/ {{ }}
    location /packed/ {{ gzip on; gzip_types *; gzip_min_length 0; }}
    location /big/ {{ limit_rate 200k; }}
    location /socket/ {{
      proxy_pass http://{echo};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection Upgrade;
    }}
    location /post/ {{ proxy_pass http://{inner}; }}
  }}
  server {{
    listen {inner} backlog=1024;
    access_log off;
    client_max_body_size 16m;
    location / {{ return 200 \"{page}\"; }}
  }}
}}
"
    )
}

fn apache(folder: &Path, addr: SocketAddr, inner: &Inner, plan: &WebPlan) -> String {
    let (folder, echo) = (folder.display(), inner.echo);
    let mut logs = String::new();
    for output in &plan.outputs {
        let done = match output {
            Output::Pipe(command) => writeln!(logs, "CustomLog \"|{command}\" combined"),
            Output::At(path, spelling) => {
                writeln!(logs, "CustomLog \"{}\" {}", path.display(), spelling.name())
            }
            Output::OfHost(path, spelling, host) => writeln!(
                logs,
                "CustomLog \"{}\" {} \"expr=%{{HTTP_HOST}} == '{}'\"",
                path.display(),
                spelling.name(),
                host_name(*host)
            ),
            Output::Syslog(_) => Ok(()),
        };
        done.expect("writing to a String does not fail");
    }
    let mut modules = String::new();
    for module in [
        "mpm_event",
        "authz_core",
        "alias",
        "ratelimit",
        "reflector",
        "env",
        "filter",
        "deflate",
        "proxy",
        "proxy_http",
    ] {
        writeln!(modules, "LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so")
            .expect("writing to a String does not fail");
    }
    let mut tls = String::new();
    if plan.tls {
        for module in ["ssl", "http2"] {
            writeln!(
                modules,
                "LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so"
            )
            .expect("writing to a String does not fail");
        }
        tls = "SSLEngine on\nSSLSessionCache none\nSSLCertificateFile cert.pem\n\
               SSLCertificateKeyFile key.pem\nProtocols h2 http/1.1\n"
            .to_owned();
    }
    let json = "\\\"remote_addr\\\":\\\"%h\\\",\\\"request\\\":\\\"%r\\\",\\\"status\\\":%>s,\
                \\\"body_bytes_sent\\\":%O,\\\"http_referer\\\":\\\"%{Referer}i\\\",\
                \\\"http_user_agent\\\":\\\"%{User-Agent}i\\\"";
    format!(
        "ServerRoot {folder}
ServerName shop.example
DefaultRuntimeDir {folder}
PidFile {folder}/pid
Listen {addr}
{modules}{tls}<IfModule unixd_module>
User www-data
Group www-data
</IfModule>
ErrorLog {folder}/error.log
Timeout 2
ServerLimit 1
StartServers 1
ThreadLimit 200
ThreadsPerChild 200
MaxRequestWorkers 200
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 65
LogFormat \"%h %l %u %t \\\"%r\\\" %>s %O \\\"%{{Referer}}i\\\" \\\"%{{User-Agent}}i\\\"\" combined
LogFormat \"%{{X-True-Client}}i %{{X-Request-Id}}i %{{remote}}p %h %l %u %t \\\"%r\\\" %>s %O \\\"%{{Referer}}i\\\" \\\"%{{User-Agent}}i\\\"\" truth
LogFormat \"%h %l %u %t \\\"%r\\\" %>s %O \\\"%{{Referer}}i\\\" \\\"%{{User-Agent}}i\\\" %{{remote}}p\" ports
LogFormat \"%h %l %u %t \\\"%r\\\" %>s %O\" short
LogFormat \"{{\\\"time_local\\\":\\\"%{{%d/%b/%Y:%H:%M:%S %z}}t\\\",{json}}}\" json
LogFormat \"{{\\\"time_local\\\":\\\"%{{%d/%b/%Y:%H:%M:%S %z}}t\\\",\\\"remote_port\\\":%{{remote}}p,{json}}}\" json_ports
CustomLog {folder}/access.log combined
CustomLog {folder}/truth.log truth
{logs}DocumentRoot {folder}/www
AliasMatch \"^/(?!slow/|post/|files/|packed/|big/|socket/).*\" {folder}/www/page.html
<Directory {folder}/www>
Require all granted
</Directory>
<Location /slow/>
SetOutputFilter RATE_LIMIT
SetEnv rate-limit 40
</Location>
<Location /post/>
SetHandler reflector
</Location>
<Location /packed/>
SetOutputFilter DEFLATE
</Location>
<Location /big/>
SetOutputFilter RATE_LIMIT
SetEnv rate-limit 200
</Location>
ProxyPass /socket/ http://{echo}/socket/ upgrade=websocket
"
    )
}

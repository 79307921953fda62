//! The table of settings, in the order in which `write` and `--explain` list them.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use super::row::{NoForm, OptionForm, SettingField, SettingRow};
use super::value::{SettingType, SettingValue};
use crate::command::env::{self, ApplyError, CommandEnv};
use crate::command::values as parse;
use crate::command::words::DurationText;
use crate::config::address::{Host, ListenAddr, LogTargetArg, ServerArg};
use crate::config::{
    ClientCertificates, Endpoint, FastClose, ForwardedFor, LogFormat, LogTarget, LogTransport,
    PenConfig, ProxyVersion, SelectionMode, ServerSettings, ServerTls, TlsVersion, TransportKind,
};

/// A field of the configuration whose value is the value of the setting.
macro_rules! field {
    ($($field:ident).+) => {
        SettingField {
            get: |config| Some(config.$($field).+.to_value()),
            set: |config, value, _| {
                assign(&mut config.$($field).+, value);
                Ok(())
            },
        }
    };
}

/// A field that holds a path, which `CommandEnv::absolute` or `CommandEnv::inside` completes.
macro_rules! path {
    ($place:ident, $($field:ident).+) => {
        SettingField {
            get: |config| Some(config.$($field).+.to_value()),
            set: |config, value, env| {
                let field = &mut config.$($field).+;
                assign(field, value);
                *field = field.as_deref().map(|path| env.$place(path));
                Ok(())
            },
        }
    };
}

/// A selection mode.
macro_rules! mode {
    ($mode:ident) => {
        SettingField {
            get: |config| {
                Some(SettingValue::Switch(config.settings.modes.is_on(SelectionMode::$mode)))
            },
            set: |config, value, _| {
                let is_on = *value == SettingValue::Switch(true);
                config.settings.modes.set(SelectionMode::$mode, is_on);
                Ok(())
            },
        }
    };
}

/// One of the two servers outside the selection.
macro_rules! special_server {
    ($verb:literal, $field:ident) => {
        SettingField {
            get: |config| Some(server_value(config.settings.$field.as_ref())),
            set: |config, value, env| {
                config.settings.$field = special_server($verb, value, config, env)?;
                Ok(())
            },
        }
    };
}

const CHOOSING: &str = "Choosing";
const CONNECTIONS: &str = "Connections";
const PROCESS: &str = "Process";
const RECORDS: &str = "Records";
const SERVERS: &str = "Servers";
const TLS: &str = "TLS";

/// All settings. Not formatted by rustfmt, so that a row stays a row.
#[rustfmt::skip]
pub(super) static ROWS: &[SettingRow] = &[
    SettingRow::switch("udp", UDP,
        "forward datagrams instead of connections").at_start().option("-U", OptionForm::Switch, CONNECTIONS),
    SettingRow::switch("hash", mode!(Hash),
        "choose servers by a hash of the client's address; with roundrobin, and its port")
        .option("-h", OptionForm::Switch, CHOOSING),
    SettingRow::switch("roundrobin", mode!(RoundRobin),
        "choose servers in turn for each connection").option("-r", OptionForm::Switch, CHOOSING),
    SettingRow::switch("stubborn", mode!(Stubborn),
        "try no other server if the first choice fails").option("-s", OptionForm::Switch, CHOOSING),
    SettingRow::switch("weight", mode!(Weight),
        "choose servers by weight").option("-W", OptionForm::Switch, CHOOSING),
    SettingRow::switch("prio", mode!(Prio),
        "choose servers by priority"),
    SettingRow::switch("least_connections", mode!(LeastConnections),
        "choose the server with the fewest connections"),
    SettingRow::switch("keepalive", field!(settings.tcp.keepalive),
        "send TCP keepalive probes"),
    SettingRow::switch("tcp_nodelay", field!(settings.tcp.nodelay),
        "send small packets at once"),
    SettingRow::switch("transparent", field!(settings.tcp.transparent),
        "connect to servers from the client's address"),
    SettingRow::new("listen", "[ADDR...]", parse::listen, LISTEN,
        "addresses that clients connect to").at_start().answered().replying(listen_text),
    SettingRow::new("workers", "[N]", parse::workers, field!(workers),
        "threads that forward traffic").at_start(),
    SettingRow::new("backlog", "[N]", parse::count::<NonZeroU32>, field!(backlog),
        "clients that wait to be accepted").at_start().option("-q", OptionForm::AtLeast(50), CONNECTIONS),
    SettingRow::new("multi_accept", "[N]", parse::count::<NonZeroU32>, field!(multi_accept),
        "clients accepted in one go").at_start().option("-m", OptionForm::Value, CONNECTIONS),
    SettingRow::new("debug", "[N]", parse::number::<u8>, field!(debug),
        "verbosity of log messages: 1 for debug messages, 2 for all").answered()
        .option("-d", OptionForm::Count, PROCESS),
    SettingRow::new("client_acl", "[N]", parse::acl_number, field!(settings.client_acl),
        "access list for clients").answered(),
    SettingRow::new("control_acl", "[N]", parse::acl_number, field!(settings.control_acl),
        "access list for the control port").answered(),
    SettingRow::new("status_acl", "[N]", parse::acl_number, field!(settings.status_acl),
        "access list for the address of --status").none(NoForm::Absent).answered(),
    SettingRow::new("clients_max", "[N]", parse::count::<NonZeroUsize>, field!(settings.limits.clients),
        "clients whose server is remembered").answered().option("-c", OptionForm::Value, CHOOSING),
    SettingRow::new("conn_max", "[N]", parse::number::<usize>, field!(settings.limits.connections),
        "limit of concurrent connections; 0 for as many as file descriptors allow").answered()
        .option("-x", OptionForm::Value, CONNECTIONS),
    SettingRow::new("pending_max", "[N]", parse::count::<NonZeroUsize>, field!(settings.limits.pending),
        "limit of connections to servers that are being opened"),
    SettingRow::new("blacklist", "[TIME]", parse::time, field!(settings.timeouts.blacklist),
        "how long a failed server gets no clients").answered().option("-b", OptionForm::Value, SERVERS),
    SettingRow::new("timeout", "[TIME]", parse::nonzero_time, field!(settings.timeouts.connect),
        "how long a server may take to accept a connection").answered()
        .option("-t", OptionForm::Value, SERVERS),
    SettingRow::new("tracking", "[TIME]", parse::time, field!(settings.timeouts.tracking),
        "how long a client keeps its server; 0 forever").none(NoForm::Zero).answered()
        .option("-T", OptionForm::Value, CHOOSING),
    SettingRow::new("idle_timeout", "[TIME]", parse::time, field!(settings.timeouts.idle),
        "how long a connection may be idle; 0 forever, over UDP a minute").none(NoForm::Zero).answered()
        .replying(idle_text),
    SettingRow::new("half_closed", "[TIME]", parse::time, field!(settings.timeouts.linger),
        "how long a half-closed connection may be idle; 0 forever").none(NoForm::Zero),
    SettingRow::new("first_byte", "[TIME]", parse::time, field!(settings.timeouts.first_byte),
        "how long a client may take to send its first byte; 0 forever").none(NoForm::Zero),
    SettingRow::new("geoip", "[FILE]", parse::file, GEOIP,
        "country database for the access lists").none(NoForm::Absent),
    SettingRow::new("drain_timeout", "[TIME]", parse::time, field!(settings.timeouts.drain),
        "how long connections may go on when pen stops"),
    SettingRow::new("resolve_interval", "[TIME]", parse::time, field!(settings.timeouts.resolve),
        "time between lookups of server names; 0 for one lookup at the start").none(NoForm::Zero),
    SettingRow::new("check", "[tcp|http [METHOD] PATH [STATUS]|[send TEXT] expect TEXT]", parse::check, field!(settings.checks.check),
        "health check of servers").none(NoForm::Absent),
    SettingRow::new("check_interval", "[TIME]", parse::nonzero_time, field!(settings.checks.interval),
        "time between two checks of a server"),
    SettingRow::new("check_timeout", "[TIME]", parse::nonzero_time, field!(settings.checks.timeout),
        "how long a check may take"),
    SettingRow::new("check_rise", "[N]", parse::count::<NonZeroU32>, field!(settings.checks.rise),
        "successful checks in a row after which a server is up"),
    SettingRow::new("check_fall", "[N]", parse::count::<NonZeroU32>, field!(settings.checks.fall),
        "failed checks in a row after which a server is down"),
    SettingRow::new("source", "[ADDR]", parse::address, field!(settings.tcp.source),
        "local address of connections to servers").none(NoForm::Absent),
    SettingRow::new("tcp_fastclose", "[up|down|both|off]", parse::choice::<FastClose>, field!(settings.tcp.fastclose),
        "close both directions when this side sends FIN").none(NoForm::Word("off")),
    SettingRow::new("accept_proxy", "[NET|unix...]", parse::peers, field!(settings.accept_proxy),
        "require a PROXY protocol header from these networks (or `unix`)").none(NoForm::Absent)
        .option("--accept-proxy", OptionForm::Commas, CONNECTIONS),
    SettingRow::new("send_proxy", "[v1|v2]", parse::choice::<ProxyVersion>, field!(settings.send_proxy),
        "send the client's address to servers in a PROXY protocol header").none(NoForm::Absent)
        .option("--send-proxy", OptionForm::Value, CONNECTIONS),
    SettingRow::new("log_format", "[extended|classic]", parse::choice::<LogFormat>, field!(settings.log_format),
        "format of mapping records"),
    SettingRow::new("log_transport", "[udp|stream]", parse::choice::<LogTransport>, field!(settings.delivery.transport),
        "protocol of mapping records to a collector"),
    SettingRow::new("log_collector_key", "[KEY]", parse::public_key, field!(settings.delivery.collector_key),
        "public key of the collector").none(NoForm::Absent),
    SettingRow::new("log_key", "[FILE]", parse::file, path!(inside, settings.delivery.key),
        "private key of this balancer, for mapping records by TLS").none(NoForm::Absent),
    SettingRow::new("log_certificate", "[FILE]", parse::file, path!(inside, settings.delivery.certificate),
        "certificate of this balancer, for log_key without log_collector_key").none(NoForm::Absent),
    SettingRow::new("log_authority", "[FILE]", parse::file, path!(inside, settings.delivery.authority),
        "certificate authorities for the collector").none(NoForm::Absent),
    SettingRow::new("log_collector_name", "[NAME]", parse::server_name, field!(settings.delivery.collector_name),
        "name in the certificate of the collector").none(NoForm::Absent),
    SettingRow::new("log_spool", "[DIR]", parse::folder, path!(inside, settings.delivery.spool),
        "folder for mapping records that the collector has not confirmed").none(NoForm::Absent),
    SettingRow::new("log_spool_size", "[MIB]", parse::count::<NonZeroUsize>, field!(settings.delivery.spool_mib),
        "limit of the size of log_spool"),
    SettingRow::new("access_log", "[FILE]", parse::file, path!(absolute, settings.access_log),
        "log of HTTP/1.x requests and responses, in combined format and more").none(NoForm::Absent)
        .answered().option("--access-log", OptionForm::Value, RECORDS),
    SettingRow::new("web_stats", "[FILE]", parse::file, path!(inside, settings.web_stats),
        "file for the status page, written on SIGUSR1").none(NoForm::Absent).answered()
        .option("-w", OptionForm::Value, RECORDS),
    SettingRow::new("ssl_certificate", "[FILE]", parse::file, path!(absolute, settings.tls.certificate),
        "certificate and its chain; turns on TLS").none(NoForm::Absent).option("-E", OptionForm::Value, TLS),
    SettingRow::new("ssl_key", "[FILE]", parse::file, path!(absolute, settings.tls.key),
        "private key, if the file of the certificate has none").none(NoForm::Absent)
        .option("-K", OptionForm::Value, TLS),
    SettingRow::new("ssl_ocsp_response", "[FILE]", parse::file, path!(absolute, settings.tls.staple),
        "OCSP response to staple to the certificate").none(NoForm::Absent),
    SettingRow::new("ssl_sni_path", "[DIR]", parse::folder, path!(absolute, settings.tls.names),
        "folder of certificates for other names").none(NoForm::Absent),
    SettingRow::new("ssl_client_certificate", "[none|optional|required]", parse::choice::<ClientCertificates>, field!(settings.tls.clients),
        "whether clients need a certificate").none(NoForm::Word("none"))
        .option("-R", OptionForm::Fixed("required"), TLS),
    SettingRow::new("ssl_ca_file", "[FILE]", parse::file, path!(absolute, settings.tls.ca_file),
        "certificate authorities for clients").none(NoForm::Absent).option("-G", OptionForm::Value, TLS),
    SettingRow::new("ssl_ca_path", "[DIR]", parse::folder, path!(absolute, settings.tls.ca_dir),
        "folder of certificate authorities for clients").none(NoForm::Absent)
        .option("-A", OptionForm::Value, TLS),
    SettingRow::new("ssl_crl_file", "[FILE]", parse::file, path!(absolute, settings.tls.revoked),
        "lists of revoked certificates").none(NoForm::Absent),
    SettingRow::new("ssl_minimum", "[1.2|1.3]", parse::choice::<TlsVersion>, field!(settings.tls.oldest),
        "oldest version of TLS that is accepted").none(NoForm::Word("1.2")),
    SettingRow::new("ssl_alpn", "[PROTOCOL...]", parse::protocols, field!(settings.tls.alpn),
        "protocols to negotiate by ALPN, the preferred one first").none(NoForm::Absent),
    SettingRow::new("ssl_reload", "[TIME]", parse::time, field!(settings.tls.look),
        "time between looks for changed certificates; 0 for SIGHUP only").none(NoForm::Zero),
    SettingRow::new("ssl_servers", "[off|verified|unverified]", parse::choice::<ServerTls>, field!(settings.tls.servers),
        "TLS towards servers").none(NoForm::Word("off")),
    SettingRow::new("ssl_servers_ca", "[FILE]", parse::file, path!(absolute, settings.tls.servers_ca),
        "certificate authorities for servers").none(NoForm::Absent),
    SettingRow::new("ssl_servers_name", "[NAME]", parse::server_name, field!(settings.tls.servers_name),
        "name in the certificates of servers").none(NoForm::Absent),
    SettingRow::switch("http", HTTP,
        "send the client's address to HTTP servers in X-Forwarded-For and X-Forwarded-Proto")
        .option("-H", OptionForm::Switch, CONNECTIONS),
    SettingRow::new("x_forwarded_for", "[replace|append|keep NET|unix...]", parse::forwarded_for, X_FORWARDED_FOR,
        "treatment of an X-Forwarded-For header from the client"),
    SettingRow::new("log", "[FILE|HOST:PORT]", parse::log, LOG,
        "file or collector for mapping records").none(NoForm::Absent).answered()
        .option("-l", OptionForm::Value, RECORDS).replying(log_text),
    SettingRow::new("emergency", "[SERVER]", parse::server_arg, special_server!("emergency", emergency),
        "server for clients when no other server is available").none(NoForm::Absent)
        .option("-e", OptionForm::Value, SERVERS)
        .replying(|config| server_text(config.settings.emergency.as_ref())),
    SettingRow::new("abuse", "[SERVER]", parse::server_arg, special_server!("abuse", abuse),
        "server for clients that the access list denies").none(NoForm::Absent)
        .option("-B", OptionForm::Value, SERVERS)
        .replying(|config| server_text(config.settings.abuse.as_ref())),
];

const UDP: SettingField = SettingField {
    get: |config| Some(SettingValue::Switch(config.transport == TransportKind::Udp)),
    set: |config, value, _| {
        let is_udp = *value == SettingValue::Switch(true);
        config.transport = if is_udp { TransportKind::Udp } else { TransportKind::Stream };
        Ok(())
    },
};

/// Without addresses nothing is written.
const LISTEN: SettingField = SettingField {
    get: |config| {
        let addrs = config.listen.iter().map(|endpoint| match endpoint {
            Endpoint::Ip(addr) => ListenAddr::Port(Host::Ip(addr.ip()), addr.port()),
            Endpoint::Unix(path) => ListenAddr::Unix(path.clone()),
        });
        Some(SettingValue::Listen(addrs.collect())).filter(|_| !config.listen.is_empty())
    },
    set: |config, value, env| {
        if let SettingValue::Listen(addrs) = value {
            let addrs = addrs.iter().map(|addr| env::endpoint(addr, env));
            config.listen = addrs.collect::<Result<_, _>>()?;
        }
        Ok(())
    },
};

const GEOIP: SettingField = SettingField {
    get: |config| {
        let database = config.settings.acls.countries.as_deref();
        Some(database.map_or(SettingValue::Absent, |it| SettingValue::Path(it.path().to_owned())))
    },
    set: |config, value, env| {
        config.settings.acls.countries = match value {
            SettingValue::Path(path) => {
                let path = env.absolute(path);
                let database = env.countries(&path);
                let error = |error: std::io::Error| ApplyError::Countries(path, error.to_string());
                Some(Arc::new(database.map_err(error)?))
            }
            _ => None,
        };
        Ok(())
    },
};

/// `x_forwarded_for` writes the value that is in force with `http`.
const HTTP: SettingField = SettingField {
    get: |config| config.settings.http.is_none().then_some(SettingValue::Switch(false)),
    set: |config, value, _| {
        if *value == SettingValue::Switch(true) {
            config.settings.http.get_or_insert_with(ForwardedFor::default);
        } else {
            config.settings.http = None;
        }
        Ok(())
    },
};

const X_FORWARDED_FOR: SettingField = SettingField {
    get: |config| config.settings.http.as_ref().map(SettingType::to_value),
    set: |config, value, _| {
        config.settings.http = ForwardedFor::from_value(value);
        Ok(())
    },
};

const LOG: SettingField = SettingField {
    get: |config| {
        Some(match &config.settings.log {
            None => SettingValue::Absent,
            Some(LogTarget::File(path)) => SettingValue::Log(LogTargetArg::File(path.clone())),
            Some(LogTarget::Collector { name, addr }) => {
                let (host, port) = match ListenAddr::parse(name) {
                    Ok(ListenAddr::Port(host, port)) => (host, port),
                    Ok(ListenAddr::Unix(_)) | Err(_) => (Host::Ip(addr.ip()), addr.port()),
                };
                SettingValue::Log(LogTargetArg::Collector(host, port))
            }
        })
    },
    set: |config, value, env| {
        config.settings.log = match value {
            SettingValue::Log(target) => Some(log_target(target, env)?),
            _ => None,
        };
        Ok(())
    },
};

/// Returns the reply to `listen`: the addresses without quotes, as C pen writes them.
fn listen_text(config: &PenConfig) -> String {
    config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Returns the reply to `idle_timeout` in the words of C pen.
fn idle_text(config: &PenConfig) -> String {
    format!(
        "Idle timeout: {} seconds",
        DurationText(config.settings.timeouts.idle.unwrap_or_default())
    )
}

/// Returns the reply to `log`: the destination without quotes, as C pen writes it.
fn log_text(config: &PenConfig) -> String {
    let name = config.settings.log.as_ref().map(LogTarget::name);
    name.map(|name| name.display().to_string()).unwrap_or_default()
}

/// Gives a field its value. The parser of the row gives values of the field's type.
fn assign<T: SettingType>(field: &mut T, value: &SettingValue) {
    if let Some(value) = T::from_value(value) {
        *field = value;
    }
}

fn log_target(target: &LogTargetArg, env: &dyn CommandEnv) -> Result<LogTarget, ApplyError> {
    Ok(match target {
        LogTargetArg::File(path) => LogTarget::File(env.inside(path)),
        LogTargetArg::Collector(host, port) => {
            let name = ListenAddr::Port(host.clone(), *port).to_string();
            let addr = match host {
                Host::Ip(ip) => SocketAddr::new(*ip, *port),
                host => env::resolve("log", &host.to_string(), *port, env)?,
            };
            LogTarget::Collector { name, addr }
        }
    })
}

fn special_server(
    verb: &str,
    value: &SettingValue,
    config: &PenConfig,
    env: &dyn CommandEnv,
) -> Result<Option<ServerSettings>, ApplyError> {
    match value {
        SettingValue::Server(arg) => env::server_settings(verb, arg, config, env).map(Some),
        _ => Ok(None),
    }
}

fn server_value(server: Option<&ServerSettings>) -> SettingValue {
    server.map_or(SettingValue::Absent, |server| SettingValue::Server(server_arg(server)))
}

fn server_text(server: Option<&ServerSettings>) -> String {
    server.map(|server| server_arg(server).to_string()).unwrap_or_default()
}

/// Returns the argument that describes `server`.
fn server_arg(server: &ServerSettings) -> ServerArg {
    let ServerSettings { addr, name, soft, hard, weight, prio, .. } = server;
    let (host, port) = match addr {
        Endpoint::Ip(addr) => (Host::Ip(addr.ip()), Some(addr.port())),
        Endpoint::Unix(path) => (Host::Unix(path.clone()), None),
    };
    let host = name.clone().map_or(host, Host::Name);
    ServerArg { host, port, soft: *soft, hard: *hard, weight: *weight, prio: *prio }
}

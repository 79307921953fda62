//! The language as a whole: each verb of C pen, writing and reading, and what commands do.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::apply::{ApplyPhase, CommandAction, CommandOutcome};
use super::control_command::{ControlCommand, ShowQuery, StatusFormat};
use super::env::{ApplyError, CommandEnv};
use super::reload::{ConfigDiff, commands, reload};
use crate::config::countries::CountryDatabase;
use crate::config::countries::tests::database;
use crate::config::{Endpoint, LogTarget, PenConfig, ServerSettings};

/// Knows a few host names; relative paths begin at `/home`.
pub(super) struct CommandTestEnv;

impl CommandEnv for CommandTestEnv {
    fn resolve(&self, name: &str, port: u16) -> Result<SocketAddr, String> {
        let names: HashMap<_, _> =
            [("web1", "10.0.0.1"), ("web2", "10.0.0.2"), ("six", "2001:db8::6")].into();
        let addr = names.get(name).ok_or_else(|| format!("nobody knows {name}"))?;
        Ok(SocketAddr::new(addr.parse().unwrap(), port))
    }

    fn countries(&self, path: &Path) -> io::Result<CountryDatabase> {
        let bytes = database(&[("192.0.2.0", 24, "SE")]);
        match path.to_str() {
            Some("/home/countries.mmdb") => CountryDatabase::from_bytes(path, bytes),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/home").join(path)
    }
}

fn parse(line: &str) -> ControlCommand {
    let parsed = ControlCommand::parse(line.as_bytes());
    parsed.unwrap_or_else(|error| panic!("{line}: {error}")).unwrap_or_else(|| panic!("{line}"))
}

fn apply(line: &str, config: &mut PenConfig, phase: ApplyPhase) -> Result<CommandOutcome, String> {
    let command = ControlCommand::parse(line.as_bytes()).map_err(|error| error.to_string())?;
    let Some(command) = command else { return Ok(CommandOutcome::Silence) };
    command.apply(config, phase, &CommandTestEnv).map_err(|error| error.to_string())
}

fn config(lines: &[&str]) -> PenConfig {
    let mut config = PenConfig::default();
    for line in lines {
        let applied = apply(line, &mut config, ApplyPhase::Starting);
        assert!(applied.is_ok(), "{line}: {applied:?}");
    }
    config
}

/// Every verb of pen 0.34 in each of its forms, and what the answer is here.
#[test]
fn a_socket_path_has_to_fit_once_it_is_absolute() {
    let mut config = config(&["listen 127.0.0.1:80"]);
    for len in [100, 101, 102] {
        let path = format!("./{}", "x".repeat(len - 2));
        let applied = apply(&format!("server 0 address {path}"), &mut config, ApplyPhase::Starting);
        // The test's working folder is /home, so "/home/" goes in front.
        assert_eq!(applied.is_ok(), len + "/home/".len() <= 107, "{len}: {applied:?}");
    }
}

#[test]
fn every_verb_of_c_pen_is_known() {
    let text = |text: &str| Ok(CommandOutcome::Text(text.to_owned()));
    let action = |action| Ok(CommandOutcome::Action(action));
    let silent = || Ok(CommandOutcome::Silence);
    let ignored = "has no effect";
    let show = |query| action(CommandAction::Show(query));
    let cases: Vec<(&str, Result<CommandOutcome, &str>)> = vec![
        ("abort_on_error", Err(ignored)),
        ("no abort_on_error", silent()),
        ("acl 1 permit 10.0.0.0 255.0.0.0", silent()),
        ("acl 1 deny 10.0.0.1", silent()),
        ("acl 9 permit 2001:db8::/32", silent()),
        ("acl 9 deny ::1", silent()),
        ("no acl 9", silent()),
        ("ascii", Err(ignored)),
        ("no ascii", silent()),
        ("blacklist", text("30")),
        ("blacklist 20", text("20")),
        ("block", Err(ignored)),
        ("no block", silent()),
        ("client_acl 3", text("3")),
        ("client_acl", text("3")),
        ("clients_max", text("2048")),
        ("clients_max 4096", text("4096")),
        ("close 7", action(CommandAction::Close(7))),
        ("connection 7", show(ShowQuery::Connection(7))),
        ("conn_max", text("0")),
        ("conn_max 700", text("700")),
        ("control", text("")),
        ("control_acl 4", text("4")),
        ("status_acl 4", text("4")),
        ("status_acl", text("4")),
        ("no status_acl", silent()),
        ("debug", text("0")),
        ("debug 2", text("2")),
        ("delayed_forward", Err(ignored)),
        ("no delayed_forward", silent()),
        ("epoll", Err(ignored)),
        ("kqueue", Err(ignored)),
        ("poll", Err(ignored)),
        ("select", Err(ignored)),
        ("hash", silent()),
        ("no hash", silent()),
        ("http", silent()),
        ("no http", silent()),
        ("idle_timeout 5", text("Idle timeout: 5 seconds")),
        ("idle_timeout", text("Idle timeout: 5 seconds")),
        ("idlers 3", Err(ignored)),
        ("include other.cfg", action(CommandAction::Include("/home/other.cfg".into()))),
        ("keepalive", silent()),
        ("no keepalive", silent()),
        ("listen 127.0.0.1:8080", text("127.0.0.1:8080")),
        ("listen", text("127.0.0.1:8080")),
        ("log pen.log", text("/home/pen.log")),
        ("log 10.0.0.9:10000", text("10.0.0.9:10000")),
        ("log", text("10.0.0.9:10000")),
        ("no log", silent()),
        ("mode", text("no hash no roundrobin no stubborn no weight no prio")),
        ("pending_max 50", silent()),
        ("pid", text(&std::process::id().to_string())),
        ("prio", silent()),
        ("no prio", silent()),
        ("recent", show(ShowQuery::Recent(Duration::from_secs(300)))),
        ("recent 10", show(ShowQuery::Recent(Duration::from_secs(10)))),
        ("roundrobin", silent()),
        ("no roundrobin", silent()),
        ("server 0 address 10.0.0.1 port 80 max 1 hard 2 weight 3 prio 4 acl 5", silent()),
        ("server 0 blacklist 60", action(CommandAction::Blacklist(0, Duration::from_secs(60)))),
        ("geoip", text("")),
        ("geoip countries.mmdb", silent()),
        ("no geoip", silent()),
        ("geoip gone.mmdb", Err("geoip: cannot read /home/gone.mmdb: ")),
        ("servers", show(ShowQuery::Servers)),
        ("socket 5", show(ShowQuery::Socket(5))),
        ("source 10.0.0.1", silent()),
        ("ssl_ciphers HIGH", Err(ignored)),
        ("ssl_client_renegotiation_interval 60", Err(ignored)),
        ("ssl_option no_tlsv1", Err(ignored)),
        ("ssl_option no_tlsv1.2", silent()),
        ("ssl_minimum", text("1.3")),
        ("ssl_ocsp_response f", silent()),
        ("ssl_ocsp_response", text("/home/f")),
        ("ssl_sni_path d", silent()),
        ("ssl_option cipher_server_preference", Err(ignored)),
        ("status", show(ShowQuery::Status(StatusFormat::Html))),
        ("stubborn", silent()),
        ("no stubborn", silent()),
        ("tcp_fastclose up", silent()),
        ("tcp_fastclose down", silent()),
        ("tcp_fastclose both", silent()),
        ("tcp_fastclose off", silent()),
        ("tcp_nodelay", silent()),
        ("no tcp_nodelay", silent()),
        ("timeout", text("3")),
        ("timeout 4", text("4")),
        ("tracking", text("0")),
        ("tracking 9", text("9")),
        ("transparent", silent()),
        ("no transparent", silent()),
        ("access_log", text("")),
        ("access_log access.log", text("/home/access.log")),
        ("no access_log", silent()),
        ("web_stats", text("")),
        ("web_stats stats.html", text("/home/stats.html")),
        ("no web_stats", silent()),
        ("weight", silent()),
        ("no weight", silent()),
        ("write pen.cfg", action(CommandAction::Write("/home/pen.cfg".into()))),
        // Known, and answered with an error.
        ("dsr_if eth0", Err("dsr_if: direct server return is not supported")),
        ("dsr_ip 10.0.0.1", Err("dsr_ip: direct server return is not supported")),
        ("dummy", Err("dummy: pen is no web server")),
        ("no dummy", silent()),
        ("peek", Err("peek: it never worked")),
        ("no peek", silent()),
        ("tarpit_acl 1", Err("tarpit_acl: ")),
        ("acl 1 permit country SWE", Err("acl: expected a country's two letters")),
        ("exit", Err("Exit is not enabled; restart with -X flag")),
        ("write", Err("write: expected the name of a file: there was no -F")),
    ];
    let mut config = PenConfig::default();
    for (line, expected) in cases {
        let outcome = match apply(line, &mut config, ApplyPhase::Starting) {
            Ok(CommandOutcome::Warning(why)) => Err(why),
            other => other,
        };
        match (&outcome, &expected) {
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{line}: {error}"),
            (outcome, expected) => {
                assert_eq!(outcome.as_ref().ok(), expected.as_ref().ok(), "{line}: {outcome:?}");
            }
        }
    }
}

#[test]
fn what_is_wrong_is_answered_and_changes_nothing() {
    for (line, expected) in [
        ("nonsense", "unknown command 'nonsense': see 'help'"),
        ("blaklist 3", "unknown command 'blaklist': did you mean 'blacklist'? See 'help'"),
        ("help blaklist", "unknown command 'blaklist': did you mean 'blacklist'"),
        ("help drain 3", "help: expected nothing more"),
        ("no nonsense", "no nonsense: there is no such command, see 'help'"),
        ("no", "no: expected a verb behind it"),
        ("blacklist abc", "blacklist: expected seconds, or a number with ms, s, m or h behind it"),
        ("blacklist -1", "blacklist: expected seconds, or a number with ms, s, m or h behind it"),
        ("timeout 0", "timeout: expected more than no time"),
        ("client_acl 256", "client_acl: expected the number of an access list, from 0 to 255"),
        ("no acl", "no acl: expected the number of an access list, from 0 to 255"),
        ("acl 1 allow 10.0.0.1", "acl: expected permit, deny or default"),
        ("acl 1 permit", "acl: expected an address, a network"),
        ("no acl 3 permit 10.0.0.1", "acl 3: there is no such rule"),
        ("hash on", "hash: expected nothing more, found 'on'"),
        ("source", ""),
        ("source web1", "source: expected an address"),
        ("server 0", "server 0: expected acl, address, blacklist"),
        ("server 0 colour red", "server 0: expected acl, address, blacklist"),
        ("server 0 max", "server 0 max: expected a number"),
        ("server 0 max 1", "server 0: expected an address first: server 0 address ADDR"),
        ("server 10000 max 1", "server: expected the number of a server, from 0 to 9999"),
        ("server 1 address nobody port 80", "server 1: nobody knows nobody"),
        (
            "server 1 address 10.0.0.1",
            "server 1: expected a port, since pen does not listen at one",
        ),
        ("server 1 address 10.0.0.1 port 70000", "server 1 port: expected a port"),
        ("remove 3", "server 3: there is no such server"),
        ("drain 3", "server 3: there is no such server"),
        ("log a:b", "log: expected a port"),
        ("log 10.0.0.9", "log: expected FILE or HOST:PORT; an address needs its port"),
        ("tcp_fastclose sideways", "tcp_fastclose: expected up, down, both or off"),
        ("log \"", "expected a closing quote"),
        ("\u{1b}[2J", "unknown command '\\u{1b}[2J'"),
    ] {
        let mut config = PenConfig::default();
        match apply(line, &mut config, ApplyPhase::Starting) {
            Err(error) => assert!(error.starts_with(expected), "{line}: {error}"),
            Ok(_) => assert!(expected.is_empty(), "{line}"),
        }
        // An empty list that was named is what one that never was is.
        assert_eq!(commands(&config), commands(&PenConfig::default()), "{line}");
    }
}

#[test]
fn what_needs_a_restart_is_refused_while_running() {
    let mut config = config(&["listen 80"]);
    for line in ["listen 81", "udp", "workers 2", "backlog 7", "multi_accept 3"] {
        let error = apply(line, &mut config.clone(), ApplyPhase::Running).expect_err(line);
        assert!(error.ends_with("can't be changed while running: restart pen with it"), "{error}");
    }
    for line in ["listen 80", "no udp", "hash", "conn_max 10", "listen"] {
        assert!(apply(line, &mut config, ApplyPhase::Running).is_ok(), "{line}");
    }
}

#[test]
fn a_server_is_changed_word_by_word() {
    let mut config = config(&["listen 8080", "server 1 address web1", "server 1 port 81 weight 7"]);
    let server = |config: &PenConfig| config.settings.servers[1].clone().unwrap();
    assert_eq!(config.settings.servers[0], None);
    let expected = ServerSettings {
        name: Some("web1".into()),
        weight: 7,
        ..ServerSettings::new(Endpoint::Ip("10.0.0.1:81".parse().unwrap()))
    };
    assert_eq!(server(&config), expected);
    // The port stays when the address changes, in whatever order they are said.
    apply("server 1 max 5 address web2", &mut config, ApplyPhase::Running).unwrap();
    assert_eq!(server(&config).addr, Endpoint::Ip("10.0.0.2:81".parse().unwrap()));
    apply("server 1 port 90 address 10.0.0.9", &mut config, ApplyPhase::Running).unwrap();
    let changed = server(&config);
    assert_eq!((changed.addr, changed.name), (Endpoint::Ip("10.0.0.9:90".parse().unwrap()), None));
    assert_eq!(changed.soft.map(u32::from), Some(5));
    // The old way to take one out.
    apply("server 1 address 0.0.0.0", &mut config, ApplyPhase::Running).unwrap();
    assert_eq!(config.settings.servers, []);
}

#[test]
fn a_server_is_drained_by_its_address_where_that_is_clear() {
    let mut config = config(&[
        "server 0 address 192.0.2.1 port 80",
        "server 1 address 192.0.2.2 port 80",
        "server 2 address 192.0.2.2 port 81",
    ]);
    let draining = |config: &PenConfig| -> Vec<bool> {
        config.settings.servers.iter().flatten().map(|server| server.draining).collect()
    };
    apply("drain 192.0.2.1", &mut config, ApplyPhase::Running).unwrap();
    assert_eq!(draining(&config), [true, false, false]);
    let outcome = apply("drain 192.0.2.2:81 30s", &mut config, ApplyPhase::Running).unwrap();
    let action = CommandAction::EndConnectionsOf(2, Duration::from_secs(30));
    assert_eq!(outcome, CommandOutcome::Action(action));
    assert_eq!(draining(&config), [true, false, true]);
    for (line, expected) in [
        ("drain 192.0.2.2", "server 192.0.2.2: several servers have this address"),
        ("drain 192.0.2.9", "server 192.0.2.9: there is no such server"),
    ] {
        let error = apply(line, &mut config, ApplyPhase::Running).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_server_is_drained_until_it_is_wanted_again() {
    let mut config = config(&["listen 80", "server 0 address web1"]);
    let draining = |config: &PenConfig| config.settings.servers[0].as_ref().unwrap().draining;
    assert_eq!(apply("drain 0", &mut config, ApplyPhase::Running), Ok(CommandOutcome::Silence));
    assert!(draining(&config));
    let action = CommandAction::EndConnectionsOf(0, Duration::from_secs(30));
    assert_eq!(
        apply("drain 0 30s", &mut config, ApplyPhase::Running),
        Ok(CommandOutcome::Action(action))
    );
    apply("server 0 max 3", &mut config, ApplyPhase::Running).unwrap();
    assert!(draining(&config));
    apply("server 0 blacklist 0", &mut config, ApplyPhase::Running).unwrap();
    assert!(!draining(&config));
}

#[test]
fn a_collector_keeps_its_port() {
    let config = config(&["log web1:10000"]);
    let expected =
        LogTarget::Collector { name: "web1:10000".into(), addr: "10.0.0.1:10000".parse().unwrap() };
    assert_eq!(config.settings.log, Some(expected));
    assert!(commands(&config).contains(&"log web1:10000".to_owned()));
}

#[test]
fn a_reload_is_one_change_and_also_removes() {
    let old = config(&[
        "listen 80",
        "server 0 address web1",
        "server 1 address web2",
        "server 2 address 10.0.0.3",
        "acl 1 deny 10.9.9.9",
    ]);
    let new = config(&[
        "listen 81",
        "server 0 address web1 port 80 max 9",
        "server 2 address 10.0.0.4 port 80",
        "blacklist 5",
    ]);
    let (taken, diff) = reload(&old, new.clone());
    assert_eq!(taken.settings, new.settings);
    assert_eq!(taken.listen, old.listen);
    assert_eq!(
        diff.to_string(),
        "added server 2 10.0.0.4:80; changed server 0 10.0.0.1:80; \
         removed server 1 10.0.0.2:80, 2 10.0.0.3:80; blacklist 5; not without a restart: listen"
    );
    let (again, diff) = reload(&taken, taken.clone());
    assert_eq!((again, diff), (taken, ConfigDiff::default()));
}

#[test]
fn errors_are_told_apart_by_their_verbs() {
    assert_eq!(ApplyError::Running("udp".into()).to_string().split(':').next(), Some("udp"));
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        (0_u32..100_000).prop_map(|s| s.to_string()),
        (1_u32..9_999).prop_map(|s| format!("{s}ms"))
    ]
}

fn host() -> impl Strategy<Value = String> {
    let fixed = [
        "web1",
        "web2",
        "six",
        "10.1.2.3",
        "2001:db8::7",
        "/run/a b.sock",
        "\"/run/q \\\" \\x01\"",
    ];
    prop::sample::select(
        fixed
            .map(|host| {
                if host.contains(' ') && !host.starts_with('"') {
                    format!("\"{host}\"")
                } else {
                    host.to_owned()
                }
            })
            .to_vec(),
    )
}

/// A line that can be carried out at the start.
fn line() -> impl Strategy<Value = String> {
    let numbers = ["client_acl", "control_acl", "status_acl", "debug", "conn_max"];
    let counts = [
        "backlog",
        "check_fall",
        "check_rise",
        "clients_max",
        "log_spool_size",
        "multi_accept",
        "pending_max",
        "workers",
    ];
    let times =
        ["blacklist", "drain_timeout", "first_byte", "half_closed", "idle_timeout", "tracking"];
    let switches = [
        "hash",
        "http",
        "keepalive",
        "least_connections",
        "prio",
        "roundrobin",
        "stubborn",
        "tcp_nodelay",
        "transparent",
        "udp",
        "weight",
    ];
    let fixed = [
        "no log",
        "geoip countries.mmdb",
        "no geoip",
        "log /var/log/pen.log",
        "log \"my log\"",
        "log six:10000",
        "log [::1]:514",
        "log_format classic",
        "log_format extended",
        "log_transport stream",
        "log_transport udp",
        "log_collector_key ed25519:3333333333333333333333333333333333333333333333333333333333333333",
        "no log_collector_key",
        "log_key \"my key\"",
        "no log_key",
        "log_certificate pen.crt",
        "no log_certificate",
        "log_authority ca.pem",
        "no log_authority",
        "log_collector_name loghost.example",
        "no log_collector_name",
        "log_spool /var/lib/pen",
        "no log_spool",
        "send_proxy v1",
        "send_proxy v2",
        "no send_proxy",
        "accept_proxy 10.0.0.0/8 ::1",
        "accept_proxy unix 10.0.0.1",
        "no accept_proxy",
        "check tcp",
        "check http /health",
        "check http HEAD /a?b=\"c\" 204",
        "check http OPTIONS / 200-499",
        "check send \"PING\\x0d\\n\" expect +PONG",
        "check expect \"220 \"",
        "no check",
        "source ::1",
        "source 10.0.0.1",
        "no source",
        "tcp_fastclose up",
        "tcp_fastclose down",
        "tcp_fastclose both",
        "tcp_fastclose off",
        "access_log \"a b\"",
        "no access_log",
        "web_stats \"a # b\"",
        "no web_stats",
        "x_forwarded_for append",
        "x_forwarded_for replace",
        "x_forwarded_for keep 10.0.0.0/8 2001:db8::/32",
        "no abuse",
        "no emergency",
        "timeout 7",
        "timeout 1500ms",
        "resolve_interval 7",
        "resolve_interval 0",
        "check_interval 700ms",
        "check_timeout 9",
        "listen 80 [::]:81 /run/pen.sock",
        "listen six:8080 \"/run/p n\"",
        "acl 0 permit unix",
        "acl 3 default deny",
        "no acl 3",
        "acl 255 deny 10.0.0.0 255.0.255.0",
        "acl 3 permit 10.0.0.0/9",
        "acl 3 deny 2001:db8::/33",
        "no acl 3 default",
    ];
    prop_oneof![
        (prop::sample::select(numbers.to_vec()), any::<u8>()).prop_map(|(v, n)| format!("{v} {n}")),
        (prop::sample::select(counts.to_vec()), 1_u32..1_000).prop_map(|(v, n)| format!("{v} {n}")),
        (prop::sample::select(times.to_vec()), time()).prop_map(|(v, t)| format!("{v} {t}")),
        (prop::sample::select(switches.to_vec()), any::<bool>())
            .prop_map(|(v, on)| format!("{}{v}", if on { "" } else { "no " })),
        prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        (0_usize..12, host(), 1_u16.., any::<[u8; 5]>(), any::<bool>()).prop_map(
            |(slot, host, port, [max, hard, weight, prio, acl], drain)| {
                let drain = if drain { format!("\ndrain {slot}") } else { String::new() };
                format!(
                    "server {slot} address {host} port {port} max {max} hard {hard} \
                     weight {weight} prio {prio} acl {acl}{drain}"
                )
            }
        ),
        (any::<bool>(), 1_u16.., any::<[u8; 4]>()).prop_map(|(which, port, [a, b, c, d])| {
            let which = if which { "abuse" } else { "emergency" };
            format!("{which} [2001:db8::{a}]:{port}:{a}:{b}:{c}:{d}")
        }),
        (0_usize..12).prop_map(|slot| format!("remove {slot}")),
    ]
}

#[test]
fn no_and_a_command_without_effect_is_read_as_it_is_written() {
    for line in ["no epoll", "no\r\"ssl_client_renegotiation_interval\"", "no dummy", "epoll"] {
        let command = parse(line);
        assert_eq!(parse(&command.to_string()), command, "{command}");
    }
}

proptest! {
    #[test]
    fn what_is_written_makes_the_same_configuration(lines in prop::collection::vec(line(), 0..40)) {
        let mut config = PenConfig::default();
        for line in lines.iter().flat_map(|line| line.lines()) {
            // Some remove what is not there.
            let _applied = apply(line, &mut config, ApplyPhase::Starting);
        }
        let mut again = PenConfig::default();
        for line in commands(&config) {
            let applied = apply(&line, &mut again, ApplyPhase::Starting);
            prop_assert!(applied.is_ok(), "{}: {:?}", line, applied);
        }
        prop_assert_eq!(again, config);
    }

    #[test]
    fn a_command_is_read_as_it_is_written(line in line()) {
        for line in line.lines() {
            let command = parse(line);
            prop_assert_eq!(parse(&command.to_string()), command);
        }
    }

    #[test]
    fn a_reload_ends_at_the_new_settings(
        old in prop::collection::vec(line(), 0..20),
        new in prop::collection::vec(line(), 0..20),
    ) {
        let make = |lines: &[String]| {
            let mut config = PenConfig::default();
            for line in lines.iter().flat_map(|line| line.lines()) {
                let _applied = apply(line, &mut config, ApplyPhase::Starting);
            }
            config
        };
        let (old, new) = (make(&old), make(&new));
        let (taken, diff) = reload(&old, new.clone());
        prop_assert_eq!(&taken.settings, &new.settings);
        prop_assert_eq!(diff.is_empty(), taken == old && diff.restart.is_empty());
        let mut slots: Vec<_> = old.settings.servers.clone();
        slots.resize(slots.len().max(new.settings.servers.len()), None);
        diff.removed.iter().for_each(|(slot, _)| slots[*slot] = None);
        diff.added.iter().chain(&diff.changed).for_each(|(slot, server)| slots[*slot] = Some(server.clone()));
        slots.truncate(slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        prop_assert_eq!(slots, new.settings.servers);
    }

    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..100)) {
        check_any(&line);
    }

    #[test]
    fn nothing_that_looks_like_a_command_panics(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 1..8),
    ) {
        check_any(words.join(" ").as_bytes());
    }
}

/// Words that go far into the parser, in any order.
const WORDS: [&str; 44] = [
    "no",
    "acl",
    "server",
    "log",
    "listen",
    "source",
    "0",
    "1",
    "255",
    "99999999999999999999",
    "-1",
    "permit",
    "deny",
    "default",
    "10.0.0.0/8",
    "::/0",
    "255.0.0.0",
    "unix",
    "country",
    "address",
    "port",
    "max",
    "blacklist",
    "weight",
    "web1",
    "[::1]:80",
    "\"",
    "\"\\x41\"",
    "#",
    "drain",
    "remove",
    "write",
    "include",
    "recent",
    "status",
    "json",
    "tcp_fastclose",
    "up",
    "accept_proxy",
    "x_forwarded_for",
    "keep",
    "emergency",
    ":::",
    "1ms",
];

fn check_any(line: &[u8]) {
    let Ok(Some(command)) = ControlCommand::parse(line) else { return };
    let mut config = PenConfig::default();
    let _applied = command.apply(&mut config, ApplyPhase::Running, &CommandTestEnv);
    assert!(commands(&config).iter().all(|line| !line.contains('\n')));
}

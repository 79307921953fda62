//! Replies about the traffic, from a snapshot. The lines of `servers`, `recent` and `connection` have the
//! form that C pen gives them, because scripts parse these lines.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use crate::command::control_command::ShowQuery;
use crate::command::reload;
use crate::command::verbs;
use crate::command::words::{DurationText, Quoted};
use crate::config::PoolServerId;
use crate::config::limit;
use crate::config::{Endpoint, PenConfig, ServerOrigin, ServerSettings};
use crate::data::snapshot::{
    ClientSnapshot, ConnectionFilter, ConnectionSnapshot, ConnectionStatus, ServerSnapshot,
    ServerStatus, Snapshot, SnapshotDetail,
};

/// Returns how much of the state the reply to `query` needs.
#[must_use]
pub(super) fn detail(query: ShowQuery) -> SnapshotDetail {
    let of = |connections| SnapshotDetail { connections, ..SnapshotDetail::default() };
    match query {
        ShowQuery::Recent(time) => {
            SnapshotDetail { clients: usize::MAX, recent: Some(time), ..SnapshotDetail::default() }
        }
        ShowQuery::Connection(number) => of(ConnectionFilter::Number(number)),
        ShowQuery::Connections => of(ConnectionFilter::First(usize::MAX)),
        ShowQuery::Socket(fd) => of(ConnectionFilter::Descriptor(fd)),
        ShowQuery::Servers | ShowQuery::States | ShowQuery::Help(_) => SnapshotDetail::default(),
        ShowQuery::Status(_) => {
            SnapshotDetail { clients: 1_000, ..of(ConnectionFilter::First(1_000)) }
        }
    }
}

/// Returns the reply to `query` without a line end. The status page, JSON and Prometheus text are not
/// written here: for these the reply is empty.
///
/// # Errors
/// Names the connection that does not exist.
pub(super) fn answer(query: ShowQuery, snapshot: &Snapshot) -> Result<String, String> {
    Ok(match query {
        ShowQuery::Servers => lines(snapshot.servers.iter().filter_map(server_line)),
        ShowQuery::States => lines(snapshot.servers.iter().map(state_line)),
        ShowQuery::Recent(time) => {
            let clients = snapshot.clients.iter().filter(|client| client.age <= time);
            lines(clients.map(client_line))
        }
        ShowQuery::Connections => lines(snapshot.connections.iter().map(connection_line)),
        ShowQuery::Connection(number) => {
            let mut all = snapshot.connections.iter();
            let found = all.find(|connection| connection.number == number);
            connection_block(found.ok_or_else(|| format!("Connection {number} out of range"))?)
        }
        ShowQuery::Socket(fd) => {
            let belongs = |one: &&ConnectionSnapshot| {
                one.client_fd == fd || one.server_fd.is_some_and(|server| server == fd)
            };
            let found = snapshot.connections.iter().find(belongs);
            let number = found.map_or_else(|| "-1".to_owned(), |one| one.number.to_string());
            format!("Socket {fd} belongs to connection {number}")
        }
        ShowQuery::Help(verb) => {
            let is_asked =
                |usage: &str| verb.is_none_or(|verb| usage.split([' ', '[']).next() == Some(verb));
            let help = verbs::help();
            let asked = help.iter().filter(|(usage, _)| is_asked(usage));
            lines(asked.map(|(usage, what)| format!("{usage:42}  {what}")))
        }
        ShowQuery::Status(_) => String::new(),
    })
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

/// `N addr A port P conn C max M hard H weight W prio P sx S rx R`; the special ones are not listed.
fn server_line(server: &ServerSnapshot) -> Option<String> {
    let PoolServerId::Slot(number) = server.id else { return None };
    let (addr, port) = match &server.config.addr {
        Endpoint::Ip(addr) => (addr.ip().to_string(), addr.port()),
        Endpoint::Unix(path) => (Quoted(path.as_os_str()).to_string(), 0),
    };
    let ServerSettings { soft, hard, weight, prio, .. } = &server.config;
    let (soft, hard) = (limit(*soft), limit(*hard));
    let ServerSnapshot { connections, to_server, to_client, .. } = server;
    Some(format!(
        "{number} addr {addr} port {port} conn {connections} max {soft} hard {hard} \
         weight {weight} prio {prio} sx {to_server} rx {to_client}"
    ))
}

/// `N state W for S served N failures N [check ok|failed]`; N is `emergency` or `abuse` for the special servers.
fn state_line(server: &ServerSnapshot) -> String {
    let ServerSnapshot { state, served, failures, .. } = server;
    let left = match state {
        ServerStatus::Blacklisted(left) => left.as_secs(),
        ServerStatus::Up | ServerStatus::Full | ServerStatus::Draining | ServerStatus::Down => 0,
    };
    let (id, state) = (server_word(Some(server.id)), state.word());
    let check = match server.check.as_ref().map(|check| &check.wrong) {
        Some(None) => " check ok",
        Some(Some(_)) => " check failed",
        None => "",
    };
    format!("{id} state {state} for {left} served {served} failures {failures}{check}")
}

/// `<addr> connects <n> sx <n> rx <n>`.
fn client_line(client: &ClientSnapshot) -> String {
    let ClientSnapshot { addr, connects, sent, received, .. } = client;
    format!("{addr} connects {connects} sx {sent} rx {received}")
}

fn server_word(id: Option<PoolServerId>) -> String {
    match id {
        Some(PoolServerId::Slot(number)) => number.to_string(),
        Some(PoolServerId::Emergency) => "emergency".to_owned(),
        Some(PoolServerId::Abuse) => "abuse".to_owned(),
        None => "-1".to_owned(),
    }
}

fn connection_line(connection: &ConnectionSnapshot) -> String {
    let ConnectionSnapshot { number, client, stage, age, to_server, to_client, .. } = connection;
    let (server, stage, age) = (server_word(connection.server), stage.word(), age.as_secs());
    format!(
        "{number} client {client} server {server} state {stage} age {age} sx {to_server} rx {to_client}"
    )
}

/// Five lines, as C pen writes them.
fn connection_block(connection: &ConnectionSnapshot) -> String {
    let mut text = format!("Connection {}:\n", connection.number);
    let server_fd = connection.server_fd.unwrap_or(-1);
    let pending = i32::from(connection.stage == ConnectionStatus::Connecting);
    write!(
        text,
        "state = {}\ndownfd = {}, upfd = {server_fd}\nclient = {}, server = {}\npend = {pending}",
        connection.stage.word(),
        connection.client_fd,
        connection.client,
        server_word(connection.server),
    )
    .expect("writing to a String does not fail");
    text
}

/// The configuration as commands that make it again.
#[must_use]
pub(super) fn dump(config: &PenConfig, snapshot: &Snapshot) -> String {
    let seconds = snapshot.time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut text = format!("# Written by pen {}, seconds {seconds}\n", env!("CARGO_PKG_VERSION"));
    for line in reload::commands(config) {
        text.push_str(&line);
        text.push('\n');
    }
    // A server that is left alone for longer than its next failure would do is so by order.
    for server in &snapshot.servers {
        if let (PoolServerId::Slot(number), ServerStatus::Blacklisted(time)) =
            (server.id, server.state)
            && time > config.settings.timeouts.blacklist
            && server.config.origin == ServerOrigin::Configured
        {
            let time = DurationText(Duration::from_secs(time.as_secs()));
            writeln!(text, "server {number} blacklist {time}")
                .expect("writing to a String does not fail");
        }
    }
    text
}

//! The control port.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use pen::command::env::CommandEnv;
use pen::config::{Endpoint, PenConfig};
use pen::operate::control::Operator;
use pen::operate::control::port::ControlPort;
use pen_testing::TempFolder;

use crate::support::{Control, Still, operator, read_to_end};

#[test]
fn lines_that_scripts_read_have_their_old_form() {
    let control = Control::tcp();
    for (command, expected) in [
        (
            "servers",
            "0 addr 10.0.0.1 port 8080 conn 2 max 0 hard 0 weight 1 prio 0 sx 100 rx 2000\n\
             1 addr 10.0.0.2 port 8080 conn 2 max 0 hard 0 weight 1 prio 0 sx 100 rx 2000\n",
        ),
        ("recent", "203.0.113.7 connects 3 sx 2000 rx 100\n"),
        ("recent 1", ""),
        ("mode", "no hash no roundrobin no stubborn no weight no prio\n"),
        ("listen", "127.0.0.1:80\n"),
        ("log", ""),
        ("idle_timeout 7", "Idle timeout: 7 seconds\n"),
        (
            "connection 42",
            "Connection 42:\nstate = open\ndownfd = 9, upfd = 10\n\
             client = 203.0.113.7:5555, server = 0\npend = 0\n",
        ),
        ("socket 10", "Socket 10 belongs to connection 42\n"),
        ("socket 11", "Socket 11 belongs to connection -1\n"),
        ("close 42", "Forcibly closing connection 42\n"),
    ] {
        assert_eq!(control.ask(command), expected, "{command}");
    }
}

#[test]
fn every_failure_is_answered() {
    let control = Control::tcp();
    for (command, expected) in [
        ("nonsense", "error: unknown command 'nonsense': see 'help'\n"),
        ("close 7", "error: Connection 7 out of range\n"),
        ("exit", "error: Exit is not enabled; restart with -X flag\n"),
        ("transparent", "error: transparent: this one can't\n"),
        ("write /no/such/folder/file", "error: write: cannot write /no/such/folder/file: "),
        ("server 5 address 127.0.0.1 port 80", "error: 127.0.0.1:80: expected another machine"),
        ("include gone", "error: cannot read "),
        ("idlers 3", "warning: idlers has no effect: "),
    ] {
        let reply = control.ask(command);
        assert!(reply.starts_with(expected), "{command}: {reply}");
    }
    // What was refused was not half done either.
    assert_eq!(control.ask("write saved"), "");
    let saved = fs::read_to_string(control.folder.join("saved")).unwrap();
    assert!(saved.contains("\nno transparent\n"), "{saved}");
}

#[test]
fn a_command_is_a_line_however_it_comes() {
    let control = Control::tcp();
    // In pieces; without an end of line; with more behind it, which is ignored as C pen does.
    let mut stream = control.connect();
    for piece in [&b"mo"[..], b"de\n"] {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
    assert!(read_to_end(&mut stream).starts_with("no hash"));
    let mut stream = control.connect();
    stream.write_all(b"blacklist").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream), "30\n");
    assert_eq!(control.ask("blacklist\r\nhash\n"), "30\n");
    assert_eq!(control.ask(""), "");
    let long = "x".repeat(5_000);
    assert_eq!(control.ask(&long), "error: expected at most 4095 bytes in a line\n");
}

#[test]
fn a_session_takes_many_commands_and_tells_where_replies_end() {
    let control = Control::tcp();
    let mut stream = control.connect();
    stream.write_all(b"session\nblacklist 5\nnonsense\nhash\nidlers\nmode\nquit\nhash\n").unwrap();
    assert_eq!(
        read_to_end(&mut stream),
        "ok 0\nok 2\n5\nerror 39\nunknown command 'nonsense': see 'help'\nok 0\n\
         warning 72\nidlers has no effect: pen opens connections to servers for clients only\n\
         ok 49\nhash no roundrobin no stubborn no weight no prio\n"
    );
}

#[test]
fn a_silent_peer_holds_nobody_up() {
    let control = Control::tcp();
    let silent: Vec<_> = (0..10).map(|_| control.connect()).collect();
    assert_eq!(control.ask("blacklist"), "30\n");
    drop(silent);
}

#[test]
fn too_many_peers_are_told_so() {
    let control = Control::tcp();
    let silent: Vec<_> = (0..32).map(|_| control.connect()).collect();
    let mut one_more = control.connect();
    assert_eq!(read_to_end(&mut one_more), "error: too many control connections\n");
    drop(silent);
}

#[test]
fn deeds_reach_the_balancer() {
    let control = Control::tcp();
    for command in ["server 1 blacklist 60", "drain 0 30", "debug 2", "close 7"] {
        control.ask(command);
    }
    assert_eq!(
        control.still.deeds(),
        ["blacklist Slot(1) 60s", "end Slot(0) 30s", "debug 2", "close 7"]
    );
    let settings = control.still.0.lock().unwrap().settings.clone();
    assert!(settings.servers[0].as_ref().unwrap().draining);
}

#[test]
fn a_list_keeps_others_out_without_a_word() {
    let control = Control::tcp();
    assert_eq!(control.ask("control_acl 3"), "3\n");
    assert_eq!(control.ask("acl 3 permit 10.0.0.0/8"), "");
    let mut stream = control.connect();
    // It may be closed before the command is sent, and then the reset comes first.
    let mut reply = Vec::new();
    let _sent = stream.write_all(b"control_acl 0\n").and_then(|()| stream.read_to_end(&mut reply));
    assert_eq!(reply, b"");
}

#[test]
fn a_file_is_carried_out_as_a_whole_or_not_at_all() {
    let control = Control::tcp();
    fs::write(control.folder.join("good"), "hash\nserver 0 max 9\nserver 1 blacklist 5\n").unwrap();
    fs::write(control.folder.join("bad"), "weight\nserver 7 max 9\n").unwrap();
    assert_eq!(control.ask("include good"), "");
    assert_eq!(control.still.deeds(), ["blacklist Slot(1) 5s"]);
    let reply = control.ask("include bad");
    assert!(reply.ends_with("bad:2: server 7: expected an address first: server 7 address ADDR\n"));
    assert_eq!(control.ask("mode"), "hash no roundrobin no stubborn no weight no prio\n");
}

#[test]
fn what_is_written_can_be_read_again() {
    let control = Control::tcp();
    for command in
        ["server 1 address 10.0.0.9 max 4", "acl 2 deny 10.0.0.0/8", "log my.log", "hash"]
    {
        control.ask(command);
    }
    control.ask("write saved");
    let before = control.still.0.lock().unwrap().settings.clone();
    for command in ["remove 1", "no acl 2", "no log", "no hash"] {
        assert_eq!(control.ask(command), "", "{command}");
    }
    assert_ne!(control.still.0.lock().unwrap().settings, before);
    control.ask("include saved");
    assert_eq!(control.still.0.lock().unwrap().settings, before);
}

#[test]
fn a_reload_is_taken_over_as_a_whole() {
    let (still, folder) = (Still::default(), TempFolder::new());
    let operator = operator(&still, &folder);
    let mut new = operator.config();
    new.settings.servers.pop();
    new.settings.timeouts.blacklist = std::time::Duration::from_secs(3);
    let diff = operator.reload(new.clone()).unwrap();
    assert_eq!(diff.to_string(), "removed server 1 10.0.0.2:8080; blacklist 3");
    assert_eq!(still.0.lock().unwrap().settings, new.settings);
    // One that the balancer refuses leaves all as it was.
    let mut refused = PenConfig { settings: new.settings.clone(), ..operator.config() };
    refused.settings.tcp.transparent = true;
    refused.settings.servers.clear();
    assert_eq!(operator.reload(refused), Err("transparent: this one can't".to_owned()));
    assert_eq!(operator.config().settings, new.settings);
}

#[test]
fn a_socket_is_for_its_owner_and_goes_in_the_end() {
    let control = Control::unix();
    let path = control.folder.join("control");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"timeout\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "3\n");
    // Somebody is there, so it is not taken away from them.
    assert!(ControlPort::bind(&Endpoint::Unix(path.clone())).is_err());
    let Control { folder, unlink, .. } = control;
    drop(unlink);
    assert!(!path.exists());
    drop(folder);
}

#[test]
fn only_a_socket_that_was_left_behind_is_replaced() {
    let folder = TempFolder::new();
    let (file, stale) = (folder.join("file"), folder.join("stale"));
    fs::write(&file, "precious").unwrap();
    let error = ControlPort::bind(&Endpoint::Unix(file.clone())).unwrap_err();
    assert_eq!(error.to_string(), "a file exists there that is not a socket");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(ControlPort::bind(&Endpoint::Unix(stale)).is_ok());
}

/// A world in which looking up a name takes until somebody lets it go on.
struct Slow {
    asked: std::sync::mpsc::SyncSender<()>,
    go_on: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl CommandEnv for Slow {
    fn resolve(&self, _: &str, port: u16) -> Result<std::net::SocketAddr, String> {
        self.asked.send(()).map_err(|error| error.to_string())?;
        let go_on = self.go_on.lock().map_err(|error| error.to_string())?;
        go_on.recv().map_err(|error| error.to_string())?;
        Ok(([10, 0, 0, 3], port).into())
    }

    fn countries(
        &self,
        path: &std::path::Path,
    ) -> std::io::Result<pen::config::countries::CountryDatabase> {
        pen::config::countries::CountryDatabase::open(path)
    }

    fn absolute(&self, path: &std::path::Path) -> std::path::PathBuf {
        path.to_owned()
    }
}

#[test]
fn nobody_waits_for_a_name_that_somebody_else_looks_up() {
    let (asked, was_asked) = std::sync::mpsc::sync_channel(9);
    let (let_go, go_on) = std::sync::mpsc::sync_channel(9);
    let slow = Slow { asked, go_on: std::sync::Mutex::new(go_on) };
    let still = Still::default();
    let config = PenConfig::default();
    let operator = Operator::new(config, Box::new(still), Box::new(slow));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| operator.execute(b"server 0 address web1 port 80").to_string());
        was_asked.recv().unwrap();
        assert_eq!(operator.execute(b"blacklist 7").to_string(), "7\n");
        // Once more, as something else has changed meanwhile.
        let_go.send(()).unwrap();
        let_go.send(()).unwrap();
        assert_eq!(waits.join().unwrap(), "");
    });
    let settings = operator.config().settings;
    assert_eq!(settings.timeouts.blacklist, std::time::Duration::from_secs(7));
    let server = settings.servers[0].as_ref().unwrap();
    assert_eq!(server.addr.to_string(), "10.0.0.3:80");
}

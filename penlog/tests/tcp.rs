//! The shipper and a real collector, by TCP: lines arrive once, whatever becomes of the connection.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::frames::write_frame;
use pen_records::mapping::Mapping;
use pen_records::mapping::packet::{write_packet, write_record};
use pen_records::shipment::{DiscoveryAnswer, DiscoveryQuestion, SenderOrigin, StreamList};
use pen_records::time::Timestamp;
use pen_stream::client::StreamClient;
use pen_stream::keys::PrivateKey;
use pen_stream::tls::SenderTls;
use pen_testing::program::{run_to_end, sibling};
use pen_testing::wait::wait_for;
use pen_testing::{PATIENCE, Program, TempFolder, free_port};
use support::collector::{
    collector, collector_with, line, numbers, report, ship_through_a_kill, wait_for_lines,
};
use support::{RunningShipper, TestCollector, lines};

#[test]
fn lines_go_by_tcp_once_and_in_order() {
    let (folder, addr) = (TempFolder::new(), free_port([127, 0, 0, 1]));
    let mut collector = collector(&folder, addr);
    let mut penlog = RunningShipper::to(addr, &[]);
    let lines: Vec<u8> = (0..50_000).flat_map(line).collect();
    penlog.feed(&lines);
    assert!(penlog.wait().success(), "{}", penlog.said());
    wait_for_lines(&folder, 50_000);
    let report = report(&mut collector);
    assert_eq!(std::fs::read(folder.join("merged.log")).unwrap(), lines);
    for part in [
        "\"adds_up\":true",
        "\"streams\":{\"accepted\":1,\"open\":",
        "\"shipments\":0,\"lines_in_them\":0",
    ] {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn a_collector_that_is_killed_costs_no_line() {
    let (folder, addr) = (TempFolder::new(), free_port([127, 0, 0, 1]));
    let mut penlog = RunningShipper::to(addr, &["--stream"]);
    let mut input = penlog.stdin();
    for life in 0..4 {
        let mut collector = collector(&folder, addr);
        for number in life * 1_000..life * 1_000 + 1_000 {
            input.write_all(&line(number)).unwrap();
        }
        // Some of this life, and all of the lives before, are written.
        wait_for("lines are written", || {
            let numbers = numbers(&folder);
            ((0..life * 1_000 + 1).all(|number| numbers.contains_key(&number))).then_some(())
        });
        collector.stop(Signal::SIGKILL).unwrap();
    }
    let mut last = collector(&folder, addr);
    drop(input);
    assert!(penlog.wait().success(), "{}", penlog.said());
    wait_for_lines(&folder, 4_000);
    assert!(report(&mut last).contains("\"adds_up\":true"));
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    let folder = TempFolder::new();
    let (addr, between) = (free_port([127, 0, 0, 1]), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut collector = collector(&folder, addr);
    let mut penlog = RunningShipper::to(between.local_addr().unwrap(), &["--stream"]);
    let mut input = penlog.stdin();
    // Each connection passes so many bytes of the shipper, mostly up to within a frame.
    std::thread::spawn(move || {
        for bytes in (1_000..).step_by(30_001) {
            let (Ok((mut from, _)), Ok(mut to)) = (between.accept(), TcpStream::connect(addr))
            else {
                return;
            };
            let (mut back_from, mut back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            let _ = std::io::copy(&mut (&mut from).take(bytes), &mut to); // Cut, whatever the reason.
            let _ = to.shutdown(std::net::Shutdown::Both); // Likewise.
        }
    });
    for number in 0..2_000 {
        input.write_all(&line(number)).unwrap();
    }
    let numbers = wait_for_lines(&folder, 2_000);
    assert!(numbers.values().all(|&times| times == 1), "what is sent again is known as doubled");
    drop(input);
    assert!(report(&mut collector).contains("\"adds_up\":true"));
}

/// Ships lines to a collector that takes no TCP, and returns what penlog said.
fn by_udp(collector: &TestCollector) -> String {
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let said = penlog.says("shipping to");
    penlog.feed(b"one\ntwo\n");
    assert_eq!(collector.take(2), lines(&["one", "two"]));
    assert!(penlog.wait().success());
    said
}

/// A port where both a collector and a listener are.
fn both() -> (TestCollector, TcpListener) {
    let addr = free_port([127, 0, 0, 1]);
    let socket = UdpSocket::bind(addr).expect("the port is free");
    (TestCollector::on(socket, 0), TcpListener::bind(addr).expect("it is free by TCP, too"))
}

#[test]
fn a_collector_without_tcp_gets_lines_by_udp() {
    let said = by_udp(&TestCollector::start());
    assert!(said.contains("by UDP"), "{said}");
}

#[test]
fn a_collector_that_ends_each_connection_gets_lines_by_udp() {
    let (collector, listener) = both();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let said = by_udp(&collector);
    assert!(said.contains("by UDP"), "{said}");
}

#[test]
fn a_collector_that_is_never_heard_by_tcp_gets_lines_by_udp() {
    let (collector, _listener) = both();
    let said = by_udp(&collector);
    assert!(said.contains("by UDP"), "{said}");
}

#[test]
fn after_udp_a_collector_that_takes_connections_gets_lines_by_tcp() {
    let folder = TempFolder::new();
    let addr = free_port([127, 0, 0, 1]);
    let older = TestCollector::on(UdpSocket::bind(addr).expect("the port is free"), 0);
    let mut penlog = RunningShipper::to(addr, &[]);
    let mut input = penlog.stdin();
    assert!(penlog.says("shipping to").contains("by UDP"));
    input.write_all(&line(0)).unwrap();
    assert_eq!(older.take(1).len(), 1);
    drop(older);
    input.write_all(&line(1)).unwrap();
    penlog.says("cannot reach");
    let _collector = collector(&folder, addr);
    assert!(penlog.says("shipping to").contains("by TCP"));
    input.write_all(&line(2)).unwrap();
    drop(input);
    assert!(penlog.wait().success());
    wait_for("the last line is written", || numbers(&folder).contains_key(&2).then_some(()));
    assert_eq!(numbers(&folder).get(&1), Some(&1));
}

#[test]
fn a_collector_without_streams_is_waited_for_and_said() {
    let addr = free_port([127, 0, 0, 1]);
    let mut penlog = RunningShipper::to(addr, &["--stream"]);
    let mut input = penlog.stdin();
    input.write_all(&line(1)).unwrap();
    let said = penlog.says("cannot reach");
    assert!(said.contains("refused") && said.contains("by TCP"), "{said}");
    drop(input);
    assert!(!penlog.wait().success(), "the line is lost, and penlog says so");
}

#[test]
fn a_collector_that_does_not_read_holds_the_shipper_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut penlog =
        RunningShipper::to(listener.local_addr().unwrap(), &["--stream", "--queue", "2"]);
    let mut input = penlog.stdin();
    let writer = std::thread::spawn(move || {
        for number in 0..400_000 {
            input.write_all(&line(number)).unwrap();
        }
    });
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut question = [0; 4 + DiscoveryQuestion::LEN];
    socket.read_exact(&mut question).unwrap();
    let nonce = DiscoveryQuestion::parse(&question[4..]).expect("a question").nonce;
    let (mut answer, mut framed) = (Vec::new(), Vec::new());
    let (received, positions) = (None, StreamList::default());
    let reply = DiscoveryAnswer { nonce, window: 8 << 20, datagram: 0, received, positions };
    reply.write(&mut answer);
    write_frame(&answer, &mut framed);
    socket.write_all(&framed).unwrap();
    penlog.says("dropped because there was no room");
    writer.join().expect("the web server is never blocked");
}

/// The keys of a collector and two shippers, and the file of the collector that lists the first shipper for 127.0.0.5.
struct Keys {
    folder: TempFolder,
    public: [String; 3],
}

impl Keys {
    fn new() -> Self {
        let folder = TempFolder::new();
        let keygen = |program: &str, name: &str| {
            let program = match program {
                "penlog" => env!("CARGO_BIN_EXE_penlog").into(),
                program => sibling(program).expect("it is built"),
            };
            let mut command = Command::new(program);
            let made =
                run_to_end(command.arg("keygen").arg(folder.join(name))).expect("a key is made");
            String::from_utf8(made).expect("a key is text").trim_end().to_owned()
        };
        let public =
            [keygen("penlogd", "collector"), keygen("penlog", "web"), keygen("penlog", "other")];
        let this = Self { folder, public };
        this.authorize(&format!("{} lines 127.0.0.5:80 # web5\n", this.public[1]));
        this
    }

    fn authorize(&self, text: &str) {
        std::fs::write(self.folder.join("authorized"), text).expect("the folder takes it");
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn collector(&self, folder: &TempFolder, addr: SocketAddr) -> Program {
        let (key, authorized) = (self.path("collector"), self.path("authorized"));
        collector_with(folder, addr, &["--key", &key, "--authorized", &authorized])
    }

    fn shipper(
        &self,
        addr: SocketAddr,
        name: &str,
        collector: &str,
        server: &str,
    ) -> RunningShipper {
        let key = self.path(name);
        RunningShipper::to(addr, &["--key", &key, "--collector-key", collector, "--server", server])
    }
}

#[test]
fn with_keys_lines_arrive_by_tls_whatever_becomes_of_the_collector() {
    let (keys, folder, addr) = (Keys::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let ship = || keys.shipper(addr, "web", &keys.public[0], "127.0.0.5:80");
    ship_through_a_kill(&folder, || keys.collector(&folder, addr), ship);
}

#[test]
fn a_key_speaks_for_its_own_servers_only_and_a_reload_changes_that() {
    let (keys, folder, addr) = (Keys::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let collector = keys.collector(&folder, addr);
    let mut penlog = keys.shipper(addr, "web", &keys.public[0], "127.0.0.6:80");
    let mut input = penlog.stdin();
    input.write_all(&line(1)).unwrap();
    let said = collector.wait_for_message("web5").unwrap();
    assert!(
        said.contains("the sender web5 may not send lines of the server 127.0.0.6:80"),
        "{said}"
    );
    keys.authorize(&format!("{} lines 127.0.0.6:80\n", keys.public[1]));
    collector.signal(Signal::SIGHUP).unwrap();
    // What was refused is not confirmed, and comes again.
    wait_for_lines(&folder, 1);
    keys.authorize("nonsense\n");
    collector.signal(Signal::SIGHUP).unwrap();
    let said = collector.wait_for_message("stay as they were").unwrap();
    assert!(said.contains("authorized:1: 'nonsense'"), "{said}");
    input.write_all(&line(2)).unwrap();
    wait_for_lines(&folder, 2);
    // A key that is taken off the list is cut off.
    keys.authorize(&format!("{} lines *\n", keys.public[2]));
    collector.signal(Signal::SIGHUP).unwrap();
    input.write_all(&line(3)).unwrap();
    let said = penlog.says("does not know this program's key");
    assert!(said.contains("--authorized"), "{said}");
    assert_eq!(numbers(&folder).len(), 2);
}

#[test]
fn a_key_over_its_quota_waits_and_loses_nothing_while_another_goes_on() {
    let (keys, folder, addr) = (Keys::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let (web, other) = (&keys.public[1], &keys.public[2]);
    keys.authorize(&format!(
        "{web} lines 127.0.0.5 lines-per-second 2k # web5\n{other} lines 127.0.0.6 # web6\n"
    ));
    let mut collector = keys.collector(&folder, addr);
    let mut loud = keys.shipper(addr, "web", &keys.public[0], "127.0.0.5:80");
    let mut input = loud.stdin();
    // Ten seconds' share at once, and then some more.
    let lines: Vec<u8> = (0..25_000).flat_map(line).collect();
    input.write_all(&lines).unwrap();
    let said = collector.wait_for_message("web5").unwrap();
    assert!(said.contains("more than 2000 lines a second"), "{said}");
    let mut quiet = keys.shipper(addr, "other", &keys.public[0], "127.0.0.6:80");
    quiet.feed(&(100_000..101_000).flat_map(line).collect::<Vec<_>>());
    assert!(quiet.wait().success(), "{}", quiet.said());
    assert!(numbers(&folder).len() < 26_000, "the other one did not wait for all of web5");
    // Another connection does not get around the quota.
    let mut again = keys.shipper(addr, "web", &keys.public[0], "127.0.0.5:80");
    again.feed(&(200_000..200_010).flat_map(line).collect::<Vec<_>>());
    drop(input);
    assert!(loud.wait().success(), "{}", loud.said());
    assert!(again.wait().success(), "{}", again.said());
    let numbers = wait_for_lines(&folder, 26_010);
    assert!(numbers.values().all(|&times| times == 1), "none is doubled");
    let report = report(&mut collector);
    assert!(report.contains("\"adds_up\":true"), "{report}");
    assert!(!report.contains("\"waits_for_a_quota\":0"), "{report}");
}

#[test]
fn an_unknown_key_and_a_wrong_collector_get_nowhere_and_both_ends_say_why() {
    let (keys, folder, addr) = (Keys::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let collector = keys.collector(&folder, addr);
    let mut unknown = keys.shipper(addr, "other", &keys.public[0], "127.0.0.5:80");
    let mut input = unknown.stdin();
    input.write_all(&line(1)).unwrap();
    unknown.says("does not know this program's key");
    collector.wait_for_any_message(&format!("unknown key {}", keys.public[2])).unwrap();
    let mut misled = keys.shipper(addr, "web", &keys.public[2], "127.0.0.5:80");
    misled.stdin().write_all(&line(2)).unwrap();
    let said = misled.says("the collector has another key");
    assert!(said.contains(&keys.public[0]), "{said}");
    assert_eq!(numbers(&folder).len(), 0);
}

#[test]
fn a_key_of_a_shipper_sends_no_records() {
    // The shipper has no way to send records: a stream of our own does.
    let (keys, folder, addr) = (Keys::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let collector = keys.collector(&folder, addr);
    let key = PrivateKey::read(&keys.folder.join("web")).unwrap();
    let tls = SenderTls::with_key(&key, keys.public[0].parse().unwrap()).unwrap();
    let mut stream = StreamClient::new(None, Some(tls));
    stream.set_addr(addr);
    let mapping = Mapping::new(ClientAddr::Unix, ServerAddr::Unix(b"/run/app"));
    let (mut record, mut packet) = (Vec::new(), Vec::new());
    write_record(&mapping, &mut record);
    let origin = SenderOrigin { id: 1, start: Timestamp::default() };
    write_packet(origin, 0, Timestamp::default(), 0, (1, &record), &mut packet);
    stream.send(&packet, Instant::now()).unwrap();
    wait_for("it is refused", || {
        stream.receive(Instant::now()).expect("the connection stays open");
        collector.messages().contains("the sender web5 may not send records").then_some(())
    });
}

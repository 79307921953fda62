//! Servers that go by several addresses and names.

use pen_records::server_alias::ServerAliases;

use super::*;

const BALANCER: &str = "127.0.0.1:4000";
const TAIL: &str = "- - [22/Nov/2026:20:23:20 +0000]";

struct Bench {
    collector: Collector,
    now: Timestamp,
    out: Vec<u8>,
}

impl Bench {
    fn new(options: &[&str]) -> Self {
        let options = options.iter().map(|text| text.parse().unwrap()).collect();
        let servers = ServerAliases::new(options).unwrap();
        let settings = CollectorSettings {
            known: SenderSettings { servers, ..SenderSettings::default() },
            held_bytes: 1 << 20,
            unfinished_bytes: 1 << 20,
            servers: 100,
            ..CollectorSettings::default()
        };
        let now = Timestamp::from_seconds(1_795_379_000);
        Self { collector: Collector::new(settings), now, out: Vec::new() }
    }

    fn send(&mut self, from: &str, datagram: &str) {
        self.now = self.now.offset_by(1_000);
        self.collector.receive(from.parse().unwrap(), datagram.as_bytes(), self.now.into());
    }

    /// Sends a mapping of the server, and then the line of the same request, with `head` in front.
    fn request(&mut self, number: u32, mapped: &str, from: &str, head: &str) {
        self.send(BALANCER, &format!("+ 203.0.113.{number} {mapped} GET /{number} HTTP/1.1\n"));
        let line = format!("{head}10.9.9.9 {TAIL} \"GET /{number} HTTP/1.1\" 200 5\n");
        self.send(&format!("{from}:5000"), &line);
    }

    /// Returns the clients in the log.
    fn clients(mut self) -> Vec<String> {
        self.collector.finish(self.now, &mut self.out, None);
        let text = String::from_utf8_lossy(&self.out);
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }
}

#[test]
fn mappings_may_name_a_server_by_another_address_or_by_its_socket() {
    let mut bench = Bench::new(&["2001:db8::1=10.0.0.1", "/run/app.sock=10.0.0.1"]);
    bench.request(1, "10.0.0.1", "10.0.0.1", "");
    bench.request(2, "2001:db8::1", "10.0.0.1", "");
    bench.request(3, "/run/app.sock", "10.0.0.1", "");
    bench.request(4, "10.0.0.2", "10.0.0.1", "");
    assert_eq!(bench.clients(), ["203.0.113.1", "203.0.113.2", "203.0.113.3", "10.9.9.9"]);
}

#[test]
fn the_other_address_may_send_the_lines_and_stand_in_the_mappings() {
    let mut bench = Bench::new(&["10.0.0.2=10.0.0.1"]);
    bench.request(1, "10.0.0.2", "10.0.0.2", "");
    bench.request(2, "10.0.0.1", "10.0.0.2", "");
    bench.request(3, "10.0.0.2", "10.0.0.1", "");
    assert_eq!(bench.clients(), ["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
}

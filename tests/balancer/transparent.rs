//! Servers that see the client's own address: three network namespaces, pen in the middle one.
//!
//! Namespaces can be made by root only, and not in every container; where they cannot, the test says so.

use std::process::{Command, Stdio};

use crate::namespaces::Namespaces;
use crate::program::RunningPen;
use crate::support::first_line;

/// A client, pen and a server, each in a namespace of its own, in this order: 192.0.2.2 to 192.0.2.1, and
/// 198.51.100.1 to 198.51.100.2. What comes back from the server to the client's address is taken by
/// pen's machine, as a route of its own table says.
const SET_UP: &str = "
ip link add c0 netns $N-client type veth peer name p0 netns $N-pen
ip link add s0 netns $N-server type veth peer name p1 netns $N-pen
ip -n $N-client addr add 192.0.2.2/24 dev c0
ip -n $N-pen addr add 192.0.2.1/24 dev p0
ip -n $N-pen addr add 198.51.100.1/24 dev p1
ip -n $N-server addr add 198.51.100.2/24 dev s0
ip -n $N-client link set c0 up
ip -n $N-pen link set p0 up
ip -n $N-pen link set p1 up
ip -n $N-server link set s0 up
ip -n $N-server route add default via 198.51.100.1
ip -n $N-pen rule add iif p1 lookup 100
ip -n $N-pen route add local 0.0.0.0/0 dev lo table 100
";

/// Says who connected, to each client.
const SERVER: &str = "
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '198.51.100.2:80', Listen => 9, ReuseAddr => 1);
$| = 1; print \"ready\\n\";
while (my $client = $listener->accept) { print $client $client->peerhost, \"\\n\"; close $client; }
";

/// Prints what it is told.
const CLIENT: &str = "
use IO::Socket::INET;
my $server = IO::Socket::INET->new(PeerAddr => '192.0.2.1:8080', Timeout => 10) or die $@;
print <$server>;
";

#[test]
fn a_transparent_pen_connects_from_the_clients_address() {
    let names = &["client", "pen", "server"];
    let Some(namespaces) = Namespaces::new("pen", names, SET_UP) else { return };
    let mut server = namespaces.run("server", "perl");
    let mut server = server.args(["-e", SERVER]).stdout(Stdio::piped()).spawn().unwrap();
    first_line(server.stdout.take().unwrap(), "ready");
    for (setting, expected) in [("transparent", "192.0.2.2"), ("no transparent", "198.51.100.1")] {
        let mut pen = namespaces.run("pen", env!("CARGO_BIN_EXE_pen"));
        pen.args(["-f", "-O", setting, "192.0.2.1:8080", "198.51.100.2:80"]);
        let pen = RunningPen::start(&mut pen);
        let mut client = namespaces.run("client", "perl");
        let told = client.args(["-e", CLIENT]).output().unwrap();
        assert_eq!(pen.end(), Some(0));
        assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), expected, "{setting}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn transparency_without_the_right_to_it_is_refused_and_not_pretended() {
    // Nobody may do that who is not root, and to be sure root is not.
    let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"));
    pen.args(["-f", "-O", "transparent", "127.0.0.1:0", "127.0.0.1:9"]);
    if nix::unistd::getuid().is_root() {
        pen.args(["-u", "nobody"]);
    }
    let output = pen.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
}

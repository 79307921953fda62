//! Two pens with keepalived's VRRP between them, as docs/guide/high-availability.md says: when one dies, the other one has
//! the address. Three network namespaces, which root only can make, and not in every container; where
//! they cannot be made, or keepalived or curl is missing, the test says so.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use pen_testing::{Program, TempFolder, wait_until};

use crate::namespaces::Namespaces;

/// Two balancers, 192.0.2.1 and 192.0.2.2, on a bridge in a third one, where clients and servers are.
const SET_UP: &str = "
ip -n $N-lan link add br0 type bridge
for n in a b; do
  ip link add eth0 netns $N-$n type veth peer name p$n netns $N-lan
  ip -n $N-lan link set p$n master br0
  ip -n $N-lan link set p$n up
  ip -n $N-$n link set eth0 up
done
ip -n $N-lan link set br0 up
ip -n $N-lan addr add 192.0.2.9/24 dev br0
ip -n $N-a addr add 192.0.2.1/24 dev eth0
ip -n $N-b addr add 192.0.2.2/24 dev eth0
";

/// Answers every client, at 192.0.2.9.
const SERVER: &str = "
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '192.0.2.9:8000', Listen => 9, ReuseAddr => 1);
while (my $client = $listener->accept) {
  while (my $line = <$client>) { last if $line =~ /^\\r?\\n$/; }
  print $client \"HTTP/1.0 200 OK\\r\\n\\r\\nhere\"; close $client;
}
";

struct Site {
    namespaces: Namespaces,
    folder: TempFolder,
}

impl Site {
    fn new() -> Option<Self> {
        let namespaces = Namespaces::new("vrrp", &["lan", "a", "b"], SET_UP)?;
        Some(Self { namespaces, folder: TempFolder::new() })
    }

    fn run(&self, namespace: &str, program: impl AsRef<Path>) -> Command {
        let mut command = self.namespaces.run(namespace, program);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// keepalived as the example has it, but for the user, who may be missing here.
    fn keepalived(&self, namespace: &str, priority: &str) -> Program {
        let example = include_str!("../../docs/examples/keepalived.conf");
        let text = example
            .replace("script_user nobody", "script_user root")
            .replace("priority 100", &format!("priority {priority}"));
        let file = |end: &str| self.folder.join(format!("{namespace}.{end}"));
        fs::write(file("conf"), text).expect("the folder is ours");
        let mut command = self.run(namespace, "keepalived");
        command.args(["--dont-fork", "--vrrp", "-f"]).arg(file("conf"));
        command.arg("-p").arg(file("pid")).arg("-r").arg(file("vrrp"));
        Program::start("keepalived", &mut command).expect("it is installed")
    }

    fn pen(&self, namespace: &str) -> Program {
        let mut pen = self.run(namespace, env!("CARGO_BIN_EXE_pen"));
        pen.args(["-f", "--status", "127.0.0.1:8081", "80", "192.0.2.9:8000"]);
        Program::start("pen", &mut pen).expect("it is built")
    }

    fn has_the_address(&self, namespace: &str) -> bool {
        let mut ip = self.run(namespace, "ip");
        let output = ip.args(["-brief", "addr"]).stdout(Stdio::piped()).output();
        output.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains(" 192.0.2.80/24"))
    }

    fn is_served(&self) -> bool {
        let mut curl = self.run("lan", "curl");
        curl.args(["--silent", "--max-time", "2", "http://192.0.2.80/"]).stdout(Stdio::piped());
        curl.output().is_ok_and(|output| output.stdout == b"here")
    }
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn the_address_moves_to_the_other_pen_when_one_dies() {
    if !is_installed("keepalived") || !is_installed("curl") {
        println!("keepalived and curl are not both installed");
        return;
    }
    let Some(site) = Site::new() else { return };
    let mut perl = site.run("lan", "perl");
    let _server = Program::start("perl", perl.args(["-e", SERVER])).expect("it is installed");
    let [mut first, _second] = ["a", "b"].map(|name| site.pen(name));
    let _both = [site.keepalived("a", "100"), site.keepalived("b", "90")];
    wait_until("the first one has the address", || {
        std::thread::park_timeout(Duration::from_millis(100));
        site.has_the_address("a") && !site.has_the_address("b")
    });
    wait_until("clients are served", || site.is_served());
    first.stop(Signal::SIGKILL).unwrap();
    wait_until("the other one has the address", || {
        std::thread::park_timeout(Duration::from_millis(100));
        site.has_the_address("b") && !site.has_the_address("a")
    });
    wait_until("clients are served again", || site.is_served());
}

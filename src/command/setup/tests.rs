//! What was typed, and what was meant.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::countries::CountryDatabase;

struct SetupTestEnv;

impl CommandEnv for SetupTestEnv {
    fn resolve(&self, name: &str, port: u16) -> Result<SocketAddr, String> {
        match name {
            "web1" => Ok(SocketAddr::new([10, 0, 0, 1].into(), port)),
            _ => Err(format!("cannot look up {name}")),
        }
    }

    fn countries(&self, _: &Path) -> io::Result<CountryDatabase> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/home").join(path)
    }
}

fn setup(line: &str, file: &'static str, starter: InvokingUser) -> Result<LoadedConfig, String> {
    let args = PenArgs::read(std::iter::once("pen").chain(line.split_whitespace()));
    let args = args.map_err(|error| error.to_string())?;
    let open = |path: &Path| match path.to_str() {
        Some("/home/pen.cfg") => Ok(file.as_bytes().to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    LoadedConfig::new(&args, starter, &SetupTestEnv, &open).map_err(|error| error.to_string())
}

fn servers(setup: &LoadedConfig) -> Vec<String> {
    let servers = setup.config.settings.servers.iter().flatten();
    servers.map(|server| server.addr.to_string()).collect()
}

#[test]
fn a_command_line_of_c_pen_means_what_it_meant() {
    let line = "-b 60 -c 4000 -e 10.0.0.9 -hr -l logs:x -t 5 -T 90 -x 700 -X -f -p pid -u pen -w w \
                -C 10080 127.0.0.1:8080 web1 10.0.0.2:81:5:7:3:4 [2001:db8::1]";
    let error = setup(line, "", InvokingUser::Root).unwrap_err();
    assert_eq!(error, "-l: log: expected a port from 0 to 65535 or a service of /etc/services");
    let line = line.replace("logs:x", "/var/log/pen.log");
    let setup = setup(&line, "", InvokingUser::Root).unwrap();
    assert_eq!(setup.warnings, <[String; 0]>::default());
    assert_eq!(servers(&setup), ["10.0.0.1:8080", "10.0.0.2:81", "[2001:db8::1]:8080"]);
    let config = &setup.config;
    let settings = &config.settings;
    assert_eq!(settings.emergency.as_ref().unwrap().addr.to_string(), "10.0.0.9:8080");
    assert_eq!(settings.timeouts.blacklist, Duration::from_secs(60));
    assert_eq!(settings.timeouts.tracking, Some(Duration::from_secs(90)));
    assert_eq!(settings.limits.connections.map(usize::from), Some(700));
    assert_eq!(settings.web_stats, Some("/home/w".into()));
    assert_eq!(config.process.pid_file, Some("/home/pid".into()));
    assert_eq!(config.control.as_ref().unwrap().to_string(), "0.0.0.0:10080");
    assert_eq!(config.exit, ExitPolicy::Allowed);
    let second = settings.servers[1].as_ref().unwrap();
    assert_eq!((second.weight, second.prio), (3, 4));
}

#[test]
fn what_has_no_effect_is_said() {
    let made = |line: &str| setup(line, "ssl_crl_file x\n", InvokingUser::Root).unwrap().warnings;
    let expected = "access_log has no effect without connections, and with -U there are none";
    assert_eq!(made("-U --access-log x 8080 web1"), [expected]);
    assert_eq!(made("--access-log x 8080 web1"), <[String; 0]>::default());
    let expected =
        "ssl_crl_file has no effect without ssl_client_certificate (-R) or ssl_servers verified";
    assert_eq!(made("-F pen.cfg 8080 web1"), [expected]);
}

#[test]
fn the_file_comes_after_the_options_and_before_the_servers() {
    let file = "blacklist 9\nserver 0 address 10.0.0.5 port 80\nserver 1 address 10.0.0.6\n";
    let line = "-b 5 -F pen.cfg 8080 web1";
    let taken = setup(line, file, InvokingUser::Other).unwrap();
    assert_eq!(taken.config.settings.timeouts.blacklist, Duration::from_secs(9));
    assert_eq!(servers(&taken), ["10.0.0.1:8080", "10.0.0.6:8080"]);
    assert_eq!(taken.warnings, ["web1 takes the place of server 0 of /home/pen.cfg:2"]);
    // As C pen has it, but said.
    let setup = setup("-F pen.cfg web1 web1:81", "listen 8080\n", InvokingUser::Other).unwrap();
    assert_eq!(servers(&setup), ["10.0.0.1:81"]);
    assert_eq!(setup.warnings, ["web1 is not used: /home/pen.cfg:1 says where to listen"]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (line, file, expected) in [
        ("", "", "expected where to listen, PORT or HOST:PORT"),
        ("8080", "", "expected at least one server, HOST:PORT"),
        ("8080 nobody", "", "nobody: cannot look up nobody"),
        ("80:80:80 web1", "", "80:80:80: expected an address"),
        ("8080 web1:80:x", "", "web1:80:x: expected a number of connections as the soft limit"),
        ("-b x 8080 web1", "", "-b: blacklist: expected seconds"),
        ("-O nonsense 8080 web1", "", "-O: unknown command 'nonsense'"),
        (
            "-O nonsense -O dummy 8080 web1",
            "",
            "-O: unknown command 'nonsense': see 'help'\n-O: dummy: pen is no web server",
        ),
        ("-O dummy 8080 web1", "", "-O: dummy: pen is no web server"),
        ("-F gone 8080 web1", "", "cannot read /home/gone: entity not found"),
        (
            "-F pen.cfg 8080 web1",
            "hash\nserver x\n",
            "/home/pen.cfg:2: server: expected the number",
        ),
        ("-F pen.cfg 8080 web1", "dsr_if eth0\n", "/home/pen.cfg:1: dsr_if: direct server return"),
        ("-E cert.pem -U 8080 web1", "", "ssl_certificate: expected no -U"),
        ("-O ssl_minimum.1.1 8080 web1", "", "-O: unknown command"),
        ("-C here:x 8080 web1", "", "-C: expected a port"),
        ("8080 127.0.0.1:8080", "", "127.0.0.1:8080: expected another machine or port"),
        ("127.0.0.1:8080 127.0.0.1", "", "127.0.0.1:8080: expected another machine or port"),
        ("-U /run/sock web1:53", "", "listen /run/sock: expected a port with -U"),
        ("-U 53 /run/sock", "", "/run/sock: expected a server with a port with -U"),
        ("-U --send-proxy v2 53 web1", "", "send_proxy: expected connections"),
        ("-U -O transparent 53 web1", "", "transparent: expected connections"),
        ("-U -F pen.cfg 53 web1", "ssl_servers unverified\n", "ssl_servers: expected connections"),
        (
            "--accept-proxy 10.0.0.0/8,here 80 web1",
            "",
            "--accept-proxy: accept_proxy: expected networks",
        ),
    ] {
        let error = setup(line, file, InvokingUser::Other).expect_err(line);
        assert!(error.starts_with(expected), "{line}: {error}");
    }
}

#[test]
fn records_go_to_the_collector_inside_unless_somebody_says_where() {
    let log = |line: &str| {
        let line = format!("--collect 0.0.0.0:514 --merged-log log {line} 8080 web1");
        let setup = setup(&line, "", InvokingUser::Other)?;
        let log = setup.config.settings.log.unwrap();
        Ok::<_, String>((log.name().display().to_string(), setup.warnings.len()))
    };
    assert_eq!(log("").unwrap(), ("127.0.0.1:514".to_owned(), 0));
    assert_eq!(log("-l pen.log").unwrap(), ("/home/pen.log".to_owned(), 1));
    let error = setup("--collect [::]:0 --merged-log log 8080 web1", "", InvokingUser::Other);
    assert_eq!(error.unwrap_err(), "--collect: expected a port above 0");
    let options = "--format combined --server app/w=10.0.0.1 --from lines=10.0.0.0/8 --mapping-format lb=haproxy";
    let line = format!("--collect 127.0.0.1:514 --merged-log log {options} 8080 web1");
    let explained = setup(&line, "", InvokingUser::Other).unwrap().explain();
    for option in options.split("--").filter(|option| !option.is_empty()) {
        assert!(explained.contains(&format!("# --{}", option.trim())), "{option}: {explained}");
    }
    for (options, expected) in [
        ("--server w=10.0.0.1", "--server: expected --collect with it"),
        (
            "--collect 127.0.0.1:514 --merged-log log --format nothing",
            "cannot use --format nothing: ",
        ),
    ] {
        let error = setup(&format!("{options} 8080 web1"), "", InvokingUser::Other).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    for half in ["--collect 127.0.0.1:514", "--merged-log log"] {
        assert!(PenArgs::read(format!("pen {half} 8080 web1").split(' ')).is_err(), "{half}");
    }
}

#[test]
fn root_opens_no_control_port_unless_it_says_so() {
    let control = |line: &str, starter| {
        let setup = setup(&format!("{line} 8080 web1"), "", starter).unwrap();
        (setup.config.control.is_some(), setup.warnings.len())
    };
    assert_eq!(control("-C 1000", InvokingUser::Root), (false, 1));
    assert_eq!(control("-C 1000 -u root", InvokingUser::Root), (true, 0));
    assert_eq!(control("-C 1000", InvokingUser::Other), (true, 0));
    assert_eq!(control("-C /run/pen.sock", InvokingUser::Root), (true, 0));
}

#[test]
fn each_setting_tells_where_it_came_from() {
    let file = "hash\nserver 3 address 10.0.0.5 port 80\nacl 1 deny 10.0.0.1\n";
    let setup = setup("-b 5 -f -F pen.cfg 8080 web1", file, InvokingUser::Other).unwrap();
    let text = setup.explain();
    for (line, origin) in [
        ("# -f", "command line"),
        ("blacklist 5", "-b"),
        ("hash", "/home/pen.cfg:1"),
        ("no weight", "default"),
        ("listen 0.0.0.0:8080", "command line"),
        ("server 0 address web1 port 8080", "command line"),
        ("server 3 address 10.0.0.5 port 80", "/home/pen.cfg:2"),
        ("acl 1 deny 10.0.0.1", "/home/pen.cfg:3"),
    ] {
        let found = text.lines().find(|it| it.starts_with(line)).expect(line);
        assert!(found.ends_with(&format!("# {origin}")), "{found}");
    }
}

proptest! {
    #[test]
    fn no_command_line_and_no_file_panic(
        words in prop::collection::vec("-[A-Za-z]|[a-z0-9:./\\[\\]-]{0,12}|\\PC{0,6}", 0..8),
        file in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let Ok(args) = PenArgs::read(std::iter::once("pen".to_owned()).chain(words)) else {
            return Ok(());
        };
        let open = |_: &Path| Ok(file.clone());
        if let Ok(setup) = LoadedConfig::new(&args, InvokingUser::Other, &SetupTestEnv, &open) {
            prop_assert!(check(&setup.config).is_ok());
            prop_assert!(!setup.explain().is_empty());
        }
    }
}

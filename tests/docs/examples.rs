//! Each file of `docs/examples` is loaded by the program that reads it, with paths into a folder of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pen_testing::TempFolder;
use pen_testing::program::require_installed;

use crate::shell::program;
use crate::{ROOT, options};

#[test]
fn examples_are_accepted_by_the_programs_that_read_them() {
    let temporary = TempFolder::new();
    let folder = temporary.path();
    for made in ["var/log/nginx", "var/log/apache2", "run/penlog"] {
        fs::create_dir_all(folder.join(made)).expect("a folder can be made");
    }
    let options = options::of_all_programs();
    let examples =
        fs::read_dir(Path::new(ROOT).join("docs/examples")).expect("the folder is there");
    for example in examples {
        let path = example.expect("the folder can be read").path();
        let text = fs::read_to_string(&path).expect("an example is text");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name is text");
        let copy = folder.join(name);
        fs::write(&copy, adapt(&text, folder)).expect("a file can be written");
        match name {
            "apache-penlog.conf" => apache(folder, &copy),
            "nginx-penlog.conf" => nginx(folder, &copy),
            "penlogd.logrotate" => check(Command::new("logrotate").arg("-d").arg(&copy)),
            // tests/balancer/keepalived.rs runs two of it.
            "keepalived.conf" => {}
            name if name.ends_with(".service") => {
                check(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy));
                let started = text.replace("\\\n", " ");
                let started = started.lines().filter_map(|line| line.strip_prefix("ExecStart="));
                for command in started {
                    let name = command.rsplit_once("bin/").map_or(command, |(_, rest)| rest);
                    assert_eq!(options::unknown(name, &options), [""; 0], "{}", path.display());
                }
            }
            _ => panic!("{}: say here which program reads it", path.display()),
        }
    }
}

/// Puts paths below `folder`, and the programs that were built in the place of those that are installed.
fn adapt(text: &str, folder: &Path) -> String {
    let text = ["pen", "penlogd", "penlog"].iter().fold(text.to_owned(), |text, name| {
        let built = program(name).display().to_string();
        ["/usr/bin", "/usr/local/bin"].iter().fold(text, |text, place| {
            text.replace(&format!("{place}/{name} "), &format!("{built} "))
        })
    });
    let below = folder.display().to_string();
    text.replace("/var/log/", &format!("{below}/var/log/"))
        .replace("/run/penlog/", &format!("{below}/run/penlog/"))
}

/// Runs a program that has to succeed and to warn of nothing.
fn check(command: &mut Command) {
    let name = command.get_program().display().to_string();
    let installed = require_installed(&name);
    assert!(installed.is_ok(), "{name} is not installed: run `bash .ci/install`");
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().expect("it starts");
    let messages = String::from_utf8_lossy(&output.stderr);
    // logrotate -d begins with a warning that it only looks.
    let complaint = if name == "logrotate" { "error:" } else { "warn" };
    let quiet = !messages.contains(complaint);
    assert!(output.status.success() && quiet, "{name}: {}\n{messages}", output.status);
}

fn apache(folder: &Path, example: &Path) {
    let modules = "/usr/lib/apache2/modules";
    let main = format!(
        "ServerRoot {}\nServerName test\nListen 127.0.0.1:1\nErrorLog error.log\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\nInclude {}\n",
        folder.display(),
        example.display(),
    );
    check(Command::new("apache2").args(["-t", "-f"]).arg(write(folder, "apache.conf", &main)));
}

fn nginx(folder: &Path, example: &Path) {
    let main = format!(
        "error_log stderr warn;\npid {}/pid;\nevents {{}}\nhttp {{ include {}; }}\n",
        folder.display(),
        example.display(),
    );
    let main = write(folder, "nginx.conf", &main);
    check(Command::new("nginx").args(["-t", "-e", "stderr", "-c"]).arg(main));
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file can be written");
    path
}

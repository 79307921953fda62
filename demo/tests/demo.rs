//! The first command of README.

use std::process::{Command, Stdio};

#[test]
fn the_demonstration_names_the_client_of_each_line() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pen-demo")).stdin(Stdio::null()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{printed}{said}");
    let (_, merged) = printed.split_once("The merged log").unwrap();
    let lines: Vec<_> = merged.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    for client in ["127.0.9.1 ", "127.0.9.2 ", "127.0.9.3 ", "127.0.9.4 "] {
        let count = lines.iter().filter(|line| line.starts_with(client)).count();
        assert_eq!(count, 4, "{client}sent four requests:\n{printed}");
    }
    assert_eq!(lines.len(), 16, "{printed}");
}

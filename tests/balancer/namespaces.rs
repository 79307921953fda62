//! Network namespaces, which root only can make, and not in every container.

use std::path::Path;
use std::process::{Command, Output};

/// Some, by their names, gone at the end.
pub(crate) struct Namespaces {
    prefix: String,
    names: &'static [&'static str],
}

impl Namespaces {
    /// Makes them, their loopback up, and carries out a script that calls each `$N-name`. `None`, and
    /// said, where they cannot be made.
    pub(crate) fn new(prefix: &str, names: &'static [&'static str], script: &str) -> Option<Self> {
        let this = Self { prefix: format!("{prefix}{}", std::process::id()), names };
        let made = "for n in $NAMES; do ip netns add $N-$n; ip -n $N-$n link set lo up; done\n";
        let output = this.shell(&format!("{made}{script}")).ok()?;
        if !output.status.success() {
            println!("no namespaces here: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(this)
    }

    fn shell(&self, script: &str) -> std::io::Result<Output> {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).env("N", &self.prefix).env("NAMES", self.names.join(" "));
        shell.output()
    }

    /// A program in one of them.
    pub(crate) fn run(&self, namespace: &str, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{namespace}", self.prefix)]);
        command.arg(program.as_ref());
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Those that were not made are not there.
        drop(self.shell("for n in $NAMES; do ip netns del $N-$n || true; done"));
    }
}

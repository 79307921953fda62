//! `top`: the servers as a live table, made from the reply to `servers`, also that of C pen. On a terminal the table uses the
//! alternate screen until `q` or a signal ends it. Elsewhere the tables are printed one after the other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::read;
use pen_daemon::error::{ActionError, Doing as _};

use crate::cli::PenctlArgs;
use crate::talk::{ControlAddress, ControlSession};

/// Shows tables until a key, a signal or the requested number of tables ends it.
pub(crate) fn run(args: &PenctlArgs, pen: &ControlAddress) -> Result<bool, ActionError> {
    let signals = catch_signals().doing("catch signals")?;
    let mut source = ServerSource { session: pen.session()?, pen };
    // Before the alternate screen, which would take an error message away with it.
    let mut now = source.fetch()?;
    let screen = if args.count.is_none() { FullScreen::take() } else { None };
    let mut before: Option<ServerTable> = None;
    let mut shown = 0;
    loop {
        show(&now.draw(before.as_ref(), args, screen.is_some()), screen.is_some());
        shown += 1;
        let enough = args.count.is_some_and(|count| shown >= count);
        if enough || !wait(args.interval, &signals, screen.is_some()) {
            return Ok(true);
        }
        let next = source.fetch()?;
        before = Some(std::mem::replace(&mut now, next));
    }
}

fn show(table: &str, on_screen: bool) {
    let mut out = io::stdout().lock();
    // Cursor home, then clear the rest of each line and of the screen: this does not flicker.
    let text = if on_screen {
        format!("\x1b[H{}\x1b[J", table.replace('\n', "\x1b[K\r\n"))
    } else {
        table.to_owned()
    };
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush()); // A closed pipe is no error.
}

/// Turns INT, TERM and HUP into something to read.
fn catch_signals() -> nix::Result<SignalFd> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
}

/// Waits for `time`. Returns `false` if a key or a signal ends the program.
fn wait(time: Duration, signals: &SignalFd, keys: bool) -> bool {
    let until = Instant::now() + time;
    let stdin = io::stdin();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if keys {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return true,
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) if fds[0].any() == Some(false) => {}
            Ok(_) | Err(_) => return false,
        }
        let mut typed = [0; 16];
        match read(&stdin, &mut typed) {
            Ok(0) | Err(_) => return false, // The terminal is closed.
            Ok(len) if typed[..len].iter().any(|key| matches!(key, b'q' | b'Q' | 3)) => {
                return false;
            }
            Ok(_) => {}
        }
    }
}

/// Fetches the tables, through a session, or through a connection for each command.
struct ServerSource<'a> {
    session: Option<ControlSession>,
    pen: &'a ControlAddress,
}

impl ServerSource<'_> {
    fn fetch(&mut self) -> Result<ServerTable, ActionError> {
        let reply = match &mut self.session {
            Some(session) => session.ask("servers")?,
            None => self.pen.ask("servers")?,
        };
        let states = match &mut self.session {
            Some(session) => session.ask("states").map(|reply| reply.text).unwrap_or_default(),
            None => String::new(),
        };
        Ok(ServerTable { at: Instant::now(), servers: parse(&reply.text), states: parse(&states) })
    }
}

/// The fields of lines `N key value key value…`, by N.
type ServerFields = BTreeMap<u64, BTreeMap<String, String>>;

struct ServerTable {
    at: Instant,
    servers: ServerFields,
    states: ServerFields,
}

fn parse(text: &str) -> ServerFields {
    let mut lines = ServerFields::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse().ok()) else { continue };
        let mut fields = BTreeMap::new();
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            fields.insert(key.to_owned(), value.to_owned());
        }
        lines.insert(number, fields);
    }
    lines
}

impl ServerTable {
    fn draw(&self, before: Option<&Self>, args: &PenctlArgs, on_screen: bool) -> String {
        let (width, height) = terminal_size::terminal_size()
            .filter(|_| on_screen)
            .map_or((120, usize::MAX), |(w, h)| (usize::from(w.0), usize::from(h.0)));
        let mut text = String::new();
        let connections: u64 = self.servers.values().map(|fields| number(fields, "conn")).sum();
        let (count, address) = (self.servers.len(), &args.address);
        let plural = if count == 1 { "" } else { "s" };
        let title = format!("pen at {address}: {count} server{plural}, {connections} connections");
        push(&mut text, &title, width, None);
        let head = format!(
            "{:>4} {:<26} {:<14} {:>6} {:>6} {:>6} {:>10} {:>10} {:>9} {:>9}",
            "", "server", "state", "conn", "max", "hard", "from/s", "to/s", "from", "to"
        );
        push(&mut text, &head, width, on_screen.then_some("\x1b[7m"));
        for (slot, fields) in self.servers.iter().take(height.saturating_sub(3)) {
            let line = self.line(*slot, fields, before);
            push(&mut text, &line, width, None);
        }
        if !on_screen {
            text.push('\n');
        }
        text
    }

    fn line(&self, slot: u64, fields: &BTreeMap<String, String>, before: Option<&Self>) -> String {
        let word = |key: &str| fields.get(key).map_or("", String::as_str);
        let addr = word("addr");
        let host = if addr.contains(':') { format!("[{addr}]") } else { addr.to_owned() };
        let server = if addr.contains('/') { host } else { format!("{host}:{}", word("port")) };
        let state = self.states.get(&slot);
        let state = state.and_then(|fields| fields.get("state")).map_or("", String::as_str);
        let rate = |key| before.and_then(|before| self.rate(slot, key, before));
        let rate = |key| rate(key).map_or_else(|| "-".to_owned(), size);
        format!(
            "{slot:>4} {server:<26} {state:<14} {:>6} {:>6} {:>6} {:>10} {:>10} {:>9} {:>9}",
            word("conn"),
            limit(word("max")),
            limit(word("hard")),
            rate("sx"),
            rate("rx"),
            size(number(fields, "sx")),
            size(number(fields, "rx")),
        )
    }

    /// Returns bytes per second; `None` for a server that is new or has another address.
    fn rate(&self, slot: u64, key: &str, before: &Self) -> Option<u64> {
        let (now, then) = (self.servers.get(&slot)?, before.servers.get(&slot)?);
        if now.get("addr") != then.get("addr") {
            return None;
        }
        let count = number(now, key).checked_sub(number(then, key))?;
        let millis = u64::try_from((self.at - before.at).as_millis()).ok()?.max(1);
        Some(count.saturating_mul(1_000) / millis)
    }
}

/// Appends a line, cut at the width of the terminal and without control characters.
fn push(text: &mut String, line: &str, width: usize, style: Option<&str>) {
    let line: String =
        line.chars().take(width.saturating_sub(1)).filter(|c| !c.is_control()).collect();
    let line = line.trim_end();
    match style {
        Some(style) => writeln!(text, "{style}{line}\x1b[m"),
        None => writeln!(text, "{line}"),
    }
    .expect("writing to a String does not fail");
}

fn number(fields: &BTreeMap<String, String>, key: &str) -> u64 {
    fields.get(key).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn limit(word: &str) -> &str {
    if word == "0" { "-" } else { word }
}

fn size(bytes: u64) -> String {
    let mut size = bytes;
    for unit in ["", "k", "M", "G", "T"] {
        if size < 10_000 {
            return format!("{size}{unit}");
        }
        size /= 1_000;
    }
    format!("{size}P")
}

/// The alternate screen of the terminal, without cursor, with keys read one by one. Dropping it restores the terminal.
struct FullScreen {
    before: Termios,
}

impl FullScreen {
    /// Switches to the alternate screen; `None` without a terminal.
    fn take() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        // A read is only done after poll(2), and takes what has been typed.
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        print("\x1b[?1049h\x1b[?25l");
        Some(Self { before })
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        print("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before); // The terminal may be closed.
    }
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush()); // A closed pipe is no error.
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, at: Instant) -> ServerTable {
        ServerTable { at, servers: parse(text), states: parse("0 state up served 5") }
    }

    #[test]
    fn rates_are_the_difference_of_two_tables() {
        let then = Instant::now();
        let before = table("0 addr 10.0.0.1 port 80 sx 1000 rx 5000\n1 addr ::1 sx 9 rx 9", then);
        let text = "0 addr 10.0.0.1 port 80 sx 3000 rx 5000\n1 addr ::2 sx 10 rx 8\n2 addr x sx 1";
        let now = table(text, then + Duration::from_secs(2));
        assert_eq!(now.rate(0, "sx", &before), Some(1_000));
        assert_eq!(now.rate(0, "rx", &before), Some(0));
        assert_eq!(now.rate(1, "sx", &before), None, "another server");
        assert_eq!(now.rate(2, "sx", &before), None, "a new one");
    }

    #[test]
    fn a_line_is_cut_where_the_terminal_ends() {
        let mut text = String::new();
        push(&mut text, "abcdef\u{1b}[31mghi", 5, None);
        assert_eq!(text, "abcd\n");
    }
}

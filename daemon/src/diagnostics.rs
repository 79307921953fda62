//! Where messages go: to stderr in the foreground, to the system's log otherwise, never more than a
//! person can read, and never waiting for one who does not.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// The target of messages that somebody asked for, such as a balance: they are never left out for being
/// too many.
pub const ASKED: &str = "asked";

/// Messages let through in each [`PERIOD`], and as many warnings and errors.
const BURST: u32 = 200;
/// See [`BURST`].
const PERIOD: Duration = Duration::from_secs(10);
/// Where the system's log listens.
const DEV_LOG: &str = "/dev/log";
/// The facility "daemon", as RFC 3164 numbers it.
const DAEMON: u8 = 3 << 3;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On somebody's terminal: stderr.
    Foreground,
    /// Nowhere: the system's log, and warnings to stderr as long as a caller reads that.
    Background,
}

/// Sends all messages of this process to where they belong, from now on. `debug` counts the `-d`
/// that were given. Call it once, before any jail: the system's log is reached from here.
pub fn start(name: &'static str, place: Place, debug: u8) {
    let messages = Messages { name, place, log: Mutex::new(Log::new(place)) };
    let (level, handle) = reload::Layer::new(level(debug));
    let subscriber = Registry::default().with(messages.with_filter(level));
    // As below: a second call changes nothing.
    LEVEL.set(handle).unwrap_or_default();
    // Only a second call can fail, and then the first one's place is as good.
    tracing::subscriber::set_global_default(subscriber).unwrap_or_default();
    if place == Place::Background {
        tell_of_panics(name);
    }
}

/// Nobody reads our standard error by the time one may come. A socket of its own, since the one of
/// others may be held by whoever panics.
fn tell_of_panics(name: &'static str) {
    let before = std::panic::take_hook();
    let socket = connect();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let text = format!("<{}>{name}[{}]: {info}", DAEMON | 2, std::process::id());
        if let Some(socket) = &socket {
            socket.send(text.replace('\n', " ").as_bytes()).map(drop).unwrap_or_default();
        }
    }));
}

/// Says more from now on, or less. Nothing before [`start`].
pub fn set_debug(debug: u8) {
    if let Some(handle) = LEVEL.get() {
        // It fails only if nobody speaks any more.
        handle.reload(level(debug)).unwrap_or_default();
    }
}

static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

fn level(debug: u8) -> LevelFilter {
    match debug {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

struct Messages {
    name: &'static str,
    place: Place,
    log: Mutex<Log>,
}

struct Log {
    socket: Option<UnixDatagram>,
    /// Of warnings and errors, and of all else.
    limits: [Limit; 2],
    /// Messages that stderr had no room for.
    unheard: u32,
    text: String,
}

impl Log {
    fn new(place: Place) -> Self {
        let socket = if place == Place::Background { connect() } else { None };
        let limits = [(); 2].map(|()| Limit::new(Instant::now()));
        Self { socket, limits, unheard: 0, text: String::new() }
    }

    fn send(&mut self, name: &str, place: Place, level: Level) {
        if place == Place::Foreground || level <= Level::WARN {
            self.unheard = self.unheard.saturating_add(u32::from(!has_room()));
            if self.unheard == 0 {
                // A message that can't be written has nobody to be told to.
                writeln!(io::stderr().lock(), "{name}: {}", self.text).unwrap_or_default();
            }
        }
        if place == Place::Foreground {
            return;
        }
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let pid = std::process::id();
        let message = format!("<{}>{name}[{pid}]: {}", DAEMON | severity, self.text);
        let sent = self.socket.as_ref().is_some_and(|s| s.send(message.as_bytes()).is_ok());
        if !sent {
            self.socket = connect();
            if let Some(socket) = &self.socket {
                socket.send(message.as_bytes()).unwrap_or_default();
            }
        }
    }
}

/// Whether stderr takes a message at once: it may be a pipe that nobody reads.
fn has_room() -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Non-blocking: a stuck system log must not stop us.
fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(DEV_LOG).ok()?;
    Some(socket)
}

impl<S: Subscriber> Layer<S> for Messages {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Ok(mut log) = self.log.lock() else { return };
        let log = &mut *log;
        let metadata = event.metadata();
        let verdict = match metadata.target() {
            ASKED => Verdict::Speak,
            _ => log.limits[usize::from(*metadata.level() > Level::WARN)].take(Instant::now()),
        };
        if log.unheard > 0 && has_room() {
            let unheard = std::mem::take(&mut log.unheard);
            log.text.clear();
            write!(log.text, "{unheard} messages found no reader").unwrap_or_default();
            log.send(self.name, self.place, Level::WARN);
        }
        if let Verdict::AfterSilence(left_out) = verdict {
            log.text.clear();
            write!(log.text, "{left_out} messages were left out").unwrap_or_default();
            log.send(self.name, self.place, Level::WARN);
        }
        if verdict == Verdict::Silence {
            return;
        }
        log.text.clear();
        event.record(&mut Words(&mut log.text));
        log.send(self.name, self.place, *metadata.level());
    }
}

/// The message first, then what belongs to it.
struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let fields = std::mem::take(self.0);
            write!(self.0, "{value:?}{fields}").unwrap_or_default();
        } else {
            write!(self.0, " {}={value:?}", field.name()).unwrap_or_default();
        }
    }
}

struct Limit {
    since: Instant,
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Speak,
    Silence,
    AfterSilence(u32),
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    fn take(&mut self, now: Instant) -> Verdict {
        let left_out = self.count.saturating_sub(BURST);
        if now.saturating_duration_since(self.since) >= PERIOD {
            *self = Self { since: now, count: 1 };
            return if left_out > 0 { Verdict::AfterSilence(left_out) } else { Verdict::Speak };
        }
        self.count = self.count.saturating_add(1);
        if self.count > BURST { Verdict::Silence } else { Verdict::Speak }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_messages_is_cut_and_the_cut_is_said() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let said = (0..1_000).filter(|_| limit.take(start) == Verdict::Speak).count();
        assert_eq!(said, 200);
        assert_eq!(limit.take(start + PERIOD), Verdict::AfterSilence(800));
        assert_eq!(limit.take(start + PERIOD), Verdict::Speak);
    }
}

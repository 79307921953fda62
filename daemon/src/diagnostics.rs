//! Log messages: to stderr in the foreground, to syslog in the background. Floods are limited, and no message ever waits for
//! its reader.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

/// Target of messages that an operator asked for, such as the counters after USR1: the flood limit does not apply.
pub const ASKED: &str = "asked";

/// Number of messages let through per [`PERIOD`], and separately of warnings and errors.
const BURST: u32 = 200;
/// Period of the flood limit.
const PERIOD: Duration = Duration::from_secs(10);
/// The socket of the local syslog daemon.
const DEV_LOG: &str = "/dev/log";
/// The syslog facility "daemon" (RFC 3164, section 4.1.1).
const DAEMON: u8 = 3 << 3;

/// Where log messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageTarget {
    /// To stderr.
    Foreground,
    /// To syslog, and warnings also to stderr until the caller has exited.
    Background,
}

/// Installs the subscriber of this process. `debug` counts the `-d` options. Must be called once, before any chroot, because
/// it connects to syslog.
pub fn start(name: &'static str, target: MessageTarget, debug: u8) {
    let messages = MessageLayer { name, target, writer: Mutex::new(MessageWriter::new(target)) };
    let (level, handle) = reload::Layer::new(level(debug));
    let subscriber = Registry::default().with(messages.with_filter(level));
    // Like below: a second call changes nothing.
    let _ = LEVEL.set(handle);
    // Fails only on a second call; the first subscriber stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if target == MessageTarget::Background {
        report_panics(name);
    }
}

/// Sends panics to syslog: in the background stderr goes to /dev/null. Uses a socket of its own, because the panicking thread
/// may hold the lock of the other.
fn report_panics(name: &'static str) {
    let before = std::panic::take_hook();
    let socket = connect();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let text = format!("<{}>{name}[{}]: {info}", DAEMON | 2, std::process::id());
        if let Some(socket) = &socket {
            // Syslog may have closed its socket.
            let _ = socket.send(text.replace('\n', " ").as_bytes());
        }
    }));
}

/// Changes the level of detail; does nothing before [`start`].
pub fn set_debug(debug: u8) {
    if let Some(handle) = LEVEL.get() {
        // Fails only if the subscriber is gone.
        let _ = handle.reload(level(debug));
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

struct MessageLayer {
    name: &'static str,
    target: MessageTarget,
    writer: Mutex<MessageWriter>,
}

struct MessageWriter {
    socket: Option<UnixDatagram>,
    /// For warnings and errors, and for all other messages.
    limits: [FloodLimit; 2],
    /// Messages lost because stderr had no room.
    unread: u32,
}

impl MessageWriter {
    fn new(target: MessageTarget) -> Self {
        let socket = if target == MessageTarget::Background { connect() } else { None };
        let limits = [(); 2].map(|()| FloodLimit::new(Instant::now()));
        Self { socket, limits, unread: 0 }
    }

    fn send(&mut self, name: &str, target: MessageTarget, level: Level, text: &str) {
        if target == MessageTarget::Foreground || level <= Level::WARN {
            self.unread = self.unread.saturating_add(u32::from(!has_room()));
            if self.unread == 0 {
                // stderr is closed: nothing is left to report to.
                let _ = writeln!(io::stderr().lock(), "{name}: {text}");
            }
        }
        if target == MessageTarget::Foreground {
            return;
        }
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let pid = std::process::id();
        let message = format!("<{}>{name}[{pid}]: {}", DAEMON | severity, text);
        let sent = self.socket.as_ref().is_some_and(|s| s.send(message.as_bytes()).is_ok());
        if !sent {
            self.socket = connect();
            if let Some(socket) = &self.socket {
                // Syslog is down: stderr has had the message, or nothing has.
                let _ = socket.send(message.as_bytes());
            }
        }
    }
}

/// Returns whether stderr accepts a message at once; it may be a full pipe.
fn has_room() -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Connects to syslog, non-blocking: a stuck syslog daemon must not stop the program.
fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(DEV_LOG).ok()?;
    Some(socket)
}

impl<S> Layer<S> for MessageLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        keep_fields(attributes, id, &context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(SpanText(text)) = span.extensions_mut().get_mut() {
            values.record(&mut MessageText(text));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Ok(mut writer) = self.writer.lock() else { return };
        let writer = &mut *writer;
        let metadata = event.metadata();
        let decision = match metadata.target() {
            ASKED => FloodDecision::Print,
            _ => writer.limits[usize::from(*metadata.level() > Level::WARN)].take(Instant::now()),
        };
        if writer.unread > 0 && has_room() {
            let unread = std::mem::take(&mut writer.unread);
            let text = format!("{unread} messages were lost: stderr was not read");
            writer.send(self.name, self.target, Level::WARN, &text);
        }
        if let FloodDecision::PrintAfterGap(left_out) = decision {
            let seconds = PERIOD.as_secs();
            let text =
                format!("{left_out} messages were left out: more than {BURST} in {seconds} s");
            writer.send(self.name, self.target, Level::WARN, &text);
        }
        if decision == FloodDecision::Skip {
            return;
        }
        let text = text_of(event, &context);
        writer.send(self.name, self.target, *metadata.level(), &text);
    }
}

/// Stores the fields of a new span as text.
fn keep_fields<S>(attributes: &Attributes<'_>, id: &Id, context: &Context<'_, S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(span) = context.span(id) else { return };
    let mut text = String::new();
    attributes.record(&mut MessageText(&mut text));
    span.extensions_mut().insert(SpanText(text));
}

/// Returns an event as text: message, fields, fields of its spans from the innermost on.
fn text_of<S>(event: &Event<'_>, context: &Context<'_, S>) -> String
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut text = String::new();
    event.record(&mut MessageText(&mut text));
    for span in context.event_scope(event).into_iter().flatten() {
        if let Some(SpanText(fields)) = span.extensions().get() {
            text.push_str(fields);
        }
    }
    text
}

/// The fields of a span as text, behind the message and fields of each event in it.
struct SpanText(String);

/// Formats an event: the message, then its fields as `name=value`.
struct MessageText<'a>(&'a mut String);

impl Visit for MessageText<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let fields = std::mem::take(self.0);
            let _ = write!(self.0, "{value:?}{fields}"); // A string takes everything.
        } else {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}

struct FloodLimit {
    since: Instant,
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FloodDecision {
    Print,
    Skip,
    PrintAfterGap(u32),
}

impl FloodLimit {
    fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    fn take(&mut self, now: Instant) -> FloodDecision {
        let left_out = self.count.saturating_sub(BURST);
        if now.saturating_duration_since(self.since) >= PERIOD {
            *self = Self { since: now, count: 1 };
            return if left_out > 0 {
                FloodDecision::PrintAfterGap(left_out)
            } else {
                FloodDecision::Print
            };
        }
        self.count = self.count.saturating_add(1);
        if self.count > BURST { FloodDecision::Skip } else { FloodDecision::Print }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Keeps the text of each event.
    struct TextLayer(Arc<Mutex<Vec<String>>>);

    impl<S> Layer<S> for TextLayer
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            keep_fields(attributes, id, &context);
        }

        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            self.0.lock().unwrap().push(text_of(event, &context));
        }
    }

    #[test]
    fn a_message_has_its_fields_and_those_of_its_spans_behind_it() {
        let texts = Arc::new(Mutex::new(Vec::new()));
        let subscriber = Registry::default().with(TextLayer(Arc::clone(&texts)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(count = 3, "plain");
            let span = tracing::info_span!("connection", number = 7, client = %"192.0.2.1:5");
            let _inside = span.enter();
            tracing::info!(bytes = 9, "closed");
        });
        let expected = ["plain count=3", "closed bytes=9 number=7 client=192.0.2.1:5"];
        assert_eq!(*texts.lock().unwrap(), expected);
    }

    #[test]
    fn a_flood_of_messages_is_cut_and_the_cut_is_said() {
        let start = Instant::now();
        let mut limit = FloodLimit::new(start);
        let said = (0..1_000).filter(|_| limit.take(start) == FloodDecision::Print).count();
        assert_eq!(said, 200);
        assert_eq!(limit.take(start + PERIOD), FloodDecision::PrintAfterGap(800));
        assert_eq!(limit.take(start + PERIOD), FloodDecision::Print);
    }
}

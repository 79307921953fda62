//! The log events of a connection, as a subscriber sees them.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::TcpWorker;
use crate::config::{Endpoint, RuntimeSettings, ServerSettings, TcpOptions, TlsSettings};
use crate::data::relay::mailbox::{Mailbox, WorkerCommand};
use crate::data::relay::shared::Shared;
use crate::data::relay::socket::Listener;
use crate::data::tls::keeper::TlsKeeper;
use crate::logs::access_log::AccessLog;
use crate::logs::mapping_log::MappingLog;
use crate::logs::sinks::RecordSinks;

/// Keeps spans, and events with the span that was entered when they were logged.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    spans: Vec<String>,
    entered: Vec<usize>,
    events: Vec<(Option<String>, String)>,
}

struct FieldText(String);

impl Visit for FieldText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => format!("{value:?}"),
            name => format!("{name}={value:?}"),
        };
        self.0 = [std::mem::take(&mut self.0), text].join(" ");
    }
}

impl Capture {
    fn index(id: &Id) -> usize {
        usize::try_from(id.into_u64()).unwrap() - 1
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = FieldText(span.metadata().name().to_owned());
        span.record(&mut text);
        let spans = &mut self.0.lock().unwrap().spans;
        spans.push(text.0);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let spans = &mut self.0.lock().unwrap().spans;
        let mut text = FieldText(std::mem::take(&mut spans[Self::index(span)]));
        values.record(&mut text);
        spans[Self::index(span)] = text.0;
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = FieldText(String::new());
        event.record(&mut text);
        let mut captured = self.0.lock().unwrap();
        let span = captured.entered.last().map(|&index| captured.spans[index].clone());
        captured.events.push((span, text.0));
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(Self::index(span));
    }

    fn exit(&self, span: &Id) {
        let mut captured = self.0.lock().unwrap();
        assert_eq!(captured.entered.pop(), Some(Self::index(span)));
    }
}

#[test]
fn log_events_of_a_connection_carry_its_span() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = TcpListener::bind(any).unwrap();
    let server_addr = server.local_addr().unwrap();
    let servers = vec![Some(ServerSettings::new(Endpoint::Ip(server_addr)))];
    let settings = RuntimeSettings { servers, ..RuntimeSettings::default() };
    let (log, access_log) =
        (MappingLog::start((&settings).into()).unwrap(), AccessLog::start(None).unwrap());
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let keeper = Arc::new(TlsKeeper::new(&TlsSettings::default()).unwrap());
    let shared = Arc::new(Shared::new(settings, keeper, vec![mailbox.clone()], 10));
    let listeners = Listener::bind(&Endpoint::Ip(any), 1, 8, &TcpOptions::default()).unwrap();
    let Endpoint::Ip(pen) = *listeners[0].endpoint() else { panic!("it has an address") };

    let capture = Capture::default();
    let worker =
        TcpWorker::new(shared, mailbox.clone(), listeners, 1, RecordSinks::new(&log, &access_log));
    let client = thread::spawn(move || {
        let mut client = TcpStream::connect(pen).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        let mut request = Vec::new();
        accepted.read_to_end(&mut request).unwrap();
        drop(accepted);
        client.read_to_end(&mut Vec::new()).unwrap();
        mailbox.put(WorkerCommand::Stop { deadline: Instant::now() });
        (request, client.local_addr().unwrap().port())
    });
    tracing::subscriber::with_default(capture.clone(), || worker.unwrap().run());
    let (request, port) = client.join().unwrap();
    assert_eq!(request, b"hello");

    let events = std::mem::take(&mut capture.0.lock().unwrap().events);
    let span = Some(format!("connection connection=1 peer=127.0.0.1 port={port}"));
    let event = |text: String| (span.clone(), text);
    assert_eq!(
        events,
        [
            event(format!(" connected server={server_addr}")),
            event(" closed to_server=5 to_client=0 how=Close".to_owned()),
            (None, " worker ends connections=0".to_owned()),
        ]
    );
    log.finish();
    access_log.finish();
}

//! Laws that hold for any bytes of a client, a server or an operator, without a socket. The tests and the targets in
//! `fuzz/` call the same ones; each panics where its law is broken.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pen::command::ControlCommand;
use pen::command::apply::{ApplyPhase, CommandOutcome};
use pen::command::env::CommandEnv;
use pen::command::reload::commands;
use pen::command::script;
use pen::config::countries::CountryDatabase;
use pen::config::{ForwardedFor, PenConfig, ProxyVersion};
use pen::data::relay::http::conversation::Conversation;
use pen::data::relay::http::edit::{Editor, Forward};
use pen::data::relay::http::{HttpEvent, ResponseSummary};
use pen::data::relay::proxy::Header;
use pen_records::addr::ClientAddr;

/// What is put into a request is no longer than this, but for the client's own.
const ADDED: usize = 100;

fn forward(which: u8) -> Forward {
    let policy = if which.is_multiple_of(2) { ForwardedFor::Replace } else { ForwardedFor::Append };
    let client = std::net::Ipv4Addr::new(203, 0, 113, 7);
    Forward::new(&policy, ClientAddr::from(std::net::IpAddr::from(client)), "http")
}

/// What a server gets is the same however a client's bytes are cut, and bounded; what is not HTTP is
/// not touched.
pub(crate) fn http_requests(bytes: &[u8]) {
    let [first, second, bytes @ ..] = bytes else { return };
    let edit = |step: usize| {
        let (mut editor, mut all, mut out) = (Editor::new(forward(*first)), Vec::new(), Vec::new());
        for piece in bytes.chunks(step.max(1)) {
            let edited = editor.edit(piece, &mut out);
            assert!(edited.taken <= piece.len());
            assert_eq!(edited.taken < piece.len(), editor.refusal().is_some() && !piece.is_empty());
            all.extend_from_slice(edited.bytes);
            if editor.refusal().is_some() {
                break;
            }
        }
        (all, editor.refusal(), editor.is_raw())
    };
    let whole = edit(bytes.len());
    assert_eq!(edit(usize::from(*second)), whole);
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert!(whole.0.len() <= bytes.len() + lines * (ADDED + 1));
    if whole.2 {
        assert_eq!(whole.0, bytes);
    }
}

/// Both streams of a connection, in turns of any length: bytes from the server pass as they are, and
/// requests are answered in their order.
pub(crate) fn http_conversation(bytes: &[u8]) {
    let [first, second, bytes @ ..] = bytes else { return };
    let split = bytes.iter().position(|&byte| byte == 0xff).unwrap_or(bytes.len());
    let (client, server) = (&bytes[..split], bytes.get(split + 1..).unwrap_or_default());
    let forward = (first % 3 > 0).then(|| forward(*first));
    let mut conversation = Conversation::new(forward);
    let (mut asked, mut answered, mut out) = (0, 0, Vec::new());
    let now = Instant::now();
    let mut note = |note: HttpEvent<'_>| match note {
        HttpEvent::Request { nth, .. } => {
            assert_eq!(nth, asked + 1);
            asked = nth;
        }
        HttpEvent::Began { nth, .. } => assert!(nth > answered && nth <= asked),
        HttpEvent::Ended(ResponseSummary { nth, body, framed, .. }) => {
            assert!(nth > answered && nth <= asked && body <= framed);
            answered = nth;
        }
        HttpEvent::BodyEnded(ResponseSummary { nth, .. }) => {
            assert!(nth == answered && nth == asked);
        }
        HttpEvent::Refused { nth, .. } => assert!(nth == asked || nth == asked + 1),
    };
    let step = usize::from(*second).max(1);
    let (mut from_client, mut from_server) = (client.chunks(step), server.chunks(step * 2));
    loop {
        let (asks, answers) = (from_client.next(), from_server.next());
        if let Some(piece) = asks.filter(|_| !conversation.refuses()) {
            conversation.from_client((piece, now), &mut out, &mut note, |_| {});
        }
        answers.into_iter().for_each(|piece| conversation.from_server(piece, &mut note));
        if asks.is_none() && answers.is_none() {
            break;
        }
    }
    let last = conversation.server_ends(&mut note);
    assert!(last.is_empty() || last.starts_with(b"HTTP/1.1 "));
}

/// A header ends where it says, is not believed before it is whole, and says the same when it is written again.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let Ok(Some((header, len))) = Header::parse(bytes) else { return };
    assert_eq!(Header::parse(&bytes[..len]), Ok(Some((header, len))));
    for end in 0..len {
        assert_eq!(Header::parse(&bytes[..end]), Ok(None), "{end} of {len} bytes");
    }
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut again = Vec::new();
        header.write(version, &mut again);
        assert_eq!(Header::parse(&again), Ok(Some((header, again.len()))));
    }
}

/// A line at the control port is a command or an error; a command can be said again, and says the same then. An
/// error is one line of what can be printed.
pub(crate) fn command(bytes: &[u8]) {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    match ControlCommand::parse(line) {
        Ok(None) => {}
        Ok(Some(command)) => {
            let text = command.to_string();
            assert_eq!(ControlCommand::parse(text.as_bytes()), Ok(Some(command)), "{text}");
            assert!(!text.contains('\n'), "{text:?}");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
        }
    }
}

/// A file is taken as a whole or not at all, and what it made is made again by what is written of it.
pub(crate) fn configuration(bytes: &[u8]) {
    let made = |bytes: &[u8]| {
        let open = |path: &Path| match path.to_str() {
            Some("/file") => Ok(bytes.to_vec()),
            // It ends: files that include one another may do so a thousand times at most.
            Some("/again") => Ok(b"include /file\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let commands = script::read(Path::new("/file"), &open).ok()?;
        let mut config = PenConfig::default();
        for located in commands {
            match located.command.apply(&mut config, ApplyPhase::Starting, &Nowhere) {
                Ok(
                    CommandOutcome::Silence
                    | CommandOutcome::Text(_)
                    | CommandOutcome::Warning(_)
                    | CommandOutcome::Action(_),
                ) => {}
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
                    return None;
                }
            }
        }
        Some(config)
    };
    let Some(config) = made(bytes) else { return };
    let written = commands(&config).join("\n");
    assert_eq!(made(written.as_bytes()), Some(config), "{written}");
}

/// Every name has an address, and there are no files.
struct Nowhere;

impl CommandEnv for Nowhere {
    fn resolve(&self, _name: &str, port: u16) -> Result<SocketAddr, String> {
        Ok(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    fn countries(&self, _path: &Path) -> io::Result<CountryDatabase> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path)
    }
}

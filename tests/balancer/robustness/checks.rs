//! Laws that hold for any bytes of a client and a server, without a socket. The tests and the targets in
//! `fuzz/` call the same ones; each panics where its law is broken.

use pen::config::ForwardedFor;
use pen::relay::http::conversation::Conversation;
use pen::relay::http::edit::{Editor, Forward};
use pen::relay::http::{Answer, Note};
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
    let mut note = |note: Note<'_>| match note {
        Note::Request { nth, .. } => {
            assert_eq!(nth, asked + 1);
            asked = nth;
        }
        Note::Began { nth, .. } => assert!(nth > answered && nth <= asked),
        Note::Ended(Answer { nth, body, framed, .. }) => {
            assert!(nth > answered && nth <= asked && body <= framed);
            answered = nth;
        }
        Note::Refused { nth, .. } => assert!(nth == asked || nth == asked + 1),
    };
    let step = usize::from(*second).max(1);
    let (mut from_client, mut from_server) = (client.chunks(step), server.chunks(step * 2));
    loop {
        let (asks, answers) = (from_client.next(), from_server.next());
        if let Some(piece) = asks.filter(|_| !conversation.refuses()) {
            conversation.from_client(piece, &mut out, &mut note, |_| {});
        }
        answers.into_iter().for_each(|piece| conversation.from_server(piece, &mut note));
        if asks.is_none() && answers.is_none() {
            break;
        }
    }
    let last = conversation.server_ends(&mut note);
    assert!(last.is_empty() || last.starts_with(b"HTTP/1.1 "));
}

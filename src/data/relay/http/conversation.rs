//! What is noticed of HTTP on one connection, and in HTTP mode what is told to the server.

use tracing::debug;

use super::edit::{Edited, Editor, Forward, Refusal};
use super::{Follower, HttpEvent, PartialResponse, RefusalPlace};

/// Both streams of a connection.
#[derive(Debug, Default)]
pub struct Conversation {
    follower: Follower,
    editor: Option<Box<Editor>>,
    /// What was refused, and where.
    refused: Option<(Refusal, RefusalPlace)>,
    /// The answer to that, once it was given.
    last: Option<Vec<u8>>,
}

/// What HTTP mode had to do with some bytes beyond letting them pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditOutcome {
    /// This is not HTTP, and passes as it is from now on.
    NotHttp,
    /// This is refused.
    Refused(Refusal),
}

impl Conversation {
    /// One whose requests are told something, or only followed.
    #[must_use]
    pub fn new(forward: Option<Forward>) -> Self {
        let editor = forward.map(|forward| Box::new(Editor::new(forward)));
        Self { follower: Follower::default(), editor, refused: None, last: None }
    }

    /// Bytes from the client; what is handed back is for the server. `out` is room for it.
    pub fn from_client<'a>(
        &mut self,
        bytes: &'a [u8],
        out: &'a mut Vec<u8>,
        mut note: impl FnMut(HttpEvent<'_>),
        mut judge: impl FnMut(EditOutcome),
    ) -> &'a [u8] {
        let Some(editor) = self.editor.as_deref_mut() else {
            self.follower.requests(bytes, note);
            return bytes;
        };
        let was_raw = editor.is_raw();
        let Edited { bytes: forward, taken } = editor.edit(bytes, out);
        // What was refused has not been asked for.
        self.follower.requests(&bytes[..taken], &mut note);
        match (self.refused, editor.refusal()) {
            (None, Some((refusal, place))) => {
                debug!("a request is refused: {}", refusal.what());
                self.refused = Some((refusal, place));
                self.follower.refused(refusal, place, note);
                judge(EditOutcome::Refused(refusal));
            }
            (None, None) if !was_raw && editor.is_raw() => judge(EditOutcome::NotHttp),
            _ => {}
        }
        forward
    }

    /// Bytes from the server, which all are for the client.
    pub fn from_server(&mut self, bytes: &[u8], note: impl FnMut(HttpEvent<'_>)) {
        self.follower.responses(bytes, note);
        if self.follower.is_tunnel()
            && let Some(editor) = self.editor.as_deref_mut()
        {
            editor.pass_through();
        }
    }

    /// Whether nothing more of the client's is for the server.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.refused.is_some()
    }

    /// The server will send no more; what is handed back is for the client.
    pub fn server_ends(&mut self, note: impl FnMut(HttpEvent<'_>)) -> &[u8] {
        if let Some((refusal, place)) = self.refused
            // Only where a response may begin, and not if the server has given its own.
            && self.follower.owes_only(usize::from(place == RefusalPlace::Body))
        {
            self.last = Some(refusal.response());
        }
        self.follower.responses_end(note);
        self.last.as_deref().unwrap_or_default()
    }

    /// How far the last answer is.
    #[must_use]
    pub fn half(&self) -> PartialResponse {
        PartialResponse { refused: self.last.is_some(), ..self.follower.half() }
    }
}

//! Observes HTTP on one connection; in HTTP mode also edits the requests.

use std::time::Instant;

use tracing::debug;

use super::edit::{Edited, Editor, Forward, Refusal};
use super::{Follower, HttpEvent, PartialResponse, RefusalPlace};

/// Both directions of a connection.
#[derive(Debug, Default)]
pub struct Conversation {
    follower: Follower,
    editor: Option<Box<Editor>>,
    /// The refusal and its place in the request, if a request was refused.
    refused: Option<(Refusal, RefusalPlace)>,
    /// The response to the refused request, once sent.
    last: Option<Vec<u8>>,
}

/// Exceptional outcomes of HTTP mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditOutcome {
    /// The stream is not HTTP; it is forwarded unchanged from now on.
    NotHttp,
    /// The request is refused.
    Refused(Refusal),
}

impl Conversation {
    /// Creates an observer; with `forward`, requests are edited too.
    #[must_use]
    pub fn new(forward: Option<Forward>) -> Self {
        let editor = forward.map(|forward| Box::new(Editor::new(forward)));
        Self { follower: Follower::default(), editor, refused: None, last: None }
    }

    /// Processes bytes from the client that came at `now`. Returns the bytes for the server; `out` is a buffer for them.
    pub fn from_client<'a>(
        &mut self,
        (bytes, now): (&'a [u8], Instant),
        out: &'a mut Vec<u8>,
        mut note: impl FnMut(HttpEvent<'_>),
        mut on_edit: impl FnMut(EditOutcome),
    ) -> &'a [u8] {
        let Some(editor) = self.editor.as_deref_mut() else {
            self.follower.requests(bytes, now, note);
            return bytes;
        };
        let was_raw = editor.is_raw();
        let Edited { bytes: forward, taken } = editor.edit(bytes, out);
        // A refused request was never sent to the server.
        self.follower.requests(&bytes[..taken], now, &mut note);
        match (self.refused, editor.refusal()) {
            (None, Some((refusal, place))) => {
                debug!(status = refusal.status(), "request rejected: {}", refusal.what());
                self.refused = Some((refusal, place));
                self.follower.refused(refusal, place, note);
                on_edit(EditOutcome::Refused(refusal));
            }
            (None, None) if !was_raw && editor.is_raw() => on_edit(EditOutcome::NotHttp),
            _ => {}
        }
        forward
    }

    /// Processes bytes from the server, which are forwarded unchanged.
    pub fn from_server(&mut self, bytes: &[u8], note: impl FnMut(HttpEvent<'_>)) {
        self.follower.responses(bytes, note);
        if self.follower.is_tunnel()
            && let Some(editor) = self.editor.as_deref_mut()
        {
            editor.pass_through();
        }
    }

    /// Returns whether a request was refused, so that no more bytes go to the server.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.refused.is_some()
    }

    /// Processes the end of the server's stream. Returns bytes of our own for the client: the response to a refused request.
    pub fn server_ends(&mut self, note: impl FnMut(HttpEvent<'_>)) -> &[u8] {
        if let Some((refusal, place)) = self.refused
            // Only between responses, and only if the server has not answered the request itself.
            && self.follower.owes_only(usize::from(place == RefusalPlace::Body))
        {
            self.last = Some(refusal.response());
        }
        self.follower.responses_end(note);
        self.last.as_deref().unwrap_or_default()
    }

    /// Returns how much of the last response was seen.
    #[must_use]
    pub fn partial_response(&self) -> PartialResponse {
        PartialResponse { refused: self.last.is_some(), ..self.follower.partial_response() }
    }
}

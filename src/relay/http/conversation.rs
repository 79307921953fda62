//! What is noticed of HTTP on one connection, and in HTTP mode what is told to the server.

use tracing::debug;

use super::edit::{Edited, Editor, Forward, Refusal};
use super::{Follower, Note};

/// Both streams of a connection.
#[derive(Debug, Default)]
pub struct Conversation {
    follower: Follower,
    editor: Option<Box<Editor>>,
    /// Whether mapping records tell of it.
    recorded: bool,
    /// The answer to what was refused.
    last: Vec<u8>,
}

/// What HTTP mode had to do with some bytes beyond letting them pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This is not HTTP, and passes as it is from now on.
    NotHttp,
    /// This is refused.
    Refused(Refusal),
}

impl Conversation {
    /// One that is noted in mapping records, or whose requests are told something, or both.
    #[must_use]
    pub fn new(recorded: bool, forward: Option<Forward>) -> Self {
        let editor = forward.map(|forward| Box::new(Editor::new(forward)));
        Self { follower: Follower::default(), editor, recorded, last: Vec::new() }
    }

    /// Whether mapping records tell of it.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Bytes from the client; what is handed back is for the server. `out` is room for it.
    pub fn from_client<'a>(
        &mut self,
        bytes: &'a [u8],
        out: &'a mut Vec<u8>,
        note: impl FnMut(Note<'_>),
        mut judge: impl FnMut(Verdict),
    ) -> &'a [u8] {
        let Some(editor) = self.editor.as_deref_mut() else {
            self.follower.requests(bytes, note);
            return bytes;
        };
        let before = (editor.is_raw(), editor.refusal());
        let Edited { bytes: forward, taken } = editor.edit(bytes, out);
        // What was refused has not been asked for.
        self.follower.requests(&bytes[..taken], note);
        match (before, editor.refusal()) {
            ((_, None), Some(refusal)) => {
                debug!("a request is refused: {}", refusal.what());
                self.last = refusal.response();
                judge(Verdict::Refused(refusal));
            }
            ((false, _), None) if editor.is_raw() => judge(Verdict::NotHttp),
            _ => {}
        }
        forward
    }

    /// Bytes from the server, which all are for the client.
    pub fn from_server(&mut self, bytes: &[u8], note: impl FnMut(Note<'_>)) {
        self.follower.responses(bytes, note);
        if self.follower.is_tunnel()
            && let Some(editor) = self.editor.as_deref_mut()
        {
            editor.let_go();
        }
    }

    /// Whether nothing more of the client's is for the server.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.editor.as_deref().is_some_and(|editor| editor.refusal().is_some())
    }

    /// The server will send no more; what is handed back is for the client.
    pub fn server_ends(&mut self, note: impl FnMut(Note<'_>)) -> &[u8] {
        // Only where a response may begin, and not if the server has given its own.
        let may_answer = self.follower.is_idle();
        self.follower.responses_end(note);
        if may_answer { &self.last } else { b"" }
    }
}

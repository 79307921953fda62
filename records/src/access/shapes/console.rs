//! Lines of loggers for people, as Caddy and zap write to a console: time, level and message, and then an object.

use std::sync::LazyLock;

use super::super::AccessLine;
use super::super::envelope::Envelope;
use super::super::field::LineDraft;
use super::super::json::{self, JsonNames, ObjectDepth};
use super::super::timestamp::TimestampParser;
use super::stamp;

static USUAL: LazyLock<JsonNames> = LazyLock::new(JsonNames::usual);

/// Parses the line behind `envelope`; `None` if it has another shape, or is of another logger of Caddy than that of
/// accesses.
pub(super) fn read(
    line: &[u8],
    envelope: Envelope,
    clock: &mut TimestampParser,
    found: &mut AccessLine,
) -> Option<()> {
    let start = envelope.length as usize;
    let brace = start + memchr::memchr(b'{', line.get(start..)?)?;
    let before = &line[start..brace];
    if !matches!(before.last(), Some(b'\t' | b' ')) {
        return None;
    }
    let is_other =
        |word: &[u8]| word.starts_with(b"http.") && !word.starts_with(b"http.log.access");
    if before.split(|byte| matches!(byte, b'\t' | b' ')).any(is_other) {
        return None;
    }
    let time = stamp::read(clock, line, start);
    [ObjectDepth::Known, ObjectDepth::Any].into_iter().find(|&depth| {
        *found = AccessLine::in_envelope(envelope);
        let draft = LineDraft::new(found);
        json::parse(line, brace, (&USUAL, depth), clock, draft).is_ok()
            && found.request != super::super::LoggedRequest::Absent
    })?;
    if let (None, Some(read)) = (found.time, time) {
        found.time = Some(read.time);
        found.zone = read.zone;
    }
    Some(())
}

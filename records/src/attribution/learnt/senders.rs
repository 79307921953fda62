//! Which client fields the lines of a server have, and which of them name a host that comes past the
//! balancer.

use crate::attribution::costs;

/// The client fields of a server's lines: the balancer, and hosts that come past the balancer (health
/// checks, monitors). No mapping is about the latter, so that their lines must not use any up.
#[derive(Clone, Copy, Default)]
pub(crate) struct ServerSenders {
    known: [SenderStats; costs::SENDERS],
}

/// Lines with one client field.
#[derive(Clone, Copy, Default)]
struct SenderStats {
    /// Hash of the client field; means nothing while `lines` is 0.
    name: u32,
    lines: u16,
    /// Lines that a mapping explained.
    explained: u16,
    /// Lines taken as direct since the last that was tried all the same.
    skipped: u16,
}

impl ServerSenders {
    /// Whether a line of this sender came past the balancer: mappings explain hardly any lines of the
    /// sender, but most lines of another.
    pub(crate) fn is_direct(&mut self, name: u32) -> bool {
        let Some(place) = self.known.iter().position(|sender| sender.is(name)) else {
            return false;
        };
        let SenderStats { lines, explained, .. } = self.known[place];
        if lines < costs::SENDER_JUDGED_AFTER || explained >= lines / costs::SENDER_EXPLAINED {
            return false;
        }
        let explained =
            |s: &SenderStats| s.lines >= costs::SENDER_JUDGED_AFTER && s.explained > s.lines / 2;
        if !self.known.iter().any(explained) {
            return false;
        }
        let sender = &mut self.known[place];
        sender.skipped = (sender.skipped + 1) % costs::SENDER_RETRIED;
        sender.skipped != 0
    }

    /// Learns whether a mapping explained a line of this sender.
    pub(crate) fn learn(&mut self, name: u32, is_explained: bool) {
        let place = self.known.iter().position(|sender| sender.is(name)).unwrap_or_else(|| {
            let rarest = (0..costs::SENDERS).min_by_key(|&i| self.known[i].lines).unwrap_or(0);
            self.known[rarest] = SenderStats { name, ..SenderStats::default() };
            rarest
        });
        let sender = &mut self.known[place];
        sender.lines += 1;
        sender.explained += u16::from(is_explained);
        if sender.lines == costs::SENDER_FADE_AT {
            (sender.lines, sender.explained) = (costs::SENDER_FADE_AT / 2, sender.explained / 2);
        }
        // Nearly all lines have the same sender, which is found fastest in the first place.
        if place > 0 && self.known[place].lines > self.known[0].lines {
            self.known.swap(0, place);
        }
    }
}

impl SenderStats {
    const fn is(&self, name: u32) -> bool {
        self.name == name && self.lines > 0
    }
}

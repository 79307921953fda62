//! Whom the lines of a server name as their client, and which of these come past the balancer.

use crate::attribution::costs;

/// Who a server's lines name as their client: the balancer, and whoever comes past it (health checks,
/// monitors, neighbours). No mapping speaks of the latter, so they must not use any up.
#[derive(Clone, Copy, Default)]
pub(crate) struct ServerSenders {
    known: [SenderStats; costs::SENDERS],
}

#[derive(Clone, Copy, Default)]
struct SenderStats {
    name: u32,
    lines: u16,
    explained: u16,
    skipped: u16,
}

impl ServerSenders {
    /// Whether a line of this sender did not come through the balancer: mappings explain hardly any
    /// of its lines, but most of another sender's.
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

    /// Notes whether a mapping explained a line of this sender.
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
        // Nearly all lines have the same sender: it is found first where it stands first.
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

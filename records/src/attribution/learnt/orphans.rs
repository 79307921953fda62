//! Which lines of a server never have a mapping: health checks by the balancer itself, monitors on its host.
//!
//! Such lines say nothing about the mappings of other lines. They are known by User-Agent and request, once
//! several came and no mapping explained any.

use crate::attribution::costs;
use crate::attribution::line::{HeldLine, LineClass};

/// Classes of lines without mappings, each in one slot; the more frequent class keeps the slot.
#[derive(Default)]
pub(crate) struct OrphanClasses {
    slots: Vec<OrphanClass>,
}

/// Lines of one class, since the last that a mapping explained.
#[derive(Clone, Copy)]
struct OrphanClass {
    class: LineClass,
    lines: u8,
}

impl OrphanClasses {
    /// Whether no mapping is expected for the line.
    pub(crate) fn has(&self, line: &HeldLine) -> bool {
        if line.is_check() {
            return true;
        }
        let slot = self.slots.get(slot_of(line.class));
        slot.is_some_and(|it| it.class == line.class && it.lines >= costs::ORPHANS_AFTER)
    }

    /// Learns whether a mapping explained a line.
    pub(crate) fn learn(&mut self, line: &HeldLine, is_missing: bool) {
        if self.slots.is_empty() {
            if !is_missing {
                return;
            }
            let empty = OrphanClass { class: line.class, lines: 0 };
            self.slots.resize(costs::ORPHAN_CLASSES, empty);
        }
        let slot = &mut self.slots[slot_of(line.class)];
        match (is_missing, slot.class == line.class) {
            (true, true) => slot.lines = slot.lines.saturating_add(1),
            (false, true) => slot.lines = 0,
            (true, false) if slot.lines == 0 => *slot = OrphanClass { class: line.class, lines: 1 },
            (true, false) => slot.lines -= 1,
            (false, false) => {}
        }
    }
}

const fn slot_of(class: LineClass) -> usize {
    class.0 as usize % costs::ORPHAN_CLASSES
}

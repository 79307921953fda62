//! How long and how much the join remembers.

use std::time::Duration;

/// How far the engine looks, waits and remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinSettings {
    /// How long a line is held for late records and for the other lines of its group.
    pub wait: Duration,
    /// How old a mapping may be and still explain a line.
    pub window: Duration,
    /// The most mappings remembered; beyond it the oldest are forgotten and counted. Once there are records
    /// that name their connection, three eighths of it, and as many connections.
    pub max_mappings: usize,
    /// The most lines held; beyond it the oldest are decided early and counted.
    pub max_lines: usize,
}

impl Default for JoinSettings {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(250),
            window: Duration::from_secs(600),
            max_mappings: 1 << 20,
            max_lines: 1 << 18,
        }
    }
}

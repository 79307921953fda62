//! How long and how much the join remembers.

use std::time::Duration;

/// How long the join waits, and how much it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinSettings {
    /// How long a line is held for late records and for the other lines of its group.
    pub wait: Duration,
    /// The oldest mapping that may explain a line.
    pub window: Duration,
    /// Most mappings remembered; the oldest beyond are forgotten and counted. Once records name
    /// their connection, three eighths as many mappings, and as many connections.
    pub max_mappings: usize,
    /// Most lines held; the oldest beyond are decided early and counted.
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

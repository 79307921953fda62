//! The settings of pen: one row of one table for each.
//!
//! The functions that parse, write, apply, reload and list settings loop over [`rows`]. To add a setting, add
//! a field to the configuration, a row to the table and an entry to `docs/man/pen.1`.

mod row;
mod table;
#[cfg(test)]
mod tests;
pub(super) mod value;

pub use row::{OptionForm, SettingOption, SettingRow, SettingScope};
pub use value::SettingValue;

/// Returns all settings in the order in which they are written.
#[must_use]
pub fn rows() -> &'static [SettingRow] {
    table::ROWS
}

/// Returns the setting of this verb.
#[must_use]
pub fn find(verb: &str) -> Option<&'static SettingRow> {
    rows().iter().find(|row| row.verb == verb)
}

//! The control language: commands that `penctl` sends to the control port, that stand in the file of `-F`, or
//! that follow `-O`, one command a line.
//!
//! ```text
//! words             splits a line into words, and quotes words
//! arguments         the words after a verb
//! values            parses the values of settings
//! settings          the table of all settings: verb, option, help, parse, get, set
//! control_command   the commands as values
//! parse, write      a line to a command, a command to a line
//! env               the name lookups and paths that a command needs, and the errors of a command
//! apply             carries out a command on a configuration, or returns the action that is left to do
//! reload            a configuration as commands, and the difference between two configurations
//! script            files of commands
//! cli, setup        the command line, and the configuration that it and its file describe
//! ```
//!
//! A setting is one row of the table in [`settings`]; parser, writer, reload, `--explain`, the list of `help`
//! and the options of the command line read the table. Nothing in this module waits for traffic.

pub mod apply;
mod arguments;
pub mod cli;
pub mod control_command;
pub mod env;
pub mod error;
mod parse;
pub mod reload;
pub mod script;
pub mod settings;
pub mod setup;
#[cfg(test)]
mod tests;
mod values;
pub mod verbs;
pub mod words;
pub mod write;

pub use arguments::duration;
pub use control_command::ControlCommand;

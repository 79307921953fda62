//! The parts of a row of the table.

use std::fmt;
use std::time::Duration;

use super::value::SettingValue;
use crate::command::arguments::{CommandWords, Parsed};
use crate::command::env::{ApplyError, CommandEnv};
use crate::config::PenConfig;

/// A setting.
#[derive(Clone, Copy)]
pub struct SettingRow {
    /// The verb of the control language.
    pub verb: &'static str,
    /// The syntax of the value, as `help` shows it; empty for a switch.
    pub usage: &'static str,
    /// A noun phrase without a full stop.
    pub help: &'static str,
    /// The option of the command line, if the setting has one.
    pub option: Option<SettingOption>,
    /// Whether the setting can change while pen runs.
    pub scope: SettingScope,
    /// What `no VERB` means.
    none: NoForm,
    /// Whether a command that sets the value is answered with the new value, as C pen does.
    is_answered: bool,
    /// Parses the words after the verb.
    parse: fn(&mut CommandWords<'_>) -> Parsed<SettingValue>,
    /// Reads and writes the field of the configuration.
    field: SettingField,
    /// The reply to the verb alone, if the reply is not the value as `write` writes it.
    reply: Option<fn(&PenConfig) -> String>,
}

/// When a setting can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingScope {
    /// At the start only.
    Start,
    /// At any time.
    Running,
}

/// The meaning of `no VERB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoForm {
    /// There is no such command.
    Unknown,
    /// The setting has no value.
    Absent,
    /// The switch is off.
    Off,
    /// The time is 0: forever, or never.
    Zero,
    /// The value is this word.
    Word(&'static str),
}

/// An option of the command line for a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingOption {
    /// The option with its hyphens.
    pub name: &'static str,
    /// The group of options in `--help`.
    pub heading: &'static str,
    /// How the option becomes a command.
    pub form: OptionForm,
}

/// How an option becomes a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionForm {
    /// The option turns the switch on.
    Switch,
    /// The option has a value.
    Value,
    /// The option has values with commas between them.
    Commas,
    /// The option has a number; a lower number than this limit is raised.
    AtLeast(u32),
    /// The number of times that the option is given is the value.
    Count,
    /// The option gives the setting this value.
    Fixed(&'static str),
}

/// Access to a field of the configuration.
#[derive(Clone, Copy)]
pub(super) struct SettingField {
    /// Returns the value; `None` if another setting writes it.
    pub(super) get: fn(&PenConfig) -> Option<SettingValue>,
    /// Changes the value.
    pub(super) set: fn(&mut PenConfig, &SettingValue, &dyn CommandEnv) -> Result<(), ApplyError>,
}

impl SettingRow {
    /// Returns a setting that has a value and can change at any time.
    pub(super) const fn new(
        verb: &'static str,
        usage: &'static str,
        parse: fn(&mut CommandWords<'_>) -> Parsed<SettingValue>,
        field: SettingField,
        help: &'static str,
    ) -> Self {
        Self {
            verb,
            usage,
            help,
            option: None,
            scope: SettingScope::Running,
            none: NoForm::Unknown,
            is_answered: false,
            parse,
            field,
            reply: None,
        }
    }

    /// Returns a setting that is on or off.
    pub(super) const fn switch(
        verb: &'static str,
        field: SettingField,
        help: &'static str,
    ) -> Self {
        let parse = |_: &mut CommandWords<'_>| Ok(SettingValue::Switch(true));
        Self::new(verb, "", parse, field, help).none(NoForm::Off)
    }

    /// Adds an option of the command line.
    pub(super) const fn option(
        mut self,
        name: &'static str,
        form: OptionForm,
        heading: &'static str,
    ) -> Self {
        self.option = Some(SettingOption { name, heading, form });
        self
    }

    /// Adds a `no` form.
    pub(super) const fn none(mut self, none: NoForm) -> Self {
        self.none = none;
        self
    }

    /// Makes the setting one that cannot change while pen runs.
    pub(super) const fn at_start(mut self) -> Self {
        self.scope = SettingScope::Start;
        self
    }

    /// Answers a change with the new value.
    pub(super) const fn answered(mut self) -> Self {
        self.is_answered = true;
        self
    }

    /// Replies to the verb alone with this text.
    pub(super) const fn replying(mut self, reply: fn(&PenConfig) -> String) -> Self {
        self.reply = Some(reply);
        self
    }

    /// Returns whether the setting is a switch; the verb alone turns a switch on.
    #[must_use]
    pub const fn is_switch(&self) -> bool {
        self.usage.is_empty()
    }

    /// Returns whether a command that sets `value` is answered with the new value.
    pub(in crate::command) fn is_answered(&self, value: &SettingValue) -> bool {
        self.is_answered && *value != SettingValue::Absent
    }

    /// Parses the words after the verb.
    pub(in crate::command) fn parse(&self, words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
        (self.parse)(words)
    }

    /// Returns the value of `no VERB`; `None` if the setting has no `no` form.
    #[must_use]
    pub fn none_value(&self) -> Option<SettingValue> {
        match self.none {
            NoForm::Unknown => None,
            NoForm::Absent => Some(SettingValue::Absent),
            NoForm::Off => Some(SettingValue::Switch(false)),
            NoForm::Zero => Some(SettingValue::Time(Duration::ZERO)),
            NoForm::Word(word) => Some(SettingValue::Word(word)),
        }
    }

    /// Returns the value in `config`; `None` if another setting has the value.
    #[must_use]
    pub fn value(&self, config: &PenConfig) -> Option<SettingValue> {
        (self.field.get)(config)
    }

    /// Changes the value in `config`.
    ///
    /// # Errors
    /// A name cannot be looked up, or a file cannot be read.
    pub fn set(
        &self,
        config: &mut PenConfig,
        value: &SettingValue,
        env: &dyn CommandEnv,
    ) -> Result<(), ApplyError> {
        (self.field.set)(config, value, env)
    }

    /// Returns the reply to the verb alone.
    #[must_use]
    pub fn reply(&self, config: &PenConfig) -> String {
        match self.reply {
            Some(reply) => reply(config),
            None => self.value(config).map(|value| value.to_string()).unwrap_or_default(),
        }
    }

    /// Returns the command that gives the setting `value`.
    #[must_use]
    pub fn command(&self, value: &SettingValue) -> String {
        match value {
            SettingValue::Absent | SettingValue::Switch(false) => format!("no {}", self.verb),
            SettingValue::Switch(true) => self.verb.to_owned(),
            value => format!("{} {value}", self.verb),
        }
    }

    /// Returns the syntax of the verb and the help text, as `help` lists them.
    #[must_use]
    pub fn help_line(&self) -> (String, String) {
        let usage = format!("{} {}", self.verb, self.usage).trim_end().to_owned();
        let help = match self.none {
            NoForm::Absent | NoForm::Off => format!("{}; no {}", self.help, self.verb),
            NoForm::Unknown | NoForm::Zero | NoForm::Word(_) => self.help.to_owned(),
        };
        (usage, help)
    }
}

/// A row is known by its verb.
impl PartialEq for SettingRow {
    fn eq(&self, other: &Self) -> bool {
        self.verb == other.verb
    }
}

impl Eq for SettingRow {}

impl fmt::Debug for SettingRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SettingRow").field(&self.verb).finish()
    }
}

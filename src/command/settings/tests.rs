//! Each row of the table: the same value through parser, configuration and writer, and an entry in `help`,
//! the manual page and the difference of a reload.

use std::collections::HashSet;

use super::{OptionForm, SettingRow, SettingScope, SettingValue, find, rows};
use crate::command::ControlCommand;
use crate::command::apply::ApplyPhase;
use crate::command::reload::{commands, reload};
use crate::command::tests::CommandTestEnv;
use crate::command::verbs;
use crate::config::PenConfig;

/// Returns a command that changes the setting from its default.
fn change(row: &SettingRow) -> String {
    if row.is_switch() {
        let is_on = row.value(&PenConfig::default()) == Some(SettingValue::Switch(true));
        return format!("{}{}", if is_on { "no " } else { "" }, row.verb);
    }
    let value = match (row.verb, row.usage) {
        ("geoip", _) => "countries.mmdb",
        ("ssl_minimum", _) => "1.3",
        (_, "[N]" | "[MIB]") => "7",
        (_, "[TIME]") => "1234ms",
        (_, "[FILE]" | "[DIR]") => "\"/srv/a b\"",
        (_, "[ADDR]") => "2001:db8::1",
        (_, "[ADDR...]") => "127.0.0.1:81 [::1]:82 /run/pen.sock",
        (_, "[FILE|HOST:PORT]") => "six:514",
        (_, "[NAME]") => "www.example.org",
        (_, "[NET|unix...]") => "10.0.0.0/8 2001:db8::/32 unix",
        (_, "[PROTOCOL...]") => "h2 http/1.1",
        (_, "[SERVER]") => "[2001:db8::1]:81:2:3:4:5",
        (_, "[up|down|both|off]") => "up",
        (_, "[v1|v2]") => "v1",
        (_, "[extended|classic]") => "classic",
        (_, "[udp|stream]") => "stream",
        (_, "[KEY]") => "ed25519:3333333333333333333333333333333333333333333333333333333333333333",
        (_, "[none|optional|required]") => "optional",
        (_, "[off|verified|unverified]") => "verified",
        ("check", _) => "http HEAD /health 200-204",
        ("x_forwarded_for", _) => "keep 10.0.0.0/8 unix",
        (verb, usage) => panic!("{verb}: add a value for {usage} to this test"),
    };
    format!("{} {value}", row.verb)
}

fn parse(line: &str) -> ControlCommand {
    let parsed = ControlCommand::parse(line.as_bytes());
    parsed.unwrap_or_else(|error| panic!("{line}: {error}")).unwrap_or_else(|| panic!("{line}"))
}

fn apply(line: &str, config: &mut PenConfig) {
    let applied = parse(line).apply(config, ApplyPhase::Starting, &CommandTestEnv);
    assert!(applied.is_ok(), "{line}: {applied:?}");
}

#[test]
fn each_setting_is_written_as_it_is_read() {
    for row in rows() {
        let line = change(row);
        let command = parse(&line);
        assert_eq!(parse(&command.to_string()), command, "{line}");
        let mut config = PenConfig::default();
        apply(&line, &mut config);
        assert_ne!(config, PenConfig::default(), "{line}");
        let mut again = PenConfig::default();
        commands(&config).iter().for_each(|line| apply(line, &mut again));
        assert_eq!(again, config, "{line}");
    }
}

#[test]
fn a_parsed_value_is_the_value_in_force() {
    for row in rows() {
        let line = change(row);
        let ControlCommand::Set(_, value) = parse(&line) else { panic!("{line}") };
        let mut config = PenConfig::default();
        apply(&line, &mut config);
        match row.value(&config) {
            Some(SettingValue::Path(path)) => assert!(path.is_absolute(), "{line}"),
            Some(found) => assert_eq!(found, value, "{line}"),
            None => assert_eq!(row.verb, "http"),
        }
    }
}

#[test]
fn the_no_form_takes_a_value_away() {
    for row in rows() {
        let line = format!("no {}", row.verb);
        let Some(value) = row.none_value() else {
            assert!(ControlCommand::parse(line.as_bytes()).is_err(), "{line}");
            continue;
        };
        let mut config = PenConfig::default();
        apply(&change(row), &mut config);
        let before = config.clone();
        apply(&line, &mut config);
        assert_eq!(row.value(&config), Some(value), "{line}");
        assert_eq!(config == before, change(row) == line, "{line}");
    }
}

#[test]
fn a_reload_notices_a_change_of_each_setting() {
    for row in rows() {
        let old = PenConfig::default();
        let mut new = old.clone();
        apply(&change(row), &mut new);
        let (_, diff) = reload(&old, new);
        let names = |line: &String| line.split(' ').any(|word| word == row.verb);
        let is_named = match row.scope {
            SettingScope::Start => diff.restart == [row.verb],
            SettingScope::Running => diff.settings.iter().any(names),
        };
        // The setting `http` is written as the policy that comes with it.
        let is_http = row.verb == "http" && diff.settings == ["x_forwarded_for replace"];
        assert!(is_named || is_http, "{}: {diff}", row.verb);
    }
}

#[test]
fn each_setting_has_a_verb_an_option_and_a_help_text_of_its_own() {
    let mut seen = HashSet::new();
    for row in rows() {
        assert_eq!(find(row.verb), Some(row));
        assert!(seen.insert(row.verb), "{}", row.verb);
        assert!(seen.insert(row.help), "{}: {}", row.verb, row.help);
        assert!(row.option.is_none_or(|option| seen.insert(option.name)), "{}", row.verb);
        let is_phrase = row.help.len() > 5 && !row.help.ends_with('.');
        assert!(is_phrase, "{}: {}", row.verb, row.help);
        let is_flag = |form| matches!(form, OptionForm::Switch);
        assert!(row.option.is_none_or(|option| is_flag(option.form) == row.is_switch()));
    }
}

#[test]
fn each_setting_is_in_the_manual_and_in_the_help() {
    let page = include_str!("../../../docs/man/pen.1").replace("\\-", "-").replace('"', "");
    for row in rows() {
        let (usage, help) = row.help_line();
        assert!(page.lines().any(|line| line.ends_with(&usage)), "{usage}");
        assert!(verbs::help().contains(&(usage, help)), "{}", row.verb);
        if let Some(option) = row.option {
            let is_entry = |line: &str| line.split([' ', ',']).any(|word| word == option.name);
            assert!(page.lines().any(is_entry), "{}", option.name);
        }
    }
}

//! Replies as JSON. The lines of `servers`, `recent`, `connections` and `mode` become objects here, also those of C
//! pen; any other reply is passed on as text.

use serde::{Serialize, Serializer};

use crate::talk::PenReply;

/// Returns the reply to `command` as one line of JSON, without a line end.
pub(crate) fn reply(command: &str, reply: &PenReply) -> String {
    let text = reply.text.trim_end();
    if !reply.done {
        return to_json(&JsonObject(vec![("error", JsonValue::Text(text))]));
    }
    match command.split_whitespace().next().unwrap_or_default() {
        "servers" => list("server", text),
        "recent" => list("client", text),
        "connections" => list("connection", text),
        "mode" => to_json(&mode(text)),
        // This reply is JSON already.
        "status" if text.starts_with('{') => text.to_owned(),
        _ => to_json(&JsonObject(vec![("reply", JsonValue::Text(text))])),
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("all keys are text and no value fails")
}

fn list(first: &str, text: &str) -> String {
    to_json(&text.lines().map(|line| words(first, line)).collect::<Vec<_>>())
}

/// Parses a line `FIRST key value key value…`; `first` is the key of FIRST.
fn words<'a>(first: &'a str, line: &'a str) -> JsonObject<'a> {
    let mut words = line.split_whitespace();
    let mut fields = vec![(first, JsonValue::of(words.next().unwrap_or_default()))];
    while let (Some(key), Some(word)) = (words.next(), words.next()) {
        fields.push((key, JsonValue::of(word)));
    }
    JsonObject(fields)
}

/// Parses `[no] MODE [no] MODE…`.
fn mode(text: &str) -> JsonObject<'_> {
    let mut fields = Vec::new();
    let mut on = true;
    for word in text.split_whitespace() {
        if word == "no" {
            on = false;
            continue;
        }
        fields.push((word, JsonValue::Flag(on)));
        on = true;
    }
    JsonObject(fields)
}

/// An object whose keys keep the order of the reply.
struct JsonObject<'a>(Vec<(&'a str, JsonValue<'a>)>);

impl Serialize for JsonObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonValue<'a> {
    Number(u64),
    Flag(bool),
    Text(&'a str),
}

impl<'a> JsonValue<'a> {
    /// A number if the word is one in canonical form and fits into 18 digits, else text.
    fn of(word: &'a str) -> Self {
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = word.len() > 1 && word.starts_with('0');
        match word.parse() {
            Ok(number) if digits && !leading_zero && word.len() < 19 => Self::Number(number),
            _ => Self::Text(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_objects() {
        for (command, text, expected) in [
            (
                "servers",
                "0 addr 127.0.0.1 port 80 conn 2\n1 addr ::1 port 81 conn 0\n",
                r#"[{"server":0,"addr":"127.0.0.1","port":80,"conn":2},{"server":1,"addr":"::1","port":81,"conn":0}]"#,
            ),
            ("servers", "", "[]"),
            ("recent 10", "10.0.0.1 connects 2\n", r#"[{"client":"10.0.0.1","connects":2}]"#),
            ("mode", "no hash weight\n", r#"{"hash":false,"weight":true}"#),
            ("status json", "{\"a\":1}\n", "{\"a\":1}"),
            ("pid", "77\n", r#"{"reply":"77"}"#),
        ] {
            let found = reply(command, &PenReply { done: true, text: text.into() });
            assert_eq!(found, expected, "{command}");
        }
        let error = PenReply { done: false, text: "no \"x\"\n".into() };
        assert_eq!(reply("x", &error), r#"{"error":"no \"x\""}"#);
    }
}

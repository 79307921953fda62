//! Replies as JSON. The lines of `servers`, `recent` and `mode` become objects here, so C pen's do
//! as well; anything else is the reply as text.

use pen::operate::status::json::{Text, list, object};

use crate::talk::PenReply;

/// A line of JSON, without its end.
pub(crate) fn reply(command: &str, reply: &PenReply) -> String {
    let text = reply.text.trim_end();
    if !reply.done {
        return object([("error", Text(text).to_string())]);
    }
    match command.split_whitespace().next().unwrap_or_default() {
        "servers" => list(text.lines().map(|line| words("server", line))),
        "recent" => list(text.lines().map(|line| words("client", line))),
        "connections" => list(text.lines().map(|line| words("connection", line))),
        "mode" => mode(text),
        // It is JSON already.
        "status" if text.starts_with('{') => text.to_owned(),
        _ => object([("reply", Text(text).to_string())]),
    }
}

/// `FIRST key value key value…`.
fn words(first: &str, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut fields = vec![(first, value(words.next().unwrap_or_default()))];
    while let (Some(key), Some(word)) = (words.next(), words.next()) {
        fields.push((key, value(word)));
    }
    object(fields)
}

fn value(word: &str) -> String {
    let number = !word.is_empty() && word.len() < 19 && word.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = word.len() > 1 && word.starts_with('0');
    if number && !leading_zero { word.to_owned() } else { Text(word).to_string() }
}

fn mode(text: &str) -> String {
    let mut fields = Vec::new();
    let mut on = true;
    for word in text.split_whitespace() {
        if word == "no" {
            on = false;
            continue;
        }
        fields.push((word, on.to_string()));
        on = true;
    }
    object(fields)
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

//! A pasted format string, compiled once into a [`FormatPlan`].
//!
//! ```text
//! apache  = ["LogFormat" SP quoted [SP name]] ; *( literal / "%" *modifier ["{" param "}"] letter )
//! nginx   = ["log_format" SP name [SP "escape=" word] 1*(SP quoted) ";"]
//!           ; *( literal / "$" name / "${" name "}" )
//! ```
//!
//! The directives are from the `mod_log_config` and `mod_logio` manuals of Apache 2.4, the
//! variables from nginx's core, `realip` and `log` modules. Others become ignored fields; `known`
//! refuses names that no server has.

mod apache;
mod error;
mod nginx;
mod text;

pub(in crate::access) use self::apache::{apache, apache_field, is_request_id};
pub use self::error::{FormatError, FormatProblem};
pub(in crate::access) use self::nginx::{is_nginx, nginx, nginx_field};
pub(in crate::access) use self::text::{FormatText, directive, inner, unquoted};
use super::field::LogField;
use super::plan::{FormatPlan, PlanItem};

/// Compiles a pasted format.
pub(in crate::access) fn compile(pasted: &str) -> Result<FormatPlan, FormatError> {
    let mut items = placed(pasted)?;
    let is = |item: &PlanItem, field| matches!(item, PlanItem::Value(found, _) if *found == field);
    if !items.iter().any(|(item, _)| is(item, LogField::Client)) {
        // A log may have X-Forwarded-For in the place of the client.
        let forwarded = items.iter_mut().find(|(item, _)| is(item, LogField::ForwardedFor));
        if let Some((item, _)) = forwarded {
            *item = PlanItem::Value(LogField::ClientList, 0);
        }
    }
    plan(items)
}

/// Compiles the items of a format into a plan.
pub(in crate::access) fn plan(mut items: Vec<PlacedItem>) -> Result<FormatPlan, FormatError> {
    if !items.iter().any(|(item, _)| !matches!(item, PlanItem::Literal(_))) {
        return Err(FormatError::new(0, FormatProblem::Unknown));
    }
    join_targets(&mut items);
    if items.len() > 300 {
        return Err(FormatError::new(items[300].1, FormatProblem::TooLong));
    }
    let adjoining = items.windows(2).find(|pair| {
        match (&pair[0].0, &pair[1].0) {
            // `$host$request_uri`: a path begins with a slash, and a host has none.
            (PlanItem::Value(host, _), PlanItem::Value(LogField::Target | LogField::Path, _)) => {
                !host.is_word()
            }
            (PlanItem::Value(..), PlanItem::Value(..) | PlanItem::Time(..)) => true,
            _ => false,
        }
    });
    if let Some(pair) = adjoining {
        return Err(FormatError::new(pair[1].1, FormatProblem::Adjoining));
    }
    let is_client = |item: &PlanItem| {
        matches!(item, PlanItem::Value(LogField::Client | LogField::ClientList, _))
    };
    if !items.iter().any(|(item, _)| is_client(item)) {
        return Err(FormatError::new(0, FormatProblem::NoClient));
    }
    let items: Vec<_> = items.into_iter().map(|(item, _)| item).collect();
    Ok(FormatPlan::new(&items))
}

/// The items of a pasted format, each with its offset.
pub(in crate::access) fn placed(pasted: &str) -> Result<Vec<PlacedItem>, FormatError> {
    let text = unquoted(pasted)?;
    if is_nginx(pasted) { nginx(&text, nginx_field) } else { apache(&text, apache_field) }
}

/// An item and its offset in the pasted text.
pub(in crate::access) type PlacedItem = (PlanItem, usize);

pub(in crate::access) fn literal(items: &mut Vec<PlacedItem>, byte: u8, at: usize) {
    if let Some((PlanItem::Literal(text), _)) = items.last_mut() {
        text.push(byte);
    } else {
        items.push((PlanItem::Literal(vec![byte]), at));
    }
}

/// Merges an adjacent path and query into one field.
fn join_targets(items: &mut Vec<PlacedItem>) {
    let is = |items: &[PlacedItem], index: usize, field: LogField| matches!(items.get(index), Some((PlanItem::Value(found, _), _)) if *found == field);
    let mut index = 0;
    while index < items.len() {
        if is(items, index, LogField::Path) {
            while is(items, index + 1, LogField::Query) {
                items.remove(index + 1);
                items[index].0 = PlanItem::Value(LogField::Target, 0);
            }
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::timestamp::TimestampParser;
    use crate::access::{AccessLine, LineError, LineSpan, LoggedRequest};

    const TIME: &str = "10/Oct/2000:13:55:36 -0700";

    fn read(format: &str, line: &str) -> Result<AccessLine, LineError> {
        let plan = compile(format).expect(format);
        let mut found = AccessLine::default();
        plan.parse(line.as_bytes(), 0, &mut TimestampParser::default(), &mut found)?;
        Ok(found)
    }

    #[test]
    fn apache_formats_find_their_fields() {
        let line = r#"a.example:8443 192.0.2.1:40100 - bob [10/Oct/2000:13:55:36 -0700] "GET /a?b HTTP/1.1" 200 5 "-" "x \"y\"" 1234 2"#;
        let plain =
            r#"%v:%p %h:%{remote}p %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %D %k"#;
        let escaped = plain.replace('"', "\\\"");
        for format in [
            plain.to_owned(),
            escaped.clone(),
            format!("LogFormat \"{escaped}\" mine"),
            format!("  logformat '{plain}'"),
            plain.replace("%>s", "%!400,501{x}s").replace("%v", "%{x}V"),
            plain.replace("%h", "%{c}a").replace("%D", "%{us}T"),
        ] {
            let found = read(&format, line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let text =
                |span: LineSpan| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
            assert_eq!(text(found.client), "192.0.2.1", "{format}");
            assert_eq!(found.host.map(text).as_deref(), Some("a.example"), "{format}");
            assert_eq!(found.time_text.map(text).as_deref(), Some(TIME), "{format}");
            assert_eq!(found.user.map(text).as_deref(), Some("bob"), "{format}");
            assert_eq!(found.user_agent.map(text).as_deref(), Some(r#"x \"y\""#), "{format}");
            assert_eq!((found.server_port, found.peer_port), (Some(8443), Some(40_100)));
            assert_eq!((found.duration, found.nth), (Some(1234), Some(3)), "{format}");
            assert_eq!((found.status, found.bytes), (Some(200), Some(5)), "{format}");
        }
    }

    #[test]
    fn nginx_formats_find_their_fields() {
        let line = r#"192.0.2.1 - bob b [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 5 "-" "x" "-" 0.012 40100 7"#;
        let one = r#"$remote_addr - $remote_user [$time_local] "$request" "#;
        let two = r#"$status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for" $request_time ${remote_port} $connection_requests"#;
        for format in [
            format!("{one}{two}"),
            format!("log_format main '{one}' '{two}';"),
            format!("log_format main escape=default\n  '{one}'\n  '{two}';\n"),
            format!("'{one}'\n'{two}';"),
            format!("log_format main \"{}\";", format!("{one}{two}").replace('"', "\\\"")),
        ] {
            let found = read(&format, line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let text =
                |span: LineSpan| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
            assert_eq!(text(found.client), "192.0.2.1", "{format}");
            assert_eq!(found.user.map(text).as_deref(), Some("bob b"), "{format}");
            let LoggedRequest::Line(request) = found.request else { panic!("{format}") };
            assert_eq!(text(request), "GET /a HTTP/1.1", "{format}");
            assert_eq!((found.peer_port, found.nth), (Some(40_100), Some(7)), "{format}");
            assert_eq!(found.duration, Some(12_000), "{format}");
        }
    }

    #[test]
    fn a_request_in_parts_is_found_in_parts() {
        for (format, line) in [
            (r#"%h "%m %U%q %H""#, r#"192.0.2.1 "GET /a?b=c HTTP/1.1""#),
            ("%h,%H,%m,%U%q", "192.0.2.1,HTTP/1.1,GET,/a?b=c"),
            (
                "$remote_addr $request_method $scheme://$host$request_uri $server_protocol",
                "192.0.2.1 GET http://a.example/a?b=c HTTP/1.1",
            ),
            (
                "$remote_addr $request_method $uri$is_args$args $server_protocol",
                "192.0.2.1 GET /a?b=c HTTP/1.1",
            ),
        ] {
            let found = read(format, line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let LoggedRequest::Parts { method, target, query: None, protocol: Some(protocol) } =
                found.request
            else {
                panic!("{format}: {:?}", found.request)
            };
            let parts = [method, target, protocol].map(|part| part.of(line.as_bytes()));
            assert_eq!(parts, [&b"GET"[..], b"/a?b=c", b"HTTP/1.1"], "{format}");
        }
    }

    #[test]
    fn times_of_a_format_are_read() {
        for (format, time) in [
            ("%t", "[10/Oct/2000:13:55:36 -0700]"),
            ("[%{%d/%b/%Y:%T}t.%{msec_frac}t %{%z}t]", "[10/Oct/2000:13:55:36.000 -0700]"),
            ("%{%Y-%m-%d %H:%M:%S}t", "2000-10-10 20:55:36"),
            ("%{sec}t", "971211336"),
            ("%{begin:usec}t", "971211336000000"),
            ("%{end:sec}t %{begin:sec}t", "971211399 971211336"),
            ("%{end:sec}t", "971211336"),
            ("[$time_local]", "[10/Oct/2000:13:55:36 -0700]"),
            ("$time_iso8601", "2000-10-10T20:55:36+00:00"),
            ("$msec", "971211336.000"),
        ] {
            let client = if format.contains('$') { "$remote_addr" } else { "%a" };
            let found = read(&format!("{client} {format} z"), &format!("192.0.2.1 {time} z"));
            let seconds = found.expect(format).time.map(|(time, _)| time.as_micros() / 1_000_000);
            assert_eq!(seconds, Some(971_211_336), "{format}");
        }
    }

    #[test]
    fn what_a_client_writes_cannot_stand_for_the_client() {
        let forwarded = "%{X-Forwarded-For}i %h %l %u %t";
        let honest = format!("203.0.113.9 192.0.2.1 - - [{TIME}]");
        assert!(read(forwarded, &honest).is_ok());
        let forged = format!("203.0.113.9 203.0.113.8 192.0.2.1 - - [{TIME}]");
        assert!(read(forwarded, &forged).is_err());
        let quoted = format!(r#""203.0.113.9 203.0.113.8" 192.0.2.1 - - [{TIME}]"#);
        let found = read(r#""%{X-Forwarded-For}i" %h %l %u %t"#, &quoted).unwrap();
        assert_eq!(found.client.of(quoted.as_bytes()), b"192.0.2.1");
    }

    #[test]
    fn a_list_of_addresses_is_one_field() {
        let rest = format!("- - [{TIME}] \"GET / HTTP/1.1\" 200");
        let listed = format!("198.51.100.1, 192.0.2.5 {rest}");
        for (format, line, client) in [
            (r#"%{X-Forwarded-For}i %l %u %t "%r" %>s"#, listed.clone(), "198.51.100.1, 192.0.2.5"),
            (r#"%{X-Forwarded-For}i %l %u %t "%r" %>s"#, format!("- {rest}"), "-"),
            (
                r#"$http_x_forwarded_for - $remote_user [$time_local] "$request" $status"#,
                listed.clone(),
                "198.51.100.1, 192.0.2.5",
            ),
            (
                r#"%{X-Forwarded-For}i %h %l %u %t "%r" %>s"#,
                listed.replace(" - -", " 192.0.2.1 - -"),
                "192.0.2.1",
            ),
        ] {
            let found = read(format, &line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let text = String::from_utf8_lossy(found.client.of(line.as_bytes())).into_owned();
            assert_eq!(text, client, "{format}");
        }
        let forged = format!("198.51.100.1 x {rest}");
        assert!(read(r#"%{X-Forwarded-For}i %l %u %t "%r" %>s"#, &forged).is_err());
    }

    #[test]
    fn formats_that_cannot_be_read_are_refused_where_they_cannot() {
        for (format, at, problem) in [
            ("", 0, FormatProblem::Unknown),
            ("combinde", 0, FormatProblem::Unknown),
            ("%t %r", 0, FormatProblem::NoClient),
            ("$time_local", 0, FormatProblem::NoClient),
            ("%h %{Referer", 3, FormatProblem::Unfinished),
            ("%h %>", 3, FormatProblem::Unfinished),
            ("%h %^F", 3, FormatProblem::Unfinished),
            ("$remote_addr ${status", 13, FormatProblem::Unfinished),
            ("$remote_addr $", 13, FormatProblem::Unfinished),
            ("log_format x '$remote_addr", 13, FormatProblem::Unfinished),
            ("%h%u", 2, FormatProblem::Adjoining),
            ("LogFormat \"%h %r%u\" x", 16, FormatProblem::Adjoining),
            ("%h %{%H:%Q}t", 8, FormatProblem::TimeFormat),
        ] {
            let wrong = compile(format).err();
            assert_eq!(wrong, Some(FormatError::new(at, problem)), "{format}");
        }
    }
}

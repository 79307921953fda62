//! Envoy's command operators, from its documentation of access logging.
//!
//! ```text
//! format = *( literal / "%" NAME ["(" argument ")"] [":" 1*DIGIT] "%" )
//! ```

use super::super::field::{BalancerField, DurationUnit, LogField};
use super::super::format::{
    FormatError, FormatProblem, FormatText, PlacedItem, is_request_id, literal,
};
use super::super::known;
use super::super::plan::PlanItem;
use super::super::time_format::TimeFormat;

/// Whether a text contains an operator of Envoy.
pub(super) fn is_its(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'%', bytes).any(|at| {
        let rest = &bytes[at + 1..];
        let len = rest.iter().take_while(|byte| is_name(**byte)).count();
        len >= 2 && matches!(rest.get(len), Some(b'%' | b'('))
    })
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'_'
}

/// The items of a format.
pub(super) fn items(text: &FormatText) -> Result<Vec<PlacedItem>, FormatError> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.bytes.get(at) {
        let offset = text.at(at);
        if byte != b'%' {
            literal(&mut items, byte, offset);
            at += 1;
        } else if text.bytes.get(at + 1) == Some(&b'%') {
            literal(&mut items, b'%', offset);
            at += 2;
        } else {
            let operator = EnvoyOperator::read(text, at)?;
            known::check_envoy(&operator.name).map_err(|problem| text.error(at, problem))?;
            at = operator.end;
            items.push((
                operator.item().map_err(|()| text.error(at, FormatProblem::TimeFormat))?,
                offset,
            ));
        }
    }
    // A line end in the format is not in the line.
    while let Some((PlanItem::Literal(last), _)) = items.last_mut() {
        if last.ends_with(b"\\n") {
            last.truncate(last.len() - 2);
        } else if last.ends_with(b"\n") {
            last.pop();
        } else {
            break;
        }
        if last.is_empty() {
            items.pop();
        }
    }
    Ok(items)
}

struct EnvoyOperator {
    name: String,
    argument: String,
    end: usize,
}

impl EnvoyOperator {
    fn read(text: &FormatText, start: usize) -> Result<Self, FormatError> {
        let unfinished = || text.error(start, FormatProblem::Unfinished);
        let rest = &text.bytes[start + 1..];
        let len = rest.iter().take_while(|byte| is_name(**byte)).count();
        let name = String::from_utf8_lossy(&rest[..len]).into_owned();
        let (mut at, mut argument) = (len, String::new());
        if rest.get(at) == Some(&b'(') {
            // A time format may hold `%`, so the operator ends after the parenthesis.
            let close = memchr::memchr(b')', &rest[at..]).ok_or_else(unfinished)?;
            argument = String::from_utf8_lossy(&rest[at + 1..at + close]).into_owned();
            at += close + 1;
        }
        let end = memchr::memchr(b'%', &rest[at..]).ok_or_else(unfinished)?;
        let is_length =
            rest[at..at + end].iter().all(|byte| byte.is_ascii_digit() || *byte == b':');
        if len == 0 || !is_length {
            return Err(unfinished());
        }
        Ok(Self { name, argument, end: start + 1 + at + end + 1 })
    }

    fn item(&self) -> Result<PlanItem, ()> {
        let (field, rank) = match self.name.as_str() {
            "START_TIME" => return self.time().map(|form| PlanItem::Time(form, false)),
            "DURATION" => (LogField::Duration(DurationUnit::Milliseconds), 0),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
                (LogField::Client, 0)
            }
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => (LogField::Client, 1),
            "DOWNSTREAM_REMOTE_PORT" => (LogField::Part(BalancerField::ClientPort), 0),
            "UPSTREAM_LOCAL_ADDRESS" | "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
                (LogField::Part(BalancerField::Own), 0)
            }
            "UPSTREAM_LOCAL_PORT" => (LogField::Part(BalancerField::OwnPort), 0),
            "UPSTREAM_HOST"
            | "UPSTREAM_REMOTE_ADDRESS"
            | "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => (LogField::Part(BalancerField::Server), 0),
            "UPSTREAM_REMOTE_PORT" => (LogField::Part(BalancerField::ServerPort), 0),
            "UPSTREAM_CLUSTER" => (LogField::Part(BalancerField::Group), 0),
            "RESPONSE_CODE" => (LogField::Status, 0),
            "BYTES_SENT" => (LogField::Part(BalancerField::Body), 0),
            "UPSTREAM_WIRE_BYTES_RECEIVED" => (LogField::Part(BalancerField::All), 0),
            "UPSTREAM_HEADER_BYTES_RECEIVED" => (LogField::Part(BalancerField::Head), 0),
            "PROTOCOL" => (LogField::Protocol, 0),
            "REQ" => self.header(),
            "RESP" | "TRAILER" | "DYNAMIC_METADATA" | "FILTER_STATE" => (LogField::ClientText, 9),
            "RESPONSE_CODE_DETAILS" | "UPSTREAM_TRANSPORT_FAILURE_REASON" => (LogField::Text, 9),
            _ => (LogField::Word, 9),
        };
        Ok(PlanItem::Value(field, rank))
    }

    /// `X?Y` logs header Y if X is absent.
    fn header(&self) -> (LogField, u8) {
        let name = self.argument.to_ascii_lowercase();
        let last = name.rsplit('?').next().unwrap_or_default();
        match last {
            ":method" => (LogField::Method, 0),
            ":path" => (LogField::Target, 0),
            ":authority" | "host" => (LogField::Host, 0),
            "user-agent" => (LogField::UserAgent, 0),
            "referer" => (LogField::Referer, 0),
            "x-forwarded-for" => (LogField::ForwardedFor, 0),
            name if is_request_id(name) => (LogField::RequestIdHeader, 1),
            _ => (LogField::ClientText, 9),
        }
    }

    fn time(&self) -> Result<TimeFormat, ()> {
        match self.argument.as_str() {
            "" => Ok(TimeFormat::Iso),
            "%s" | "%s.%3f" | "%s.%6f" | "%s.%9f" | "%s.%f" => Ok(TimeFormat::Epoch),
            "%Y-%m-%dT%H:%M:%SZ" | "%Y-%m-%dT%H:%M:%S.%3fZ" | "%Y-%m-%dT%H:%M:%S.%6fZ" => {
                Ok(TimeFormat::Iso)
            }
            other => TimeFormat::apache(other).map_err(|_| ()),
        }
    }
}

//! What is wrong with a format string, and where.

use std::fmt;

use super::super::known::FormatName;

/// A fault of a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// Offset in the given text.
    pub at: usize,
    /// The fault.
    pub problem: FormatProblem,
}

/// The faults of a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatProblem {
    /// The text is no name of a format, and has no directive or variable.
    Unknown,
    /// The text is the misspelled name of this format.
    UnknownName {
        /// The format that was meant.
        meant: &'static str,
    },
    /// A directive, variable, brace or quote is not closed.
    Unfinished,
    /// An unknown strftime conversion.
    TimeFormat,
    /// Two fields without a literal between.
    Adjoining,
    /// No field names the client.
    NoClient,
    /// No field of a balancer's format names the client.
    NoVisitor,
    /// The format has too many fields.
    TooLong,
    /// Not `field=path`, or an unknown field.
    FieldName,
    /// No field logs the requested value.
    NotLogged,
    /// A variable unknown to nginx, with a name near to a known variable.
    UnknownVariable {
        /// Without the `$`.
        name: FormatName,
        /// The variable that was perhaps meant.
        meant: &'static str,
    },
    /// A variable or operator that a balancer does not have.
    UnknownOperator {
        /// Without the `%`.
        name: FormatName,
        /// The balancer.
        program: &'static str,
        /// The one that was perhaps meant.
        meant: Option<&'static str>,
    },
    /// A directive that Apache does not have.
    UnknownDirective {
        /// The directive.
        name: FormatName,
    },
    /// A word in braces that the directive does not allow.
    UnknownParameter {
        /// The directive.
        name: FormatName,
        /// The word that was perhaps meant.
        meant: Option<&'static str>,
    },
}

impl FormatError {
    pub(in crate::access) fn new(at: usize, problem: FormatProblem) -> Self {
        Self { at, problem }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.problem {
            FormatProblem::Unknown => f.write_str(
                "unknown format: expected auto, common, combined, vhost_combined, json, or an \
                 Apache LogFormat or nginx log_format string",
            ),
            FormatProblem::UnknownName { meant } => {
                write!(f, "unknown format: did you mean {meant}?")
            }
            FormatProblem::Unfinished => write!(f, "the directive, variable or quote at byte {at} is not closed"),
            FormatProblem::TimeFormat => write!(f, "unknown time conversion at byte {at}"),
            FormatProblem::Adjoining => {
                write!(f, "nothing separates the field at byte {at} from the one before it")
            }
            FormatProblem::NoClient => {
                f.write_str("no field names the client: expected %h, %a, $remote_addr or the like")
            }
            FormatProblem::NoVisitor => f.write_str(
                "no field names the client: expected %ci, %[src], %DOWNSTREAM_REMOTE_ADDRESS%, %<chi>, \
                 $remote_addr, %h or the like",
            ),
            FormatProblem::NotLogged => f.write_str("no field of the format logs the requested value"),
            FormatProblem::UnknownVariable { name, meant } => {
                write!(f, "unknown variable ${name} at byte {at}: did you mean ${meant}? ")?;
                write!(f, "Or if your configuration defines it, write $arg_{name}")
            }
            FormatProblem::UnknownOperator { name, program, meant } => {
                write!(f, "unknown %{name} at byte {at}: ")?;
                match meant {
                    Some(meant) => write!(f, "did you mean %{meant}?"),
                    None => write!(f, "{program} has none of this name"),
                }
            }
            FormatProblem::UnknownDirective { name } => {
                write!(f, "unknown directive {name} at byte {at}: Apache has none of this letter")
            }
            FormatProblem::UnknownParameter { name, meant } => {
                write!(f, "unknown {name} at byte {at}")?;
                meant.map_or(Ok(()), |meant| write!(f, ": did you mean {meant}?"))
            }
            FormatProblem::TooLong => write!(f, "too many fields, seen at byte {at}"),
            FormatProblem::FieldName => write!(
                f,
                "expected field=path at byte {at}, field one of client, port, server_port, time, \
                 request, method, uri, query, protocol, status, bytes, referer, user_agent, host, \
                 user, forwarded_for, nth, request_id, duration"
            ),
        }
    }
}

impl std::error::Error for FormatError {}

//! Reasons to refuse a request, and the response to the client.

/// Reason why no further byte of a client is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The line is no request line, or has a wrong line end.
    Line,
    /// The version is not HTTP/1.
    Version,
    /// The line is no field line.
    Field,
    /// The end of the body is ambiguous or undefined.
    Framing,
    /// The body has a coding other than `chunked`.
    Coding,
    /// A field that must be parsed is too long.
    Long,
}

impl Refusal {
    /// Returns the status code of the response.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Line | Self::Field | Self::Framing => 400,
            Self::Version => 505,
            Self::Coding => 501,
            Self::Long => 431,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Line | Self::Field | Self::Framing => "Bad Request",
            Self::Version => "HTTP Version Not Supported",
            Self::Coding => "Not Implemented",
            Self::Long => "Request Header Fields Too Large",
        }
    }

    /// Returns the reason as a sentence.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Line => "expected METHOD TARGET HTTP/1.1 and the end of the line",
            Self::Version => "expected HTTP/1.0 or HTTP/1.1",
            Self::Field => "expected NAME: VALUE in each line of the head",
            Self::Framing => "expected one way to tell where the body ends",
            Self::Coding => "expected no Transfer-Encoding but chunked",
            Self::Long => "expected shorter fields",
        }
    }

    /// Returns the body of the response.
    #[must_use]
    pub fn text(self) -> String {
        format!("{}\n", self.what())
    }

    /// Returns the response, after which the connection is closed.
    #[must_use]
    pub fn response(self) -> Vec<u8> {
        let (status, reason, text) = (self.status(), self.reason(), self.text());
        let len = text.len();
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\
             Connection: close\r\n\r\n{text}"
        )
        .into_bytes()
    }
}

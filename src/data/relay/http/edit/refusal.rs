//! What is not forwarded, and what the client is told of it.

/// Why nothing more of a client is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A line that is no request line, or does not end as lines do.
    Line,
    /// A version that is not HTTP/1.
    Version,
    /// A line that is no field.
    Field,
    /// Where the body ends can be read in more than one way, or in none.
    Framing,
    /// A coding of the body that is not `chunked`.
    Coding,
    /// What has to be known of a field is too long.
    Long,
}

impl Refusal {
    /// The status that says so.
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

    /// A sentence for people.
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

    /// The body of the response.
    #[must_use]
    pub fn text(self) -> String {
        format!("{}\n", self.what())
    }

    /// The response, which is the last one.
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

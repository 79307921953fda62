//! pen.

//! Being a Unix process.

//! What the shipper sends: lines, framed and numbered.

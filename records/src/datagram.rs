//! Datagrams: mappings or access lines, told apart by the first bytes.

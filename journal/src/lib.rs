//! A journal: entries are appended to segment files, made durable in groups, and read again after a
//! crash.
//!
//! ```text
//! append ──▶ memory ──write──▶ page cache ──sync──▶ disk
//!            end()             written()            durable()
//! ```
//!
//! - [`entry`]: bytes of an entry and of the head of a segment.
//! - [`disk`]: what a journal needs of a folder, and [`disk::Folder`], a real one.
//! - [`writer`]: [`JournalWriter`], which appends.
//! - [`reader`]: [`JournalReader`], which reads from a position on, also while entries are appended.
//! - `simulation`: a disk that forgets at a power cut, for tests (a feature).
//!
//! A segment is written once and never changed: a start after a crash begins a new segment at the
//! end of the last whole entry, so a torn end blocks nothing and needs no repair. Entries are bytes;
//! their meaning is the owner's affair.

pub mod disk;
pub mod entry;
pub mod reader;
pub mod writer;

#[cfg(feature = "simulation")]
pub mod simulation;

pub use self::disk::Folder;
pub use self::reader::JournalReader;
pub use self::writer::JournalWriter;

/// A place in a journal: the number of bytes of entries before. Grows for as long as the journal
/// lives, over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

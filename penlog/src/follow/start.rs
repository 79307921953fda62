//! The start in each file: behind the lines of earlier runs, by state file and collector.

use std::path::Path;
use std::time::Instant;

use pen_records::shipment::StreamPosition;

use crate::cli::FollowSettings;
use crate::queue::SendQueue;

use super::content::LogContent;
use super::file::{FileStart, FollowedFile};
use super::rotated::{self, head_of};
use super::state::{self, FilePosition, ShipperState};
use super::stream::{HostKey, StreamName};
use super::{FileFollower, complain, pattern};

impl FileFollower {
    /// Opens all files, and asks for the collector's position in each. `earlier` is the state of an earlier run, and
    /// `collector` the collector's name in the state file.
    pub(crate) fn new(
        files: FollowSettings,
        (earlier, collector): (Option<ShipperState>, String),
        queue: &SendQueue,
    ) -> Self {
        let resumes = earlier.is_some();
        let ShipperState { positions, host, .. } = earlier.unwrap_or_default();
        let mut this = Self {
            files,
            host: HostKey::new(host, super::random()),
            followed: Vec::new(),
            collector,
            resumes,
            has_begun: false,
            saved: ShipperState::default(),
            is_unsaved: true,
            complaints: Vec::new(),
        };
        this.first_scan(&positions);
        queue.positions.ask(this.followed.iter().filter_map(FollowedFile::stream));
        this
    }

    /// Resumes where an earlier run stopped, also in renamed files, and starts new files at their end (or at their
    /// start, if asked for or if there was an earlier run).
    fn first_scan(&mut self, resume: &[FilePosition]) {
        let now = Instant::now();
        for position in resume {
            if let Some(path) = state::find(position).or_else(|| rotated::copy_of(position)) {
                self.resume_at(&path, position, now);
            }
        }
        for position in resume {
            self.open_rotated(position, resume, now);
        }
        let new_to_us = self.resumes || self.files.from_start;
        for path in self.matches() {
            let end = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            let offset = if new_to_us { 0 } else { end };
            self.open_new(&path, FileStart { offset, ..FileStart::default() }, now);
        }
        for pattern in &self.files.patterns {
            if !pattern::matches(pattern).iter().any(|path| path.exists()) {
                let text = format!("no file matches {} yet: waiting for one", pattern.display());
                complain(&mut self.complaints, text);
            }
        }
    }

    /// Opens what was both begun and rotated since an earlier run read a log. `all` are the positions of that run.
    fn open_rotated(&mut self, position: &FilePosition, all: &[FilePosition], now: Instant) {
        let has_id = |file: &&FollowedFile| file.id == position.id;
        let is_it = |file: &&FollowedFile| match position.stream {
            Some(stream) => file.stream() == Some(stream.id),
            None => has_id(file),
        };
        let found = self.followed.iter().find(is_it).map(|file| file.path.clone());
        if found.as_ref() == Some(&position.path) {
            return;
        }
        let is_there = found.is_some() || self.followed.iter().any(|file| has_id(&file));
        let last = found.as_deref().or(self.files.state.as_deref());
        let since = last.and_then(|path| std::fs::metadata(path).ok()?.modified().ok());
        let newer = since.map_or(Vec::new(), |since| rotated::newer_than(since, &position.path));
        // Of what had no whole line nothing was sent, so it may be any of these.
        let is_among = position.stream.is_none() && position.offset == 0 && !newer.is_empty();
        if !is_there && !is_among {
            complain(&mut self.complaints, gone(position));
        }
        for path in newer {
            let head = head_of(&path);
            // What begins as a log that is gone may be a part of it. One that was found is another file.
            let is_part = |known: &FilePosition| {
                let is_found = |stream: StreamName| {
                    self.followed.iter().any(|it| it.stream() == Some(stream.id))
                };
                known.stream.is_some_and(|stream| Some(stream.head) == head && !is_found(stream))
            };
            if !all.iter().any(is_part) {
                self.open(&path, FileStart::default(), now);
            }
        }
    }

    /// Opens a file at the position of an earlier run.
    fn resume_at(&mut self, path: &Path, position: &FilePosition, now: Instant) {
        let &FilePosition { offset, stream, .. } = position;
        let len = LogContent::open(path).and_then(|log| log.len()).unwrap_or(offset);
        let is_other = stream.zip(head_of(path)).is_some_and(|(stream, head)| stream.head != head);
        if (is_other || len < offset)
            && let Some(copy) = rotated::copy_of(position)
        {
            // It was truncated, after a copy was made.
            return self.open(&copy, FileStart { offset, stream, is_resumed: true }, now);
        }
        if len < offset {
            let text = format!(
                "{} has {len} bytes, fewer than the {offset} that an earlier run read: it was truncated, so lines may \
                 be missing; reading it from its start",
                path.display()
            );
            complain(&mut self.complaints, text);
        }
        self.open(path, FileStart { offset, stream, is_resumed: true }, now);
        if len >= offset && is_other {
            let text = format!(
                "{} begins otherwise than the file that an earlier run read up to byte {offset}: it was truncated or \
                 replaced, so lines may be missing; reading it from its start",
                path.display()
            );
            complain(&mut self.complaints, text);
        }
    }

    /// Moves each file to the collector's position, once answered. Returns whether files can be read.
    pub(super) fn begin(&mut self, queue: &SendQueue) -> bool {
        if self.has_begun {
            return true;
        }
        let Some(positions) = queue.positions.answers() else { return false };
        self.has_begun = true;
        let is_fresh = !self.resumes && !self.files.from_start;
        for file in &mut self.followed {
            let position = file.stream().and_then(|stream| positions.get(&stream));
            let Some(position) = position.filter(|position| position.is_known()) else { continue };
            let moved = match file.len() {
                Ok(len) if position.upto > len => file.start_anew(),
                Ok(_) => {
                    let knows_start = is_fresh || self.resumes && !file.is_resumed;
                    file.start_at(start(file.offset(), *position, knows_start))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = moved {
                let text = format!("cannot read {}: {error}", file.path.display());
                complain(&mut self.complaints, text);
            }
        }
        true
    }
}

/// Returns the start in a file with a known position, which without the position would be `offset`. With `knows_start`, an
/// earlier run began at `position.from`. Otherwise lines before may be missing; the collector drops known lines.
fn start(offset: u64, position: StreamPosition, knows_start: bool) -> u64 {
    if knows_start {
        position.upto
    } else if offset >= position.from {
        position.upto.max(offset)
    } else {
        offset
    }
}

/// Returns the message about a missing file of an earlier run.
fn gone(position: &FilePosition) -> String {
    format!(
        "{} that an earlier run read up to byte {} is gone: if it had further lines, they are lost",
        position.path.display(),
        position.offset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_from_where_the_collector_has_it_and_not_from_behind_a_gap() {
        for (offset, from, upto, knows_start, expected) in [
            (0, 0, 100, false, 100),
            (50, 0, 100, false, 100),
            (200, 0, 100, false, 200),
            (50, 60, 100, false, 50),
            (60, 60, 100, false, 100),
            // A run without a state file, and a file that the state file does not know.
            (500, 60, 100, true, 100),
            (0, 60, 100, true, 100),
        ] {
            let position = StreamPosition { from, upto };
            assert_eq!(start(offset, position, knows_start), expected, "{offset} {position:?}");
        }
    }
}

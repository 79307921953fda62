//! The queue of lines between the reading and the sending thread.
//!
//! Bounded in bytes. When the queue is full, the newest lines are dropped and counted, so the queued lines stay in
//! order and the reader of a pipe never waits. A reader of files waits instead: the file keeps the lines.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::{memchr_iter, memrchr};
use pen_records::shipment::StreamSpan;

use crate::chunk::{Chunk, PLACE, READ};
use crate::positions::StreamPositions;

/// Small pushes are gathered up to this size.
const CHUNK: usize = 64 << 10;
/// Number of empty chunks kept for reuse.
const SPARE: usize = 4;

#[derive(Debug)]
pub(crate) struct SendQueue {
    inner: Mutex<Inner>,
    /// Signalled when there is room again.
    room: Condvar,
    /// Write end of the wake-up pipe: a byte wakes the sender.
    wake: PipeWriter,
    /// Bytes of lines that have reached the collector, as far as that can be known.
    done: AtomicU64,
    /// The collector is one of this package.
    ours: AtomicBool,
    made: Instant,
    /// How far the collector has received followed files.
    pub(crate) positions: StreamPositions,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: VecDeque<Chunk>,
    /// Bytes of lines in `chunks`.
    len: usize,
    /// Memory of `chunks` in bytes.
    held: usize,
    max: usize,
    /// Bytes of lines pushed since the start.
    pushed: u64,
    dropped: u64,
    cut: u32,
    closed: bool,
    /// Emptied chunks for reuse.
    spare: Vec<Chunk>,
    /// The sender sleeps until this many bytes are queued.
    wanted: Option<usize>,
}

/// Read end of the wake-up pipe, which the sender polls.
#[derive(Debug)]
pub(crate) struct Waker(PipeReader);

/// Fill level and counters of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    /// Queued bytes.
    pub(crate) len: usize,
    pub(crate) dropped: u64,
    pub(crate) cut: u32,
    /// The input has ended.
    pub(crate) closed: bool,
}

impl SendQueue {
    /// Creates a queue that takes at most `max` bytes of memory.
    pub(crate) fn new(max: usize) -> io::Result<(Self, Waker)> {
        let (reader, wake) = io::pipe()?;
        let inner = Mutex::new(Inner { max, ..Inner::default() });
        let (room, made) = (Condvar::new(), Instant::now());
        let (done, ours) = (AtomicU64::new(0), AtomicBool::new(false));
        let positions = StreamPositions::default();
        Ok((Self { inner, room, wake, done, ours, made, positions }, Waker(reader)))
    }

    /// Returns the time since the queue was created: the clock of read times.
    pub(crate) fn clock(&self) -> Duration {
        self.made.elapsed()
    }

    /// Pushes whole lines that were just read. Lines without room are dropped and counted.
    pub(crate) fn push(&self, lines: &[u8]) {
        self.push_part(lines, None);
    }

    /// Pushes whole lines with the place in a followed file.
    pub(crate) fn push_part(&self, lines: &[u8], span: Option<StreamSpan>) {
        let read = self.clock();
        let mut inner = self.lock();
        let room = inner.room();
        if lines.len() <= room {
            inner.append(lines, read, span);
        } else {
            let fits = memrchr(b'\n', &lines[..room]).map_or(0, |end| end + 1);
            let end = |span: StreamSpan| StreamSpan { end: span.start + fits as u64, ..span };
            inner.append(&lines[..fits], read, span.map(end));
            inner.dropped += memchr_iter(b'\n', &lines[fits..]).count() as u64;
        }
        self.wake_if_wanted(inner);
    }

    /// Waits until `len` bytes fit, at most for the given time. Returns whether they fit.
    pub(crate) fn wait_for_room(&self, len: usize, timeout: Duration) -> bool {
        let (inner, _) = self
            .room
            .wait_timeout_while(self.lock(), timeout, |inner| {
                inner.room_for_part() < len && inner.len > 0
            })
            .unwrap_or_else(PoisonError::into_inner);
        inner.room_for_part() >= len
    }

    /// Counts lines dropped before the queue.
    pub(crate) fn add_dropped(&self, lines: u64) {
        if lines > 0 {
            self.lock().dropped += lines;
        }
    }

    /// Counts truncated lines.
    pub(crate) fn add_cut(&self, lines: u32) {
        if lines > 0 {
            let mut inner = self.lock();
            inner.cut = inner.cut.saturating_add(lines);
        }
    }

    /// Marks the input as ended.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake();
    }

    /// Takes the oldest chunk and recycles the memory of the previous one.
    pub(crate) fn take(&self, used: Chunk) -> Option<Chunk> {
        let mut inner = self.lock();
        if inner.spare.len() < SPARE && used.bytes.capacity() >= CHUNK {
            inner.spare.push(used);
        }
        let chunk = inner.chunks.pop_front()?;
        inner.len -= chunk.bytes.len();
        inner.held -= chunk.held();
        drop(inner);
        self.room.notify_one();
        Some(chunk)
    }

    pub(crate) fn level(&self) -> Level {
        let inner = self.lock();
        Level { len: inner.len, dropped: inner.dropped, cut: inner.cut, closed: inner.closed }
    }

    /// Asks for a wake-up once `bytes` are queued; returns `false` if they are already.
    pub(crate) fn want(&self, bytes: usize) -> bool {
        let mut inner = self.lock();
        let sleep = inner.len < bytes;
        inner.wanted = sleep.then_some(bytes);
        sleep
    }

    /// Returns the bytes of lines pushed so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    /// Notes that the sender has finished with the first `done` bytes.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Release);
    }

    /// Returns the bytes of lines that the sender has finished with.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Notes that the collector is one of this package.
    pub(crate) fn set_ours(&self) {
        self.ours.store(true, Ordering::Release);
    }

    /// Returns whether the collector is one of this package.
    pub(crate) fn is_ours(&self) -> bool {
        self.ours.load(Ordering::Acquire)
    }

    /// Wakes the sender, whatever it waits for.
    pub(crate) fn wake(&self) {
        // Fails only if the sender has exited.
        let _ = (&self.wake).write(&[0]);
    }

    pub(crate) fn wake_handle(&self) -> io::Result<PipeWriter> {
        self.wake.try_clone()
    }

    fn wake_if_wanted(&self, mut inner: MutexGuard<'_, Inner>) {
        let reached = inner.wanted.is_some_and(|wanted| inner.len >= wanted);
        if reached {
            inner.wanted = None;
            drop(inner);
            self.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Returns how many bytes can be pushed now.
    fn room(&self) -> usize {
        let tail = self.chunks.back().map_or(0, Chunk::spare);
        // Lines that do not fit into the last chunk get a new one.
        self.free().saturating_sub(READ).max(tail)
    }

    /// Returns how many bytes of a followed file can be pushed now.
    fn room_for_part(&self) -> usize {
        if self.free() < READ + PLACE { 0 } else { self.room().saturating_sub(PLACE) }
    }

    /// Returns how many bytes of memory are free.
    fn free(&self) -> usize {
        self.max.saturating_sub(self.held)
    }

    fn append(&mut self, lines: &[u8], read: Duration, span: Option<StreamSpan>) {
        if lines.is_empty() {
            return;
        }
        self.len += lines.len();
        self.pushed += lines.len() as u64;
        let fits = |last: &&mut Chunk| last.spare() >= lines.len();
        let free = self.free();
        if let Some(last) = self.chunks.back_mut().filter(fits) {
            self.held -= last.held();
            last.append(lines, read, span, free);
            self.held += last.held();
            return;
        }
        let free = free.saturating_sub(READ);
        let wanted = lines.len().max(CHUNK.min(free));
        let fits = |spare: &Chunk| (wanted..=free).contains(&spare.bytes.capacity());
        let mut chunk = match self.spare.iter().position(fits) {
            Some(index) => self.spare.swap_remove(index),
            None => Chunk::with_capacity(wanted),
        };
        chunk.clear();
        chunk.append(lines, read, span, READ);
        self.held += chunk.held();
        self.chunks.push_back(chunk);
    }
}

impl Waker {
    /// Empties the wake-up pipe.
    pub(crate) fn clear(&mut self) {
        // Nothing to read: the byte was read before.
        let _ = self.0.read(&mut [0; 64]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use pen_records::shipment::StreamId;

    use super::*;

    fn queue(max: usize) -> (SendQueue, Waker) {
        SendQueue::new(max).expect("a pipe")
    }

    fn drain(queue: &SendQueue) -> Vec<u8> {
        std::iter::from_fn(|| queue.take(Chunk::default())).flat_map(|chunk| chunk.bytes).collect()
    }

    #[test]
    fn lines_come_out_in_order() {
        let (queue, _waker) = queue(1 << 20);
        let mut expected = Vec::new();
        for number in 0..50_000 {
            let line = format!("line {number}\n").into_bytes();
            queue.push(&line);
            expected.extend(line);
        }
        assert_eq!(queue.pushed(), expected.len() as u64);
        assert_eq!(drain(&queue), expected);
        assert_eq!(queue.level().len, 0);
    }

    #[test]
    fn when_it_is_full_the_newest_lines_are_dropped_and_counted() {
        let (queue, _waker) = queue(100 + READ);
        queue.push(&b"0123456789abcd\n".repeat(10));
        assert_eq!((queue.level().len, queue.level().dropped), (90, 4));
        queue.push(b"0123456789\n");
        assert_eq!(queue.level().dropped, 5);
        queue.push(b"short\n");
        let kept = [&b"0123456789abcd\n".repeat(6)[..], b"short\n"].concat();
        assert_eq!(drain(&queue), kept, "what is shorter still fits");
        queue.push(b"again\n");
        assert_eq!((drain(&queue), queue.level().dropped), (b"again\n".to_vec(), 5));
    }

    #[test]
    fn whatever_is_pushed_memory_stays_within_the_bound() {
        let (queue, _waker) = queue(300_000);
        let (mut taken, mut kept) = (Chunk::default(), Vec::new());
        for size in [1, 100, 70_000, 3, 200_000, 65_536].iter().cycle().take(1000) {
            let mut lines = vec![b'x'; *size];
            lines.push(b'\n');
            queue.push(&lines);
            assert!(queue.lock().held <= 300_000);
            if *size == 100 {
                taken = queue.take(taken).unwrap_or_default();
                kept.extend_from_slice(&taken.bytes);
            }
        }
        kept.extend(drain(&queue));
        let lines = memchr_iter(b'\n', &kept).count() as u64;
        assert_eq!(lines + queue.level().dropped, 1000);
    }

    #[test]
    fn the_sender_is_woken_when_as_much_is_there_as_it_wants() {
        let (queue, mut waker) = queue(1000);
        assert!(queue.want(10));
        queue.push(b"1234\n");
        assert_eq!(queue.lock().wanted, Some(10));
        queue.push(b"1234\n");
        assert_eq!(queue.lock().wanted, None);
        waker.clear();
        assert!(!queue.want(10), "it is there already");
    }

    #[test]
    fn a_reader_of_files_can_wait_for_room() {
        let (queue, _waker) = queue(10 + 2 * READ + 2 * PLACE);
        let span = StreamSpan { stream: StreamId::default(), start: 0, end: 9 };
        queue.push_part(b"12345678\n", Some(span));
        assert!(!queue.wait_for_room(9, Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.wait_for_room(9, Duration::from_secs(60)));
            let taken = queue.take(Chunk::default()).map(|chunk| chunk.bytes);
            assert_eq!(taken.as_deref(), Some(&b"12345678\n"[..]));
            assert!(waiter.join().unwrap());
        });
    }
}

//! Lines between the thread that reads and the thread that sends.
//!
//! Bounded in bytes. When it is full, the newest lines are dropped and counted: what came before
//! stays in order, and the reader never has to wait for the sender to let go of anything. A reader
//! of files need not drop, it can wait: the file keeps the lines.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memchr::{memchr_iter, memrchr};

/// Small pushes are gathered up to this.
const CHUNK: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// Told when there is room again.
    room: Condvar,
    /// A byte in it wakes the sender.
    wake: PipeWriter,
    /// Bytes of lines that have reached the collector, or as near as can be known.
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whole lines, line feeds included.
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of lines in `chunks`.
    len: usize,
    /// Memory of `chunks`.
    held: usize,
    max: usize,
    /// Bytes of lines that were ever put in.
    pushed: u64,
    dropped: u64,
    cut: u32,
    closed: bool,
    /// The sender sleeps until there are that many bytes.
    wanted: Option<usize>,
}

/// What the sender sleeps on.
#[derive(Debug)]
pub(crate) struct Waker(PipeReader);

/// How the queue stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    /// Bytes that wait.
    pub(crate) len: usize,
    pub(crate) dropped: u64,
    pub(crate) cut: u32,
    /// Nothing more will come.
    pub(crate) closed: bool,
}

impl Queue {
    /// Holds at most `max` bytes.
    pub(crate) fn new(max: usize) -> io::Result<(Self, Waker)> {
        let (reader, wake) = io::pipe()?;
        let inner = Mutex::new(Inner { max, ..Inner::default() });
        Ok((Self { inner, room: Condvar::new(), wake, done: AtomicU64::new(0) }, Waker(reader)))
    }

    /// Puts whole lines in; as many as there is room for, the others are dropped and counted.
    pub(crate) fn push(&self, lines: &[u8]) {
        let mut inner = self.lock();
        let room = inner.room();
        if lines.len() <= room {
            inner.append(lines);
        } else {
            let fits = memrchr(b'\n', &lines[..room]).map_or(0, |end| end + 1);
            inner.append(&lines[..fits]);
            inner.dropped += memchr_iter(b'\n', &lines[fits..]).count() as u64;
        }
        self.wake_if_wanted(inner);
    }

    /// Waits until `len` bytes fit, but no longer than that; says whether they do.
    pub(crate) fn wait_for_room(&self, len: usize, timeout: Duration) -> bool {
        let (inner, _) = self
            .room
            .wait_timeout_while(self.lock(), timeout, |inner| inner.room() < len && inner.len > 0)
            .unwrap_or_else(PoisonError::into_inner);
        inner.room() >= len
    }

    /// Lines were cut.
    pub(crate) fn add_cut(&self, lines: u32) {
        if lines > 0 {
            let mut inner = self.lock();
            inner.cut = inner.cut.saturating_add(lines);
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake();
    }

    /// Takes the oldest lines out, and hands in the memory of those before.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let chunk = inner.chunks.pop_front()?;
        inner.len -= chunk.len();
        inner.held -= chunk.capacity();
        drop(inner);
        self.room.notify_one();
        Some(chunk)
    }

    pub(crate) fn level(&self) -> Level {
        let inner = self.lock();
        Level { len: inner.len, dropped: inner.dropped, cut: inner.cut, closed: inner.closed }
    }

    /// From now on the sender is woken when `bytes` are there; `false` if they are already.
    pub(crate) fn want(&self, bytes: usize) -> bool {
        let mut inner = self.lock();
        let sleep = inner.len < bytes;
        inner.wanted = sleep.then_some(bytes);
        sleep
    }

    /// Bytes of lines put in so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    /// The sender is done with that many bytes.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Release);
    }

    /// Bytes of lines that the sender is done with.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Wakes the sender, whatever it waits for.
    pub(crate) fn wake(&self) {
        // It only fails when nobody is left to be woken.
        drop((&self.wake).write(&[0]));
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
    /// Bytes that may be put in now.
    fn room(&self) -> usize {
        let tail = self.chunks.back().map_or(0, |last| last.capacity() - last.len());
        let free = self.max.saturating_sub(self.held);
        // What does not fit into the last chunk goes into one of its own.
        free.max(tail)
    }

    fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        self.len += lines.len();
        self.pushed += lines.len() as u64;
        match self.chunks.back_mut() {
            Some(last) if last.capacity() - last.len() >= lines.len() => {
                last.extend_from_slice(lines);
            }
            _ => {
                let free = self.max.saturating_sub(self.held);
                let mut chunk = Vec::with_capacity(lines.len().max(CHUNK.min(free)));
                chunk.extend_from_slice(lines);
                self.held += chunk.capacity();
                self.chunks.push_back(chunk);
            }
        }
    }
}

impl Waker {
    /// Takes the bytes out that woke the sender.
    pub(crate) fn clear(&mut self) {
        drop(self.0.read(&mut [0; 64]));
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max: usize) -> (Queue, Waker) {
        Queue::new(max).expect("a pipe")
    }

    fn drain(queue: &Queue) -> Vec<u8> {
        std::iter::from_fn(|| queue.take()).flatten().collect()
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
        let (queue, _waker) = queue(100);
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
        for size in [1, 100, 70_000, 3, 200_000, 65_536].iter().cycle().take(1000) {
            let mut lines = vec![b'x'; *size];
            lines.push(b'\n');
            queue.push(&lines);
            assert!(queue.lock().held <= 300_000);
        }
        let kept = drain(&queue);
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
        let (queue, _waker) = queue(10);
        queue.push(b"12345678\n");
        assert!(!queue.wait_for_room(9, Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.wait_for_room(9, Duration::from_secs(60)));
            assert_eq!(queue.take().as_deref(), Some(&b"12345678\n"[..]));
            assert!(waiter.join().unwrap());
        });
    }
}

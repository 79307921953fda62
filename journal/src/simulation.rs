//! A disk in memory that forgets at a power cut what was not synced, runs full, and fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::disk::{Disk, DiskFile};

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct ForgetfulDisk(Rc<RefCell<DiskState>>);

/// An open file of the disk.
#[derive(Clone, Debug)]
pub struct ForgetfulFile {
    disk: ForgetfulDisk,
    id: u64,
}

#[derive(Debug, Default)]
struct DiskState {
    random: u64,
    files: BTreeMap<u64, FileState>,
    /// Names as programs see them, and as they are on the disk.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
    /// Bytes that still fit.
    room: u64,
    /// One sync in so many fails; 0: none.
    failing: u64,
}

#[derive(Debug, Default)]
struct FileState {
    bytes: Vec<u8>,
    /// So many bytes survive a power cut.
    durable: usize,
}

impl ForgetfulDisk {
    /// An empty disk; `seed` decides all that is left to chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self(Rc::new(RefCell::new(DiskState { random, room: u64::MAX, ..DiskState::default() })))
    }

    /// Leaves room for so many more bytes.
    pub fn set_room(&self, bytes: u64) {
        self.0.borrow_mut().room = bytes;
    }

    /// Lets one sync in so many fail, and some of the bytes be lost; 0: none.
    pub fn set_failing(&self, one_in: u64) {
        self.0.borrow_mut().failing = one_in;
    }

    /// Cuts the power: bytes and names that were not synced may be gone, in part, or be garbage.
    pub fn cut_power(&self) {
        let state = &mut *self.0.borrow_mut();
        let ids: Vec<u64> = state.files.keys().copied().collect();
        for id in ids {
            state.lose(id);
        }
        let changed: Vec<String> = state
            .names
            .keys()
            .chain(state.durable_names.keys())
            .filter(|name| state.names.get(*name) != state.durable_names.get(*name))
            .cloned()
            .collect();
        for name in changed {
            if state.chance(2) {
                match state.names.get(&name) {
                    Some(&id) => state.durable_names.insert(name, id),
                    None => state.durable_names.remove(&name),
                };
            }
        }
        state.names = state.durable_names.clone();
    }

    /// Flips a bit of a file that is on the disk. Returns `false` if there is no byte.
    pub fn damage(&self) -> bool {
        let state = &mut *self.0.borrow_mut();
        let names: Vec<u64> = state.names.values().copied().collect();
        if names.is_empty() {
            return false;
        }
        let id = names[state.below(names.len())];
        let len = state.files.get(&id).map_or(0, |file| file.bytes.len());
        if len == 0 {
            return false;
        }
        let (at, bit) = (state.below(len), state.below(8));
        if let Some(file) = state.files.get_mut(&id) {
            file.bytes[at] ^= 1 << bit;
        }
        true
    }
}

impl DiskState {
    fn next_random(&mut self) -> u64 {
        // Xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.next_random() % bound).unwrap_or(0)
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.next_random().is_multiple_of(one_in)
    }

    /// Loses some of the bytes of a file that were not synced.
    fn lose(&mut self, id: u64) {
        let Some(file) = self.files.get(&id) else { return };
        let (durable, len) = (file.durable, file.bytes.len());
        let kept = durable + self.below(len - durable + 1);
        // The end may have been allocated and not written, or only in part.
        let garbled = kept.saturating_sub(self.below(kept - durable + 1));
        let way = self.below(3);
        let byte = u8::try_from(self.below(256)).unwrap_or(0);
        if let Some(file) = self.files.get_mut(&id) {
            file.bytes.truncate(kept);
            match way {
                0 => {}
                1 => file.bytes[garbled..].fill(0),
                _ => file.bytes[garbled..].iter_mut().for_each(|it| *it ^= byte),
            }
            file.durable = file.bytes.len();
        }
    }
}

impl Disk for ForgetfulDisk {
    type File = ForgetfulFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<ForgetfulFile> {
        let state = &mut *self.0.borrow_mut();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.next;
        state.next += 1;
        state.files.insert(id, FileState::default());
        state.names.insert(name.to_owned(), id);
        Ok(ForgetfulFile { disk: self.clone(), id })
    }

    fn open(&self, name: &str) -> io::Result<ForgetfulFile> {
        let id = self.0.borrow().names.get(name).copied();
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(ForgetfulFile { disk: self.clone(), id })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.0.borrow_mut().names.remove(name);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for ForgetfulFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.disk.0.borrow_mut();
        let room = usize::try_from(state.room).unwrap_or(usize::MAX).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = if state.chance(4) { 1 + state.below(room) } else { room }.min(room);
        state.room -= len as u64;
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        file.bytes.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let state = &mut *self.disk.0.borrow_mut();
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        file.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        file.durable = file.durable.min(file.bytes.len());
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = &mut *self.disk.0.borrow_mut();
        let file = state.files.get(&self.id).ok_or(io::ErrorKind::NotFound)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| file.bytes.get(offset..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.0.borrow_mut();
        if state.failing > 0 && state.chance(state.failing) {
            // The kernel forgets the bytes, and the next sync succeeds.
            state.lose(self.id);
            return Err(io::Error::other("simulated"));
        }
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        file.durable = file.bytes.len();
        Ok(())
    }

    fn again(&self) -> io::Result<Self> {
        Ok(self.clone())
    }
}

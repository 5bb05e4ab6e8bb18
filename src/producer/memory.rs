//! The bytes of unwritten batches that a producer may hold, and the wait for room.

use std::time::Duration;

use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex};

/// The room of one producer, in bytes. A batch takes its room in steps, not record by record.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    room: Mutex<Room>,
    changed: Condvar,
}

#[derive(Debug)]
struct Room {
    free: u64,
    /// How often room was given back, or waiting threads were asked to look again.
    changes: u64,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            room: Mutex::new(Room {
                free: limit,
                changes: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Takes room. While there is not enough, calls `make_room` without a lock: that frees room, or
    /// leaves it to other threads. Then waits until something changes, or for as long as
    /// `make_room` returned, and tries again.
    ///
    /// Fails with `BufferExhausted` after the deadline, and with `RecordTooLarge` if `bytes`
    /// exceeds the whole memory.
    pub(super) fn take(
        &self,
        bytes: u64,
        deadline: impl FnOnce() -> Deadline,
        make_room: impl Fn() -> Option<Duration>,
    ) -> Result<()> {
        if bytes > self.limit {
            return Err(Error::RecordTooLarge {
                bytes,
                limit: self.limit,
                key: "buffer.memory",
            });
        }
        let mut room = self.room.lock();
        if room.take(bytes) {
            return Ok(());
        }
        let deadline = deadline();
        loop {
            let seen = room.changes;
            drop(room);
            let pause = make_room();
            let look_again = pause.map_or(Deadline::never(), Deadline::after);
            room = self.room.lock();
            if room.take(bytes) {
                return Ok(());
            }
            loop {
                if deadline.has_passed() {
                    return if room.take(bytes) {
                        Ok(())
                    } else {
                        Err(Error::BufferExhausted)
                    };
                }
                if room.changes != seen || look_again.has_passed() {
                    break;
                }
                room = self.changed.wait_until(room, deadline.earlier(look_again));
            }
        }
    }

    /// Takes at most `most` bytes of room, and returns how many. Takes none if there are fewer than
    /// `least`.
    pub(super) fn take_part(&self, least: u64, most: u64) -> u64 {
        let mut room = self.room.lock();
        let bytes = room.free.min(most);
        let taken = if bytes < least { 0 } else { bytes };
        room.free -= taken;
        taken
    }

    /// Waits until something changes, but no longer than `timeout`.
    pub(super) fn wait_for_change(&self, timeout: Duration) {
        let deadline = Deadline::after(timeout);
        drop(self.changed.wait_until(self.room.lock(), deadline));
    }

    /// Gives room back, and wakes the threads that wait. With 0 bytes, it only makes them look
    /// again.
    pub(super) fn give_back(&self, bytes: u64) {
        let mut room = self.room.lock();
        room.free += bytes;
        room.changes += 1;
        drop(room);
        self.changed.notify_all();
    }
}

impl Room {
    fn take(&mut self, bytes: u64) -> bool {
        let has_room = self.free >= bytes;
        if has_room {
            self.free -= bytes;
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(20))
    }

    #[test]
    fn a_part_is_as_large_as_the_room_or_nothing() {
        let memory = Memory::new(10);
        assert_eq!(memory.take_part(2, 4), 4);
        assert_eq!(memory.take_part(2, 9), 6);
        assert_eq!(memory.take_part(0, 9), 0);
        memory.give_back(3);
        assert_eq!(memory.take_part(4, 9), 0);
        assert_eq!(memory.take_part(3, 9), 3);
    }

    #[test]
    fn a_thread_waits_for_room_until_its_deadline() {
        let memory = Memory::new(10);
        memory
            .take(10, Deadline::never, || unreachable!("there is room"))
            .unwrap();
        let asked = Cell::new(0);
        let refused = memory.take(1, soon, || {
            asked.set(asked.get() + 1);
            None
        });
        assert!(
            matches!(refused, Err(Error::BufferExhausted)),
            "{refused:?}"
        );
        assert_eq!(asked.get(), 1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| memory.take(6, Deadline::never, || None));
            memory.give_back(3);
            memory.give_back(3);
            waiting.join().unwrap().unwrap();
        });
        memory
            .take(4, soon, || {
                memory.give_back(4);
                None
            })
            .unwrap();
    }

    /// A thread may ask for room while another thread is freeing some. It must ask again when that
    /// thread is done.
    #[test]
    fn a_waiting_thread_asks_for_room_again_after_each_change() {
        let memory = Memory::new(10);
        memory.take(10, Deadline::never, || None).unwrap();
        let asked = Cell::new(0);
        let make_room = || {
            asked.set(asked.get() + 1);
            memory.give_back(if asked.get() == 3 { 10 } else { 0 });
            None
        };
        memory.take(10, Deadline::never, make_room).unwrap();
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn a_request_beyond_the_whole_memory_is_refused_at_once() {
        let refused = Memory::new(10).take(11, Deadline::never, || {
            unreachable!("no room would be enough")
        });
        assert!(matches!(
            refused,
            Err(Error::RecordTooLarge {
                bytes: 11,
                limit: 10,
                key: "buffer.memory"
            })
        ));
    }

    #[test]
    fn the_wait_ends_at_the_deadline_even_if_something_changes_all_the_time() {
        let memory = Memory::new(10);
        memory.take(10, Deadline::never, || None).unwrap();
        let asked = Cell::new(0);
        let make_room = || {
            asked.set(asked.get() + 1);
            assert!(asked.get() < 1_000, "asks for ever");
            memory.give_back(0);
            None
        };
        let refused = memory.take(1, || Deadline::after(Duration::ZERO), make_room);
        assert!(matches!(refused, Err(Error::BufferExhausted)));
    }
}
